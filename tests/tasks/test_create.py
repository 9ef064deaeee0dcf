"""The operator that creates report runs, as a real task instance against the sandbox."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

import pendulum
import pytest
from support.cases import END, FAST, START
from support.task_instances import dag, first_event, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    BadTriggerEvent,
    DeadlinePassed,
    InvalidInput,
    InvalidRequest,
    PermissionDenied,
    ReportRunFailed,
    ServerError,
    TransportError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.operators.report_run import CreateReportRunOperator
from airflow_provider_reportrun.sandbox import Answer, Fault, LoseAnswer, Patch

DO_NOT_ASK_AGAIN = {"Stripe-Should-Retry": "false"}


def make(dag_arguments=None, **arguments):
    """An operator in a DAG of its own."""
    with dag(**dag_arguments or {}):
        return CreateReportRunOperator(
            **{"task_id": "create", "report": "balance_summary"} | arguments
        )


def sent(sandbox):
    """The interval of the only report run."""
    (run,) = sandbox.runs
    return run.report_parameters["interval_start"], run.report_parameters["interval_end"]


def posts(sandbox):
    """The creates that arrived."""
    return [request for request in sandbox.requests if request.method == "POST"]


# What is sent


def test_creates_a_report_run_for_the_data_interval(sandbox):
    """The data interval of the DAG run is sent and shown, and the report run's id returned."""
    outcome = run_task(make())
    assert outcome.state == "success", outcome.error
    assert outcome.returned == sandbox.runs[0].id
    assert sent(sandbox) == (START, END)
    assert outcome.rendered["interval_start"] == START
    assert outcome.rendered["interval_end"] == END


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 10, 26, tzinfo=timezone.utc), pendulum.datetime(2026, 11, 2)),
        ("2026-10-26T02:00:00+02:00", "2026-11-02 01:00:00+01:00"),
        (date(2026, 10, 26), "2026-11-02"),
        ("{{ ds }}", "{{ data_interval_end | ds }}"),
        ("{{ data_interval_start.isoformat() }}", "{{ ts.replace('2026-10-26', '2026-11-02') }}"),
    ],
    ids=["datetimes", "offsets", "dates", "ds", "templates"],
)
@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_takes_an_interval_in_many_forms(sandbox, start, end, native):
    """Datetimes, dates and strings mean the same, rendered as text or natively."""
    task = make({"render_template_as_native_obj": native}, interval_start=start, interval_end=end)
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert sent(sandbox) == (START, END)


def test_native_rendering_sends_the_default_interval(sandbox):
    """The default template gives datetimes under native rendering, and the same interval."""
    assert run_task(make({"render_template_as_native_obj": True})).state == "success"
    assert sent(sandbox) == (START, END)


def test_dates_are_meant_in_the_timezone_given(sandbox):
    """Midnight in Paris is an hour before midnight in UTC in winter, two in summer."""
    task = make(interval_start="2026-10-20", interval_end="2026-10-27", timezone="Europe/Paris")
    assert run_task(task).state == "success"
    assert sent(sandbox) == ("2026-10-19T22:00:00.000Z", "2026-10-26T23:00:00.000Z")


def test_report_parameters_name_an_interval_in_place_of_the_default(sandbox):
    """What report_parameters name is sent, normalised; no data interval is needed then."""
    task = make(
        report_parameters={
            "interval_start": "2026-10-01T00:00:00Z",
            "interval_end": pendulum.datetime(2026, 10, 2),
            "currency": "usd",
        }
    )
    assert run_task(task, interval=None).state == "success"
    (run,) = sandbox.runs
    assert run.report_parameters == {
        "interval_start": "2026-10-01T00:00:00.000Z",
        "interval_end": "2026-10-02T00:00:00.000Z",
        "currency": "usd",
    }


def test_none_sends_no_interval(sandbox):
    """interval_start=None and interval_end=None leave both out."""
    run_task(make(interval_start=None, interval_end=None, validate=False))
    (request,) = posts(sandbox)
    assert b"interval" not in bytes(request.body)


