"""Tasks that speak ``/v2/data``: names, canceled runs, and data that only a finished run shows."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta

import pyarrow.parquet
import pytest
from airflow.sdk import DAG, Asset, AssetWatcher
from support.cases import (
    END,
    FAST,
    FAST_SENSOR,
    INTERVAL,
    MODES,
    NO_ROOM,
    PLACES,
    STILL_RUNNING,
    STORES,
    operations,
)
from support.task_instances import dag, first_event, run_sensor, run_task
from support.versions import deserialize, serialize

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    DeadlinePassed,
    InvalidInput,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ReportRunCanceled,
    ReportRunFailed,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.protocol.identity import key_after_failure
from airflow_provider_reportrun.protocol.interval import format_instant
from airflow_provider_reportrun.sandbox import Answer, Fault, Hold, LoseAnswer, Patch, Refuse
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor
from airflow_provider_reportrun.triggers.report_run import (
    CreateReportRunTrigger,
    ReportDataTrigger,
    ReportRunTrigger,
)

NAME, ID = "name:balance.summary", "report_test_000001"
DAY = 24 * 3600.0
HOURS = 3600.0
"""Pauses that are longer are those between two report runs."""
KINDS = ["creates", "lands"]
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def reportrun_sandbox_api():
    """The connection speaks v2.data."""
    return "v2.data"


def make(dag_arguments=None, **arguments):
    """An operator that creates, in a DAG of its own."""
    with dag(**dag_arguments or {}):
        return CreateReportRunOperator(**{"task_id": "create", "report": NAME, **FAST} | arguments)


def waiting(tmp_path, kind, **arguments):
    """An operator that waits for the data, and creates or lands."""
    defaults = {"task_id": "wait", "report": NAME, "wait_for_data": True, "retries": 5, **FAST}
    with dag():
        if kind == "creates":
            return CreateReportRunOperator(**defaults | arguments)
        destination = str(tmp_path / "report.csv")
        return ReportRunToStorageOperator(**defaults | {"destination": destination} | arguments)


def posts(sandbox):
    """The creates that arrived."""
    return [request for request in sandbox.requests if request.operation == "create"]


def keys(sandbox):
    """The idempotency keys of the creates, without repetitions."""
    return list(dict.fromkeys(each.headers["idempotency-key"] for each in posts(sandbox)))


# What is sent


@PLACES
@pytest.mark.parametrize(
    ("report", "sent"), [(ID, {"id": ID}), (NAME, {"name": "balance.summary"})], ids=["id", "name"]
)
def test_creates_by_id_and_by_name(sandbox, deferrable, report, sent):
    """The definition, the create and one poll; the run is the one that the API has."""
    outcome = run_task(make(report=report, deferrable=deferrable, wait_for_completion=True))
    assert outcome.state == "success", outcome.error
    assert operations(sandbox)[1:] == ["create", "get_run"]
    (run,) = sandbox.runs
    assert outcome.returned == run.id
    assert run.report_parameters == INTERVAL
    assert posts(sandbox)[0].json == {"report": sent, "parameters": INTERVAL, "format": "csv"}


@PLACES
@pytest.mark.parametrize(
    ("report", "nearest"),
    [
        ("name:Balance.summary", "Did you mean 'name:balance.summary'"),
        ("balance.summari", "Did you mean 'name:balance.summary'"),
        ("zzz", "There is no report 'zzz', only name:balance.summary, "),
    ],
)
def test_an_unknown_report_fails_for_good(sandbox, deferrable, report, nearest):
    """In one try, and the error names the nearest reports, as they are to be written."""
    outcome = run_task(make(report=report, deferrable=deferrable, retries=3))
    assert outcome.state == "failed"
    assert isinstance(outcome.error, AirflowFailException)
    assert isinstance(outcome.error, NotFound)
    assert str(outcome.error).startswith(nearest)
    assert f"There is no report '{report}'" in str(outcome.error)
    assert [each.operation for each in sandbox.requests][1:] == ["list_reports"]
    assert sandbox.runs == []


def test_an_unknown_report_is_left_to_the_api_if_there_is_no_list(sandbox):
    """An outage of the list does not hide the error of the report."""
    sandbox.faults.add(Fault("list_reports", Answer(status=503), times=None))
    outcome = run_task(make(report="report_none"))
    assert isinstance(outcome.error, InvalidRequest)
    assert "names no report" in str(outcome.error)


@PLACES
def test_a_name_of_several_reports_fails_for_good(sandbox, deferrable):
    """With their ids, before a create."""
    two = Patch(lambda body: body | {"data": [body["data"][0], body["data"][0] | {"id": "r_2"}]})
    sandbox.faults.add(Fault("list_reports", two, times=None))
    outcome = run_task(make(deferrable=deferrable, retries=3))
    assert isinstance(outcome.error, AirflowFailException)
    assert f"use one of the ids {ID}, r_2" in str(outcome.error)
    assert posts(sandbox) == []


@pytest.mark.parametrize("report", ["name:", "{{ 'name:' ~ params.none }}", "a b"])
def test_what_is_no_report_is_refused_before_any_request(sandbox, report):
    """The error names the argument."""
    outcome = run_task(make(report=report, params={"none": None}, retries=3))
    assert isinstance(outcome.error, AirflowFailException)
    assert str(outcome.error).startswith("report must be ")
    assert sandbox.requests == []


@PLACES
@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("2026-10-14.preview", {"compress_file": "{{ True }}"}),
        ("2026-10-28.preview", {"compression": "{{ 'zip' }}"}),
    ],
)
def test_both_spellings_of_result_options(sandbox, monkeypatch, deferrable, version, options):
    """Templated, and as the version of the connection has them."""
    connect(sandbox, monkeypatch, stripe_version=version)
    outcome = run_task(make(deferrable=deferrable, result_options=options))
    assert outcome.state == "success", outcome.error
    (sent,) = posts(sandbox)
    assert sent.json["result_options"] in ({"compress_file": True}, {"compression": "zip"})
    assert sandbox.runs[0].compress_file


def connect(sandbox, monkeypatch, api="v2.data", **extra):
    """Change the extras of the connection, and its key by ``password``."""
    values = json.loads(sandbox.connection_json_for(api))
    values["password"] = extra.pop("password", values["password"])
    before = values.get("extra") or {}
    before = json.loads(before) if isinstance(before, str) else before
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT", json.dumps(values | {"extra": before | extra})
    )


def test_an_account_has_its_header(sandbox):
    """On the definition and on the create."""
    assert run_task(make(stripe_context="acct_{{ 40 + 2 }}")).state == "success"
    assert {each.headers["stripe-context"] for each in sandbox.requests} == {"acct_42"}
    assert not any("stripe-account" in each.headers for each in sandbox.requests)


# What becomes of a run


def canceling(tmp_path, kind, **arguments):
    """A task that waits for a run."""
    if kind != "sensor":
        return waiting(tmp_path, kind, wait_for_data=False, **arguments)
    run_id = ReportRunHook().create_report_run(NAME, INTERVAL).id
    with dag():
        return ReportRunSensor(
            task_id="wait", report_run_id=run_id, retries=5, **FAST_SENSOR, **arguments
        )


@PLACES
@pytest.mark.parametrize("kind", ["creates", "lands", "sensor"])
def test_a_canceled_run_fails_for_good(sandbox, tmp_path, kind, deferrable):
    """In one try, and the error says so."""
    sandbox.cancel_next()
    more = {"wait_for_completion": True} if kind == "creates" else {}
    task = canceling(tmp_path, kind, deferrable=deferrable, **more)
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    outcome = (run_sensor if kind == "sensor" else run_task)(task)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, AirflowFailException)
    assert isinstance(outcome.error, ReportRunCanceled)
    assert "was canceled at Stripe" in str(outcome.error)[:100]
    assert outcome.error.report_run_id == sandbox.runs[0].id
    assert len(outcome.deferrals) == int(deferrable)
    assert len(sandbox.runs) == 1


def test_a_clear_asks_for_another_run_than_the_canceled_one(sandbox):
    """A retry does not, and is told the same."""
    sandbox.cancel_next()
    task = make(wait_for_completion=True, retries=3)
    for number in (1, 2):
        assert isinstance(run_task(task, try_number=number).error, ReportRunCanceled)
    assert len(sandbox.runs) == 1
    assert run_task(task, try_number=2, max_tries=4).state == "success"
    assert len(sandbox.runs) == 2


def test_a_canceled_run_has_no_result(sandbox, tmp_path):
    """The download says so too."""
    sandbox.cancel_next()
    run_id = ReportRunHook().create_report_run(NAME, INTERVAL).id
    with dag():
        task = DownloadReportResultOperator(
            task_id="land", report_run_id=run_id, destination=str(tmp_path / "r.csv"), retries=3
        )
    outcome = run_task(task)
    assert isinstance(outcome.error, AirflowFailException)
    assert "was canceled at Stripe" in str(outcome.error)


@PLACES
@pytest.mark.parametrize("code", ["internal_error", "file_size_above_limit"])
def test_a_failed_run(sandbox, deferrable, code):
    """Its flat details are told; the next try takes the next key, unless that cannot help."""
    sandbox.fail_next(error_code=code)
    arguments = {"deferrable": deferrable, "wait_for_completion": True, "retries": 3}
    first = run_task(make(**arguments))
    assert isinstance(first.error, ReportRunFailed)
    assert code in str(first.error)
    assert first.error.error_message
    assert isinstance(first.error, AirflowFailException) is (code != "internal_error")
    if code == "internal_error":
        second = run_task(make(**arguments), try_number=2)
        assert second.state == "success", second.error
        assert keys(sandbox)[1] == key_after_failure(keys(sandbox)[0], sandbox.runs[0].id)


@PLACES
def test_parquet_lands_typed_without_a_second_question(sandbox, tmp_path, deferrable):
    """The columns of a result come by themselves; the sums are exact."""
    path = tmp_path / "report.parquet"
    task = waiting(
        tmp_path, "lands", destination=str(path), output_format="parquet", deferrable=deferrable
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    asked = [each.operation for each in sandbox.requests]
    assert asked.count("create") + asked.count("get_run") == 3  # made, polled, and for the URL
    assert asked.count("download") == 1
    assert not any("include" in each.query for each in sandbox.requests if "run" in each.path)
    types = {field.name: str(field.type) for field in pyarrow.parquet.read_schema(path)}
    assert "decimal128(38, 18)" in types.values()
    landing = outcome.xcom["landing"]
    assert landing["api"] == "v2.data"
    assert landing["interval_end"] == END


# Data that only a finished run shows


class Pauses:
    """
    The pauses of hours: each of them is over at once, while the sandbox's clock goes on.

    :param hours: by how many hours each of them lets the sandbox go on.
    """

    def __init__(self, sandbox):
        self.sandbox, self.hours, self.taken = sandbox, 24.0, []
        self.breaks = {}
        """Errors by the number of the pause that they end, from 1."""

    def over(self, seconds):
        """Tell whether a pause is one of hours; it is over then."""
        if seconds < HOURS:
            return False
        self.taken.append(seconds)
        error = self.breaks.pop(len(self.taken), None)
        if error is not None:
            raise error
        self.sandbox.advance(self.hours * 3600)
        return True


@pytest.fixture
def pauses(sandbox, monkeypatch):
    """The pauses of hours, none of which takes any time."""
    taken, sleep, asleep = Pauses(sandbox), time.sleep, asyncio.sleep

    async def pause(seconds, *result):
        return await asleep(0 if taken.over(seconds) else seconds, *result)

    monkeypatch.setattr(time, "sleep", lambda seconds: taken.over(seconds) or sleep(seconds))
    monkeypatch.setattr(asyncio, "sleep", pause)
    return taken


@pytest.fixture
def through(sandbox):
    """The instant up to which the sandbox has data."""
    with ReportRunHook(api="v2.reporting") as hook:
        found = hook.get_report("balance_summary").parameters["interval_end"].latest
    sandbox.reset()
    return found


def interval(through, days):
    """A data interval that ends days and a half after the data."""
    end = through + timedelta(days=days, hours=-12)
    return format_instant(end - timedelta(days=7)), format_instant(end)


def is_fresh(sandbox, run_id, end):
    """Tell whether the data of a run reach an instant."""
    run = ReportRunHook().get_report_run(run_id)
    return format_instant(run.refreshed_at) >= end


def lands(kind, tmp_path, sandbox, outcome):
    """Check that the task is about the last run, and landed it if it lands."""
    last = sandbox.runs[-1].id
    if kind == "creates":
        assert outcome.returned == last
    else:
        assert outcome.xcom["landing"]["report_run_id"] == last
        assert (tmp_path / "report.csv").read_bytes().startswith(b"category,")
    assert outcome.task.found_run_id == last


@PLACES
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("days", [1, 2])
def test_only_a_run_with_complete_data_is_taken(
    sandbox, tmp_path, through, pauses, kind, deferrable, days
):
    """Each run that is too early is followed by one with the same body and the next key."""
    week = interval(through, days)
    outcome = run_task(waiting(tmp_path, kind, deferrable=deferrable), interval=week)
    assert outcome.state == "success", outcome.error
    assert len(sandbox.runs) == days + 1
    chain = [keys(sandbox)[0]]
    for run in sandbox.runs[:-1]:
        chain.append(key_after_failure(chain[-1], run.id))
    assert keys(sandbox) == chain
    assert len({each.body for each in posts(sandbox)}) == 1
    assert is_fresh(sandbox, sandbox.runs[-1].id, week[1])
    assert not is_fresh(sandbox, sandbox.runs[-2].id, week[1])
    assert pauses.taken == [pytest.approx(2 * HOURS, abs=60)] * days
    assert len(outcome.deferrals) == int(deferrable)
    lands(kind, tmp_path, sandbox, outcome)


@PLACES
@pytest.mark.parametrize("kind", KINDS)
def test_complete_data_take_one_run(sandbox, tmp_path, pauses, kind, deferrable):
    """Although only the finished run shows it."""
    outcome = run_task(waiting(tmp_path, kind, deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    assert len(sandbox.runs) == 1
    assert pauses.taken == []
    lands(kind, tmp_path, sandbox, outcome)


@PLACES
def test_a_report_without_an_interval_waits_for_no_data(sandbox, tmp_path, pauses, deferrable):
    """It has no end to be complete up to, so the create is all that there is to do."""
    task = waiting(
        tmp_path,
        "creates",
        report="name:payout_reconciliation.by_id.itemized",
        report_parameters={"payout": "po_1"},
        deferrable=deferrable,
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert sandbox.runs[0].report_parameters == {"payout": "po_1"}
    assert operations(sandbox)[1:] == ["create"]


@PLACES
def test_without_wait_for_data_a_run_is_taken_as_it_is(
    sandbox, tmp_path, through, pauses, deferrable
):
    """Its data are the user's concern."""
    task = waiting(tmp_path, "lands", wait_for_data=False, deferrable=deferrable)
    assert run_task(task, interval=interval(through, 1)).state == "success"
    assert len(sandbox.runs) == 1
    assert pauses.taken == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 2])
