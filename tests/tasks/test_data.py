"""Waiting for data: the sensor in every mode, and the operators that do it themselves."""

from __future__ import annotations

import time
from datetime import timedelta

import pendulum
import pytest
from support.cases import (
    DAY_SECONDS,
    END,
    FAST,
    FAST_SENSOR,
    MODES,
    PLACES,
    Advance,
    operations,
)
from support.task_instances import dag, run_sensor, run_task

from airflow_provider_reportrun._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralError,
)
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    BadTriggerEvent,
    DataWindowUnknown,
    DeadlinePassed,
    InvalidInput,
    InvalidRequest,
    NotFound,
    PermissionDenied,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.protocol.interval import format_instant
from airflow_provider_reportrun.sandbox import Answer, Fault, Patch
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor

DOWN = Answer(status=503, headers={"Stripe-Should-Retry": "false"})
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def through(sandbox):
    """The instant up to which the sandbox has data."""
    now = ReportRunHook().get_report("balance_summary").parameters["interval_end"].latest
    sandbox.reset()
    return now


@pytest.fixture
def tomorrow(through):
    """A data interval that ends a day after the data."""
    end = through + timedelta(days=1)
    return format_instant(end - timedelta(days=7)), format_instant(end)


def make(dag_arguments=None, **arguments):
    """A sensor in a DAG of its own."""
    with dag(**dag_arguments or {}):
        return ReportDataSensor(
            **{"task_id": "wait", "report": "balance_summary", **FAST_SENSOR} | arguments
        )


# The sensor