def test_options_and_lists_are_sent(sandbox):
    """Lists of columns and compress_file, also where a template made it text, reach the API."""
    task = make(
        report="balance_change_from_activity_itemized",
        report_parameters={"columns": ["gross", "net"]},
        result_options={"compress_file": "{{ True }}"},
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    (run,) = sandbox.runs
    assert run.report_parameters["columns"] == ["gross", "net"]
    assert b'"compress_file":true' in bytes(posts(sandbox)[0].body)


def test_stripe_context_goes_over_the_connections_own(sandbox):
    """A task names the account that its report is about."""
    assert run_task(make(stripe_context="acct_{{ 40 + 2 }}")).state == "success"
    assert posts(sandbox)[0].headers["stripe-context"] == "acct_42"


def test_mapped_task_instances_have_report_runs_of_their_own(sandbox):
    """Each map index asks under its own key, and a repeat of one finds its own report run."""
    with dag():
        mapped = CreateReportRunOperator.partial(task_id="create").expand(
            report=["balance_summary", "payouts_itemized"]
        )
    ids = [
        run_task(mapped.unmap({"report": report}), map_index=index).returned
        for _ in range(2)
        for index, report in enumerate(["balance_summary", "balance_summary"])
    ]
    assert len(sandbox.runs) == 2
    assert ids[0] != ids[1]
    assert ids[:2] == ids[2:]


# One report run per task instance and clear


def test_a_lost_answer_makes_no_second_report_run(sandbox):
    """An answer that is lost on the way is asked for again under the same key."""
    sandbox.faults.add(Fault("create", LoseAnswer()))
    outcome = run_task(make())
    assert outcome.state == "success", outcome.error
    assert len(posts(sandbox)) == 2
    assert len(sandbox.runs) == 1


def test_a_retry_attaches_to_the_same_report_run(sandbox, caplog):
    """A later try finds the report run of the first, and logs its age."""
    first = run_task(make(retries=3))
    assert f"Created report run {first.returned}" in caplog.text
    sandbox.runs[0].created_ns -= 60 * 10**9
    second = run_task(make(retries=3), try_number=2)
    assert first.returned == second.returned
    assert len(sandbox.runs) == 1
    assert re.search(
        rf"Attached to report run {first.returned} of balance_summary, created [0-9]+ s before",
        caplog.text,
    )


def test_a_clear_asks_for_a_new_report_run(sandbox, capsys):
    """Clearing raises max_tries, which makes another key; the log says so."""
    first = run_task(make(retries=3))
    cleared = run_task(make(retries=3), try_number=2, max_tries=4)
    assert first.returned != cleared.returned
    assert "on_clear='new_run' asks for a new report run" in capsys.readouterr().out


def test_a_clear_may_reuse_the_report_run(sandbox):
    """With on_clear="reuse" a clear finds the same report run again."""
    first = run_task(make(retries=3, on_clear="reuse"))
    cleared = run_task(make(retries=3, on_clear="reuse"), try_number=2, max_tries=4)
    assert first.returned == cleared.returned


def test_an_own_key_shares_a_report_run_between_tasks(sandbox):
    """idempotency_key stands in for the task instance."""
    one = run_task(make(task_id="one", idempotency_key="shared-{{ ds }}"))
    two = run_task(make(task_id="two", idempotency_key="shared-{{ ds }}"))
    assert one.returned == two.returned


def test_namespaces_tell_environments_apart(sandbox, monkeypatch):
    """The same task in two environments on one account has two report runs."""
    run_task(make())
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT",
        sandbox.connection_json.replace("}", ', "extra": {"idempotency_namespace": "staging"}}'),
    )
    run_task(make())
    assert len(sandbox.runs) == 2


def test_the_try_after_a_failed_run_creates_a_new_one(sandbox):
    """A waiting task whose report run failed walks on to the next key, and any later try after."""
    sandbox.fail_next(2)
    arguments = {"wait_for_completion": True, "retries": 5, **FAST}
    first = run_task(make(**arguments))
    assert isinstance(first.error, ReportRunFailed)
    assert not isinstance(first.error, AirflowFailException)
    second = run_task(make(**arguments), try_number=2)
    assert isinstance(second.error, ReportRunFailed)
    third = run_task(make(**arguments), try_number=3)
    assert third.state == "success"
    assert len(sandbox.runs) == 3
    fourth = run_task(make(**arguments), try_number=4)
    assert fourth.returned == third.returned == sandbox.runs[2].id


def test_one_try_makes_one_report_run_at_most(sandbox):
    """Runs that fail at once do not make a chain within the same try."""
    sandbox.fail_next(10)
    run_task(make(wait_for_completion=True, retries=3, **FAST))
    assert len(sandbox.runs) == 1


