"""The sensor in every mode, as a real task instance against the sandbox."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone

import pendulum
import pytest
from msgspec.structs import replace
from support.cases import FAST_SENSOR, INTERVAL, MODES, STILL_RUNNING
from support.task_instances import dag, load_trigger, run_sensor, run_task

from airflow_provider_reportrun._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralError,
)
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    InvalidInput,
    NotFound,
    ReportRunFailed,
    ServerError,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.sandbox import Answer, Fault, Patch
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor


@pytest.fixture
def report_run(sandbox):
    """A report run to wait for."""
    return ReportRunHook().create_report_run("balance_summary", INTERVAL)


def make(report_run_id, **arguments):
    """A sensor in a DAG of its own."""
    with dag():
        return ReportRunSensor(
            **{"task_id": "wait", "report_run_id": report_run_id, **FAST_SENSOR} | arguments
        )


@pytest.mark.parametrize("mode", MODES)
def test_waits_and_tells_what_is_known_of_the_report_run(sandbox, report_run, mode):
    """XCom is a dict of plain JSON values without a URL."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=2))
    outcome = run_sensor(
        make("{{ 'x' and params.id }}", params={"id": report_run.id}, **MODES[mode])
    )
    assert outcome.state == "success", outcome.error
    told = outcome.returned
    assert json.loads(json.dumps(told)) == told
    assert "http" not in json.dumps(told)
    assert told == {
        "report_run_id": report_run.id,
        "status": "succeeded",
        "report": "balance_summary",
        "report_name": report_run.report_name,
        "report_parameters": {
            "interval_start": "2026-10-26T00:00:00.000Z",
            "interval_end": "2026-11-02T00:00:00.000Z",
        },
        "content_type": "csv",
        "size": told["size"],
        "created": told["created"],
        "livemode": False,
    }
    assert told["size"] > 0
    assert pendulum.parse(told["created"]).tzinfo is not None


def test_a_finished_report_run_is_not_deferred_for(sandbox, report_run):
    """One look comes before a deferral."""
    outcome = run_sensor(make(report_run.id, deferrable=True))
    assert outcome.state == "success"
    assert outcome.deferrals == []


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_status_counts_as_unfinished(sandbox, report_run, mode):
    """A status that this version does not know is waited on."""
    sandbox.faults.add(Fault("get_run", Patch({"status": "queued", "result": None}), times=2))
    assert run_sensor(make(report_run.id, **MODES[mode])).state == "success"


@pytest.mark.parametrize("mode", MODES)
def test_a_transient_error_means_not_yet(sandbox, report_run, mode):
    """An outage shorter than the tolerance is ridden out."""
    answer = Answer(status=500, headers={"Stripe-Should-Retry": "false"})
    sandbox.faults.add(Fault("get_run", answer, times=3))
    outcome = run_sensor(make(report_run.id, **MODES[mode]))
    assert outcome.state == "success", outcome.error


# What happens x where it happens x what was asked for. The expected: how it leaves the task.

RETRIED, FAILED, SKIPPED = "up_for_retry", "failed", "skipped"
PLACES = ["poke", "reschedule", "first poke", "resume"]
MATRIX = [
    ("timeout", "plain", FAILED, AirflowSensorTimeout),
    ("timeout", "soft_fail", SKIPPED, AirflowSkipException),
    ("timeout", "never_fail", SKIPPED, AirflowSkipException),
    ("failed run", "plain", FAILED, ReportRunFailed),
    ("failed run", "soft_fail", SKIPPED, AirflowSkipException),
    ("failed run", "never_fail", SKIPPED, AirflowSkipException),
    ("401", "plain", FAILED, AuthenticationError),
    ("401", "soft_fail", FAILED, AuthenticationError),
    ("401", "never_fail", SKIPPED, AirflowSkipException),
    ("crashed trigger", "plain", RETRIED, TaskDeferralError),
    ("crashed trigger", "soft_fail", RETRIED, TaskDeferralError),
    ("crashed trigger", "never_fail", SKIPPED, AirflowSkipException),
]
ARGUMENTS = {"plain": {}, "soft_fail": {"soft_fail": True}, "never_fail": {"never_fail": True}}
CASES = [
    (place, *row)
    for place in PLACES
    for row in MATRIX
    # A trigger crashes in the triggerer alone, and no time passes before the first poke is over.
    if place == "resume"
    or (row[0] != "crashed trigger" and (place, row[0]) != ("first poke", "timeout"))
]


@pytest.mark.parametrize(
    ("place", "what", "asked", "state", "kind"), CASES, ids=[" / ".join(c[:3]) for c in CASES]
)
def test_outcomes_are_the_same_everywhere(sandbox, report_run, place, what, asked, state, kind):
    """soft_fail skips on a timeout and on a failed report run only; never_fail on anything."""
    arguments = ARGUMENTS[asked] | {"retries": 3}
    arguments |= MODES["deferrable" if place in {"first poke", "resume"} else place]
    if what == "timeout":
        arguments["timeout"] = 0.2
        sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    elif place == "resume":
        sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    if what == "failed run":
        failed = {
            "status": "failed",
            "status_details": {"failed": {"error_code": "internal_error"}},
        }
        sandbox.faults.add(Fault("get_run", Patch(failed), times=None))
    if what == "401":
        sandbox.faults.add(Fault("get_run", Answer(status=401), times=None))
    resume = None
    if what == "crashed trigger":
        resume = {"next_method": "__fail__", "next_kwargs": {"error": "Trigger failure"}}
    outcome = run_sensor(make(report_run.id, **arguments), resume=resume)
    assert outcome.state == state, outcome.error
    assert len(outcome.deferrals) == int(place == "resume" and what != "crashed trigger")
    if state != SKIPPED:
        assert isinstance(outcome.error, kind)
    if state == FAILED:
        assert isinstance(outcome.error, AirflowFailException | AirflowSensorTimeout)


