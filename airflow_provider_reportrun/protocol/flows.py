"""
The conversations with the API, each written once.

A conversation is a generator: it yields requests and pauses and receives answers. ``drivers.py``
carries it out, blocking or awaiting. ``fulfil`` puts the others in sequence. Workers and triggers
drive it from its beginning, as often as they like, because each of its steps can be repeated.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_reportrun.errors import (
    AuthenticationError,
    CapacityExceeded,
    DataNotAvailable,
    DataWindowUnknown,
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    RateLimited,
    ReportRunError,
    ServerError,
    TransportError,
)
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.asking import (
    ONE_OF_MANY,
    OUTAGE_TOLERANCE_SECONDS,
    REAL,
    SINGLE_REQUEST,
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
from airflow_provider_reportrun.protocol.identity import key_after_failure
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    format_instant,
)
from airflow_provider_reportrun.protocol.messages import (
    AwaitRoom,
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
from airflow_provider_reportrun.protocol.models import read_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from airflow_provider_reportrun.protocol.calls import Call
    from airflow_provider_reportrun.protocol.models import Report, ReportRun

log = logging.getLogger(__name__)

DEFINITION_SECONDS = 300.0
"""How old a report's definition may be for a check of parameters."""
CONFLICT_SECONDS = 5.0
"""Longest pause of a create while an earlier request with the same key is still being handled."""
CLOCKS_DIFFER_SECONDS = 2.0
"""A report run that is older than its create by more than this existed before: see ``_made``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    A report run to create, or to find again.

    :param runs_allowed: how many keys of the chain after failed report runs may be used: one in a
        first try, one more in each later try. 1 accepts whatever the first key belongs to.
    :param gone: report runs whose files no longer exist; they count as failed.
    """

    report: str
    report_parameters: Mapping[str, Any]
    result_options: Mapping[str, Any] | None
    idempotency_key: str
    runs_allowed: int = 1
    gone: frozenset[str] = frozenset()

    @property
    def interval_end(self) -> datetime | None:
        """The instant after the last of the interval, if one is sent."""
        return read_instant(self.report_parameters.get(INTERVAL_END))

    def is_lost(self, run: ReportRun) -> bool:
        """Tell whether a report run failed, or lost its file, in a way that a new one may not."""
        failure = run.failure
        return run.id in self.gone or (failure is not None and failure.transient)

    def call(self, key: str) -> Call[ReportRun]:
        """Return the create under one key of the chain."""
        return calls.create_report_run(
            report=self.report,
            report_parameters=self.report_parameters,
            result_options=self.result_options,
            idempotency_key=key,
        )


class Definition(NamedTuple):
    """What is known of a report's definition: the report, or why it cannot be read."""

    asked_at: float
    """Monotonic seconds; the report may be a copy from before."""
    report: Report | None = None
    failure: ReportRunError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
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
    began = environment.monotonic()
    run = yield from _attach(order, plan, environment)
    if run is None:
        missing = yield from _check(order, plan, patience, environment)
        run = yield from _create_with_data(order, plan, missing, patience, environment)
    on_created(run)
    if not plan.wait_for_completion:
        return run
    if run.is_finished:
        return finished(run)
    yield WaitBegins()
    took = environment.monotonic() - began
    try:
        return (yield from await_finished(run.id, patience=patience, environment=environment))
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
        run = yield from ask(calls.get_report_run(plan.known_run_id), environment=environment)
    except NotFound:
        return None
    if plan.wait_for_completion and order.is_lost(run):
        return None
    yield Metric(ATTACHES, {"report": run.report})
    log.info(
        "Attached to report run %s of %s, from an earlier try: %s", run.id, run.report, run.status
    )
    return run


def define(
    report_id: str, *, max_age_seconds: float | None = None, environment: Environment = REAL
) -> Flow[Definition]:
    """
    Look up a report's definition.

    A failure is part of the result, because a report run can be created without the definition.

    :param max_age_seconds: of a copy that another conversation got; None for five minutes.
    :raises AuthenticationError: if the API does not know the key, because a create would fail too.
    """
    now = environment.monotonic()
    oldest = now - (DEFINITION_SECONDS if max_age_seconds is None else max_age_seconds)
    call = calls.get_report(report_id, fresh_since=oldest)
    try:
        report = yield from ask(call, policy=ONE_OF_MANY, environment=environment)
    except AuthenticationError:
        raise
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
    if not plan.validate:
        if plan.wait_for_data:
            return (yield from _await_known_data(order, patience, environment))
        return None
    known = plan.definition or (yield from define(order.report, environment=environment))
    failure = known.failure
    if known.report is not None:
        check_parameters(known.report, order.report_parameters)
        try:
            if order.interval_end is None or is_covered(known.report, order.interval_end):
                return None
        except DataWindowUnknown as error:
            failure = error
    if failure is not None and not (plan.wait_for_data and failure.transient):
        log.warning("Going on without the definition of the report: %s", failure)
        return failure
    if plan.wait_for_data:
        yield WaitBegins()
        return (yield from _await_known_data(order, patience, environment))
    return (yield from _check_data_again(order, known.asked_at, environment))