def test_a_killed_trigger_goes_on_where_it_was(sandbox, tmp_path, through, pauses, kind, number):
    """Triggers restart; the runs so far are found again, and no other is made."""
    pauses.breaks[number] = asyncio.CancelledError()
    restarts = []

    def restarted(trigger):
        with pytest.raises(asyncio.CancelledError):
            first_event(trigger)
        restarts.append(trigger)
        return first_event(type(trigger)(**trigger.serialize()[1]))

    week = interval(through, 2)
    outcome = run_task(waiting(tmp_path, kind, deferrable=True), interval=week, event_of=restarted)
    assert outcome.state == "success", outcome.error
    assert len(restarts) == 1
    assert len(sandbox.runs) == 3
    lands(kind, tmp_path, sandbox, outcome)


@STORES
@PLACES
@pytest.mark.parametrize("kind", KINDS)
def test_a_retry_goes_on_where_the_try_before_was(
    sandbox, tmp_path, through, pauses, kind, deferrable, keeps
):
    """A worker or a triggerer may die hours after the first run."""
    pauses.breaks[2] = RuntimeError("the machine died")
    store = {} if keeps else None
    week = interval(through, 2)
    task = waiting(tmp_path, kind, deferrable=deferrable)

    def run(number):
        try:
            return run_task(task_of(), try_number=number, interval=week, store=store)
        except RuntimeError:  # of the trigger
            return None

    def task_of():
        return waiting(tmp_path, kind, deferrable=deferrable)

    first = run(1)
    assert first is None or first.state == "up_for_retry"
    assert len(sandbox.runs) == 2
    second = run(2)
    assert second.state == "success", second.error
    assert len(sandbox.runs) == 3
    lands(kind, tmp_path, sandbox, second)
    third = run(3)
    assert third.state == "success", third.error
    assert len(sandbox.runs) == 3
    lands(kind, tmp_path, sandbox, third)
    assert task.retries == 5


