"""What operators and sensors share about waiting: checked spans, and the end of a deferral."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Final

from airflow_provider_reportrun.errors import InvalidInput

DAY_SECONDS: Final = 24 * 60 * 60.0
DEFER_MARGIN_SECONDS: Final = 120.0
"""How long after the deadline Airflow itself ends a deferral, should the triggerer not."""


def seconds(value: Any, argument: str) -> float:
    """
    Read a span.

    :param value: seconds, or a timedelta.
    :raises InvalidInput: when it is not above 0; names the argument.
    """
    span = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(span, bool) or not isinstance(span, int | float) or not 0 < span < float("inf"):
        raise InvalidInput(f"{argument} must be seconds above 0 or a timedelta, not {value!r}.")
    return float(span)


def defer_timeout(deadline: float) -> timedelta:
    """Say how long a deferral may last that a trigger ends at its deadline (epoch seconds)."""
    return timedelta(seconds=max(deadline - time.time(), 0.0) + DEFER_MARGIN_SECONDS)
