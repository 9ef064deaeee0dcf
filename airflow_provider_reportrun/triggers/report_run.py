"""
The waits that run in the triggerer.

Triggers are restarted and may run twice: what they send is safe to repeat, and what they are given
is JSON values with an absolute deadline. Later versions add arguments with defaults, and remove
none: the rows of a running deployment must still load.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_provider_reportrun.errors import (
    BadTriggerEvent,
    ReportRunError,
    from_json,
    to_json,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.calls import checked_id
from airflow_provider_reportrun.protocol.checks import available_through
from airflow_provider_reportrun.protocol.flows import OUTAGE_TOLERANCE_SECONDS, Order, Patience
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    format_instant,
    last_midnight,
    parse_instant,
)
from airflow_provider_reportrun.protocol.models import read_instant
from airflow_provider_reportrun.protocol.retry import Pace
from airflow_provider_reportrun.task.record import Watermark
from airflow_provider_reportrun.task.waiting import instant, seconds
from airflow_provider_reportrun.text import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping, Sequence

    from airflow_provider_reportrun.protocol.messages import Flow
    from airflow_provider_reportrun.protocol.models import Report, ReportRun

log = logging.getLogger(__name__)

WATCHER_SECONDS: Final = 1.0
"""Shortest time between two looks of a watcher, which never ends, whatever its DAG file says."""
DONE: Literal["done"] = "done"
ERROR: Literal["error"] = "error"


class Event(TypedDict):
    """
    What a trigger tells the task that it resumes: ids, statuses and messages, nothing else.

    Airflow stores events in the clear and logs them.
    """

    outcome: Literal["done", "error"]
    report_run_id: str | None
    """None where the wait was for data, or ended before there was a report run."""
    status: str | None
    message: str
    error: dict[str, Any] | None
    """The error, as ``errors.to_json`` gives it, where the outcome is ``error``."""


def resumed_after_data(event: Any) -> None:
    """
    Read the event that a wait for data is resumed with.

    :raises ReportRunError: as ``resumed_report_run_id`` does.
    """
    match event:
        case {"outcome": "done"}:
            return
        case _:
            resumed_report_run_id(event)


def resumed_report_run_id(event: Any) -> str:
    """
    Read the event that a task is resumed with.

    :return: the id of the report run that was waited for.
    :raises ReportRunError: the error that the wait ended in.
    :raises BadTriggerEvent: when there is no event, or none that can be understood.
    """
    match event:
        case {"outcome": "done", "report_run_id": str(report_run_id)} if report_run_id:
            return report_run_id
        case {"outcome": "error", "error": error}:
            raise from_json(error)
        case _:
            raise BadTriggerEvent(
                f"The task was resumed with an event that cannot be understood: "
                f"{shown(event)}. "
                "Clear it; a report run that was created is found again by its key."
            )


class _WaitTrigger(BaseTrigger):
    """
    One conversation, and one event when it ends.

    :param reportrun_conn_id: the connection.
    :param stripe_context: the account that the reports are about, over the connection's own.
    :param poll_interval: shortest time between two requests: seconds or a timedelta.
    :param max_poll_interval: longest time between two requests, likewise.
    :param deadline: epoch seconds; absolute, so that a restart does not extend it. None is never.
    :param outage_tolerance: how long the wait goes on without one good answer: seconds or a
        timedelta.
    :raises InvalidInput: names the argument; for a watcher, when the DAG file is read.
    """

    def __init__(
        self,
        *,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        poll_interval: float | timedelta = 30.0,
        max_poll_interval: float | timedelta = 300.0,
        deadline: float | None = None,
        outage_tolerance: float | timedelta = OUTAGE_TOLERANCE_SECONDS,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow's triggers are
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self.poll_interval = seconds(poll_interval, "poll_interval")
        self.max_poll_interval = seconds(max_poll_interval, "max_poll_interval")
        self.deadline = None if deadline is None else instant(deadline, "deadline")
        self.outage_tolerance = seconds(outage_tolerance, "outage_tolerance", least=0.0)
        self.report_run_id: str | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow needs to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "reportrun_conn_id": self.reportrun_conn_id,
                "stripe_context": self.stripe_context,
                "poll_interval": self.poll_interval,
                "max_poll_interval": self.max_poll_interval,
                "deadline": self.deadline,
                "outage_tolerance": self.outage_tolerance,
            },
        )

    def patience(self) -> Patience:
        """Say how long, and how often, to ask."""
        return Patience(
            deadline=float("inf") if self.deadline is None else self.deadline,
            pace=Pace(shortest_seconds=self.poll_interval, longest_seconds=self.max_poll_interval),
            outage_tolerance_seconds=self.outage_tolerance,
        )

    def flow(self) -> Flow[Any]:
        """Give the conversation that this trigger carries out."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Carry the conversation out; the shared session is let go of before the event fires."""
        yield TriggerEvent(await self._wait())

    async def _wait(self) -> Event:
        try:
            hook = ReportRunHook(self.reportrun_conn_id, stripe_context=self.stripe_context)
            found = await hook.aconverse(self.flow())
        except ReportRunError as error:
            return Event(
                outcome=ERROR,
                report_run_id=error.report_run_id or self.report_run_id,
                status=None,
                message=str(error),
                error=to_json(error),
            )
        except asyncio.CancelledError:
            if self.report_run_id:
                self.log.info(
                    "The wait for report run %s stops here; it goes on at Stripe",
                    self.report_run_id,
                )
            raise
        return self.done(found)

    def done(self, run: Any) -> Event:
        """Make the event of a wait that ended well; by default one for a report run."""
        return Event(
            outcome=DONE,
            report_run_id=run.id,
            status=run.status,
            message=f"Report run {run.id} is {run.status}",
            error=None,
        )


