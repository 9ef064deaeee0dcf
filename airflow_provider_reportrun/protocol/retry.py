"""When to ask again, and how long to wait first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_reportrun.errors import (
    ApiError,
    CapacityExceeded,
    DataNotAvailable,
    ReportRunError,
    ServerError,
)

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.messages import Jitter

POLL_GROWTH = 0.15
"""A wait between polls, as a share of the age: so much later at most is an end noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    How often one request is repeated, in seconds rather than minutes.

    What takes minutes (capacity, an outage) is waited for by the conversations in ``flows.py``.
    The numbers follow stripe-python: half a second, doubled up to a ceiling, with jitter.
    """

    attempts: int = 5
    conflict_attempts: int | None = None
    """Where another request is at work on the same thing; None for as many as otherwise."""
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 8.0

    def delay(self, attempt: int, error: ReportRunError, jitter: Jitter) -> float | None:
        """
        Say how long to wait before asking again.

        ``Stripe-Should-Retry`` decides where the API sent it; else whether the error is transient.

        :param attempt: how many requests were sent so far, from 1.
        :return: seconds, or None to give up. ``Retry-After`` is honoured up to the ceiling.

        Source: stripe-python, ``_http_client.py``, ``_should_retry`` and ``_sleep_time_seconds``.
        """
        attempts = self.attempts
        if self.conflict_attempts and isinstance(error, ServerError) and error.is_conflict:
            attempts = self.conflict_attempts
        if attempt >= attempts or isinstance(error, CapacityExceeded | DataNotAvailable):
            return None
        should_retry = error.should_retry if isinstance(error, ApiError) else None
        if not (error.transient if should_retry is None else should_retry):
            return None
        hint = error.retry_after if isinstance(error, ApiError) else None
        if hint is not None:
            return min(hint, self.longest_delay_seconds)
        ceiling = min(self.first_delay_seconds * 2.0 ** (attempt - 1), self.longest_delay_seconds)
        return jitter(ceiling / 2, ceiling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    How long to wait between two looks at something that takes minutes.

    :param shortest_seconds: ``poll_interval``.
    :param longest_seconds: ``max_poll_interval``.
    """

    shortest_seconds: float = 30.0
    longest_seconds: float = 300.0

    def delay(self, age_seconds: float, jitter: Jitter) -> float:
        """Say how long to wait, given how long it has taken already: a share of it, jittered."""
        share = POLL_GROWTH * age_seconds * jitter(0.9, 1.0)
        return max(min(share, self.longest_seconds), self.shortest_seconds)
