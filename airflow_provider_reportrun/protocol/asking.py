"""One request and its repetitions, and the state of a wait: what conversations are made of."""

from __future__ import annotations

import itertools
import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field

from airflow_provider_reportrun.errors import DeadlinePassed, ReportRunError, UnexpectedAnswer
from airflow_provider_reportrun.protocol.answers import read_json
from airflow_provider_reportrun.protocol.messages import Backoff, Clock, Flow, Jitter, Response
from airflow_provider_reportrun.protocol.metrics import DONE, POLLS, UNKNOWN, Metric
from airflow_provider_reportrun.protocol.retry import Pace, RetryPolicy

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_reportrun.protocol.calls import Call

T = TypeVar("T")
log = logging.getLogger(__name__)

OUTAGE_TOLERANCE_SECONDS = 15 * 60.0
"""How long a wait goes on without a good answer."""
SINGLE_REQUEST = RetryPolicy()
"""For a request that nothing but this policy repeats."""
ERRORS_KEPT = RetryPolicy(repeats_server_errors=False)
"""For a create whose key would only repeat an error of the server."""
UNDER_ANOTHER_KEY = RetryPolicy(obeys_should_retry=False)
"""For a create that goes on to another key, because the API keeps the error of the last one."""
ONE_OF_MANY = RetryPolicy(attempts=2)
"""For a poll, because the next poll repeats it anyway."""
UNTIL_DONE = RetryPolicy(conflict_attempts=40)
"""For a create of the hook: some five minutes while an earlier create has the same key."""
TIMED_OUT = "The wait reached its timeout: raise timeout, or clear the task to wait again."
LAST_REQUEST_SECONDS = 2.0
"""The least time that a request may take, even at its deadline, because a wait ends with a poll."""


class Environment(Struct, frozen=True, kw_only=True):
    """Clocks and randomness; tests pass their own."""

    clock: Clock = time.time
    """Epoch seconds, for deadlines, which outlive a restart, and for the age of a report run."""
    monotonic: Clock = time.monotonic
    """For durations, because the machine's clock may be set meanwhile."""
    jitter: Jitter = random.uniform


REAL = Environment()


class Patience(Struct, frozen=True, kw_only=True):
    """How long a wait may take, and how often it polls."""

    deadline: float
    """Epoch seconds; absolute, so that a restart does not extend it."""
    pace: Pace = field(default_factory=Pace)
    outage_tolerance_seconds: float = OUTAGE_TOLERANCE_SECONDS
    waited_seconds: float = 0.0
    """How long the wait has taken before, in another process."""
    shares_polls: bool = False
    """Whether many waits of this process may share polls and lists of runs, as in a triggerer."""


def ask(
    call: Call[T],
    *,
    policy: RetryPolicy = SINGLE_REQUEST,
    environment: Environment = REAL,
    deadline: float = float("inf"),
) -> Flow[T]:
    """
    Send one request, and repeat it as the policy allows.

    :param deadline: epoch seconds; no repetition begins after it.
    :return: what the answer says.
    :raises ReportRunError: the last error, if repeating does not help or was done often enough.
    """
    for attempt in itertools.count(1):
        try:
            left = max(deadline - environment.clock(), LAST_REQUEST_SECONDS)
            response = yield replace(call.request, seconds_left=left)
            assert response is not None  # noqa: S101 - a driver answers every request
            return _read(call, response)
        except ReportRunError as error:
            delay = policy.delay(attempt, error, environment.jitter)
            if delay is None or environment.clock() + delay > deadline:
                raise
            log.debug("Repeating the request in %.1f s: %s", delay, error)
        yield Backoff(delay)
    raise AssertionError  # pragma: no cover - count() does not end


def _read(call: Call[T], response: Response) -> T:
    """Read an answer; an error about its content names the request and its id at Stripe."""
    if call.read in response.known:
        known: T = response.known[call.read]
        return known
    data = read_json(response, call.tried, call.needs)
    try:
        found = response.known[call.read] = call.read(data)
    except UnexpectedAnswer as error:
        raise UnexpectedAnswer(
            f"{error.message} Tried to {call.tried}.",
            status=response.status,
            request_id=response.request_id,
        ) from None
    return found


def poll_metric(kind: str, outcome: str) -> Metric:
    """Measure one poll of a wait."""
    return Metric(POLLS, {"kind": kind, "outcome": outcome})