@PLACES
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_fails_takes_the_next_key_in_the_next_try(
    sandbox, tmp_path, through, pauses, kind, deferrable
):
    """Also for an operator that only creates, and between a stale run and a fresh one."""
    week = interval(through, 1)
    task = {"kind": kind, "deferrable": deferrable}
    sandbox.faults.add(Fault("create", FailNext(sandbox), after=2))
    first = run_task(waiting(tmp_path, **task), interval=week)
    assert isinstance(first.error, ReportRunFailed), first.error
    assert first.state == "up_for_retry"
    assert [run.status for run in sandbox.runs] == ["succeeded", "failed"]
    second = run_task(waiting(tmp_path, **task), interval=week, try_number=2)
    assert second.state == "success", second.error
    assert len(sandbox.runs) == 3
    lands(kind, tmp_path, sandbox, second)


class FailNext:
    """Lets the run fail that a create makes."""

    def __init__(self, sandbox):
        self.sandbox = sandbox

    async def play(self, _, exchange):
        """Plan the failure, and handle the request."""
        self.sandbox.fail_next()
        return await exchange.handle()


@PLACES
@pytest.mark.parametrize("kind", KINDS)
def test_the_timeout_comes_before_the_data(sandbox, tmp_path, through, pauses, kind, deferrable):
    """The error says how far the data were to reach, and how far they do."""
    week = interval(through, 1)
    task = waiting(tmp_path, kind, deferrable=deferrable, timeout=1.0, retries=0)
    outcome = run_task(task, interval=week)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, DeadlinePassed)
    assert f"to reach {week[1]}" in str(outcome.error)
    assert f"reach {format_instant(through)} only" in str(outcome.error)
    assert len(sandbox.runs) == 1
    assert not (tmp_path / "report.csv").exists()