def test_a_file_that_is_too_large_is_not_tried_again(sandbox):
    """file_size_above_limit fails for good: the next run would be as large."""
    sandbox.fail_next(1, error_code="file_size_above_limit")
    outcome = run_task(make(wait_for_completion=True, retries=3, **FAST))
    assert isinstance(outcome.error, AirflowFailException)
    assert isinstance(outcome.error, ReportRunFailed)
    assert outcome.state == "failed"
    assert "file_size_above_limit" in str(outcome.error)


def test_a_create_that_does_not_wait_returns_whatever_the_key_stands_for(sandbox):
    """Without waiting, a retry attaches also to a report run that failed meanwhile."""
    sandbox.fail_next(1)
    first = run_task(make(retries=3))
    second = run_task(make(retries=3), try_number=2)
    assert first.returned == second.returned
    assert len(sandbox.runs) == 1


# Waiting


@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferrable"])
def test_waits_for_completion(sandbox, deferrable):
    """The task ends when the report run has succeeded."""
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None}), times=2))
    outcome = run_task(make(wait_for_completion=True, deferrable=deferrable, **FAST))
    assert outcome.state == "success", outcome.error
    assert outcome.returned == sandbox.runs[0].id
    assert len(outcome.deferrals) == int(deferrable)
    assert len(posts(sandbox)) == 1


@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferrable"])
@pytest.mark.parametrize("waits", [False, True], ids=["create only", "and wait"])
def test_waits_for_capacity_under_the_same_key(sandbox, deferrable, waits):
    """A 429 for capacity is waited for, without a second report run and without a retry."""
    sandbox.faults.add(Fault("create", _no_capacity(), times=3))
    outcome = run_task(make(deferrable=deferrable, wait_for_completion=waits, **FAST))
    assert outcome.state == "success", outcome.error
    assert outcome.returned == sandbox.runs[0].id
    assert len({request.headers["idempotency-key"] for request in posts(sandbox)}) == 1
    assert len(outcome.deferrals) == int(deferrable)
    assert outcome.rendered["interval_start"] == START


def test_a_deferred_create_walks_the_chain_too(sandbox):
    """A create that waits in the triggerer also walks past the failed run of an earlier try."""
    sandbox.fail_next(1)
    arguments = {"wait_for_completion": True, "deferrable": True, "retries": 2, **FAST}
    assert isinstance(run_task(make(**arguments)).error, ReportRunFailed)
    sandbox.faults.add(Fault("create", _no_capacity(), times=2))
    outcome = run_task(make(**arguments), try_number=2)
    assert outcome.returned == sandbox.runs[1].id


@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferrable"])
def test_the_timeout_bounds_the_wait_for_capacity(sandbox, deferrable):
    """When the timeout passes, the error says what was waited for, and is not retried."""
    sandbox.faults.add(Fault("create", _no_capacity(), times=None))
    outcome = run_task(make(deferrable=deferrable, timeout=0.3, retries=3, **FAST))
    assert isinstance(outcome.error, DeadlinePassed)
    assert isinstance(outcome.error, AirflowFailException)
    assert "room for one more report run" in str(outcome.error)


@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferrable"])
def test_the_timeout_bounds_the_wait_for_the_report(sandbox, deferrable):
    """The report run is left alone when the timeout passes, and named."""
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None}), times=None))
    outcome = run_task(
        make(
            deferrable=deferrable, wait_for_completion=True, timeout=timedelta(seconds=0.3), **FAST
        )
    )
    assert isinstance(outcome.error, DeadlinePassed)
    assert outcome.error.report_run_id == sandbox.runs[0].id
    assert "goes on at Stripe" in str(outcome.error)


def test_a_throttled_deferrable_create_moves_to_the_triggerer(sandbox):
    """The request limiter uses up no retry either."""
    limited = Answer(status=429, headers={"Retry-After": "0"})
    sandbox.faults.add(Fault("create", limited, times=7))
    outcome = run_task(make(deferrable=True, **FAST))
    assert outcome.state == "success", outcome.error
    assert len(outcome.deferrals) == 1


def test_the_triggerers_silence_is_no_crash(sandbox):
    """Where Airflow ends the deferral itself, the task fails with a word on the triggerer."""
    outcome = run_task(
        make(deferrable=True, retries=3),
        resume={"next_method": "__fail__", "next_kwargs": {"error": "Trigger timeout"}},
    )
    assert isinstance(outcome.error, DeadlinePassed)
    assert "Check that a triggerer runs" in str(outcome.error)


