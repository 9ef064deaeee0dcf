"""
The conversations with the API, each written once.

A conversation is a generator: it yields requests and pauses and receives answers; ``drivers.py``
carries it out, blocking or awaiting. Clock and jitter come in as arguments.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_reportrun.errors import (
    AuthenticationError,
    CapacityExceeded,
    DataNotAvailable,
    DeadlinePassed,
    InvalidRequest,
    RateLimited,
    ReportRunError,
    ServerError,
    TransportError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.answers import read_json
from airflow_provider_reportrun.protocol.checks import available_through, is_covered, not_available
from airflow_provider_reportrun.protocol.identity import key_after_failure
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    format_instant,
)
from airflow_provider_reportrun.protocol.messages import (
    AwaitRoom,
    Clock,
    Flow,
    Jitter,
    LeaveLine,
    Response,
    RoomMade,
    Sleep,
    TakeTurn,
)
from airflow_provider_reportrun.protocol.metrics import (
    ATTACHES,
    CAPACITY,
    CAPACITY_WAIT,
    CREATES,
    CREATES_REFUSED,
    DATA,
    DATA_WAIT,
    DONE,
    ERROR,
    NOT_YET,
    POLLS,
    RATE,
    REPORT_RUN,
    REPORT_WAIT,
    UNKNOWN,
    Metric,
)
from airflow_provider_reportrun.protocol.models import read_instant
from airflow_provider_reportrun.protocol.retry import Pace, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from airflow_provider_reportrun.protocol.calls import Call
    from airflow_provider_reportrun.protocol.models import Report, ReportRun

T = TypeVar("T")
log = logging.getLogger(__name__)

OUTAGE_TOLERANCE_SECONDS = 15 * 60.0
"""How long a wait goes on without one good answer."""
SINGLE_REQUEST = RetryPolicy()
"""For a request that somebody waits for."""
ONE_OF_MANY = RetryPolicy(attempts=2)
"""For a poll: the next poll is its real repetition."""
UNTIL_DONE = RetryPolicy(conflict_attempts=40)
"""For a create that nobody repeats: some five minutes while an earlier one is still at work."""
CONFLICT_SECONDS = 5.0
"""Longest pause of a create that stands back while an earlier one under its key is at work."""
LAST_LOOK_SECONDS = 2.0
"""What a request may take at least, however near its deadline: a wait ends with a last look."""
CLOCKS_DIFFER_SECONDS = 2.0
"""A report run that is older than its create by more was there before: see ``_made``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a conversation needs of the world; the tests hand in their own."""

    clock: Clock = time.time
    """Tells deadlines, which must outlive a restart, and the age of what the API has dated."""
    monotonic: Clock = time.monotonic
    """Counts how long something lasts, whatever steps the clock of the machine takes meanwhile."""
    jitter: Jitter = random.uniform


WORLD = Surroundings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long, and how often, a wait looks."""

    deadline: float
    """Seconds since the epoch; absolute, so that restarts do not extend it."""
    pace: Pace = field(default_factory=Pace)
    outage_tolerance_seconds: float = OUTAGE_TOLERANCE_SECONDS


def ask(
    call: Call[T],
    *,
    policy: RetryPolicy = SINGLE_REQUEST,
    around: Surroundings = WORLD,
    deadline: float = float("inf"),
) -> Flow[T]:
    """
    Send one request, repeated as the policy allows.

    :param deadline: epoch seconds; nothing is repeated after it.
    :return: what the answer says.
    :raises ReportRunError: the last error, when asking again does not help or was done enough.
    """
    for attempt in itertools.count(1):
        try:
            left = max(deadline - around.clock(), LAST_LOOK_SECONDS)
            response = yield replace(call.request, seconds_left=left)
            assert response is not None  # noqa: S101 - a driver answers every request
            return _read(call, response)
        except ReportRunError as error:
            delay = policy.delay(attempt, error, around.jitter)
            if delay is None or around.clock() + delay > deadline:
                raise
            log.debug("Asking again in %.1f s: %s", delay, error)
        yield Sleep(delay)
    raise AssertionError  # pragma: no cover - count() does not end


