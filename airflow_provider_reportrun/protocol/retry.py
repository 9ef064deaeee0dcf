"""When to repeat a request, and how long to wait between requests and polls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

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
"""Wait between polls as a share of the age; an end is noticed at most this share later."""
EARLY_AGES = (2.0, 5.0, 12.0)
"""
Ages in seconds at which a run is polled although ``poll_interval`` has not passed.

Each is 2.4 to 2.5 times the one before, like the default interval. So a short run is noticed after
at most that many times its length. Three polls are the price.
"""
HURRY = 3.0
"""How many times shorter the waits between polls are while a create waits for room."""


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """
    How often one request is repeated, in seconds rather than minutes.

    The conversations in ``flows.py`` handle waits of minutes, for capacity or after an outage.
    The numbers follow stripe-python: half a second, doubled up to a ceiling, with jitter.
    """

    attempts: int = 5
    conflict_attempts: int | None = None
    """Attempts if another request conflicts with this one; None for ``attempts``."""
    repeats_server_errors: bool = True
    """Whether the same request may succeed after an error of the server."""
    obeys_should_retry: bool = True
    """Whether ``Stripe-Should-Retry`` decides; not if another key is used than the one refused."""
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 8.0

    def delay(self, attempt: int, error: ReportRunError, jitter: Jitter) -> float | None:
        """
        Return how long to wait before the request is repeated.

        ``Stripe-Should-Retry`` decides if the API sent it; otherwise, the error's ``transient``.

        :param attempt: how many requests were sent so far, from 1.
        :return: seconds, or None to give up. ``Retry-After`` is honoured up to the ceiling.

        Source: stripe-python, ``_http_client.py``, ``_should_retry`` and ``_sleep_time_seconds``.
        """
        attempts = self.attempts
        if self.conflict_attempts and isinstance(error, ServerError) and error.is_conflict:
            attempts = self.conflict_attempts
        if attempt >= attempts or isinstance(error, CapacityExceeded | DataNotAvailable):
            return None
        if isinstance(error, ServerError) and not (self.repeats_server_errors or error.is_conflict):
            return None
        should_retry = None
        if isinstance(error, ApiError) and self.obeys_should_retry:
            should_retry = error.should_retry
        if not (error.transient if should_retry is None else should_retry):
            return None
        hint = error.retry_after if isinstance(error, ApiError) else None
        if hint is not None:
            return min(hint, self.longest_delay_seconds)
        ceiling = min(self.first_delay_seconds * 2.0 ** (attempt - 1), self.longest_delay_seconds)
        return jitter(ceiling / 2, ceiling)


class Pace(Struct, frozen=True, kw_only=True):
    """
    How long to wait between two polls of something that takes minutes.

    :param shortest_seconds: ``poll_interval``.
    :param longest_seconds: ``max_poll_interval``.
    """

    shortest_seconds: float = 30.0
    longest_seconds: float = 300.0

    def delay(self, age_seconds: float, jitter: Jitter) -> float:
        """Return the next wait: a share of the age, with jitter, within the two limits."""
        share = POLL_GROWTH * age_seconds * jitter(0.9, 1.0)
        return max(min(share, self.longest_seconds), self.shortest_seconds)

    def delay_of_run(self, age_seconds: float, jitter: Jitter) -> tuple[float, float]:
        """
        Return the next wait for a run, which is shorter while the run is young.

        :return: the wait, and a shorter one for as long as a create waits for room.
        """
        regular = self.delay(age_seconds, jitter)
        # As if there were no early polls, the last of them is followed by a regular one.
        ages = (*EARLY_AGES, EARLY_AGES[0] + self.shortest_seconds)
        later = (age * jitter(1.0, 1.05) for age in ages if age > 1.1 * age_seconds)
        early = next(later, float("inf")) - age_seconds
        return min(regular, early), min(regular / HURRY, early)
