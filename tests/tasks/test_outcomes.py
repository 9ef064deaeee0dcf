"""How errors leave tasks: typed, whole in the log, with one traceback, and able to be pickled."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import traceback

import pytest
from support.cases import FAST, FAST_SENSOR, INTERVAL, STILL_RUNNING
from support.task_instances import dag, make_task, run_task

from airflow_provider_reportrun import errors
from airflow_provider_reportrun._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Answer, Fault, Patch
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor

KINDS = [
    each
    for each in vars(errors).values()
    if inspect.isclass(each) and issubclass(each, errors.ReportRunError)
]
VALUES = {"str": "fact", "int": 418, "float": 1.5, "bool": True}
LONG = "Said so. " * 40 + "And this is the fix."


def facts_of(kind):
    """A value for each fact of an error that is not what it is without."""
    hints = {}
    for each in reversed(kind.__mro__):
        hints |= vars(each).get("__annotations__", {})
    return {name: VALUES[str(hint).split(" ")[0]] for name, hint in hints.items()}


def made(kind, **facts):
    """An error of a kind with all its facts."""
    return kind(LONG, **facts_of(kind) | facts)


def tell(error):
    """Let a trigger end in an error."""
    return lambda _: {
        "outcome": "error",
        "report_run_id": None,
        "status": None,
        "message": str(error),
        "error": errors.to_json(error),
    }


def waiting(sandbox, what, **arguments):
    """A task that waits in the triggerer."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    sandbox.faults.add(Fault("create", STILL_RUNNING, times=None))
    with dag():
        if what == "operator":
            return CreateReportRunOperator(
                task_id="t",
                report="balance_summary",
                deferrable=True,
                wait_for_completion=True,
                **arguments,
            )
        if what == "one task":
            return ReportRunToStorageOperator(
                task_id="t", report="balance_summary", destination="/nowhere/r.csv", **arguments
            )
        if what == "data sensor":
            return ReportDataSensor(
                task_id="t",
                report="balance_summary",
                interval_end="2100-01-01T00:00:00Z",
                deferrable=True,
                **arguments,
            )
        report_run = ReportRunHook().create_report_run("balance_summary", INTERVAL)
        return ReportRunSensor(
            task_id="t", report_run_id=report_run.id, deferrable=True, **arguments
        )


def verify_whole(error, kind, facts):
    """Check that copies of an error are as it is, in each way to make one."""
    for again in (
        pickle.loads(pickle.dumps(error)),  # noqa: S301 - our own
        copy.deepcopy(error),
        pickle.loads(pickle.dumps(copy.copy(error), protocol=2)),  # noqa: S301
    ):
        assert type(again) is type(error)
        assert isinstance(again, kind)
        assert (again.message, str(again)) == (error.message, str(error))
        assert again.facts == error.facts
        assert again.facts.items() >= facts.items()
        assert isinstance(again, AirflowFailException) is isinstance(error, AirflowFailException)


@pytest.mark.parametrize("what", ["operator", "one task", "sensor", "data sensor"])
@pytest.mark.parametrize("transient", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_of_a_wait_survive_being_pickled(sandbox, kind, transient, what):
    """Each kind comes out of the triggerer as it went in, and as Airflow's end where it is one."""
    error = made(kind, transient=transient)
    outcome = run_task(waiting(sandbox, what, retries=3), event_of=tell(error))
    assert len(outcome.deferrals) == 1
    if "sensor" in what and kind is errors.DeadlinePassed:
        assert type(outcome.error) is AirflowSensorTimeout
        assert str(pickle.loads(pickle.dumps(outcome.error))) == str(error)  # noqa: S301
        return
    is_final = not transient or ("sensor" in what and issubclass(kind, errors.ReportRunFailed))
    assert isinstance(outcome.error, kind)
    assert type(outcome.error).__name__ == kind.__name__
    assert isinstance(outcome.error, AirflowFailException) is is_final
    assert outcome.state == ("failed" if is_final else "up_for_retry")
    verify_whole(outcome.error, kind, facts_of(kind) | {"transient": not is_final})


@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferrable"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDenied),
        (503, errors.ServerError),
    ],
)
def test_errors_of_a_first_look_survive_being_pickled(sandbox, status, kind, deferrable):
    """Without any deferral too."""
    answer = Answer(
        status=status,
        body={"error": {"code": "c", "message": "No."}},
        headers={"Stripe-Should-Retry": "false"},
    )
    sandbox.faults.add(Fault("create", answer, times=None))
    with dag():
        task = CreateReportRunOperator(
            task_id="t", report="balance_summary", deferrable=deferrable, retries=3
        )
    outcome = run_task(task)
    assert isinstance(outcome.error, AirflowFailException) is (status != 503)
    verify_whole(outcome.error, kind, {"status": status, "code": "c"})


@pytest.mark.needs("retry_policy")
def test_errors_for_a_retry_policy_survive_being_pickled(sandbox):
    """A task with a policy gets the error itself."""
    from airflow_provider_reportrun.retry_policy import REPORT_RUN_RETRY_POLICY

    error = made(errors.ApiError, transient=False)
    task = waiting(sandbox, "operator", retries=3, retry_policy=REPORT_RUN_RETRY_POLICY)
    outcome = run_task(task, event_of=tell(error))
    assert type(outcome.error) is errors.ApiError
    verify_whole(outcome.error, errors.ApiError, error.facts)


# What the log says