def _read(call: Call[T], response: Response) -> T:
    """Read an answer; what it lacks is told with what was asked for, and the request id."""
    data = read_json(response, call.tried)
    try:
        return call.read(data)
    except UnexpectedAnswer as error:
        raise UnexpectedAnswer(
            f"Tried to {call.tried}: {error.message}",
            status=response.status,
            request_id=response.request_id,
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    A report run to be created, or found again.

    :param runs_allowed: how many keys of the chain after failed report runs may be used: one in a
        first try, one more in each later try. 1 takes whatever the first key stands for.
    :param gone: report runs whose files are no longer there; they count as failed.
    """

    report: str
    report_parameters: Mapping[str, Any]
    result_options: Mapping[str, Any] | None
    idempotency_key: str
    runs_allowed: int = 1
    gone: frozenset[str] = frozenset()

    def is_lost(self, run: ReportRun) -> bool:
        """Whether a report run came to nothing in a way that a new one may not."""
        failure = run.failure
        return run.id in self.gone or (failure is not None and failure.transient)

    def call(self, key: str) -> Call[ReportRun]:
        """The create under one key of the chain."""
        return calls.create_report_run(
            report=self.report,
            report_parameters=self.report_parameters,
            result_options=self.result_options,
            idempotency_key=key,
        )


def await_data(
    report_id: str,
    interval_end: datetime,
    *,
    patience: Patience,
    around: Surroundings = WORLD,
) -> Flow[Report]:
    """
    Ask until the API holds the data of an interval.

    :param interval_end: aware; the instant after the last of the interval.
    :return: the report, whose data reach that far.
    :raises DataWindowUnknown: when the report does not say how far its data reach.
    :raises DeadlinePassed: when they do not reach that far at the deadline.
    :raises ReportRunError: as ``await_finished`` does.
    """
    waiting_for = f"the data of {report_id} to reach {format_instant(interval_end)}"
    wait = _Wait(waiting_for, patience, around, measured_as=DATA_WAIT, report=report_id)
    looks = _look_at_data(report_id, interval_end, wait, patience.pace.shortest_seconds)
    return (yield from wait.measured(looks))


def _look_at_data(
    report_id: str, interval_end: datetime, wait: _Wait, pause: float
) -> Flow[Report]:
    through = None
    while True:
        call = calls.get_report(report_id, fresh_for_seconds=pause / 2)
        try:
            report = yield from wait.ask(call)
        except ReportRunError as error:
            yield poll(DATA, ERROR)
            wait.tolerate(error)
        else:
            wait.heard()
            is_there = is_covered(report, interval_end)
            yield poll(DATA, DONE if is_there else NOT_YET)
            if is_there:
                return report
            if available_through(report) != through:
                through = available_through(report)
                log.info("Waiting for %s; now at %s", wait.waiting_for, format_instant(through))
        pause = wait.delay()
        yield Sleep(pause)


def create(
    order: Order,
    *,
    patience: Patience | None = None,
    around: Surroundings = WORLD,
) -> Flow[ReportRun]:
    """
    Create a report run, or attach to the one that the key stands for.

    A key whose report run has failed in a way that a new one may not, or whose file is gone, leads
    to the next key.

    :param patience: how long to wait for capacity; None raises ``CapacityExceeded`` at once.
    :return: the report run as it is now, perhaps finished, perhaps failed.
    :raises DataNotAvailable: when it was refused and the interval reaches past the data.
    :raises DeadlinePassed: when the wait for capacity is over.
    """
    began = around.clock()
    key = order.idempotency_key
    for runs_left in range(order.runs_allowed - 1, -1, -1):
        try:
            run = yield from _create_once(order, key, patience, around)
        except InvalidRequest as refusal:
            raise (yield from _reason(refusal, order, around)) from None
        if not runs_left or not order.is_lost(run):
            yield _made(run, began)
            return run
        log.info(
            "Report run %s was lost before (%s); asking for a new one",
            run.id,
            run.failure or "its file is gone",
        )
        key = key_after_failure(key, run.id)
    raise AssertionError("an order allows one report run at least")  # pragma: no cover


def _made(run: ReportRun, began: float) -> Metric:
    """
    Tell a report run that was created from one that was found again, for the API does not.

    :param began: when it was asked for first, epoch seconds. The API's clock may be behind it, and
        may tell whole seconds.
    """
    age = began - run.created_at.timestamp() if run.created_at else 0.0
    if age <= CLOCKS_DIFFER_SECONDS:
        log.info("Created report run %s of %s; it is %s", run.id, run.report, run.status)
        return Metric(CREATES, {"report": run.report})
    log.info(
        "Attached to report run %s of %s, created %.0f s before; it is %s",
        run.id,
        run.report,
        age,
        run.status,
    )
    return Metric(ATTACHES, {"report": run.report})


def _create_once(
    order: Order, key: str, patience: Patience | None, around: Surroundings
) -> Flow[ReportRun]:
    wait = _Wait(
        "the API key to have room for one more report run",
        patience or Patience(deadline=float("inf")),
        around,
        measured_as=CAPACITY_WAIT,
        report=order.report,
    )
    if patience is None:
        run = yield from _try_to_create(order, key, wait)
        yield wait.ended(DONE)
        return run
    return (yield from wait.measured(_stand_in_line(order, key, wait)))


def _try_to_create(order: Order, key: str, wait: _Wait) -> Flow[ReportRun]:
    try:
        return (yield from wait.ask(order.call(key), SINGLE_REQUEST))
    except (CapacityExceeded, RateLimited) as error:
        reason = CAPACITY if isinstance(error, CapacityExceeded) else RATE
        yield Metric(CREATES_REFUSED, {"report": order.report, "reason": reason})
        raise


def _stand_in_line(order: Order, key: str, wait: _Wait) -> Flow[ReportRun]:
    try:
        yield from _take_turn(wait)
        run = yield from _create_in_turn(order, key, wait)
    except ReportRunError:
        yield LeaveLine()
        raise
    yield LeaveLine()
    return run


def _create_in_turn(order: Order, key: str, wait: _Wait) -> Flow[ReportRun]:
    said = logging.INFO
    while True:
        try:
            return (yield from _try_to_create(order, key, wait))
        except (CapacityExceeded, RateLimited) as error:
            wait.heard()
            log.log(said, "Waiting for %s: %s", wait.waiting_for, error)
            said = logging.DEBUG
        except ReportRunError as error:
            if isinstance(error, ServerError) and error.is_conflict:
                yield from _stand_back(error, wait)
                continue
            if isinstance(error, DataNotAvailable):
                raise
            wait.tolerate(error)
        yield AwaitRoom(wait.delay())
        wait.time_left()


def _stand_back(error: ServerError, wait: _Wait) -> Flow[None]:
    """Let others have their turn while an earlier request under the same key is at work."""
    wait.tolerate(error, at_least=OUTAGE_TOLERANCE_SECONDS)
    yield LeaveLine()
    yield Sleep(wait.pause(CONFLICT_SECONDS))
    yield from _take_turn(wait)


def _take_turn(wait: _Wait) -> Flow[None]:
    """Stand in line; which line that is says the connection, which may not be at hand just now."""
    while True:
        try:
            yield TakeTurn(wait.time_left())
        except TransportError as error:
            wait.tolerate(error)
        else:
            wait.time_left()
            return
        yield Sleep(wait.delay())


def create_with_data(
    order: Order,
    *,
    patience: Patience,
    around: Surroundings = WORLD,
) -> Flow[ReportRun]:
    """
    Wait until the API holds the data of the interval, and create the report run.

    The report's definition tells that without a create; where it cannot be had, names no window or
    is ahead of the data, the create itself is repeated: the API refuses it until they are there.

    :raises DeadlinePassed: when the data are not there at the deadline.
    :raises ReportRunError: as ``create`` does.
    """
    interval_end = read_instant(order.report_parameters.get(INTERVAL_END))
    waiting_for = f"the data of {order.report}"
    wait = _Wait(waiting_for, patience, around, measured_as=DATA_WAIT, report=order.report)
    while True:
        unreadable = None
        if interval_end is not None:
            unreadable = yield from _await_known_data(order, interval_end, patience, around)
        try:
            return (yield from create(order, patience=patience, around=around))
        except DataNotAvailable as error:
            wait.heard()
            log.info("Waiting for %s: %s", waiting_for, error)
        except ReportRunError as error:
            if unreadable is None or not unreadable.transient:
                raise
            wait.tolerate(error)
        yield Sleep(wait.delay())


def _await_known_data(
    order: Order, interval_end: datetime, patience: Patience, around: Surroundings
) -> Flow[ReportRunError | None]:
    """
    Wait as long as the report's definition says that the data are not there.

    :return: why the definition cannot be read, where it cannot.
    """
    once = replace(patience, outage_tolerance_seconds=0.0)
    try:
        yield from await_data(order.report, interval_end, patience=once, around=around)
    except (AuthenticationError, DeadlinePassed):
        raise
    except ReportRunError as error:
        log.warning("Going on without the definition of the report: %s", error)
        return error
    return None


def _reason(refusal: InvalidRequest, order: Order, around: Surroundings) -> Flow[ReportRunError]:
    """
    Look up whether a create was refused for data that are not there yet, which passes.

    The API may say so in other words than are known here, so the report's definition is asked.
    """
    interval_end = read_instant(order.report_parameters.get(INTERVAL_END))
    if interval_end is None or refusal.about == INTERVAL_START:
        return refusal
    try:
        report = yield from ask(calls.get_report(order.report), policy=ONE_OF_MANY, around=around)
        is_there = is_covered(report, interval_end)
        # An end at the very end of the data may be one too far, for some reports.
        is_at_the_end = refusal.about == INTERVAL_END and interval_end == available_through(report)
    except ReportRunError:
        return refusal
    return not_available(report, interval_end) if not is_there or is_at_the_end else refusal


def await_finished(
    report_run_id: str,
    *,
    patience: Patience,
    around: Surroundings = WORLD,
) -> Flow[ReportRun]:
    """
    Ask until a report run is finished.

    :return: the report run, succeeded.
    :raises ReportRunFailed: when it ended in ``failed``.
    :raises DeadlinePassed: when it is still going at the deadline; it goes on at Stripe.
    :raises ReportRunError: the last error, when no good answer came for the tolerated time or
        asking again does not help.
    """
    wait = _Wait(
        f"report run {report_run_id} to finish",
        patience,
        around,
        measured_as=REPORT_WAIT,
        report_run_id=report_run_id,
    )
    return (yield from wait.measured(_look_at_report_run(report_run_id, wait)))


def _look_at_report_run(report_run_id: str, wait: _Wait) -> Flow[ReportRun]:
    call = calls.get_report_run(report_run_id)
    status = None
    while True:
        try:
            run = yield from wait.ask(call)
        except ReportRunError as error:
            yield poll(REPORT_RUN, ERROR)
            wait.tolerate(error)
        else:
            yield poll(REPORT_RUN, DONE if run.is_finished else NOT_YET)
            wait.heard(run.created_at)
            wait.report = run.report
            if run.status != status:
                status = run.status
                log.info("Report run %s is %s", run.id, status)
            if run.is_finished:
                yield RoomMade()
                return finished(run)
        yield Sleep(wait.delay(), may_hurry=True)


def poll(kind: str, outcome: str) -> Metric:
    """Measure one look of a wait."""
    return Metric(POLLS, {"kind": kind, "outcome": outcome})


def finished(run: ReportRun) -> ReportRun:
    """
    Hand on a finished report run.

    :raises ReportRunFailed: when it ended in ``failed``.
    """
    if run.failure is not None:
        raise run.failure
    return run


def create_and_await(
    order: Order,
    *,
    patience: Patience,
    on_created: Callable[[ReportRun], object] = lambda _: None,
    around: Surroundings = WORLD,
    wait_for_data: bool = False,
) -> Flow[ReportRun]:
    """
    Create a report run and ask until it is finished, under one deadline.

    :param on_created: is told the report run as soon as there is one.
    :param wait_for_data: whether to wait first until the API holds the data of the interval.
    :raises ReportRunError: as ``create`` and ``await_finished`` do.
    """
    began = around.monotonic()
    creation = create_with_data if wait_for_data else create
    run = yield from creation(order, patience=patience, around=around)
    on_created(run)
    if run.is_finished:
        return finished(run)
    created = around.monotonic()
    try:
        return (yield from await_finished(run.id, patience=patience, around=around))
    except DeadlinePassed as error:
        raise DeadlinePassed(
            f"{error.message} Before that, {created - began:.0f} s went into the create, "
            "most of them waiting for room.",
            report_run_id=run.id,
        ) from None


class _Wait:
    """
    What one wait keeps count of: its age, how long nothing good was heard, the deadline.

    The deadline alone is wall time.
    """

    def __init__(
        self,
        waiting_for: str,
        patience: Patience,
        around: Surroundings,
        *,
        measured_as: str,
        report: str = UNKNOWN,
        report_run_id: str | None = None,
    ) -> None:
        self.waiting_for = waiting_for
        self.report = report
        self._measured_as = measured_as
        self._patience = patience
        self._around = around
        self._report_run_id = report_run_id
        self._since = self._began = around.monotonic()
        self._began_at = around.clock()
        self._failing_since: float | None = None

    def ask(self, call: Call[T], policy: RetryPolicy = ONE_OF_MANY) -> Flow[T]:
        """Ask once, repeated within seconds, until the deadline."""
        return ask(call, policy=policy, around=self._around, deadline=self._patience.deadline)

    def measured(self, looks: Flow[T]) -> Flow[T]:
        """Wait, and measure how long that took, however it ends."""
        try:
            found = yield from looks
        except ReportRunError as error:
            yield self.ended(type(error).__name__)
            raise
        yield self.ended(DONE)
        return found

    def ended(self, outcome: str) -> Metric:
        """Measure how long the wait took."""
        return Metric(
            self._measured_as,
            {"report": self.report, "outcome": outcome},
            seconds=self._around.monotonic() - self._since,
        )

    def heard(self, began_at: datetime | None = None) -> None:
        """Note a good answer, and when that which is waited for began, where it says so."""
        self._failing_since = None
        if began_at is not None:
            # By the clock of before the first look, for since then it may have taken a step.
            age = self._began_at - began_at.timestamp()
            self._began = min(self._began, self._since - age)

    def tolerate(self, error: ReportRunError, *, at_least: float = 0.0) -> None:
        """Let an error pass while it may be an outage, of so many seconds; else raise it."""
        now = self._around.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        silent = now - self._failing_since
        tolerated = max(self._patience.outage_tolerance_seconds, at_least)
        if not error.transient or silent >= tolerated:
            raise error
        log.warning("No good answer for %.0f s while waiting: %s", silent, error)

    def time_left(self) -> float:
        """
        Give the seconds until the deadline.

        :raises DeadlinePassed: when there are none.
        """
        now = self._around.clock()
        if now < self._patience.deadline:
            return self._patience.deadline - now
        goes_on = " It goes on at Stripe." if self._report_run_id else ""
        raise DeadlinePassed(
            f"Waited until the deadline for {self.waiting_for}, "
            f"{self._age():.0f} s in all.{goes_on}",
            report_run_id=self._report_run_id,
        )

    def delay(self) -> float:
        """
        Give the seconds to pause before the next look.

        :raises DeadlinePassed: when there is no time left.
        """
        left = self.time_left()
        return min(self._patience.pace.delay(self._age(), self._around.jitter), left)

    def pause(self, longest: float) -> float:
        """
        Give the seconds of a short pause, jittered.

        :raises DeadlinePassed: when there is no time left.
        """
        return min(self._around.jitter(longest / 2, longest), self.time_left())

    def _age(self) -> float:
        return self._around.monotonic() - self._began
