"""The button to the report run, as a worker leaves it behind: for each task and each outcome."""

from __future__ import annotations

import re
import urllib.request

import pytest
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import task_runner, xcom
from support.cases import FAST, FAST_SENSOR, INTERVAL, NO_ROOM, STILL_RUNNING
from support.task_instances import dag, make_task, run_task
from support.versions import FEATURES

from airflow_provider_reportrun.client.access import ApiAccess
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.links.report_run import ReportRunLink, inspector_url
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Answer, Fault, Refuse
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor

PLACES = pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferred"])
KEY = ReportRunLink().xcom_key


@pytest.fixture
def report_run(sandbox):
    """The id of a report run."""
    return ReportRunHook().create_report_run("balance_summary", INTERVAL).id


def create(**arguments):
    """A task that creates a report run."""
    return make_task(CreateReportRunOperator, **{"report": "balance_summary"} | FAST | arguments)


def wait(report_run_id, **arguments):
    """A sensor."""
    return make_task(ReportRunSensor, report_run_id=report_run_id, **FAST_SENSOR | arguments)


def linked(outcome):
    """The id of the run whose page the button leads to."""
    with urllib.request.urlopen(outcome.xcom[KEY], timeout=10) as page:  # noqa: S310 - the sandbox
        (found,) = re.findall(r"<h1>(\w+) ", page.read().decode())
        return found


@pytest.mark.parametrize(
    ("expected", "access"),
    [
        (
            "https://dashboard.stripe.com/workbench/inspector?object=reprun_1",
            ApiAccess(conn_id="c", api_key="rk_live_1"),
        ),
        (
            "https://dashboard.stripe.com/test/workbench/inspector?object=reprun_1",
            ApiAccess(conn_id="c", api_key="sk_test_1"),
        ),
        (
            "https://dashboard.stripe.com/workbench/inspector?object=reprun_1",
            ApiAccess(conn_id="c", api_key="sk_org_live_1", base_url="https://stripe.internal"),
        ),
        (
            "http://127.0.0.1:12113/test/workbench/inspector?object=reprun_1",
            ApiAccess(conn_id="c", api_key="rk_test_1", base_url="http://127.0.0.1:12113"),
        ),
    ],
    ids=["live", "test", "behind a proxy", "sandbox"],
)
def test_where_the_button_leads(expected, access):
    """To Stripe's Workbench, or to the sandbox in its place, for the key's own mode."""
    assert expected == inspector_url(access, "reprun_1")


def test_an_id_cannot_leave_the_page():
    """Whatever stands in an id stays in the parameter."""
    access = ApiAccess(conn_id="c", api_key="rk_live_1")
    assert inspector_url(access, "a/../b?c&d#e").endswith("?object=a%2F..%2Fb%3Fc%26d%23e")


@PLACES
@pytest.mark.parametrize("waits", [False, True])
def test_a_create(sandbox, deferrable, waits):
    """Leads to the report run that was created."""
    outcome = run_task(create(deferrable=deferrable, wait_for_completion=waits))
    assert outcome.state == "success", outcome.error
    assert sandbox.runs[0].id == linked(outcome)