@every_mode
def test_waits_until_the_data_cover_the_interval(sandbox, through, tomorrow, mode):
    """The end of the data interval by default; XCom is the instant up to which there are data."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=2))
    outcome = run_sensor(make(**MODES[mode]), interval=tomorrow)
    assert outcome.state == "success", outcome.error
    assert outcome.returned == tomorrow[1]
    assert pendulum.parse(outcome.returned) == through + timedelta(days=1)
    assert set(operations(sandbox)) == {"get_report"}
    assert len(outcome.deferrals) == int(mode == "deferrable")


@every_mode
def test_data_that_are_there_take_one_look(sandbox, mode):
    """No deferral, no reschedule."""
    outcome = run_task(make(**MODES[mode]))
    assert outcome.state == "success", outcome.error
    assert outcome.returned > END
    assert outcome.deferrals == []
    assert operations(sandbox) == ["get_report"]


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
@pytest.mark.parametrize(
    "form",
    ["{{ data_interval_end }}", "{{ data_interval_end.isoformat() }}", "datetime", "2026-11-02"],
)
def test_takes_an_interval_end_in_many_forms(sandbox, form, native):
    """Datetimes, dates and strings mean the same, rendered as text or natively."""
    end = pendulum.datetime(2026, 11, 2) if form == "datetime" else form
    task = make({"render_template_as_native_obj": native}, interval_end=end, deferrable=True)
    sandbox.advance(-30 * DAY_SECONDS)
    outcome = run_task(task, event_of=None)
    (deferral,) = outcome.deferrals
    assert deferral.trigger_kwargs["interval_end"] == END


def test_dates_are_meant_in_the_timezone_given(sandbox):
    """Midnight in Paris is an hour before midnight in UTC in winter."""
    sandbox.advance(-30 * DAY_SECONDS)
    task = make(interval_end="2026-11-02", timezone="Europe/Paris", deferrable=True)
    (deferral,) = run_task(task, event_of=None).deferrals
    assert deferral.trigger_kwargs["interval_end"] == "2026-11-01T23:00:00.000Z"


@every_mode
def test_dates_are_refused_where_the_day_is_not_certain(sandbox, mode):
    """In a DAG that is not in UTC a bare date could mean two instants."""
    zone = pendulum.timezone("America/New_York")
    arguments = {"start_date": pendulum.datetime(2026, 1, 1, tz=zone)}
    outcome = run_sensor(make(arguments, interval_end="{{ ds }}", retries=3, **MODES[mode]))
    assert isinstance(outcome.error, InvalidInput)
    assert "timezone=" in str(outcome.error)
    assert sandbox.requests == []


@every_mode
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({}, "CronDataIntervalTimetable", id="no interval"),
        pytest.param(
            {"partition_key": "2026-10-26"},
            "partition_key",
            id="partition",
            marks=pytest.mark.needs("partitions"),
        ),
    ],
)
def test_a_run_without_an_interval_is_refused(sandbox, mode, fields, words):
    """The error names the fix, is not retried, and comes before any request."""
    outcome = run_sensor(make(retries=3, **MODES[mode]), interval=None, run_fields=fields)
    assert isinstance(outcome.error, InvalidInput)
    assert isinstance(outcome.error, AirflowFailException)
    assert words in str(outcome.error)
    assert sandbox.requests == []


@every_mode
@pytest.mark.parametrize(
    ("report", "kind"),
    [
        ("all_fees_itemized", DataWindowUnknown),
        ("no_such_report", NotFound),
        ("connected_account_payouts_itemized", PermissionDenied),
    ],
)
def test_what_cannot_be_waited_for_fails_for_good(sandbox, mode, report, kind):
    """A report without a window, an unknown one and one out of reach: named, and not retried."""
    outcome = run_sensor(make(report=report, retries=3, soft_fail=True, **MODES[mode]))
    assert isinstance(outcome.error, kind)
    assert isinstance(outcome.error, AirflowFailException)
    assert report in str(outcome.error)
    assert operations(sandbox) == ["get_report"]


@every_mode
@pytest.mark.parametrize("bad", ["", "two words"])
def test_a_report_must_be_named(sandbox, mode, bad):
    """What renders to nothing is named before any request."""
    outcome = run_sensor(make(report=bad, retries=3, **MODES[mode]))
    assert isinstance(outcome.error, InvalidInput)
    assert "report must be the id" in str(outcome.error)
    assert sandbox.requests == []


@every_mode
def test_a_transient_error_means_not_yet(sandbox, tomorrow, mode):
    """An outage shorter than the tolerance is ridden out."""
    sandbox.faults.add(Fault("get_report", DOWN, times=3))
    sandbox.faults.add(Fault("get_report", Advance(sandbox)))
    outcome = run_sensor(make(**MODES[mode]), interval=tomorrow)
    assert outcome.state == "success", outcome.error


@every_mode
@pytest.mark.parametrize(
    ("asked", "state", "kind"),
    [
        ({}, "failed", AirflowSensorTimeout),
        ({"soft_fail": True}, "skipped", AirflowSkipException),
        ({"never_fail": True}, "skipped", AirflowSkipException),
    ],
    ids=["plain", "soft_fail", "never_fail"],
)
def test_the_timeout(sandbox, tomorrow, mode, asked, state, kind):
    """It fails the task for good, or skips it where that was asked for."""
    arguments = {"timeout": 0.2, "retries": 3} | asked | MODES[mode]
    outcome = run_sensor(make(**arguments), interval=tomorrow)
    assert outcome.state == state, outcome.error
    if state == "failed":
        assert isinstance(outcome.error, kind)
    assert "report run" not in str(outcome.error or "").lower()


@every_mode
@pytest.mark.parametrize(
    ("asked", "state"),
    [({}, "failed"), ({"soft_fail": True}, "failed"), ({"never_fail": True}, "skipped")],
    ids=["plain", "soft_fail", "never_fail"],
)
@pytest.mark.parametrize("looks", [0, 1], ids=["at once", "later"])
def test_a_refused_key(sandbox, tomorrow, mode, asked, state, looks):
    """soft_fail is for what is expected: a key that is not known is not."""
    sandbox.faults.add(Fault("get_report", Answer(status=401), after=looks, times=None))
    outcome = run_sensor(make(retries=3, **asked, **MODES[mode]), interval=tomorrow)
    assert outcome.state == state, outcome.error
    if state == "failed":
        assert isinstance(outcome.error, AuthenticationError)


def test_a_crashed_trigger_is_retried(sandbox):
    """Also with soft_fail."""
    resume = {"next_method": "__fail__", "next_kwargs": {"error": "Trigger failure"}}
    outcome = run_task(make(deferrable=True, soft_fail=True, retries=3), resume=resume)
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, TaskDeferralError)


@pytest.mark.parametrize("event", [None, {}, {"outcome": "fine"}, "done"])
def test_an_event_that_makes_no_sense_is_refused(sandbox, event):
    """A task is not resumed into success by anything but a good event."""
    resume = {"next_method": "execute_complete", "next_kwargs": {"event": event}}
    outcome = run_task(make(deferrable=True, retries=3), resume=resume)
    assert isinstance(outcome.error, BadTriggerEvent)


def test_the_sensor_reads_through_the_account_it_is_told(sandbox, tomorrow):
    """stripe_context reaches the look before the deferral, the trigger and the look after."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=1))
    sensor = make(deferrable=True, stripe_context="acct_{{ 40 + 2 }}")
    assert run_sensor(sensor, interval=tomorrow).state == "success"
    assert {request.headers["stripe-context"] for request in sandbox.requests} == {"acct_42"}
    assert len(sandbox.requests) == 3


