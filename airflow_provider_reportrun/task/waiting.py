"""What operators and sensors share about waiting: checked durations and a deferral's timeout."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any, Final

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.asking import Patience
from airflow_provider_reportrun.protocol.retry import Pace

POLL_INTERVAL_SECONDS: Final = Pace().shortest_seconds
MAX_POLL_INTERVAL_SECONDS: Final = Pace().longest_seconds
DAY_SECONDS: Final = 24 * 60 * 60.0
"""The defaults of ``poll_interval``, ``max_poll_interval`` and ``timeout``."""
DEFER_MARGIN_SECONDS: Final = 120.0
"""How long after the deadline Airflow ends a deferral, if the triggerer has not."""
_LONGEST_DEFERRAL_SECONDS: Final = 100 * 365 * DAY_SECONDS
"""Airflow adds the timeout to the current time, and a datetime ends in the year 9999."""


def seconds(value: Any, argument: str, *, least: float | None = None) -> float:
    """
    Read a duration.

    :param value: seconds, or a timedelta.
    :param least: the shortest duration that is accepted; None accepts any above 0.
    :raises InvalidInput: if the value is not such a duration; names the argument.
    """
    span = _number(value.total_seconds() if isinstance(value, timedelta) else value)
    if span is None or not (span > 0 if least is None else span >= least):
        words = "above 0" if least is None else f"of at least {least:g}"
        raise InvalidInput(f"{argument} must be seconds {words} or a timedelta, not {value!r}.")
    return span


def instant(value: Any, argument: str) -> float:
    """
    Read epoch seconds.

    :raises InvalidInput: if the value is not a number or is negative; names the argument.
    """
    found = _number(value)
    if found is None or found < 0:
        raise InvalidInput(
            f"{argument} must be epoch seconds, such as time.time() + 3600, not {value!r}."
        )
    return found


def _number(value: Any) -> float | None:
    """Return a finite number as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an int that is too large for a float
        return None


def patience_of(task: Any) -> Patience:
    """
    Return the patience of an operator, counted from now on.

    :raises InvalidInput: if one of its durations is not valid; names the argument.
    """
    return Patience(
        deadline=time.time() + seconds(task.timeout, "timeout"),
        pace=Pace(
            shortest_seconds=seconds(task.poll_interval, "poll_interval"),
            longest_seconds=seconds(task.max_poll_interval, "max_poll_interval"),
        ),
    )


def defer_timeout(deadline: float) -> timedelta:
    """
    Return the timeout of a deferral whose trigger ends at a deadline.

    :param deadline: epoch seconds.
    :return: at most 100 years.
    """
    left = max(deadline - time.time(), 0.0) + DEFER_MARGIN_SECONDS
    return timedelta(seconds=min(left, _LONGEST_DEFERRAL_SECONDS))