class ReportRunTrigger(_WaitTrigger):
    """
    Wait until a report run is finished.

    :param report_run_id: the report run.

    The other parameters are those of every wait: ``reportrun_conn_id``, ``stripe_context``,
    ``poll_interval``, ``max_poll_interval``, ``deadline`` (epoch seconds), ``outage_tolerance``.
    """

    def __init__(self, *, report_run_id: str, **wait: Any) -> None:
        super().__init__(**wait)
        self.report_run_id = report_run_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow needs to make this trigger again."""
        path, wait = super().serialize()
        return path, {"report_run_id": self.report_run_id, **wait}

    def flow(self) -> Flow[ReportRun]:
        """Ask until the report run is finished."""
        return flows.await_finished(self.report_run_id or "", patience=self.patience())


class CreateReportRunTrigger(_WaitTrigger):
    """
    Create a report run as soon as the API key has room for it, and wait for it where asked to.

    Repeats the same request under the same key, so that a restart makes no second report run.

    :param report: id of the report template.
    :param report_parameters: as sent, JSON values.
    :param result_options: as sent, or None.
    :param idempotency_key: the key.
    :param wait_for_completion: whether to wait until the report run is finished.
    :param wait_for_data: whether to wait first until the API holds the data of the interval.
    :param runs_allowed: how many report runs the chain after failed ones may reach.
    :param gone: ids of report runs whose files are no longer there, which count as failed.

    The other parameters are those of every wait, as with ``ReportRunTrigger``.
    """

    def __init__(
        self,
        *,
        report: str,
        report_parameters: Mapping[str, Any],
        result_options: Mapping[str, Any] | None = None,
        idempotency_key: str,
        wait_for_completion: bool = False,
        runs_allowed: int = 1,
        wait_for_data: bool = False,
        gone: Sequence[str] = (),
        **wait: Any,
    ) -> None:
        super().__init__(**wait)
        self.report = report
        self.report_parameters = report_parameters
        self.result_options = result_options
        self.idempotency_key = idempotency_key
        self.wait_for_completion = wait_for_completion
        self.runs_allowed = runs_allowed
        self.wait_for_data = wait_for_data
        self.gone = list(gone)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow needs to make this trigger again."""
        path, wait = super().serialize()
        return path, {
            "report": self.report,
            "report_parameters": dict(self.report_parameters),
            "result_options": None if self.result_options is None else dict(self.result_options),
            "idempotency_key": self.idempotency_key,
            "wait_for_completion": self.wait_for_completion,
            "runs_allowed": self.runs_allowed,
            "wait_for_data": self.wait_for_data,
            "gone": self.gone,
            **wait,
        }

    def flow(self) -> Flow[ReportRun]:
        """Wait for the data, repeat the create until it is taken, then wait, where asked to."""
        patience = self.patience()
        order = Order(
            report=self.report,
            report_parameters=self.report_parameters,
            result_options=self.result_options,
            idempotency_key=self.idempotency_key,
            runs_allowed=self.runs_allowed,
            gone=frozenset(self.gone),
        )
        if not self.wait_for_completion:
            create = flows.create_with_data if self.wait_for_data else flows.create
            return (yield from create(order, patience=patience))
        return (
            yield from flows.create_and_await(
                order,
                patience=patience,
                on_created=self._created,
                wait_for_data=self.wait_for_data,
            )
        )

    def _created(self, run: ReportRun) -> None:
        self.report_run_id = run.id