@PLACES
def test_a_clear_asks_for_new_runs(sandbox, tmp_path, through, pauses, deferrable):
    """With a chain of its own; the data are there by then."""
    week = interval(through, 1)
    task = {"kind": "lands", "deferrable": deferrable}
    assert run_task(waiting(tmp_path, **task), interval=week).state == "success"
    cleared = run_task(waiting(tmp_path, **task), interval=week, try_number=2, max_tries=6)
    assert cleared.state == "success", cleared.error
    assert len(sandbox.runs) == 3
    lands("lands", tmp_path, sandbox, cleared)


@PLACES
def test_the_second_run_has_the_troubles_of_the_first(
    sandbox, tmp_path, through, pauses, deferrable
):
    """Lost answers, refused connections, keys in use and lack of room make no third one."""
    conflict = Answer(
        status=409, body={"error": {"code": "idempotency_conflict", "message": "In use."}}
    )
    for trouble in (LoseAnswer(), Refuse(), Answer(status=503), conflict, NO_ROOM):
        sandbox.faults.add(Fault("create", trouble, after=2))
    outcome = run_task(
        waiting(tmp_path, "lands", deferrable=deferrable), interval=interval(through, 1)
    )
    assert outcome.state == "success", outcome.error
    assert len(sandbox.runs) == 2
    lands("lands", tmp_path, sandbox, outcome)