def test_a_create_that_waits_in_the_triggerer(sandbox):
    """Has its button while it waits."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    sandbox.faults.add(Fault("create", STILL_RUNNING, times=None))
    outcome = run_task(create(deferrable=True, wait_for_completion=True), event_of=None)
    assert outcome.state == "deferred"
    assert sandbox.runs[0].id == linked(outcome)


@PLACES
def test_a_create_whose_report_run_failed(sandbox, deferrable):
    """Leads to the report run that failed."""
    sandbox.fail_next(error_code="file_size_above_limit")
    outcome = run_task(create(deferrable=deferrable, wait_for_completion=True))
    assert outcome.state == "failed"
    assert sandbox.runs[0].id == linked(outcome)


def test_a_create_that_timed_out_after_waiting_for_room(sandbox):
    """Leads to the report run that the triggerer created."""
    sandbox.faults.add(Fault("create", Answer(status=429)))
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    outcome = run_task(create(deferrable=True, wait_for_completion=True, timeout=1.0))
    assert outcome.state == "failed"
    assert len(outcome.deferrals) == 1
    assert sandbox.runs[0].id == linked(outcome)


def test_a_create_that_was_refused(sandbox):
    """Has no button, for there is no report run."""
    outcome = run_task(create(report="no_such_report"))
    assert outcome.state == "failed"
    assert outcome.xcom[KEY] == ""


def test_a_resumed_task_that_fails_keeps_its_button(sandbox):
    """A task that is resumed without an event knows no id, and takes nothing away."""
    resume = {"next_method": "execute_complete", "next_kwargs": {"event": None}}
    outcome = run_task(create(deferrable=True), resume=resume, xcom={KEY: "http://kept"})
    assert outcome.state == "failed"
    assert outcome.xcom[KEY] == "http://kept"


@pytest.mark.parametrize(
    "mode", [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}], ids=str
)
def test_a_sensor(sandbox, report_run, mode):
    """Leads to the report run that it waits for."""
    outcome = run_task(wait(report_run, **mode))
    assert outcome.state == "success", outcome.error
    assert report_run == linked(outcome)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_sensor_that_waits(sandbox, report_run, deferrable):
    """Has its button from the first look on, also while the API does not answer."""
    fault = sandbox.faults.add(Fault("get_run", Refuse(), times=None))
    outcome = run_task(
        wait(report_run, deferrable=deferrable, mode="reschedule", timeout=60), event_of=None
    )
    assert outcome.state == ("deferred" if deferrable else "up_for_reschedule")
    assert fault.fired
    assert report_run == linked(outcome)


def test_a_sensor_whose_report_run_failed(sandbox):
    """Leads to the report run that failed."""
    sandbox.fail_next()
    report_run_id = ReportRunHook().create_report_run("balance_summary", INTERVAL).id
    outcome = run_task(wait(report_run_id, deferrable=True))
    assert outcome.state == "failed"
    assert report_run_id == linked(outcome)


@pytest.mark.parametrize("status", [None, 404], ids=["lands", "fails"])
def test_a_download(sandbox, report_run, tmp_path, status):
    """Leads to the report run that it lands, or fails to."""
    if status:
        sandbox.faults.add(Fault("get_run", Answer(status=status), times=None))
    task = make_task(
        DownloadReportResultOperator, report_run_id=report_run, destination=str(tmp_path / "r.csv")
    )
    outcome = run_task(task)
    assert outcome.state == ("failed" if status else "success"), outcome.error
    assert report_run == linked(outcome)


@PLACES
def test_all_in_one_task(sandbox, tmp_path, deferrable):
    """Leads to the report run; the file that is there already has none."""
    arguments = {
        "report": "balance_summary",
        "destination": str(tmp_path / "r.csv"),
        "if_exists": "skip",
        "deferrable": deferrable,
    }
    outcome = run_task(make_task(ReportRunToStorageOperator, **arguments | FAST))
    assert outcome.state == "success", outcome.error
    assert sandbox.runs[0].id == linked(outcome)
    again = run_task(make_task(ReportRunToStorageOperator, **arguments | FAST))
    assert again.state == "success", again.error
    assert again.xcom[KEY] == ""


def test_mapped_tasks_have_a_button_each(sandbox):
    """The link is part of what Airflow stores of a mapped task."""
    with dag():
        mapped = CreateReportRunOperator.partial(task_id="t").expand(report=["balance_summary"])
    assert [type(each) for each in mapped.operator_extra_links] == [ReportRunLink]


# What Airflow logs, and what a custom XCom backend makes of it

TOMORROW = {"interval_end": "2100-01-01T00:00:00Z", "validate": False}
NOT_YET = {
    "before its data are there": lambda _: create(deferrable=True, wait_for_data=True, **TOMORROW),
    "before there is room": lambda _: create(deferrable=True, wait_for_completion=True),
    "in one task": lambda path: make_task(
        ReportRunToStorageOperator,
        report="balance_summary",
        destination=str(path / "r.csv"),
        **FAST,
    ),
    "a sensor of data": lambda _: make_task(
        ReportDataSensor,
        report="balance_summary",
        interval_end="2100-01-01T00:00:00Z",
        deferrable=True,
    ),
}


class StorageXCom(BaseXCom):
    """An XCom backend that keeps values elsewhere, and paths to them in the database."""

    stored: dict = {}  # noqa: RUF012 - one store, as a bucket is

    @staticmethod
    def serialize_value(value, *, key=None, **_):
        """Store a value."""
        path = f"bucket/{key}/{len(StorageXCom.stored)}"
        StorageXCom.stored[path] = value
        return BaseXCom.serialize_value(path)

    @staticmethod
    def deserialize_value(result):
        """Fetch a value."""
        return StorageXCom.stored[BaseXCom.deserialize_value(result)]


@pytest.fixture(params=["Airflow's own", "custom"])
def backend(request, monkeypatch):
    """Airflow's own XCom backend, and one that a deployment has chosen."""
    if request.param == "custom":
        for module in (xcom, task_runner):
            monkeypatch.setattr(module, "XCom", StorageXCom)
    return request.param


