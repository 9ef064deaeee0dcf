"""
The conversations with the API, each written once.

A conversation is a generator: it yields requests and pauses and receives answers. ``drivers.py``
carries it out, blocking or awaiting. ``fulfil`` puts the others in sequence. Workers and triggers
drive it from its beginning, as often as they like, because each of its steps can be repeated.
"""

from __future__ import annotations

import itertools
import logging
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from airflow_provider_reportrun.errors import (
    AuthenticationError,
    CapacityExceeded,
    DataNotAvailable,
    DataWindowUnknown,
    DeadlinePassed,
    InvalidInput,
    InvalidRequest,
    NotFound,
    RateLimited,
    ReportRunError,
    ServerError,
    TransportError,
)
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.asking import (
    ERRORS_KEPT,
    ONE_OF_MANY,
    OUTAGE_TOLERANCE_SECONDS,
    REAL,
    SINGLE_REQUEST,
    UNDER_ANOTHER_KEY,
    Environment,
    Patience,
    Wait,
    ask,
    poll_metric,
)
from airflow_provider_reportrun.protocol.checks import (
    available_through,
    check_parameters,
    is_covered,
    not_available,
)
from airflow_provider_reportrun.protocol.earlier import find_earlier
from airflow_provider_reportrun.protocol.finding import nearest
from airflow_provider_reportrun.protocol.identity import key_after_failure
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    format_instant,
)
from airflow_provider_reportrun.protocol.messages import (
    AwaitRoom,
    Backoff,
    Flow,
    LeaveLine,
    RoomMade,
    Sleep,
    TakeTurn,
    WaitBegins,
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
    RATE,
    REPORT_RUN,
    REPORT_WAIT,
    Metric,
)
from airflow_provider_reportrun.protocol.models import FAILED, QUERY, SUCCEEDED, read_instant
from airflow_provider_reportrun.protocol.requests import ReportRequest
from airflow_provider_reportrun.protocol.retry import HURRY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_reportrun.protocol.calls import Call
    from airflow_provider_reportrun.protocol.generation import Generation
    from airflow_provider_reportrun.protocol.models import Report, ReportRun
    from airflow_provider_reportrun.protocol.requests import RunRequest

log = logging.getLogger(__name__)

DEFINITION_SECONDS = 300.0
"""How old a report's definition may be for a check of parameters."""
CONFLICT_SECONDS = 5.0
"""Longest pause of a create while an earlier request with the same key is still being handled."""
REFRESH_SECONDS = 2 * 3600.0
"""How old a run whose data are incomplete must be before another one may have more."""
MOST_KEYS = 100
"""How many keys of a chain one create may try, against an API that repeats errors for ever."""
MOST_DOUBTS = 20
"""How many errors in a row may be old ones, against an API that does not mark those."""
LISTED_PAGES = 3
"""How many pages of the list are shared by waits; older runs are polled one by one."""
CLOCKS_DIFFER_SECONDS = 2.0
"""A run that is older than its create by more than this existed before: see ``_made``."""