# The create, and its refusals


@PLACES
@pytest.mark.parametrize("trouble", [LoseAnswer(), Refuse(), Answer(status=502), NO_ROOM])
def test_one_run_whatever_becomes_of_the_answers(sandbox, deferrable, trouble):
    """Under one key."""
    sandbox.faults.add(Fault("create", trouble))
    outcome = run_task(make(deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    assert len(sandbox.runs) == len(keys(sandbox)) == 1


@PLACES
def test_a_key_in_use_is_waited_for(sandbox, deferrable):
    """A create of before that still goes on; both get the same run."""
    held = sandbox.faults.add(Fault("create", Hold(seconds=1.0, before="finishing")))
    sandbox.faults.add(Fault("create", Refuse(), after=1))
    outcome = run_task(make(deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    assert held is None or held.reached.is_set()
    assert len(sandbox.runs) == 1


@pytest.mark.parametrize(
    ("key", "kind"), [("sk_test_wrong", AuthenticationError), ("powerless", PermissionDenied)]
)
@PLACES
def test_a_key_that_may_not(sandbox, monkeypatch, deferrable, key, kind):
    """One try, and the permission that is missing by its name."""
    password = sandbox.keyring.powerless.value if key == "powerless" else key
    connect(sandbox, monkeypatch, password=password)
    outcome = run_task(make(deferrable=deferrable, retries=3))
    assert isinstance(outcome.error, AirflowFailException)
    assert isinstance(outcome.error, kind)
    assert kind is AuthenticationError or "data_reports_read" in str(outcome.error)
    assert password not in str(outcome.error)


def test_a_run_of_another_account_is_not_found(sandbox, tmp_path):
    """The run is of the account that its context names."""
    run_id = ReportRunHook(stripe_context="acct_1").create_report_run(NAME, INTERVAL).id
    with dag():
        task = DownloadReportResultOperator(
            task_id="land", report_run_id=run_id, destination=str(tmp_path / "r.csv"), retries=3
        )
    assert isinstance(run_task(task).error, NotFound)


# What cannot wait for the data


@every_mode
def test_the_data_sensor_says_what_to_use(sandbox, mode):
    """Before any request, in one try."""
    with dag():
        task = ReportDataSensor(task_id="wait", report=NAME, retries=3, **FAST_SENSOR | MODES[mode])
    outcome = run_sensor(task)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, AirflowFailException)
    assert isinstance(outcome.error, InvalidInput)
    assert "wait_for_data=True" in str(outcome.error)[:100]
    assert sandbox.requests == []


@pytest.mark.parametrize("report", ["balance_summary", NAME])
def test_a_watcher_is_an_error_of_import(report):
    """Which says what to use."""
    with pytest.raises(InvalidInput, match=r"^Use wait_for_data=True"):
        DAG(
            "d",
            schedule=[
                Asset(
                    "a",
                    watchers=[
                        AssetWatcher(
                            name="w", trigger=ReportDataTrigger(report=report, api="v2.data")
                        )
                    ],
                )
            ],
        )


def test_a_row_of_a_wait_for_data_ends_with_that_error(sandbox):
    """Whoever made it."""
    trigger = ReportDataTrigger(report="r", interval_end=END, api="v2.data")
    event = first_event(trigger)
    assert event["outcome"] == "error"
    assert "wait_for_data=True" in event["message"]
    assert sandbox.requests == []


# The word


@PLACES
@pytest.mark.parametrize("api", ["v2.data", "{{ 'v2.' ~ params.which }}"])
def test_the_argument_is_over_the_connection(sandbox, monkeypatch, deferrable, api):
    """On the worker, in the trigger and after it."""
    connect(sandbox, monkeypatch, api="v1")
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    task = make(api=api, deferrable=deferrable, wait_for_completion=True, params={"which": "data"})
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert {each.generation for each in sandbox.requests} == {"v2.data"}
    assert [each.trigger_kwargs["api"] for each in outcome.deferrals] == ["v2.data"] * deferrable


def test_the_argument_may_be_the_default(sandbox):
    """Although the connection says otherwise, also in the trigger, whose row has no word."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    task = make(
        report="balance_summary", api="v2.reporting", deferrable=True, wait_for_completion=True
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert {each.generation for each in sandbox.requests} == {"v2.reporting"}
    assert [each.trigger_kwargs.get("api") for each in outcome.deferrals] == [None]


MAKERS = {
    "create": make,
    "sensor": lambda **arguments: ReportRunSensor(task_id="t", report_run_id="r", **arguments),
    "data": lambda **arguments: ReportDataSensor(task_id="t", report="r", **arguments),
    "download": lambda **arguments: DownloadReportResultOperator(
        task_id="t", report_run_id="r", destination="./r.csv", **arguments
    ),
    "storage": lambda **arguments: ReportRunToStorageOperator(
        task_id="t", report="r", destination="./r.csv", **arguments
    ),
}
ALL_WORDS = ("v2.reporting", "v2.data", "v1")


@pytest.mark.parametrize("word", ["v2", "V1", 1, "v2.data.query_runs"])
@pytest.mark.parametrize("maker", MAKERS)
def test_an_unknown_word_is_an_error_of_import(maker, word):
    """Which names all three."""
    with pytest.raises(InvalidInput) as caught:
        MAKERS[maker](api=word)
    assert all(each in str(caught.value)[:100] for each in ALL_WORDS)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("where", ["template", "connection"])
def test_an_unknown_word_is_refused_in_one_try(sandbox, monkeypatch, maker, where):
    """Before any request."""
    if where == "connection":
        connect(sandbox, monkeypatch, api="v1")
        values = json.loads(sandbox.connection_json) | {"extra": {"api": "v3"}}
        monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", json.dumps(values))
    with dag():
        task = MAKERS[maker](retries=3, **({"api": "{{ 'v3' }}"} if where == "template" else {}))
    outcome = run_task(task)
    assert outcome.state == "failed", outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert all(each in str(outcome.error)[:120] for each in ALL_WORDS), outcome.error
    assert sandbox.requests == []


# Rows of triggers


TRIGGERS = {
    ReportRunTrigger: {"report_run_id": "rr_1"},
    CreateReportRunTrigger: {"report": NAME, "report_parameters": INTERVAL, "idempotency_key": "k"},
    ReportDataTrigger: {"report": "r", "interval_end": END},
}


@pytest.mark.parametrize("api", ["v2.data", "v1", None])
@pytest.mark.parametrize("kind", TRIGGERS)
def test_a_row_survives_airflow(kind, api):
    """With the word; without one it is as the rows of earlier releases."""
    trigger = kind(**TRIGGERS[kind], api=api)
    path, arguments = trigger.serialize()
    assert ("api" in arguments) is (api is not None)
    again = kind(**deserialize(json.loads(json.dumps(serialize(arguments)))))
    assert again.serialize() == (path, arguments)
    assert again.generation.name == (api or "v2.reporting")


def test_a_row_without_the_word_means_the_default_for_ever(sandbox):
    """Although the connection says v2.data by now."""
    event = first_event(
        CreateReportRunTrigger(
            report="balance_summary", report_parameters=INTERVAL, idempotency_key="k"
        )
    )
    assert event["outcome"] == "done", event
    assert {each.generation for each in sandbox.requests} == {"v2.reporting"}
    assert first_event(ReportRunTrigger(report_run_id=event["report_run_id"]))["outcome"] == "done"