def _check_data_again(
    order: Order, since: float, environment: Environment
) -> Flow[ReportRunError | None]:
    """Check the data without an older copy of the definition, which does not show new data."""
    call = calls.get_report(order.report, fresh_since=since)
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
    if order.interval_end is None:
        return None
    impatient = replace(patience, outage_tolerance_seconds=patience.pace.shortest_seconds)
    try:
        yield from await_data(
            order.report, order.interval_end, patience=impatient, environment=environment
        )
    except (AuthenticationError, DeadlinePassed):
        raise
    except ReportRunError as error:
        log.warning("Going on without the definition of the report: %s", error)
        return error
    return None


def _create_with_data(
    order: Order,
    plan: Plan,
    unreadable: ReportRunError | None,
    patience: Patience,
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
            return (yield from create(order, patience=for_room, environment=environment))
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
    :raises DataWindowUnknown: if the report does not say how far its data reach.
    :raises DeadlinePassed: if they do not reach that far at the deadline.
    :raises ReportRunError: as ``await_finished`` does.
    """
    waiting_for = f"the data of {report_id} to reach {format_instant(interval_end)}"
    wait = Wait(waiting_for, patience, environment, measured_as=DATA_WAIT, report=report_id)
    polls = _poll_data(report_id, interval_end, wait, patience, environment)
    return (yield from wait.measured(polls) if measured else polls)


def _poll_data(
    report_id: str,
    interval_end: datetime,
    wait: Wait,
    patience: Patience,
    environment: Environment,
) -> Flow[Report]:
    through = None
    pause = patience.pace.shortest_seconds
    while True:
        # An answer of half a pause ago will do, so that 300 waits in a triggerer send one poll.
        since = environment.monotonic() - pause / 2 if patience.shares_polls else float("inf")
        call = calls.get_report(report_id, fresh_since=since)
        try:
            report = yield from wait.ask(call)
        except ReportRunError as error:
            yield poll_metric(DATA, ERROR)
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
    Create a report run as soon as there is room for it, or attach to the one that has the key.

    If the key belongs to a report run that is lost, the next key of the chain is used.

    :return: the report run as it is now, perhaps finished, perhaps failed.
    :raises DataNotAvailable: if it was refused and the interval ends after the data.
    :raises DeadlinePassed: if there is no room at the deadline.
    """
    began = environment.clock()
    key = order.idempotency_key
    for runs_left in range(order.runs_allowed - 1, -1, -1):
        try:
            run = yield from _create_under(key, order, patience, environment)
        except InvalidRequest as refusal:
            raise (yield from _reason(refusal, order, environment)) from None
        if not runs_left or not order.is_lost(run):
            yield _made(run, began)
            return run
        log.info(
            "Asking for a new report run, because %s is lost (%s)",
            run.id,
            run.failure or "its file is gone",
        )
        key = key_after_failure(key, run.id)
    raise AssertionError("an order allows one report run at least")  # pragma: no cover


def _made(run: ReportRun, began: float) -> Metric:
    """
    Distinguish a new report run from one that was found again, because the API does not.

    :param began: epoch seconds of the first request. The API's clock may be behind, and may have
        whole seconds only.
    """
    age = began - run.created_at.timestamp() if run.created_at else 0.0
    if age <= CLOCKS_DIFFER_SECONDS:
        log.info("Created report run %s of %s: %s", run.id, run.report, run.status)
        return Metric(CREATES, {"report": run.report})
    log.info(
        "Attached to report run %s of %s, created %.0f s before: %s",
        run.id,
        run.report,
        age,
        run.status,
    )
    return Metric(ATTACHES, {"report": run.report})


def _create_under(
    key: str, order: Order, patience: Patience, environment: Environment
) -> Flow[ReportRun]:
    wait = Wait(
        "the API key to have room for one more report run",
        patience,
        environment,
        measured_as=CAPACITY_WAIT,
        report=order.report,
    )
    return (yield from wait.measured(_stand_in_line(order, key, wait)))


def _stand_in_line(order: Order, key: str, wait: Wait) -> Flow[ReportRun]:
    try:
        if not wait.is_over:  # a wait that comes too late tries once, as every wait polls once
            yield from _take_turn(wait)
        run = yield from _create_in_turn(order, key, wait)
    except ReportRunError:
        yield LeaveLine()
        raise
    yield LeaveLine()
    return run


def _create_in_turn(order: Order, key: str, wait: Wait) -> Flow[ReportRun]:
    """
    Repeat the create until there is room.

    A refusal for lack of room is a good answer. Every other error counts as an outage.
    """
    level = logging.INFO
    while True:
        try:
            return (yield from _try_to_create(order, key, wait))
        except (CapacityExceeded, RateLimited) as error:
            wait.heard()
            log.log(level, "Waiting for %s: %s", wait.waiting_for, error)
            level = logging.DEBUG
        except DataNotAvailable:
            raise
        except ReportRunError as error:
            if isinstance(error, ServerError) and error.is_conflict:
                yield from _stand_back(error, wait)
                continue
            wait.raise_unless_tolerated(error)
        yield AwaitRoom(wait.delay())
        wait.raise_if_over()


def _try_to_create(order: Order, key: str, wait: Wait) -> Flow[ReportRun]:
    try:
        return (yield from wait.ask(order.call(key), SINGLE_REQUEST))
    except (CapacityExceeded, RateLimited) as error:
        reason = CAPACITY if isinstance(error, CapacityExceeded) else RATE
        yield Metric(CREATES_REFUSED, {"report": order.report, "reason": reason})
        raise


def _stand_back(error: ServerError, wait: Wait) -> Flow[None]:
    """Let others have their turn while an earlier request with the same key is being handled."""
    wait.raise_unless_tolerated(error, at_least=OUTAGE_TOLERANCE_SECONDS)
    yield LeaveLine()
    yield Sleep(wait.pause(CONFLICT_SECONDS))
    yield from _take_turn(wait)


def _take_turn(wait: Wait) -> Flow[None]:
    """Stand in line. The connection names the line, and may not be readable at the moment."""
    while True:
        try:
            yield TakeTurn(wait.time_left())
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
    call = calls.get_report(order.report)
    try:
        report = yield from ask(call, policy=ONE_OF_MANY, environment=environment)
        is_there = is_covered(report, interval_end)
        # Some reports do not accept the very end of their data.
        is_at_the_end = refusal.about == INTERVAL_END and interval_end == available_through(report)
    except ReportRunError:
        return refusal
    return not_available(report, interval_end) if not is_there or is_at_the_end else refusal


def await_finished(
    report_run_id: str,
    *,
    patience: Patience,
    measured: bool = True,
    environment: Environment = REAL,
) -> Flow[ReportRun]:
    """
    Poll until a report run is finished.

    :param measured: whether to measure how long this took; not if it is a part of a longer wait.
    :return: the report run, which succeeded.
    :raises ReportRunFailed: if it failed.
    :raises DeadlinePassed: if it is not finished at the deadline; it goes on at Stripe.
    :raises ReportRunError: the last error, if no good answer came for the tolerated time or
        repeating does not help.
    """
    wait = Wait(
        f"report run {report_run_id} to finish",
        patience,
        environment,
        measured_as=REPORT_WAIT,
        report_run_id=report_run_id,
    )
    polls = _poll_report_run(report_run_id, wait)
    return (yield from wait.measured(polls) if measured else polls)


def _poll_report_run(report_run_id: str, wait: Wait) -> Flow[ReportRun]:
    call = calls.get_report_run(report_run_id)
    status = None
    while True:
        try:
            run = yield from wait.ask(call)
        except ReportRunError as error:
            yield poll_metric(REPORT_RUN, ERROR)
            wait.raise_unless_tolerated(error)
        else:
            yield poll_metric(REPORT_RUN, DONE if run.is_finished else NOT_YET)
            wait.heard(run.created_at)
            wait.report = run.report
            if run.status != status:
                status = run.status
                log.info("%s", described(run))
            if run.is_finished:
                yield RoomMade()
                return finished(run)
        yield Sleep(wait.delay(), may_hurry=True)


def finished(run: ReportRun) -> ReportRun:
    """
    Return a finished report run.

    :raises ReportRunFailed: if it failed.
    """
    if run.failure is not None:
        raise run.failure
    return run


def described(run: ReportRun) -> str:
    """Return a sentence about the status of a report run."""
    if run.is_finished:
        return f"Report run {run.id} {run.status}"
    return f"Report run {run.id} is {run.status}"