class Order(Struct, frozen=True, kw_only=True):
    """
    A run to create, or to find again.

    :param tries: how many tries there were, this one included. Each of them may use one more key
        after failed runs, and one more after old errors that the API does not mark as such.
    :param gone: runs whose files no longer exist; they count as failed.
    :param since: epoch seconds when the order was first placed, if it is known. A run that was
        created before is not this order's.
    :param is_shared: whether other tasks may have used the key before this order was placed.
    :param reattach: whether there may be a run whose key the API has forgotten: not in a first try.
    :param complete_through: the instant up to which the data of a run must be complete, if runs say
        so; a run with older data counts as failed.
    """

    api: Generation
    request: RunRequest
    idempotency_key: str
    tries: int = 1
    gone: frozenset[str] = frozenset()
    since: float | None = None
    is_shared: bool = False
    reattach: bool = True
    complete_through: datetime | None = None

    @property
    def report(self) -> str:
        """The report, as metrics and logs name it."""
        return self.request.report if isinstance(self.request, ReportRequest) else QUERY

    @property
    def parameters(self) -> Mapping[str, str | list[str]]:
        """The parameters of the report; a query has none."""
        return self.request.parameters if isinstance(self.request, ReportRequest) else {}

    @property
    def interval_end(self) -> datetime | None:
        """The instant after the last of the interval, if one is sent."""
        return read_instant(self.parameters.get(INTERVAL_END))

    def is_stale(self, run: ReportRun) -> bool:
        """Tell whether a run succeeded before the data of the interval were complete."""
        needed, has = self.complete_through, run.refreshed_at
        return run.status == SUCCEEDED and None not in (needed, has) and has < needed  # type: ignore[operator]

    def is_lost(self, run: ReportRun) -> bool:
        """Tell whether a run failed, or lost its file, in a way that a new one may not."""
        failure = run.failure
        return run.id in self.gone or (failure is not None and failure.transient)

    def call(self, key: str) -> Call[ReportRun]:
        """Return the create under one key of the chain."""
        return calls.create_run(self.api, self.request, key)


class _Chain:
    """
    The keys of an order, one after the other.

    Every try walks it from the beginning, because each key follows from the one before and from
    what became of it.

    :param replaces_failed: whether the keys of earlier tries may be left if their runs are lost;
        otherwise whatever run the first key belongs to is the one.
    """

    def __init__(self, order: Order, *, replaces_failed: bool = True) -> None:
        self.key = self.first = order.idempotency_key
        """The key to use now, and the one to begin a walk with."""
        self.runs_left = order.tries - 1 if replaces_failed else 0
        self._marks_replays = False
        """Whether the API marked an old error, so that one without a mark is new."""
        self._has_failed = False
        """Whether a walk ended in an error."""
        self._doubts = self._doubts_left = order.tries - 1
        """How many errors without a mark may be old ones, of earlier tries or walks."""

    def begin(self) -> None:
        """Begin another walk."""
        self.key, self._doubts_left = self.first, self._doubts

    def after_run(self, run: ReportRun) -> None:
        """Go on to the key after a run that is not the one."""
        self.key = self.first = key_after_failure(self.key, run.id)

    def passes(self, error: ReportRunError) -> bool:
        """
        Go on to the next key if the API may have kept an error for this one.

        A key is left for good only if the API marked the error. Without a mark, the next walk
        begins before it: a later try would create another run under a key without an error. For the
        same reason the first error of a server is not doubted. It may be over with the next key.
        """
        is_certain = error.is_replay and self.key == self.first
        self._marks_replays |= error.is_replay
        if not error.is_replay:
            is_new = isinstance(error, ServerError) and not self._has_failed
            if is_new or self._marks_replays or not self._doubts_left:
                self._doubts = min(self._doubts + 1, MOST_DOUBTS)
                self._has_failed = True
                return False
            self._doubts_left -= 1
        self.key = key_after_failure(self.key, "error")
        if is_certain:
            self.first = self.key
        return True


class Definition(NamedTuple):
    """What is known of a report's definition: the report, or why it cannot be read."""

    asked_at: float
    """Monotonic seconds; the report may be a copy from before."""
    report: Report | None = None
    failure: ReportRunError | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """
    What to do for an order besides its create.

    :param validate: whether to compare the parameters with the report's definition.
    :param wait_for_data: whether to wait until the API has the data of the interval.
    :param wait_for_completion: whether to wait until the report run is finished.
    :param known_run_id: the report run of an earlier try, if it is known.
    :param definition: the report's definition, if it was looked up before.
    :param rides_out_outages: whether a create continues through an outage. Workers leave that to
        Airflow's retries, unless they have waited for the data before.
    """

    validate: bool = False
    wait_for_data: bool = False
    wait_for_completion: bool = False
    known_run_id: str | None = None
    definition: Definition | None = None
    rides_out_outages: bool = True