def test_airflows_own_end_of_a_deferral_is_a_timeout(sandbox, report_run):
    """Should the triggerer not keep the deadline, the sensor times out as ever."""
    resume = {"next_method": "__fail__", "next_kwargs": {"error": "Trigger timeout"}}
    outcome = run_sensor(make(report_run.id, deferrable=True, retries=3), resume=resume)
    assert isinstance(outcome.error, AirflowSensorTimeout)


def test_a_failed_report_run_says_what_to_clear(sandbox):
    """The message holds Stripe's words, and that the create must be cleared."""
    sandbox.fail_next(1, message="Something broke.")
    failed = ReportRunHook().create_report_run("balance_summary", INTERVAL)
    outcome = run_sensor(make(failed.id))
    assert "internal_error: Something broke." in str(outcome.error)
    assert "Clear the task that created the report run" in str(outcome.error)
    assert outcome.error.error_code == "internal_error"


@pytest.mark.parametrize("mode", MODES)
def test_a_timeout_says_that_the_report_run_goes_on(sandbox, report_run, mode):
    """The id and the fact that Stripe goes on are in the message."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    outcome = run_sensor(make(report_run.id, timeout=0.2, **MODES[mode]))
    assert report_run.id in str(outcome.error)
    assert "goes on at Stripe" in str(outcome.error)


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_report_run_fails_for_good(sandbox, mode):
    """404 names the id."""
    outcome = run_sensor(make("reprun_nowhere", retries=3, **MODES[mode]))
    assert isinstance(outcome.error, NotFound)
    assert isinstance(outcome.error, AirflowFailException)
    assert "reprun_nowhere" in str(outcome.error)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", ["", "{{ none }}x y"])
def test_an_empty_report_run_id_is_refused(sandbox, mode, bad):
    """What renders to nothing is named before any request."""
    outcome = run_sensor(make(bad, retries=3, **MODES[mode]))
    assert isinstance(outcome.error, InvalidInput)
    assert "report_run_id must be the id of a report run" in str(outcome.error)
    assert sandbox.requests == []


def test_spans_may_be_timedeltas(sandbox, report_run):
    """poke_interval, max_wait and timeout are taken as the base sensor takes them."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    sensor = make(
        report_run.id,
        deferrable=True,
        poke_interval=timedelta(milliseconds=50),
        max_wait=timedelta(seconds=1),
        timeout=timedelta(minutes=1),
    )
    before = datetime.now(tz=timezone.utc).timestamp()
    outcome = run_sensor(sensor)
    (deferral,) = outcome.deferrals
    assert outcome.state == "success"
    assert deferral.trigger_kwargs["poll_interval"] == 0.05
    assert deferral.trigger_kwargs["max_poll_interval"] == 1.0
    assert 59 < deferral.trigger_kwargs["deadline"] - before < 65


@pytest.mark.parametrize(
    "late", [STILL_RUNNING, Answer(status=500, headers={"Stripe-Should-Retry": "false"})]
)
def test_the_end_that_the_triggerer_saw_is_asked_for_until_it_is_told(sandbox, report_run, late):
    """A worker whose first look comes too early, or fails, looks again until it knows."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    sandbox.faults.add(Fault("get_run", late, after=1))
    outcome = run_sensor(make(report_run.id, deferrable=True))
    assert outcome.state == "success"
    assert outcome.returned["status"] == "succeeded"


def test_a_long_poke_interval_is_the_shortest_wait_also_above_max_wait(sandbox, report_run):
    """poke_interval wins over a shorter max_wait."""
    sensor = make(report_run.id, deferrable=True, poke_interval=3600, max_wait=300)
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    outcome = run_task(sensor, event_of=None)
    pace = load_trigger(outcome.deferrals[0]).patience().pace
    assert pace.delay(0.0, lambda low, _: low) == 3600


def test_the_sensor_reads_through_the_account_it_is_told(sandbox):
    """stripe_context reaches the look before the deferral, the trigger and the look after."""
    made = ReportRunHook(stripe_context="acct_1").create_report_run("balance_summary", INTERVAL)
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    assert run_sensor(make(made.id, deferrable=True, stripe_context="acct_1")).state == "success"
    assert isinstance(run_sensor(make(made.id, stripe_context="acct_2")).error, NotFound)


class Impatient(ReportRunSensor):
    """A sensor that tolerates an outage of a second."""

    def _patience(self, context):
        return replace(super()._patience(context), outage_tolerance_seconds=1.0)


def test_an_outage_ends_the_wait_only_when_it_lasts(sandbox, report_run):
    """In poke mode, what counts is the time since the last good answer."""
    down = Answer(status=500, headers={"Stripe-Should-Retry": "false"})
    for _ in range(2):
        sandbox.faults.add(Fault("get_run", down, times=2))
        sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    sandbox.faults.add(Fault("get_run", down, times=None))
    with dag():
        sensor = Impatient(task_id="wait", report_run_id=report_run.id)
    for _ in range(8):  # short outages, whose sum is longer than the tolerance
        assert not sensor.poke({})
        time.sleep(0.15)
    time.sleep(1.0)
    with pytest.raises(ServerError):
        sensor.poke({})


def test_on_kill_leaves_the_report_run_alone(sandbox, report_run, capsys):
    """Killing a sensor cancels nothing and names the report run."""
    make(report_run.id).on_kill()
    assert f"Report run {report_run.id} goes on at Stripe" in capsys.readouterr().out
    assert [request.method for request in sandbox.requests] == ["POST"]
