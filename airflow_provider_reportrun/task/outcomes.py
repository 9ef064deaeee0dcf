"""
How an error leaves a task: retried, failed for good, or skipped. The one place that decides it.

Operators: a transient error leaves as it is and is retried; any other leaves typed as before and as
``AirflowFailException``, which is not retried, unless the task has a ``retry_policy`` of its own
(Airflow 3.3), which then decides on the typed error.

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

The UI cuts the line of an exception at the right edge of the log, and wraps the lines of a logger.
So the message of what leaves is logged whole before, and the traceback that follows is one: what
an error was made of says nothing that its message does not.
"""

from __future__ import annotations

import logging
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
    ReportRunError,
    ReportRunFailed,
)

_MADE: Final[dict[type[ReportRunError], type[ReportRunError]]] = {}
"""By kind of error: the kind that Airflow does not retry."""
_IS_TOLD: Final = "_is_told"
"""Marks an error whose message is in the log; facts have no leading underscore."""


class Sensor(Protocol):
    """The part of a sensor that decides what its errors mean, and says so."""

    soft_fail: bool

    @property
    def log(self) -> Any:
        """The logger of the task."""


@contextmanager
def operator_outcomes(task: Any) -> Iterator[None]:
    """Let errors leave an operator as they should."""
    try:
        yield
    except TaskDeferralTimeout:
        outcome: Exception = _for_good(_backstop(), task)
    except ReportRunError as error:
        outcome = error if error.transient else _for_good(error, task)
    else:
        return
    _tell(task, outcome)
    raise outcome from None


@contextmanager
def rendered_fields_kept(task: Any, context: Any) -> Iterator[None]:
    """
    Let a try that is retried leave its rendered fields as they are.

    By the time Airflow would overwrite them, it has given the row of the try to the next one. From
    3.1 on that is logged as an error; 3.0 ends there, without ``on_retry_callback`` and listeners.
    """
    try:
        yield
    except (TaskDeferred, AirflowFailException):
        raise
    except BaseException:
        ti = context["ti"]
        if ti.try_number <= ti.max_tries:
            task.overwrite_rtif_after_execution = False
        raise


@contextmanager
def sensor_outcomes(task: Sensor) -> Iterator[None]:
    """Let errors leave a sensor as they should, past the base sensor's own mapping."""
    try:
        yield
    except (DeadlinePassed, AirflowSensorTimeout, TaskDeferralTimeout) as error:
        outcome: Exception = AirflowSensorTimeout(str(error)).with_traceback(error.__traceback__)
        is_expected = True
    except ReportRunFailed as error:
        outcome, is_expected = _for_good(_clear_the_create(error), task), True
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
    raise outcome from None


def _tell(task: Any, outcome: Exception, level: int = logging.ERROR) -> None:
    """Log a message once, however often its error is handed on."""
    if not getattr(outcome, _IS_TOLD, False):
        task.log.log(level, "%s", outcome)
        setattr(outcome, _IS_TOLD, True)


@contextmanager
def created_elsewhere() -> Iterator[None]:
    """Let a failed report run be final: a task that did not create it gets no other by a retry."""
    try:
        yield
    except ReportRunFailed as error:
        outcome = _clear_the_create(error)
    else:
        return
    raise outcome


def _clear_the_create(error: ReportRunFailed) -> ReportRunFailed:
    message = (
        f"{error.message} Trying again does not help: clear the task that created the report run."
    )
    again = ReportRunFailed(message, **{**error.facts, "transient": False})
    return again.with_traceback(error.__traceback__)


def _backstop() -> DeadlinePassed:
    return DeadlinePassed(
        "The triggerer did not end the wait by its deadline; is one running? "
        "The report run, if there is one, goes on at Stripe."
    )


def _for_good(error: ReportRunError, task: Any) -> Exception:
    if getattr(task, "retry_policy", None) is not None or isinstance(error, AirflowFailException):
        return error
    outcome = _never_retried(type(error))(error.message, **error.facts)
    return outcome.with_traceback(error.__traceback__)


def _never_retried(kind: type[ReportRunError]) -> type[ReportRunError]:
    """
    Make the kind of an error that Airflow does not retry.

    It is both, so that callbacks still see the type and its facts, and Airflow the end. It is made
    once, so that a copy of an error is of the same kind.
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
    """Make an error that Airflow does not retry again from its parts, as pickle does."""
    return _never_retried(kind)(message, **facts)