def test_on_kill_speaks_of_no_report_run(sandbox, capsys):
    """There is none."""
    make().on_kill()
    assert "goes on" not in capsys.readouterr().out
    assert sandbox.requests == []


# The operators


def create_task(**arguments):
    """An operator that waits for data, in a DAG of its own."""
    defaults = {"task_id": "create", "report": "balance_summary", "wait_for_data": True}
    with dag():
        return CreateReportRunOperator(**defaults | FAST | arguments)


@PLACES
@pytest.mark.parametrize("validate", [False, True], ids=["unchecked", "validate"])
@pytest.mark.parametrize("waits", [False, True], ids=["create only", "and wait"])
def test_a_create_waits_for_its_data(sandbox, tomorrow, deferrable, waits, validate):
    """Data, create and report in one deferral at most; one POST, and it comes after the data."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=3))
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None})))
    task = create_task(deferrable=deferrable, wait_for_completion=waits, validate=validate)
    outcome = run_task(task, interval=tomorrow)
    assert outcome.state == "success", outcome.error
    assert outcome.returned == sandbox.runs[0].id
    assert len(outcome.deferrals) == int(deferrable)
    assert operations(sandbox) == [*["get_report"] * 4, "create", *["get_run"] * (2 * waits)]
    assert outcome.rendered["interval_end"] == tomorrow[1]


@PLACES
def test_data_that_are_there_are_not_waited_for(sandbox, deferrable):
    """One look at the definition, and the create."""
    outcome = run_task(create_task(deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    assert outcome.deferrals == []
    assert operations(sandbox) == ["get_report", "create"]


def test_an_interval_in_the_parameters_is_waited_for(sandbox, tomorrow):
    """What is sent counts, wherever it was named."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=2))
    start, end = tomorrow
    task = create_task(report_parameters={"interval_start": start, "interval_end": end})
    outcome = run_task(task, interval=None)
    assert outcome.state == "success", outcome.error
    assert operations(sandbox) == [*["get_report"] * 3, "create"]


@PLACES
def test_data_and_report_have_one_deadline(sandbox, tomorrow, deferrable):
    """Nothing is created where the time went into waiting for the data, and the error says so."""
    task = create_task(deferrable=deferrable, timeout=0.3, retries=3, wait_for_completion=True)
    before = time.time()
    outcome = run_task(task, interval=tomorrow)
    assert isinstance(outcome.error, DeadlinePassed)
    assert isinstance(outcome.error, AirflowFailException)
    assert "the data of balance_summary to reach" in str(outcome.error)
    assert sandbox.runs == []
    for deferral in outcome.deferrals:
        assert deferral.trigger_kwargs["deadline"] - before < 2


@PLACES
def test_a_report_without_a_window_is_created_at_once(sandbox, deferrable, caplog):
    """What cannot be waited for is left to the API, with a warning."""
    task = create_task(
        report="all_fees_itemized", report_parameters={"columns": ["fee"]}, deferrable=deferrable
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert operations(sandbox) == ["get_report", "create"]
    assert "does not say up to when it has data" in caplog.text


@pytest.mark.parametrize("mode", MODES)
def test_the_wait_for_a_wrong_report_names_the_nearest(sandbox, mode):
    """At once and for good, with one more request."""
    outcome = run_sensor(make(report="balance_summery", retries=3, **MODES[mode]))
    assert isinstance(outcome.error, AirflowFailException)
    assert str(outcome.error).startswith("Did you mean 'balance_summary'? There is no report")
    assert operations(sandbox) == ["get_report", "get_report"]


@PLACES
@pytest.mark.parametrize("status", [403, 404])
def test_a_definition_that_may_not_be_read_is_done_without(sandbox, deferrable, status, caplog):
    """The report run is created at once, with a warning."""
    sandbox.faults.add(Fault("get_report", Answer(status=status), times=None))
    outcome = run_task(create_task(deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    assert operations(sandbox) == ["get_report", "create"]
    assert "Going on without the definition" in caplog.text


@PLACES
def test_an_outage_does_not_end_the_wait_for_data(sandbox, tomorrow, deferrable):
    """
    A definition that cannot be had for a moment is no reason to create too early.

    The API would refuse the interval for good, and no retry would follow.
    """
    sandbox.faults.add(Fault("get_report", DOWN, times=3))
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=1))
    outcome = run_task(create_task(deferrable=deferrable, retries=3), interval=tomorrow)
    assert not isinstance(outcome.error, InvalidRequest)
    assert outcome.state in {"success", "up_for_retry"}, outcome.error


@PLACES
def test_an_outage_while_waiting_for_data_is_ridden_out(sandbox, tomorrow, deferrable):
    """Also in place: the API is asked again until the tolerance is used up."""
    sandbox.faults.add(Fault("get_report", DOWN, after=2, times=3))
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=2))
    outcome = run_task(create_task(deferrable=deferrable), interval=tomorrow)
    assert outcome.state == "success", outcome.error