def fulfil(
    order: Order,
    plan: Plan,
    *,
    patience: Patience,
    on_created: Callable[[ReportRun], object] = lambda _: None,
    environment: Environment = REAL,
) -> Flow[ReportRun]:
    """
    Attach to a known report run, or check the order and create one; wait as the plan says.

    :param on_created: is called with the report run as soon as it is known.
    :return: the report run: succeeded if the plan waits for completion, else as it is now.
    :raises InvalidInput: if the report's definition does not allow the parameters.
    :raises DataNotAvailable: if the interval ends after the data and the plan does not wait.
    :raises ReportRunFailed: if the plan waits for completion and the report run failed.
    :raises DeadlinePassed: if one of the waits reaches the deadline.
    :raises ReportRunError: the last error, if an outage is too long or repeating does not help.
    """
    if may_need_another(order, plan):
        order = replace(order, complete_through=order.interval_end)
        plan = replace(plan, wait_for_completion=True)
    began = environment.monotonic()
    run = yield from _attach(order, plan, environment)
    missing = None if run else (yield from _check(order, plan, patience, environment))
    chain = _Chain(order, replaces_failed=plan.wait_for_completion)
    while True:
        if run is None:
            run = yield from _create_with_data(
                order, chain, plan, missing, patience, environment=environment
            )
        on_created(run)
        if not plan.wait_for_completion:
            return run
        took = environment.monotonic() - began
        run = yield from _complete(order, run, took, patience, environment)
        if not order.is_stale(run):
            if order.complete_through is not None and run.refreshed_at is None:
                log.warning("%s %s does not say how far its data reach", order.api.noun, run.id)
            return run
        run = None  # the create comes to the next key by itself
        plan = replace(plan, rides_out_outages=True)


def may_need_another(order: Order, plan: Plan) -> bool:
    """Tell whether only a finished run shows that its data are complete, and another may follow."""
    return plan.wait_for_data and order.api.shows_data_on_run and order.interval_end is not None


def _complete(
    order: Order, run: ReportRun, took: float, patience: Patience, environment: Environment
) -> Flow[ReportRun]:
    """
    Wait until a run has succeeded.

    :param took: seconds that the create took.
    """
    if run.is_finished:
        raise_if_failed(run)
        return run
    yield WaitBegins()
    try:
        return (
            yield from await_finished(order.api, run.id, patience=patience, environment=environment)
        )
    except DeadlinePassed as error:
        raise DeadlinePassed(
            f"{error.message} Before that, the create took {took:.0f} s, most of it waiting for "
            "data or room.",
            report_run_id=run.id,
        ) from None


def _attach(order: Order, plan: Plan, environment: Environment) -> Flow[ReportRun | None]:
    """
    Get the report run of an earlier try.

    :return: None if there is none, or if it is lost and a new one is due.
    """
    if plan.known_run_id is None:
        return None
    try:
        call = calls.get_run(order.api, plan.known_run_id)
        run = yield from ask(call, environment=environment)
    except NotFound:
        return None
    if plan.wait_for_completion and (order.is_lost(run) or order.is_stale(run)):
        return None
    yield Metric(ATTACHES, {"report": run.report})
    log.info(
        "Attached to %s %s of %s, from an earlier try: %s",
        order.api.noun,
        run.id,
        order.report,
        run.status,
    )
    return run


def define(api: Generation, report_id: str, *, environment: Environment = REAL) -> Flow[Definition]:
    """
    Look up a report's definition.

    A failure is part of the result, because a report run can be created without the definition.

    A copy that another conversation got in the last five minutes will do.

    :raises AuthenticationError: if the API does not know the key, because a create would fail too.
    :raises InvalidInput: if several reports have the name.
    :raises NotFound: if it is certain that there is no such report; names the nearest.
    """
    now = environment.monotonic()
    call = calls.get_report(api, report_id, fresh_since=now - DEFINITION_SECONDS)
    try:
        report = yield from ask(call, policy=ONE_OF_MANY, environment=environment)
    except (AuthenticationError, InvalidInput):
        raise
    except NotFound as error:
        missing = yield from nearest(api, report_id, error, environment=environment)
        if missing is not None:
            raise missing from None
        return Definition(now, failure=error)
    except ReportRunError as error:
        return Definition(now, failure=error)
    return Definition(now, report=report)