def looked_up(capsys):
    """What is said of look-ups that found nothing."""
    return re.findall("XCom not found", capsys.readouterr().out)


@pytest.mark.parametrize("what", NOT_YET)
def test_a_wait_before_there_is_a_report_run(sandbox, capsys, tmp_path, backend, what):
    """Has no button, and nothing is looked up that is not there."""
    sandbox.faults.add(Fault("create", NO_ROOM, times=None))
    outcome = run_task(NOT_YET[what](tmp_path), event_of=None)
    assert outcome.state == "deferred", outcome.error
    assert outcome.xcom.get(KEY, "") == ""
    assert looked_up(capsys) == []


@pytest.mark.parametrize("error", ["Trigger failure", "Trigger timeout"])
def test_a_wait_that_airflow_ends(sandbox, capsys, backend, error):
    """Keeps its button, or has none still: by then there is a link, if only an empty one."""
    for link in ("", "http://127.0.0.1/kept"):
        resume = {"next_method": "__fail__", "next_kwargs": {"error": error}}
        task = create(deferrable=True, retries=3)
        outcome = run_task(task, resume=resume, xcom={KEY: link})
        assert outcome.state == ("failed" if "timeout" in error else "up_for_retry")
        assert outcome.xcom[KEY] == link
    assert looked_up(capsys) == []


def test_a_wait_that_ends_in_an_error_before_there_is_a_report_run(sandbox, capsys, backend):
    """Has no button, and nothing is looked up that is not there."""
    sandbox.faults.add(Fault("create", NO_ROOM, times=None))
    outcome = run_task(create(deferrable=True, wait_for_completion=True, timeout=0.3))
    assert (outcome.state, len(outcome.deferrals)) == ("failed", 1)
    assert outcome.xcom[KEY] == ""
    assert looked_up(capsys) == []


def test_a_kept_file(sandbox, capsys, tmp_path, backend):
    """Has no button, and nothing is looked up that is not there."""
    (tmp_path / "r.csv").write_text("kept")
    task = make_task(
        ReportRunToStorageOperator,
        report="balance_summary",
        destination=str(tmp_path / "r.csv"),
        if_exists="skip",
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert outcome.xcom[KEY] == ""
    assert looked_up(capsys) == []


def test_what_never_gets_to_a_report_run(sandbox, capsys, backend):
    """Has no button, and nothing is looked up that is not there."""
    sandbox.faults.add(Fault("any", Answer(status=401), times=None))
    for task in (create(retries=3), create(interval_end="never"), wait("not an id")):
        outcome = run_task(task)
        assert outcome.state == "failed"
        assert not outcome.xcom[KEY] or isinstance(task, ReportRunSensor)
    assert looked_up(capsys) == []


@pytest.mark.parametrize("kind", ["create", "wait"])
@pytest.mark.parametrize("goes", ["waits", "succeeds", "fails"])
def test_the_link_is_a_url_whatever_the_backend(sandbox, capsys, backend, kind, goes):
    """The UI reads what lies in the database, while a task waits and after it has ended."""
    report_run_id = ReportRunHook().create_report_run("balance_summary", INTERVAL).id
    sandbox.faults.add(Fault("create", STILL_RUNNING, times=None))
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None if goes == "waits" else 1))
    if goes == "fails":
        sandbox.faults.add(Fault("get_run", Answer(status=404), times=None))
    task = wait(report_run_id, deferrable=True)
    if kind == "create":
        task = create(deferrable=True, wait_for_completion=True)
    waits = {"event_of": None} if goes == "waits" else {}
    outcome = run_task(task, **waits)
    assert outcome.state == {"waits": "deferred", "succeeds": "success", "fails": "failed"}[goes]
    sandbox.faults.clear()
    assert linked(outcome) == sandbox.runs[-1 if kind == "create" else 0].id
    shown = [value for key, value in outcome.pushed if key == KEY]
    assert set(shown) == {outcome.xcom[KEY]}
    # A resumed create knows from its record that the link is written.
    assert len(shown) == 1 or not FEATURES["task_state_store"]
    assert looked_up(capsys) == []
    if goes == "succeeds" and backend == "custom":
        assert outcome.returned.startswith("bucket/"), "what the backend is for"