class ReportDataTrigger(_WaitTrigger, BaseEventTrigger):
    """
    Wait until the API holds the data of an interval, or watch for the data of new days.

    All waits for one report over one connection share one request per poll.

    Without an ``interval_end`` it is for an ``AssetWatcher``: it never ends, looks once a second at
    most, and fires whenever the data reach past another midnight (UTC). The payload is ``report``,
    ``interval_start`` and ``interval_end`` of the new whole days, and ``available_through``;
    intervals follow one another without gaps where Airflow keeps state for assets (3.3). Elsewhere,
    and where several assets share the watcher, a restart of the triggerer tells the last whole day
    again.

    :param report: id of the report template.
    :param interval_end: the instant after the last of the interval: an aware datetime, or ISO 8601
        with an offset.

    The other parameters are those of every wait, as with ``ReportRunTrigger``.
    """

    supports_triggerer_queue = True
    """A task that waits may, though a watcher may not; Airflow asks of tasks alone."""

    def __init__(
        self, *, report: str, interval_end: str | datetime | None = None, **wait: Any
    ) -> None:
        super().__init__(**wait)
        self.report = checked_id(report, "report")
        self.interval_end: str | None = None
        if interval_end is None:
            self.poll_interval = max(self.poll_interval, WATCHER_SECONDS)
            self.max_poll_interval = max(self.max_poll_interval, WATCHER_SECONDS)
        else:
            end = parse_instant(interval_end, argument=INTERVAL_END, zone=None)
            self.interval_end = format_instant(end)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow needs to make this trigger again."""
        path, wait = super().serialize()
        return path, {"report": self.report, "interval_end": self.interval_end, **wait}

    def flow(self) -> Flow[Report]:
        """Ask until the data reach far enough."""
        interval_end = parse_instant(self.interval_end, argument=INTERVAL_END, zone=None)
        return flows.await_data(self.report, interval_end, patience=self.patience())

    def done(self, report: Any) -> Event:
        """Make the event of a wait that ended well."""
        return Event(
            outcome=DONE,
            report_run_id=None,
            status=None,
            message=f"The data of {report.id} reach {self.interval_end}",
            error=None,
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the data of the interval, or watch."""
        if self.interval_end is not None:
            yield TriggerEvent(await self._wait())
            return
        looks = self.open_shared_stream(self.serialize()[1])
        async for event in self.filter_shared_stream(looks):
            yield event

    def shared_stream_key(self) -> Hashable | None:
        """Name what watchers share: all looks at one report over one connection."""
        if self.interval_end is not None:
            return None
        shared = (self.reportrun_conn_id, self.stripe_context, self.report)
        return (type(self).__qualname__, *shared, self.poll_interval, self.max_poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[datetime]:
        """
        Look how far the data of a report reach, again and again.

        What fails is logged and looked at again, for a watcher that ends is started at once.

        :param kwargs: those of any trigger that shares the looks.
        :return: the instant up to which there are data, for each good look.
        """
        watcher = cls(**kwargs)
        pace = watcher.patience().pace
        hook = ReportRunHook(watcher.reportrun_conn_id, stripe_context=watcher.stripe_context)
        through, since = None, time.monotonic()
        while True:
            try:
                seen = available_through(await hook.aget_report(watcher.report))
            except ReportRunError as error:
                log.log(
                    logging.WARNING if error.transient else logging.ERROR,
                    "Cannot see how far the data of %s reach; looking again: %s",
                    watcher.report,
                    error,
                )
            else:
                if seen != through:
                    through, since = seen, time.monotonic()
                yield seen
            await asyncio.sleep(pace.delay(time.monotonic() - since, random.uniform))

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[datetime]
    ) -> AsyncIterator[TriggerEvent]:
        """Tell of each look that shows new whole days."""
        watermark = Watermark(getattr(self, "asset_state_store", None), self.report)
        told = read_instant(await watermark.recall())
        async for through in shared_stream:
            if told is not None:
                # Not at once: by now, the event of the look before is in Airflow's database.
                await watermark.remember(format_instant(told))
            midnight = last_midnight(through)
            if told is not None and midnight <= told:
                continue
            since = midnight - timedelta(days=1) if told is None else told
            self.log.info("The data of %s reach %s", self.report, format_instant(through))
            yield TriggerEvent(
                {
                    "report": self.report,
                    "interval_start": format_instant(since),
                    "interval_end": format_instant(midnight),
                    "available_through": format_instant(through),
                }
            )
            told = midnight