def _check(
    order: Order, plan: Plan, patience: Patience, environment: Environment
) -> Flow[ReportRunError | None]:
    """
    Compare the order with the report's definition, and wait for the data if the plan says so.

    A definition that cannot be read stops nothing: the API checks the create itself.

    :return: why the definition cannot be read, if it cannot.
    :raises InvalidInput: if parameters are wrong; names all problems at once.
    :raises DataNotAvailable: if the interval ends after the data and the plan does not wait.
    """
    waits = plan.wait_for_data and not order.api.shows_data_on_run
    failure = None
    if plan.validate:
        known = plan.definition or (
            yield from define(order.api, order.report, environment=environment)
        )
        failure, is_there = _compare(order, known)
        if is_there:
            return None
        if failure is not None and not (waits and failure.transient):
            log.warning("Going on without the definition of the report: %s", failure)
            return failure
        if not waits:
            return (yield from _check_data_again(order, known.asked_at, environment))
        yield WaitBegins()
    return (yield from _await_known_data(order, patience, environment)) if waits else None


def _compare(order: Order, known: Definition) -> tuple[ReportRunError | None, bool]:
    """
    Compare an order with what is known of the report's definition.

    :return: why the definition, or how far its data reach, cannot be read; and whether the data are
        there, or need not be.
    :raises InvalidInput: if parameters are wrong.
    """
    if known.report is None:
        return known.failure, False
    check_parameters(known.report, order.parameters)
    if order.interval_end is None or order.api.shows_data_on_run:
        return None, True
    try:
        return None, is_covered(known.report, order.interval_end)
    except DataWindowUnknown as error:
        return error, False


def _check_data_again(
    order: Order, since: float, environment: Environment
) -> Flow[ReportRunError | None]:
    """Check the data without an older copy of the definition, which does not show new data."""
    call = calls.get_report(order.api, order.report, fresh_since=since)
    try:
        report = yield from ask(call, policy=ONE_OF_MANY, environment=environment)
        is_there = order.interval_end is None or is_covered(report, order.interval_end)
    except ReportRunError as error:
        log.warning("Going on without the definition of the report: %s", error)
        return error
    if not is_there and order.interval_end is not None:
        raise not_available(report, order.interval_end)
    return None


def _await_known_data(
    order: Order, patience: Patience, environment: Environment
) -> Flow[ReportRunError | None]:
    """
    Wait as long as the report's definition says that the data are not there.

    :return: why the definition cannot be read, if two polls in a row fail.
    """
    if order.interval_end is None or order.api.shows_data_on_run:
        return None
    impatient = replace(patience, outage_tolerance_seconds=patience.pace.shortest_seconds)
    try:
        yield from await_data(
            order.api,
            order.report,
            order.interval_end,
            patience=impatient,
            environment=environment,
        )
    except (AuthenticationError, DeadlinePassed):
        raise
    except ReportRunError as error:
        log.warning("Going on without the definition of the report: %s", error)
        return error
    return None


def _create_with_data(
    order: Order,
    chain: _Chain,
    plan: Plan,
    unreadable: ReportRunError | None,
    patience: Patience,
    *,
    environment: Environment,
) -> Flow[ReportRun]:
    """
    Create the report run; if the plan waits for data, repeat the create until they are there.

    The definition may be unreadable, name no window or be ahead of the data. The API refuses the
    create until the data are there.

    :param unreadable: why the definition cannot be read, if it cannot.
    """
    waiting_for = f"the data of {order.report}"
    wait = Wait(waiting_for, patience, environment, measured_as=DATA_WAIT, report=order.report)
    tolerance = patience.outage_tolerance_seconds if plan.rides_out_outages else 0.0
    for_room = replace(patience, outage_tolerance_seconds=tolerance)
    while True:
        try:
            return (yield from _create(order, chain, for_room, environment))
        except DataNotAvailable as error:
            if not plan.wait_for_data:
                raise
            wait.heard()
            log.info("Waiting for %s: %s", waiting_for, error)
        except ReportRunError as error:
            if not plan.wait_for_data or unreadable is None or not unreadable.transient:
                raise
            wait.raise_unless_tolerated(error)
        yield Sleep(wait.delay())
        unreadable = yield from _await_known_data(order, patience, environment)
        for_room = patience