ANSI = re.compile(r"\x1b\[[0-9;]*m")
STRAIGHT = {"Stripe-Should-Retry": "false"}
REFUSED = Answer(status=403, body={"error": {"code": "c", "message": LONG}}, headers=STRAIGHT)
DOWN = Answer(status=500, body={"error": {"code": "c", "message": LONG}}, headers=STRAIGHT)
FAILED_RUN = Patch(
    {
        "status": "failed",
        "status_details": {"failed": {"error_code": "internal_error", "error_message": LONG}},
    }
)


def create(**arguments):
    """A task that creates a report run."""
    return make_task(CreateReportRunOperator, report="balance_summary", **FAST | arguments)


def wait(**arguments):
    """A sensor of a report run."""
    run = ReportRunHook().create_report_run("balance_summary", INTERVAL)
    return make_task(ReportRunSensor, report_run_id=run.id, **FAST_SENSOR | arguments)


def download(**arguments):
    """A task that lands a result where nothing can be written."""
    run = ReportRunHook().create_report_run("balance_summary", INTERVAL)
    destination = "/dev/null/r.csv"
    return make_task(
        DownloadReportResultOperator, report_run_id=run.id, destination=destination, **arguments
    )


def after(looks, action):
    """A fault after so many looks that found nothing."""
    return [Fault("get_run", STILL_RUNNING, times=looks), Fault("get_run", action, times=None)]


IN_PLACE, RESUMED = {"deferrable": False}, {"deferrable": True}
LEAVING = {
    "fresh, final": (create, IN_PLACE, [Fault("create", REFUSED, times=None)], "failed"),
    "fresh, retried": (create, IN_PLACE, [Fault("create", DOWN, times=None)], "up_for_retry"),
    "deferred, final": (
        create,
        RESUMED | {"wait_for_completion": True},
        [Fault("create", STILL_RUNNING), *after(1, REFUSED)],
        "failed",
    ),
    "deferred, retried": (
        create,
        RESUMED | {"wait_for_completion": True},
        [Fault("create", STILL_RUNNING), *after(1, FAILED_RUN)],
        "up_for_retry",
    ),
    "landing": (download, {}, [], "up_for_retry"),
    "sensor, final": (wait, IN_PLACE, after(1, REFUSED), "failed"),
    "sensor, failed run": (wait, IN_PLACE, after(1, FAILED_RUN), "failed"),
    "sensor, timeout": (wait, IN_PLACE | {"timeout": 0.2}, after(None, DOWN), "failed"),
    "sensor, resumed": (wait, RESUMED, after(1, REFUSED), "failed"),
    "sensor, resumed, failed run": (wait, RESUMED, after(1, FAILED_RUN), "failed"),
    "sensor, resumed, timeout": (wait, RESUMED | {"timeout": 0.2}, after(None, DOWN), "failed"),
}


@pytest.mark.parametrize(
    ("maker", "arguments", "faults", "state"), LEAVING.values(), ids=LEAVING.keys()
)
def test_the_log_has_the_whole_message_once(
    sandbox, capsys, caplog, maker, arguments, faults, state
):
    """In a line of its own, before the exception, which has one traceback."""
    task = maker(retries=3, **arguments)
    for fault in faults:
        sandbox.faults.add(fault)
    outcome = run_task(task)
    assert outcome.state == state, outcome.error
    shown = ANSI.sub("", capsys.readouterr().out)
    assert [("error", str(outcome.error))] == [
        line for line in told(shown, caplog) if line[1].startswith(str(outcome.error))
    ]
    assert shown.count("Traceback (most recent call last)") == 1
    printed = "".join(traceback.format_exception(outcome.error))
    assert printed.count("Traceback (most recent call last)") == 1


SKIPS = {
    "in place, failed run": (IN_PLACE | {"soft_fail": True}, after(1, FAILED_RUN)),
    "in place, refused": (IN_PLACE | {"never_fail": True}, after(1, REFUSED)),
    "in place, timeout": (IN_PLACE | {"soft_fail": True, "timeout": 0.2}, after(None, DOWN)),
    "resumed, failed run": (RESUMED | {"soft_fail": True}, after(1, FAILED_RUN)),
    "resumed, refused": (RESUMED | {"never_fail": True}, after(1, REFUSED)),
    "resumed, timeout": (RESUMED | {"never_fail": True, "timeout": 0.2}, after(None, DOWN)),
}


@pytest.mark.parametrize(("arguments", "faults"), SKIPS.values(), ids=SKIPS.keys())
def test_the_log_tells_why_a_task_is_skipped(sandbox, capsys, caplog, arguments, faults):
    """In the same line, at WARNING, and not only that it was asked to skip; without traceback."""
    task = wait(**arguments)
    for fault in faults:
        sandbox.faults.add(fault)
    outcome = run_task(task)
    assert outcome.state == "skipped", outcome.error
    shown = ANSI.sub("", capsys.readouterr().out)
    why = "goes on at Stripe" if "timeout" in arguments else LONG
    lines = told(shown, caplog)
    said = [(level, message) for level, message in lines if message.count(why) == 1]
    assert [level for level, _ in said if level != "info"] == ["warning"]
    assert said[0][0] == "warning"
    assert "Traceback" not in shown


def told(shown, caplog):
    """
    List what was logged by and about a task, with its level.

    The loggers of operators write where the task runner does, and on Airflow 3.0 to ``logging``.
    """
    kept = [(each.levelname.lower(), each.getMessage()) for each in caplog.records]
    lines = re.findall(r"^\S+ \[(\w+) *\] (.*?)(?: +\[[\w.]+\].*)?$", shown, re.MULTILINE)
    return [line for line in kept + lines if "No good answer" not in line[1]]