@pytest.mark.parametrize(
    "event", [None, {}, {"outcome": "fine"}, {"outcome": "done", "report_run_id": None}, "done"]
)
def test_an_event_that_makes_no_sense_is_refused(sandbox, event):
    """A task is not resumed into success by anything but a good event."""
    outcome = run_task(
        make(deferrable=True, wait_for_completion=True, retries=3),
        resume={"next_method": "execute_complete", "next_kwargs": {"event": event}},
    )
    assert isinstance(outcome.error, BadTriggerEvent)


def test_events_hold_no_secrets(sandbox):
    """Events name ids, statuses and messages: neither the key nor a URL."""
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None})))
    outcome = run_task(make(deferrable=True, wait_for_completion=True, **FAST))
    (event,) = outcome.events
    assert event == {
        "outcome": "done",
        "report_run_id": sandbox.runs[0].id,
        "status": "succeeded",
        "message": f"Report run {sandbox.runs[0].id} succeeded",
        "error": None,
    }
    assert sandbox.api_key not in str(outcome.deferrals)


# Bad input, before any request


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"report": ""}, "report must be the id"),
        ({"report": "two words"}, "report must be the id"),
        ({"interval_start": "yesterday"}, "interval_start must be an ISO 8601"),
        ({"interval_start": ""}, "CronDataIntervalTimetable"),
        ({"interval_start": END, "interval_end": START}, "ends before it starts"),
        ({"interval_start": START, "interval_end": START}, "has no length"),
        (
            {"interval_start": START, "report_parameters": {"interval_start": START}},
            "interval_start is passed twice",
        ),
        ({"report_parameters": {"n": 5}}, "report_parameters['n'] is 5 (int)"),
        ({"report_parameters": {"n": {"a": 1}}}, "report_parameters['n']"),
        ({"result_options": {"compress": True}}, "result_options accepts only compress_file"),
        ({"result_options": {"compress_file": "yes"}}, "compress_file must be True or False"),
        ({"stripe_context": "acct\n1"}, "stripe_context must be an account"),
        ({"reportrun_conn_id": "nowhere"}, "no Airflow connection 'nowhere'"),
    ],
)
@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferrable"])
def test_refuses_bad_input_before_any_request(sandbox, arguments, words, deferrable):
    """The error names the argument and the fix, is not retried, and nothing was sent."""
    outcome = run_task(make(retries=3, deferrable=deferrable, **arguments))
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert words in str(outcome.error)
    assert sandbox.requests == []


def test_a_key_must_be_in_the_connection(sandbox, monkeypatch):
    """A connection without a password is named."""
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", '{"conn_type": "reportrun"}')
    outcome = run_task(make())
    assert "'reportrun_default' has no API key" in str(outcome.error)


@pytest.mark.parametrize(
    ("interval", "fields", "words"),
    [
        pytest.param(None, {}, "CronDataIntervalTimetable", id="no interval"),
        pytest.param(
            None,
            {"partition_key": "2026-10-26"},
            "partition_key",
            id="partition",
            marks=pytest.mark.needs("partitions"),
        ),
        pytest.param(
            ("2026-11-02T00:00:00Z", "2026-11-02T00:00:00Z"),
            {},
            "CronDataIntervalTimetable",
            id="no length",
        ),
    ],
)
@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_a_run_without_an_interval_is_refused(sandbox, interval, fields, words, native):
    """Plain cron, manual, asset and partitioned runs get an error that names the fix."""
    task = make({"render_template_as_native_obj": native}, retries=3)
    outcome = run_task(task, interval=interval, run_fields=fields)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert words in str(outcome.error)
    assert sandbox.requests == []


def test_dates_are_refused_where_the_day_is_not_certain(sandbox):
    """In a DAG that is not in UTC a bare date could mean two instants."""
    zone = pendulum.timezone("America/New_York")
    task = make({"start_date": pendulum.datetime(2026, 1, 1, tz=zone)}, interval_start="{{ ds }}")
    outcome = run_task(task)
    assert isinstance(outcome.error, InvalidInput)
    assert "timezone=" in str(outcome.error)


# What the API refuses


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"report": "no_such_report"}, InvalidRequest, "no_such_report"),
        ({"report_parameters": {"colour": "red"}, "validate": False}, InvalidRequest, "colour"),
    ],
)
def test_what_the_api_refuses_fails_for_good_in_its_words(sandbox, arguments, kind, words):
    """A refusal carries the API's own message and the request id, and burns no retries."""
    outcome = run_task(make(retries=3, **arguments))
    assert isinstance(outcome.error, kind)
    assert isinstance(outcome.error, AirflowFailException)
    assert words in str(outcome.error)
    assert outcome.error.request_id in str(outcome.error)
    assert len(posts(sandbox)) == 1