def await_data(
    api: Generation,
    report_id: str,
    interval_end: datetime,
    *,
    patience: Patience,
    measured: bool = True,
    environment: Environment = REAL,
) -> Flow[Report]:
    """
    Poll until the API has the data of an interval.

    :param interval_end: aware; the instant after the last of the interval.
    :param measured: whether to measure how long this took; not if it is a part of a longer wait.
    :return: the report, whose data reach that far.
    :raises InvalidInput: if only runs say how far the data reach in this generation.
    :raises DataWindowUnknown: if the report does not say how far its data reach.
    :raises DeadlinePassed: if they do not reach that far at the deadline.
    :raises ReportRunError: as ``await_finished`` does.
    """
    check_shows_data(api, report_id)
    waiting_for = f"the data of {report_id} to reach {format_instant(interval_end)}"
    wait = Wait(waiting_for, patience, environment, measured_as=DATA_WAIT, report=report_id)
    polls = _poll_data(api, report_id, interval_end, wait, patience, environment=environment)
    return (yield from wait.measured(polls) if measured else polls)


def check_shows_data(api: Generation, report_id: str) -> None:
    """
    Refuse to wait for data if only runs say how far they reach.

    :raises InvalidInput: names what to use instead.
    """
    if api.shows_data_on_run:
        raise InvalidInput(
            f"Use wait_for_data=True of the operator instead: with api={api.name!r}, only finished "
            f"runs say how far their data reach, so the data of {report_id} cannot be waited for."
        )


def _poll_data(
    api: Generation,
    report_id: str,
    interval_end: datetime,
    wait: Wait,
    patience: Patience,
    *,
    environment: Environment,
) -> Flow[Report]:
    through = None
    pause = patience.pace.shortest_seconds
    while True:
        # An answer of half a pause ago will do, so that 300 waits in a triggerer send one poll.
        since = environment.monotonic() - pause / 2 if patience.shares_polls else float("inf")
        call = calls.get_report(api, report_id, fresh_since=since)
        try:
            report = yield from wait.ask(call)
        except ReportRunError as error:
            yield poll_metric(DATA, ERROR)
            if isinstance(error, NotFound):
                raise (
                    yield from nearest(api, report_id, error, environment=environment)
                ) or error from None
            wait.raise_unless_tolerated(error)
        else:
            wait.heard()
            is_there = is_covered(report, interval_end)
            yield poll_metric(DATA, DONE if is_there else NOT_YET)
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
    patience: Patience,
    environment: Environment = REAL,
) -> Flow[ReportRun]:
    """
    Create a run as soon as there is room for it, or attach to the one that has the key.

    If the key belongs to a run that is lost, the next key of the chain is used.

    :return: the run as it is now, perhaps finished, perhaps failed.
    :raises DataNotAvailable: if it was refused and the interval ends after the data.
    :raises DeadlinePassed: if there is no room at the deadline.
    """
    return _create(order, _Chain(order), patience, environment)