class Wait:
    """
    The state of one wait: its age, how long no good answer has come, and its deadline.

    Only the deadline is wall time.

    :param waiting_for: continues "Waiting for ..." in log lines and errors.
    :param measured_as: the metric of its duration.
    :param report: for metrics; may become known later.
    :param report_run_id: the report run that goes on if the wait ends early.
    """

    def __init__(
        self,
        waiting_for: str,
        patience: Patience,
        environment: Environment,
        *,
        measured_as: str,
        report: str = UNKNOWN,
        report_run_id: str | None = None,
    ) -> None:
        self.waiting_for = waiting_for
        self.report = report
        self._measured_as = measured_as
        self._patience = patience
        self._environment = environment
        self._report_run_id = report_run_id
        self._since = self._began = environment.monotonic() - patience.waited_seconds
        self._began_at = environment.clock() - patience.waited_seconds
        self._failing_since: float | None = None

    def ask(self, call: Call[T], policy: RetryPolicy = ONE_OF_MANY) -> Flow[T]:
        """Send one request, repeated within seconds, until the deadline."""
        return ask(
            call, policy=policy, environment=self._environment, deadline=self._patience.deadline
        )

    def measured(self, polls: Flow[T]) -> Flow[T]:
        """Carry out the polls, and measure how long they took, however they end."""
        try:
            found = yield from polls
        except ReportRunError as error:
            yield self._duration(type(error).__name__)
            raise
        yield self._duration(DONE)
        return found

    def _duration(self, outcome: str) -> Metric:
        return Metric(
            self._measured_as,
            {"report": self.report, "outcome": outcome},
            seconds=self._environment.monotonic() - self._since,
        )

    def heard(self, began_at: datetime | None = None) -> None:
        """
        Note a good answer.

        :param began_at: when the awaited report run was created, if the answer says so.
        """
        self._failing_since = None
        if began_at is not None:
            # Compared with the clock at the start, because the clock may have been set since then.
            age = self._began_at - began_at.timestamp()
            self._began = min(self._began, self._since - age)

    def raise_unless_tolerated(self, error: ReportRunError, *, at_least: float = 0.0) -> None:
        """
        Note an error, and raise it unless it may be an outage that is still short enough.

        :param at_least: seconds that are tolerated even if the wait's own patience is shorter.
        """
        now = self._environment.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        silent = now - self._failing_since
        tolerated = max(self._patience.outage_tolerance_seconds, at_least)
        if not error.transient or silent >= tolerated:
            raise error
        log.warning("No good answer for %.0f s while waiting: %s", silent, error)

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._environment.clock() >= self._patience.deadline

    def raise_if_over(self) -> None:
        """
        End the wait at its deadline.

        :raises DeadlinePassed: if it has passed.
        """
        if not self.is_over:
            return
        goes_on = " It goes on at Stripe." if self._report_run_id else ""
        raise DeadlinePassed(
            f"{TIMED_OUT} Waited for {self.waiting_for}, {self._age():.0f} s in all.{goes_on}",
            report_run_id=self._report_run_id,
        )

    def time_left(self) -> float:
        """
        Return the seconds until the deadline.

        :raises DeadlinePassed: if there are none.
        """
        self.raise_if_over()
        return max(self._patience.deadline - self._environment.clock(), 0.0)

    def delay(self) -> float:
        """
        Return the seconds until the next poll.

        :raises DeadlinePassed: if the deadline has passed.
        """
        left = self.time_left()
        return min(self._patience.pace.delay(self._age(), self._environment.jitter), left)

    def delay_of_run(self) -> tuple[float, float]:
        """
        Return the seconds until the next poll of a run that was just seen.

        :return: see ``Pace.delay_of_run``.
        :raises DeadlinePassed: if the deadline has passed.
        """
        left = self.time_left()
        delay, hurried = self._patience.pace.delay_of_run(self._age(), self._environment.jitter)
        return min(delay, left), min(hurried, left)

    def pause(self, longest: float) -> float:
        """
        Return the seconds of a short pause, with jitter.

        :raises DeadlinePassed: if the deadline has passed.
        """
        return min(self._environment.jitter(longest / 2, longest), self.time_left())

    def _age(self) -> float:
        return self._environment.monotonic() - self._began