def test_a_wrong_key_fails_for_good(sandbox, monkeypatch):
    """401 names the password field."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT",
        sandbox.connection_json.replace(sandbox.api_key, "rk_test_wrong"),
    )
    outcome = run_task(make(retries=3))
    assert isinstance(outcome.error, AuthenticationError)
    assert isinstance(outcome.error, AirflowFailException)
    assert "password field" in str(outcome.error)


@pytest.mark.parametrize(
    ("key", "words"),
    [("read_only", "reporting_write"), ("powerless", "reporting_write")],
)
def test_a_missing_permission_fails_for_good(sandbox, monkeypatch, key, words):
    """403 names the permissions."""
    value = getattr(sandbox.keyring, key).value
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json.replace(sandbox.api_key, value)
    )
    outcome = run_task(make(retries=3))
    assert isinstance(outcome.error, PermissionDenied)
    assert words in str(outcome.error)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(status=500, headers=DO_NOT_ASK_AGAIN), ServerError),
        (Answer(status=200, body="<html>", content_type="text/html"), UnexpectedAnswer),
        (Answer(status=503, body="<html>", content_type="text/html"), ServerError),
    ],
    ids=["500", "html 200", "html 503"],
)
def test_what_may_pass_is_retried_by_airflow(sandbox, answer, kind):
    """A transient error that lasts leaves as it is, so that Airflow tries again."""
    sandbox.faults.add(Fault("create", answer, times=None))
    outcome = run_task(make(retries=3, **FAST))
    assert isinstance(outcome.error, kind)
    assert not isinstance(outcome.error, AirflowFailException)
    assert outcome.state == "up_for_retry"


def test_an_unreachable_host_is_named(sandbox, monkeypatch):
    """A refused connection names the host, and is retried by Airflow."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT",
        sandbox.connection_json.replace(sandbox.url, "http://127.0.0.1:9"),
    )
    outcome = run_task(make(retries=3))
    assert isinstance(outcome.error, TransportError)
    assert not isinstance(outcome.error, AirflowFailException)
    assert "http://127.0.0.1:9" in str(outcome.error)


@pytest.mark.parametrize(("status", "state"), [(500, "up_for_retry"), (401, "failed")])
def test_callbacks_are_called_after_a_failed_try(sandbox, capsys, status, state):
    """Nothing that Airflow does after the task stumbles over rendered fields."""
    answer = Answer(status=status, headers={"Stripe-Should-Retry": "false"})
    sandbox.faults.add(Fault("create", answer, times=None))
    called = []
    task = make(
        retries=1,
        on_retry_callback=lambda _: called.append("up_for_retry"),
        on_failure_callback=lambda _: called.append("failed"),
    )
    assert run_task(task).state == state
    assert called == [state]
    assert "Failed to set rendered fields" not in capsys.readouterr().out


@pytest.mark.needs("retry_policy")
def test_a_retry_policy_decides_on_the_typed_error(sandbox):
    """A task with a retry policy of its own gets the error that is not AirflowFailException."""
    from airflow.sdk import ExceptionRetryPolicy

    policy = ExceptionRetryPolicy(rules=[])
    outcome = run_task(make(retries=3, retry_policy=policy, report="no_such_report"))
    assert isinstance(outcome.error, InvalidRequest)
    assert not isinstance(outcome.error, AirflowFailException)


def test_a_restarted_trigger_makes_no_second_report_run(sandbox):
    """A triggerer that dies after the POST repeats it under the same key."""
    sandbox.faults.add(Fault("create", _no_capacity()))
    events = []

    def twice(trigger):
        events.extend([first_event(trigger), first_event(type(trigger)(**trigger.serialize()[1]))])
        return events[-1]

    outcome = run_task(make(deferrable=True, **FAST), event_of=twice)
    assert events[0]["report_run_id"] == events[1]["report_run_id"]
    assert outcome.returned == sandbox.runs[0].id
    assert len(sandbox.runs) == 1


def _no_capacity():
    return Answer(
        status=429,
        body={
            "error": {
                "type": "rate_limit",
                "code": "report_run_rate_limit_exceeded",
                "message": "The API key has reached its limit of concurrently running reports.",
            }
        },
    )