def _create(
    order: Order, chain: _Chain, patience: Patience, environment: Environment
) -> Flow[ReportRun]:
    began = environment.clock()
    api = order.api
    if _is_key_forgotten(order, began):
        earlier = yield from _find_earlier(order, order.since, environment)
        if earlier is not None:
            yield _made(order, earlier, began)
            return earlier
    while True:
        try:
            run = yield from _create_under(chain, order, patience, environment)
        except InvalidRequest as refusal:
            raise (yield from _reason(refusal, order, environment)) from None
        if chain.runs_left and not run.is_finished and not api.idempotency.answers_afresh:
            run = yield from ask(calls.get_run(api, run.id), environment=environment)
        if order.is_stale(run):
            yield from _await_refresh(order, run, patience, environment)
        elif chain.runs_left and order.is_lost(run):
            why = run.failure or "its file no longer exists"
            log.info("Asking for a new %s, because %s is lost (%s)", api.noun, run.id, why)
            chain.runs_left -= 1
        else:
            yield _made(order, run, began)
            return run
        chain.after_run(run)


def _is_key_forgotten(order: Order, now: float) -> bool:
    """Tell whether the API may have forgotten a key, and would create another run for it."""
    if order.since is None or not order.reattach:
        return False
    return now - order.since > order.api.idempotency.window_seconds


def _await_refresh(
    order: Order, run: ReportRun, patience: Patience, environment: Environment
) -> Flow[None]:
    """
    Wait until a new run may have the data that one lacks; the API refreshes them every few hours.

    :raises DeadlinePassed: if the deadline has passed.
    """
    assert order.complete_through is not None  # noqa: S101 - else it is not stale
    assert run.refreshed_at is not None  # noqa: S101 - nor then
    needed, reached = format_instant(order.complete_through), format_instant(run.refreshed_at)
    so_far = f"those of {order.api.noun} {run.id} reach {reached} only"
    waiting_for = f"the data of {order.report} to reach {needed} ({so_far})"
    wait = Wait(waiting_for, patience, environment, measured_as=DATA_WAIT, report=order.report)
    created_at = run.created_at.timestamp() if run.created_at else environment.clock()
    age = max(environment.clock() - created_at, 0.0)
    pause = min(max(REFRESH_SECONDS - age, 0.0), wait.time_left())
    log.info("Asking for another %s in %.0f s, because %s", order.api.noun, pause, so_far)
    if pause:
        yield Sleep(pause)
        wait.raise_if_over()


def _made(order: Order, run: ReportRun, began: float) -> Metric:
    """
    Distinguish a new run from one that was found again, because the API does not.

    :param began: epoch seconds of the first request. The API's clock may be behind, and may have
        whole seconds only.
    """
    age = began - run.created_at.timestamp() if run.created_at else 0.0
    noun = order.api.noun
    if age <= CLOCKS_DIFFER_SECONDS:
        log.info("Created %s %s of %s: %s", noun, run.id, order.report, run.status)
        return Metric(CREATES, {"report": order.report})
    log.info(
        "Attached to %s %s of %s, created %.0f s before: %s",
        noun,
        run.id,
        order.report,
        age,
        run.status,
    )
    return Metric(ATTACHES, {"report": order.report})


def _find_behind(
    order: Order, error: ReportRunError, environment: Environment
) -> Flow[ReportRun | None]:
    """Look for the run of a create that was answered with an error, by whichever task it was."""
    since = order.since
    if since is not None and order.is_shared and error.is_replay:
        since = min(since, environment.clock() - order.api.idempotency.window_seconds)
    return (yield from _find_earlier(order, since, environment))


def _find_earlier(
    order: Order, since: float | None, environment: Environment
) -> Flow[ReportRun | None]:
    """Look for a run of the order in the API's list, if there is one and it is known since when."""
    if since is None or not isinstance(order.request, ReportRequest):
        return None
    return (
        yield from find_earlier(
            order.api,
            order.request,
            since=datetime.fromtimestamp(since, tz=timezone.utc),
            gone=order.gone,
            ask=partial(ask, policy=ONE_OF_MANY, environment=environment),
        )
    )


def _create_under(
    chain: _Chain, order: Order, patience: Patience, environment: Environment
) -> Flow[ReportRun]:
    wait = Wait(
        f"the API key to have room for one more {order.api.noun}",
        patience,
        environment,
        measured_as=CAPACITY_WAIT,
        report=order.report,
    )
    return (yield from wait.measured(_stand_in_line(order, chain, wait, environment)))