def test_a_wrong_key_is_told_by_the_first_request(sandbox):
    """401 is no missing definition."""
    sandbox.faults.add(Fault("get_report", Answer(status=401), times=None))
    outcome = run_task(create_task(retries=3))
    assert isinstance(outcome.error, AuthenticationError)
    assert operations(sandbox) == ["get_report"]


@pytest.mark.parametrize("arguments", [{}, {"deferrable": False}], ids=["default", "in place"])
def test_the_single_task_waits_for_data_by_default(sandbox, tomorrow, tmp_path, arguments):
    """In the triggerer, unless told otherwise; in one deferral with create and report."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=2))
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None})))
    with dag():
        task = ReportRunToStorageOperator(
            task_id="land",
            report="balance_summary",
            destination=f"{tmp_path}/{{{{ ds }}}}.csv",
            **FAST | arguments,
        )
    outcome = run_task(task, interval=tomorrow)
    assert outcome.state == "success", outcome.error
    assert len(outcome.deferrals) == int(not arguments)
    assert [file.name for file in tmp_path.iterdir()] == [f"{tomorrow[0][:10]}.csv"]
    assert len(sandbox.runs) == 1


def test_the_single_task_need_not_wait(sandbox, tomorrow, tmp_path):
    """Then data that are not there yet are for Airflow's retries."""
    with dag():
        task = ReportRunToStorageOperator(
            task_id="land",
            report="balance_summary",
            destination=f"{tmp_path}/r.csv",
            wait_for_data=False,
            retries=3,
        )
    outcome = run_task(task, interval=tomorrow)
    assert outcome.state == "up_for_retry"
    assert operations(sandbox) == ["get_report"]


NOT_YET = {
    "error": {
        "code": "invalid_fields",
        "message": "Data for the report type balance_summary is only available through 2026-11-01 "
        "12:00:00 UTC; you requested `interval_end` = 2026-11-02 00:00:00 UTC.",
    }
}
AHEAD = "2090-01-01T00:00:00.000Z"
DEFINITIONS = {
    "403": Answer(status=403),
    "404": Answer(status=404),
    "503": DOWN,
    "no window": Patch({"parameters": {"interval_end": {"timestamp_details": None}}}),
    "ahead": Patch({"parameters": {"interval_end": {"timestamp_details": {"max": AHEAD}}}}),
}


@PLACES
@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("waits", [True, False], ids=["wait_for_data", "retried"])
def test_data_that_are_missing_in_words_alone(sandbox, deferrable, definition, waits):
    """Whatever the definition says, or does not: the create is repeated, or the task retried."""
    sandbox.faults.add(Fault("get_report", DEFINITIONS[definition], times=None))
    sandbox.faults.add(Fault("create", Answer(status=400, body=NOT_YET), times=3))
    with dag():
        task = CreateReportRunOperator(
            task_id="create",
            report="balance_summary",
            wait_for_data=waits,
            deferrable=deferrable,
            retries=0 if waits else 3,
            **FAST,
        )
    outcome = run_task(task)
    creates = [seen for seen in sandbox.requests if seen.operation == "create"]
    if waits:
        assert outcome.state == "success", outcome.error
        assert len(creates) == 4
        assert len({seen.headers["idempotency-key"] for seen in creates}) == 1
        assert bool(outcome.deferrals) is deferrable
        return
    assert type(outcome.error).__name__ == "DataNotAvailable"
    assert outcome.error.available_through == "2026-11-01T12:00:00.000Z"
    assert not isinstance(outcome.error, AirflowFailException)


@PLACES
@pytest.mark.parametrize("status", [400, 409])
def test_a_create_whose_first_request_is_still_at_work_waits(sandbox, deferrable, status):
    """Under the same key, for longer than a request is repeated within seconds."""
    body = {"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}}
    in_use = Answer(status=status, body=body, headers={"Stripe-Should-Retry": "false"})
    sandbox.faults.add(Fault("create", in_use, times=2))
    with dag():
        task = CreateReportRunOperator(
            task_id="create",
            report="balance_summary",
            deferrable=deferrable,
            retries=0,
            **FAST,
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert bool(outcome.deferrals) is deferrable
    assert len(sandbox.runs) == 1
    keys = [s.headers["idempotency-key"] for s in sandbox.requests if s.operation == "create"]
    assert len(keys) == 3
    assert len(set(keys)) == 1
