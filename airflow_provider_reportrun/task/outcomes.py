"""
Decide how an error leaves a task: retried, failed for good, or skipped. No other module decides it.

Operators: a transient error leaves unchanged and is retried. Any other error leaves as its own type
and as an ``AirflowFailException``, which Airflow does not retry. If the task has a ``retry_policy``
(Airflow 3.3), it leaves as its own type only, and the policy decides.

Sensors, in every mode and on every Airflow version:

=================================  ========================  ======================  ===========
what happened                      plain                     ``soft_fail``           ``never_fail``
=================================  ========================  ======================  ===========
the timeout passed                 ``AirflowSensorTimeout``  skipped                 skipped
the report run failed              failed for good           skipped                 skipped
any other error, transient         retried                   retried                 skipped
any other error                    failed for good           failed for good         skipped
the trigger crashed                retried                   retried                 skipped
=================================  ========================  ======================  ===========

The UI cuts each line at the right edge of the log, shows about a hundred characters of a message
and scrolls to the end. So the message is logged before the error leaves, and the traceback after it
is short: it begins here. Where the error arose is logged at DEBUG, and its causes say nothing that
its message does not say.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from airflow_provider_reportrun._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralError,
    TaskDeferralTimeout,
    TaskDeferred,
)
from airflow_provider_reportrun.errors import (
    DeadlinePassed,
    ReportRunCanceled,
    ReportRunError,
    ReportRunFailed,
)

_MADE: Final[dict[type[ReportRunError], type[ReportRunError]]] = {}
"""By kind of error: its subclass that Airflow does not retry."""
_IS_TOLD: Final = "_is_told"
"""Marks an error whose message was logged; facts have no leading underscore."""


class Sensor(Protocol):
    """The fields of a sensor that decide what its errors mean, and its logger."""

    soft_fail: bool

    @property
    def log(self) -> Any:
        """The logger of the task."""


@contextmanager
def operator_outcomes(task: Any) -> Iterator[None]:
    """Raise an operator's errors as this module's docstring says."""
    try:
        yield
    except TaskDeferralTimeout:
        outcome: Exception = _for_good(_backstop(task), task)
    except ReportRunError as error:
        outcome = error if error.transient else _for_good(error, task)
    else:
        return
    _tell(task, outcome)
    raise outcome.with_traceback(None) from None


@contextmanager
def rendered_fields_kept(task: Any, context: Any) -> Iterator[None]:
    """
    Keep Airflow from overwriting the rendered fields if none changed, or in a try to be retried.

    When Airflow would overwrite those of a try that will be retried, the row already belongs to the
    next try. Airflow 3.1 and later log an error then. Airflow 3.0 stops there, without
    ``on_retry_callback`` and listeners.
    """
    before = _rendered_fields(task)
    keeps = False
    try:
        yield
    except (TaskDeferred, AirflowFailException):
        raise
    except BaseException:
        ti = context["ti"]
        keeps = ti.try_number <= ti.max_tries
        raise
    finally:
        if keeps or _rendered_fields(task) == before:
            task.overwrite_rtif_after_execution = False


def _rendered_fields(task: Any) -> dict[str, Any]:
    return {name: getattr(task, name) for name in task.template_fields}


@contextmanager
def sensor_outcomes(task: Sensor) -> Iterator[None]:
    """Raise a sensor's errors as this module's docstring says, past the base sensor's mapping."""
    try:
        yield
    except (DeadlinePassed, AirflowSensorTimeout, TaskDeferralTimeout) as error:
        outcome: Exception = AirflowSensorTimeout(str(error)).with_traceback(error.__traceback__)
        is_expected = True
    except ReportRunFailed as error:
        outcome, is_expected = _for_good(_clear_the_create(error, task), task), True
    except ReportRunError as error:
        outcome = error if error.transient else _for_good(error, task)
        is_expected = False
    except TaskDeferralError as error:
        outcome, is_expected = error, False
    else:
        return
    if getattr(task, "never_fail", False) or (task.soft_fail and is_expected):
        _tell(task, outcome, logging.WARNING)
        raise AirflowSkipException(str(outcome)) from None
    _tell(task, outcome)
    raise outcome.with_traceback(None) from None


def _tell(task: Any, outcome: Exception, level: int = logging.ERROR) -> None:
    """Log the message of an error once, however often the error is raised."""
    if not getattr(outcome, _IS_TOLD, False):
        frames = "".join(traceback.format_tb(outcome.__traceback__))
        task.log.debug("The error arose here:\n%s", frames)
        task.log.log(level, "%s", outcome)
        setattr(outcome, _IS_TOLD, True)


@contextmanager
def created_elsewhere(task: Any) -> Iterator[None]:
    """Make a failed run final: a retry of a task that did not create it gets no new one."""
    try:
        yield
    except ReportRunFailed as error:
        outcome = _clear_the_create(error, task)
    else:
        return
    raise outcome


def _clear_the_create(error: ReportRunFailed, task: Any) -> ReportRunFailed:
    clear = f"Clear the task that created the {task.noun}: trying again does not help."
    # Another run does not help either if the message begins with a fix of its own.
    message = f"{clear} {error.message}" if error.transient else f"{error.message} {clear}"
    if isinstance(error, ReportRunCanceled):
        message = error.message  # which says so already
    again = type(error)(message, **{**error.facts, "transient": False})
    return again.with_traceback(error.__traceback__)


def _backstop(task: Any) -> DeadlinePassed:
    return DeadlinePassed(
        "Check that a triggerer runs: it did not end the wait by its deadline. "
        f"The {task.noun}, if there is one, goes on at Stripe."
    )


def _for_good(error: ReportRunError, task: Any) -> Exception:
    if getattr(task, "retry_policy", None) is not None or isinstance(error, AirflowFailException):
        return error
    outcome = _never_retried(type(error))(error.message, **error.facts)
    return outcome.with_traceback(error.__traceback__)


def _never_retried(kind: type[ReportRunError]) -> type[ReportRunError]:
    """
    Return the subclass of a kind of error that Airflow does not retry.

    It inherits from both: callbacks still see the error's type and facts, and Airflow sees an
    ``AirflowFailException``. It is made once, so a copy of an error has the same class.
    """
    if kind in _MADE:
        return _MADE[kind]

    def reduce(self: ReportRunError) -> tuple[Any, ...]:
        return _rebuild, (kind, self.message, self.facts)

    _MADE[kind] = type(
        kind.__name__,
        (kind, AirflowFailException),
        {"__module__": kind.__module__, "__reduce__": reduce},
    )
    return _MADE[kind]


def _rebuild(kind: type[ReportRunError], message: str, facts: dict[str, Any]) -> ReportRunError:
    """Rebuild an error that Airflow does not retry from its parts, for pickle."""
    return _never_retried(kind)(message, **facts)