def _stand_in_line(
    order: Order, chain: _Chain, wait: Wait, environment: Environment
) -> Flow[ReportRun]:
    try:
        if not wait.is_over:  # a wait that comes too late tries once, as every wait polls once
            yield from _take_turn(order, wait)
        run = yield from _create_in_turn(order, chain, wait, environment)
    except ReportRunError:
        yield LeaveLine()
        raise
    yield LeaveLine()
    return run


def _create_in_turn(
    order: Order, chain: _Chain, wait: Wait, environment: Environment
) -> Flow[ReportRun]:
    """
    Repeat the create until there is room.

    A refusal for lack of room is a good answer. Every other error counts as an outage.
    """
    level = logging.INFO
    while True:
        try:
            return (yield from _try_to_create(order, chain, wait, environment))
        except (CapacityExceeded, RateLimited) as error:
            reason = CAPACITY if isinstance(error, CapacityExceeded) else RATE
            yield Metric(CREATES_REFUSED, {"report": order.report, "reason": reason})
            wait.heard()
            log.log(level, "Waiting for %s: %s", wait.waiting_for, error)
            level = logging.DEBUG
        except DataNotAvailable:
            raise
        except ReportRunError as error:
            if isinstance(error, ServerError) and error.is_conflict:
                yield from _stand_back(order, error, wait)
                continue
            wait.raise_unless_tolerated(error)
        yield AwaitRoom(wait.delay())
        wait.raise_if_over()


def _try_to_create(
    order: Order, chain: _Chain, wait: Wait, environment: Environment
) -> Flow[ReportRun]:
    """Send one create, repeated within seconds."""
    if not order.api.idempotency.replays_errors:
        return (yield from wait.ask(order.call(chain.key), SINGLE_REQUEST))
    for failures in itertools.count(1):
        try:
            return (yield from _walk(order, chain, wait, environment))
        except ReportRunError as error:
            if not _may_be_kept(error):
                raise
            delay = UNDER_ANOTHER_KEY.delay(failures, error, environment.jitter)
            if delay is None:
                raise
        yield Backoff(delay)
    raise AssertionError  # pragma: no cover - count() does not end


def _walk(order: Order, chain: _Chain, wait: Wait, environment: Environment) -> Flow[ReportRun]:
    """
    Create under the first key of the chain that the API keeps no error for.

    After an error, the list shows whether there is a run nevertheless.
    """
    chain.begin()
    is_listed = False
    for _ in range(MOST_KEYS):
        try:
            return (yield from wait.ask(order.call(chain.key), ERRORS_KEPT))
        except ReportRunError as error:
            if not _may_be_kept(error):
                raise
            failure = error
        if not (is_listed and failure.is_replay):  # a replay has created nothing since then
            run = yield from _find_behind(order, failure, environment)
            if run is not None:
                return run
            is_listed = True
        if not chain.passes(failure):
            break
        log.info("Trying another key, because this error may be an old one: %s", failure)
    raise failure


def _may_be_kept(error: ReportRunError) -> bool:
    """Tell whether the API may answer every repeat of a key with this error."""
    if isinstance(error, ServerError):
        return not error.is_conflict
    return error.is_replay or isinstance(error, InvalidRequest | DataNotAvailable)


def _stand_back(order: Order, error: ServerError, wait: Wait) -> Flow[None]:
    """Let others have their turn while an earlier request with the same key is being handled."""
    wait.raise_unless_tolerated(error, at_least=OUTAGE_TOLERANCE_SECONDS)
    yield LeaveLine()
    yield Sleep(wait.pause(CONFLICT_SECONDS))
    yield from _take_turn(order, wait)


def _take_turn(order: Order, wait: Wait) -> Flow[None]:
    """Stand in line. The connection names the line, and may not be readable at the moment."""
    while True:
        try:
            yield TakeTurn(wait.time_left(), order.api.capacity_group)
        except TransportError as error:
            wait.raise_unless_tolerated(error)
        else:
            wait.raise_if_over()
            return
        yield Sleep(wait.delay())


