"""The ready retry policy, asked by Airflow's own task runner where it has such policies (3.3)."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from support.task_instances import dag, run_task

from airflow_provider_reportrun import errors
from airflow_provider_reportrun.errors import (
    DataNotAvailable,
    RateLimited,
    ReportRunError,
    ReportRunFailed,
    ResultGone,
    ServerError,
)
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
)
from airflow_provider_reportrun.retry_policy import LONGEST_PAUSE, PAUSES, REPORT_RUN_RETRY_POLICY
from airflow_provider_reportrun.sandbox import Answer, Fault
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor

try:
    from airflow.sdk import RetryPolicy
except ImportError:  # before Airflow 3.3
    RetryPolicy = None

HAS_POLICIES = pytest.mark.needs("retry_policy")
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ReportRunError)
]
DEFAULT_DELAY_SECONDS = None
"""What Airflow is told where the task's own ``retry_delay`` is to count."""


def answer(status, body=None, **headers):
    """An answer that is not asked for again within seconds."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=body, headers={"Stripe-Should-Retry": "false"} | named)


def run(kind, **arguments):
    """One try of a task in a DAG that names the policy in its default arguments."""
    defaults = {"retries": 3, "retry_policy": REPORT_RUN_RETRY_POLICY}
    with dag(default_args=defaults):
        return run_task(kind(task_id="t", **arguments))


def create(**arguments):
    """One try of a create that does not defer."""
    return run(CreateReportRunOperator, report="balance_summary", validate=False, **arguments)


def delay_of(outcome):
    """The pause that the policy asked for, in seconds."""
    return getattr(outcome.message, "retry_delay_seconds", DEFAULT_DELAY_SECONDS)


def only_with_policies(value):
    """What only a policy can have asked for."""
    return value if REPORT_RUN_RETRY_POLICY else DEFAULT_DELAY_SECONDS


def test_there_is_a_policy_where_airflow_has_policies():
    """And None where it has none, which default_args takes on every version."""
    if RetryPolicy is None:
        assert REPORT_RUN_RETRY_POLICY is None
    else:
        assert isinstance(REPORT_RUN_RETRY_POLICY, RetryPolicy)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "AuthenticationError"), (403, "PermissionDenied"), (400, "InvalidRequest")],
)
def test_a_permanent_refusal_fails_at_once(sandbox, status, kind):
    """Key, permission and parameters: no retry is spent, and the error keeps its type."""
    sandbox.faults.add(Fault("create", answer(status), times=None))
    outcome = create()
    assert outcome.state == "failed"
    assert isinstance(outcome.error, getattr(errors, kind))


def test_bad_arguments_fail_at_once(sandbox):
    """Nothing is sent, and nothing is tried again."""
    assert create(interval_start="yesterday").state == "failed"
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimited), (503, ServerError)], ids=["429", "503"]
)
def test_what_may_pass_is_retried_after_a_fitting_pause(sandbox, status, kind):
    """By the policy's pauses; on older versions by the task's own delay."""
    sandbox.faults.add(Fault("get_run", answer(status), times=None))
    outcome = run(
        DownloadReportResultOperator, report_run_id="reprun_1", destination="/nowhere/at/all.csv"
    )
    assert outcome.state == "up_for_retry", outcome.error
    assert type(outcome.error) is kind
    assert delay_of(outcome) == only_with_policies(PAUSES[kind].total_seconds())


def test_data_that_are_not_there_yet_are_waited_for_longer(sandbox):
    """Stripe prepares them twice a day, so an hour passes between two tries."""
    outcome = create(interval_start="2999-01-01T00:00:00Z", interval_end="2999-01-08T00:00:00Z")
    assert outcome.state == "up_for_retry", outcome.error
    assert type(outcome.error) is DataNotAvailable
    assert delay_of(outcome) == only_with_policies(3600.0)


def test_the_api_may_ask_for_a_longer_pause(sandbox):
    """``Retry-After`` counts where it is longer than the policy's own, up to an hour."""
    for hint, expected in (("5", 300.0), ("1800", 1800.0), ("86400", 3600.0)):
        sandbox.faults.add(Fault("create", answer(503, Retry_After=hint)))
        assert delay_of(create()) == only_with_policies(expected)


@pytest.mark.parametrize(
    ("error_code", "state"),
    [("internal_error", "up_for_retry"), ("file_size_above_limit", "failed")],
)
def test_a_failed_report_run_is_judged_by_its_reason(sandbox, error_code, state):
    """A new report run may succeed, but not where the file was too large."""
    sandbox.fail_next(error_code=error_code)
    assert create(wait_for_completion=True).state == state


def test_a_sensor_does_not_wait_again_for_a_failed_report_run(sandbox):
    """Whatever it failed of: the task that created it must be cleared."""
    sandbox.fail_next()
    created = create()
    assert run(ReportRunSensor, report_run_id=created.returned).state == "failed"


@HAS_POLICIES
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_decided_by_what_it_says_of_itself(kind):
    """No error of the tree is forgotten: transient ones have a pause, permanent ones fail."""
    for transient in (False, True):
        decision = REPORT_RUN_RETRY_POLICY.evaluate(kind("x", transient=transient), 1, 3)
        if not transient:
            assert decision.action.value == "fail"
        elif kind.transient:
            assert decision.action.value == "retry"
            assert timedelta(0) < decision.retry_delay <= LONGEST_PAUSE
        assert "x" not in str(decision.reason).split()


@HAS_POLICIES
def test_other_exceptions_are_left_to_airflow():
    """A bug in a callback, or a crashed trigger, is none of the policy's business."""
    decision = REPORT_RUN_RETRY_POLICY.evaluate(KeyError("a bug"), 1, 3)
    assert (decision.action.value, decision.retry_delay) == ("default", None)


@HAS_POLICIES
def test_the_policy_survives_serialization():
    """Airflow may write it down and read it again, as rules by dotted paths."""
    policy = type(REPORT_RUN_RETRY_POLICY)
    again = policy.deserialize(json.loads(json.dumps(REPORT_RUN_RETRY_POLICY.serialize())))
    decision = again.evaluate(ServerError("x"), 1, 3)
    assert decision.retry_delay == PAUSES[ServerError]


def test_every_kind_of_error_that_may_pass_has_a_pause():
    """The table of pauses names all of them, and two whose reason or task decides."""
    transient = {kind for kind in KINDS if kind.transient}
    assert transient | {ReportRunFailed, ResultGone} == set(PAUSES)


def test_the_docs_name_each_pause():
    """Their table says the pauses of the policy."""
    table = (Path(__file__).parents[2] / "docs" / "failures.md").read_text(encoding="utf-8")
    told = re.findall(r"\| (\d+) (minute|hour)s? \|$", table, re.MULTILINE)
    minutes = {int(number) * {"minute": 1, "hour": 60}[unit] for number, unit in told}
    assert minutes == {pause.total_seconds() / 60 for pause in PAUSES.values()}
