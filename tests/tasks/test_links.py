"""The button to the report run, as a worker leaves it behind: for each task and each outcome."""

from __future__ import annotations

import json
import urllib.request

import pytest
from support.task_instances import dag, run_task

from airflow_provider_reportrun.connection import ApiAccess
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.links.report_run import ReportRunLink, inspector_url
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Answer, Fault, Patch, Refuse
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor

INTERVAL = {
    "interval_start": "2026-10-26T00:00:00.000Z",
    "interval_end": "2026-11-02T00:00:00.000Z",
}
FAST = {"poll_interval": 0.05, "max_poll_interval": 0.1}
RUNNING = Patch({"status": "running", "result": None})
PLACES = pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferred"])
KEY = ReportRunLink().xcom_key


@pytest.fixture
def report_run(sandbox):
    """The id of a report run."""
    return ReportRunHook().create_report_run("balance_summary", INTERVAL).id


def make(kind, **arguments):
    """A task in a DAG of its own."""
    with dag():
        return kind(task_id="t", **arguments)


def create(**arguments):
    """A task that creates a report run."""
    return make(CreateReportRunOperator, **{"report": "balance_summary"} | FAST | arguments)


def wait(report_run_id, **arguments):
    """A sensor."""
    fast = {"poke_interval": 0.05, "max_wait": 0.1}
    return make(ReportRunSensor, report_run_id=report_run_id, **fast | arguments)


def linked(outcome):
    """The id of the object on the page that the button leads to."""
    with urllib.request.urlopen(outcome.xcom[KEY], timeout=10) as page:  # noqa: S310 - the sandbox
        return json.load(page)["id"]


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
    sandbox.faults.add(Fault("get_run", RUNNING, times=None))
    sandbox.faults.add(Fault("create", RUNNING, times=None))
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
    sandbox.faults.add(Fault("get_run", RUNNING, times=None))
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
    task = make(
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
    outcome = run_task(make(ReportRunToStorageOperator, **arguments | FAST))
    assert outcome.state == "success", outcome.error
    assert sandbox.runs[0].id == linked(outcome)
    again = run_task(make(ReportRunToStorageOperator, **arguments | FAST))
    assert again.state == "success", again.error
    assert again.xcom[KEY] == ""


def test_mapped_tasks_have_a_button_each(sandbox):
    """The link is part of what Airflow stores of a mapped task."""
    with dag():
        mapped = CreateReportRunOperator.partial(task_id="t").expand(report=["balance_summary"])
    assert [type(each) for each in mapped.operator_extra_links] == [ReportRunLink]