def _reason(
    refusal: InvalidRequest, order: Order, environment: Environment
) -> Flow[ReportRunError]:
    """
    Find out whether a create was refused only because the data are not there yet.

    The API may say so in unknown words, so the report's definition decides.
    """
    interval_end = order.interval_end
    if interval_end is None or refusal.about == INTERVAL_START:
        return refusal
    call = calls.get_report(order.api, order.report)
    try:
        report = yield from ask(call, policy=ONE_OF_MANY, environment=environment)
        is_there = is_covered(report, interval_end)
        # Some reports do not accept the very end of their data.
        is_at_the_end = refusal.about == INTERVAL_END and interval_end == available_through(report)
    except ReportRunError:
        return refusal
    return not_available(report, interval_end) if not is_there or is_at_the_end else refusal


def await_finished(
    api: Generation,
    report_run_id: str,
    *,
    patience: Patience,
    measured: bool = True,
    environment: Environment = REAL,
) -> Flow[ReportRun]:
    """
    Poll until a run is finished.

    :param measured: whether to measure how long this took; not if it is a part of a longer wait.
    :return: the run, which succeeded.
    :raises ReportRunFailed: if it failed.
    :raises DeadlinePassed: if it is not finished at the deadline; it goes on at Stripe.
    :raises ReportRunError: the last error, if no good answer came for the tolerated time or
        repeating does not help.
    """
    wait = Wait(
        f"{api.noun} {report_run_id} to finish",
        patience,
        environment,
        measured_as=REPORT_WAIT,
        report_run_id=report_run_id,
    )
    polls = _poll_run(api, report_run_id, wait, patience, environment)
    return (yield from wait.measured(polls) if measured else polls)


def _poll_run(
    api: Generation, run_id: str, wait: Wait, patience: Patience, environment: Environment
) -> Flow[ReportRun]:
    lists = patience.shares_polls and api.run_listing is not None
    call = calls.get_run(api, run_id)
    pause = patience.pace.shortest_seconds
    status = None
    while True:
        try:
            run = None
            if lists:
                run = yield from _find_in_lists(api, run_id, wait, pause, environment)
            if run is None:
                run = yield from wait.ask(call)
        except ReportRunError as error:
            yield poll_metric(REPORT_RUN, ERROR)
            wait.raise_unless_tolerated(error)
            pause = wait.delay()
            hurried = pause / HURRY
        else:
            yield poll_metric(REPORT_RUN, DONE if run.is_finished else NOT_YET)
            wait.heard(run.created_at)
            wait.report = run.subject
            if run.status != status:
                status = run.status
                log.info("%s", described(api, run))
            if run.is_finished:
                yield RoomMade(api.capacity_group)
                raise_if_failed(run)
                return run
            pause, hurried = wait.delay_of_run()
        yield Sleep(pause, hurries_for=api.capacity_group, hurried_seconds=hurried)


def _find_in_lists(
    api: Generation, run_id: str, wait: Wait, pause: float, environment: Environment
) -> Flow[ReportRun | None]:
    """
    Find a run in the newest pages of the list, which all waits of an account share.

    :return: None if it is older than those.
    """
    since = environment.monotonic() - pause / 2
    after = None
    for _ in range(LISTED_PAGES):
        page = yield from wait.ask(calls.list_runs(api, after=after, fresh_since=since))
        for run in page.runs:
            if run.id == run_id:
                return run
        after = page.next_after
        if after is None:
            break
    return None


def raise_if_failed(run: ReportRun) -> None:
    """
    Refuse a finished run that has no result.

    :raises ReportRunFailed: if it failed or was canceled.
    """
    if run.failure is not None:
        raise run.failure


def described(api: Generation, run: ReportRun) -> str:
    """Return a sentence about the status of a run."""
    verb = "" if run.status in {SUCCEEDED, FAILED} else "is "
    return f"{api.noun.capitalize()} {run.id} {verb}{run.status}"
