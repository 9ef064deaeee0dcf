"""
The waits that run in the triggerer.

Triggers are restarted and may run twice, so what they send can be repeated. Their arguments are
JSON values with an absolute deadline. Later versions add arguments with defaults and remove none,
because the rows of a running deployment must still load.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from airflow.triggers.base import (
    BaseEventTrigger,
    BaseTrigger,
    TaskSuccessEvent,
    TriggerEvent,
)

from airflow_provider_reportrun.errors import (
    BadTriggerEvent,
    ReportRunError,
    from_json,
    to_json,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.links.report_run import ashow_link
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.asking import OUTAGE_TOLERANCE_SECONDS, Patience
from airflow_provider_reportrun.protocol.calls import checked_id
from airflow_provider_reportrun.protocol.checks import available_through
from airflow_provider_reportrun.protocol.flows import Order, Plan, described
from airflow_provider_reportrun.protocol.generations import DEFAULT, named
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    format_instant,
    last_midnight,
    parse_instant,
)
from airflow_provider_reportrun.protocol.models import read_instant
from airflow_provider_reportrun.protocol.requests import QueryRequest, ReportRequest
from airflow_provider_reportrun.protocol.retry import Pace
from airflow_provider_reportrun.task.arguments import choice
from airflow_provider_reportrun.task.ending import (
    ENDINGS,
    NOTHING,
    RETURN_KEY,
    RUN_ID,
    push,
)
from airflow_provider_reportrun.task.waiting import (
    MAX_POLL_INTERVAL_SECONDS,
    POLL_INTERVAL_SECONDS,
    instant,
    seconds,
)
from airflow_provider_reportrun.text import shown
from airflow_provider_reportrun.triggers.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping, Sequence

    from typing_extensions import Unpack

    from airflow_provider_reportrun.protocol.generation import Generation
    from airflow_provider_reportrun.protocol.messages import Flow
    from airflow_provider_reportrun.protocol.models import Report, ReportRun
    from airflow_provider_reportrun.protocol.requests import RunRequest

log = logging.getLogger(__name__)

WATCHER_SECONDS: Final = 1.0
"""The least time between two polls of a watcher, because a watcher never ends."""
DONE: Literal["done"] = "done"
ERROR: Literal["error"] = "error"
_ADDED: Final = {"api", "ends_with", "is_shared", "since", "sql"}
"""Arguments that rows have only if they are not None."""


class Event(TypedDict):
    """
    What a trigger tells the task that it resumes: ids, statuses and messages, nothing else.

    Airflow stores and logs events in clear text.
    """

    outcome: Literal["done", "error"]
    report_run_id: str | None
    """None if the wait was for data, or ended before there was a report run."""
    status: str | None
    message: str
    error: dict[str, Any] | None
    """The error in the form of ``errors.to_json``, if the outcome is ``error``."""


class WaitArguments(TypedDict, total=False):
    """The arguments that all triggers have; see ``_WaitTrigger``."""

    reportrun_conn_id: str
    stripe_context: str | None
    api: str | None
    poll_interval: float | timedelta
    max_poll_interval: float | timedelta
    deadline: float | None
    outage_tolerance: float | timedelta
    ends_with: str | None


def resumed_after_data(event: Any) -> None:
    """
    Read the event of a wait for data.

    :raises ReportRunError: as ``resumed_report_run_id`` does.
    """
    match event:
        case {"outcome": "done"}:
            return
        case _:
            resumed_report_run_id(event)


def resumed_report_run_id(event: Any) -> str:
    """
    Read the event of a wait for a report run.

    :return: the id of the report run.
    :raises ReportRunError: the error that ended the wait.
    :raises BadTriggerEvent: if there is no event, or one that is not understood.
    """
    match event:
        case {"outcome": "done", "report_run_id": str(report_run_id)} if report_run_id:
            return report_run_id
        case {"outcome": "error", "error": error}:
            raise from_json(error)
        case _:
            raise BadTriggerEvent(
                f"Clear this task: it was resumed with an event that is not understood, "
                f"{shown(event)}. A report run that was created is found again by its key."
            )


class _WaitTrigger(BaseTrigger):
    """
    One conversation, and one event at its end.

    :param reportrun_conn_id: the Airflow connection.
    :param stripe_context: the account that the reports are about; overrides the connection's.
    :param api: the generation of the API. None is ``v2.reporting``, whatever the connection says,
        because the rows of earlier releases have none.
    :param poll_interval: shortest time between two polls: seconds or a timedelta. Only the first
        polls of a run come sooner, when it is about 2, 5 and 12 seconds old.
    :param max_poll_interval: longest time between two polls, likewise.
    :param deadline: epoch seconds; absolute, so that a restart does not extend it. None is never.
    :param outage_tolerance: how long the wait goes on without a good answer: seconds or a
        timedelta.
    :param ends_with: what the task returns if it ends here when the wait succeeds: ``"run_id"``,
        ``"facts"`` (what a sensor returns) or ``"nothing"``. None resumes the task on a worker.
    :raises InvalidInput: names the argument; for a watcher, when the DAG file is parsed.
    """

    def __init__(
        self,
        *,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        api: str | None = None,
        poll_interval: float | timedelta = POLL_INTERVAL_SECONDS,
        max_poll_interval: float | timedelta = MAX_POLL_INTERVAL_SECONDS,
        deadline: float | None = None,
        outage_tolerance: float | timedelta = OUTAGE_TOLERANCE_SECONDS,
        ends_with: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow's triggers are
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self.api = None if api is None else named(api).name
        self.poll_interval = seconds(poll_interval, "poll_interval")
        self.max_poll_interval = seconds(max_poll_interval, "max_poll_interval")
        self.deadline = None if deadline is None else instant(deadline, "deadline")
        self.outage_tolerance = seconds(outage_tolerance, "outage_tolerance", least=0.0)
        self.ends_with = None if ends_with is None else choice(*ENDINGS)(ends_with, "ends_with")
        self.report_run_id: str | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """
        Return what Airflow needs to make this trigger again: each argument by its name.

        Arguments that were added later are left out at their default, so rows stay as they were.
        """
        kind = type(self)
        names = [
            name
            for base in kind.__mro__
            if issubclass(base, _WaitTrigger) and "__init__" in vars(base)
            for name, parameter in inspect.signature(base.__init__).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        return f"{kind.__module__}.{kind.__qualname__}", {
            name: getattr(self, name)
            for name in names
            if name not in _ADDED or getattr(self, name) is not None
        }

    def hook(self) -> ReportRunHook:
        """
        Return a hook for the connection.

        :raises InvalidInput: if the connection's name or the account is not valid.
        """
        return ReportRunHook(
            self.reportrun_conn_id, stripe_context=self.stripe_context, api=self.generation.name
        )

    @property
    def generation(self) -> Generation:
        """The generation of the API."""
        return named(self.api or DEFAULT)

    def patience(self) -> Patience:
        """Return how long the wait may take, and how often it polls."""
        return Patience(
            deadline=float("inf") if self.deadline is None else self.deadline,
            pace=Pace(shortest_seconds=self.poll_interval, longest_seconds=self.max_poll_interval),
            outage_tolerance_seconds=self.outage_tolerance,
            shares_polls=True,
        )

    def flow(self) -> Flow[Any]:
        """Return the conversation that this trigger carries out."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Carry out the conversation, and leave the shared session before the event is sent."""
        yield await self._wait()

    async def _wait(self) -> TriggerEvent:
        try:
            found = await self.hook().aconverse(self.flow())
        except ReportRunError as error:
            return TriggerEvent(
                Event(
                    outcome=ERROR,
                    report_run_id=error.report_run_id or self.report_run_id,
                    status=None,
                    message=str(error),
                    error=to_json(error),
                )
            )
        except asyncio.CancelledError:
            if self.report_run_id:
                self.log.info(
                    "The wait for %s %s stops; the %s goes on at Stripe",
                    self.generation.noun,
                    self.report_run_id,
                    self.generation.noun,
                )
            raise
        # ``dag.test()`` knows no task that ends in a trigger, and sets no task instance.
        if self.ends_with is not None and self.task_instance is not None:
            try:
                await self.push(self.task_instance, found)
            except Exception:  # whatever a custom XCom backend raises
                self.log.exception("What the task returns cannot be pushed here; it resumes")
            else:
                return TaskSuccessEvent()
        return TriggerEvent(self.done(found))

    async def push(self, ti: Any, found: Any) -> None:
        """Push what the task returns."""
        if self.ends_with != NOTHING:
            await push(ti, RETURN_KEY, self.returned(found))

    def returned(self, run: Any) -> Any:
        """Return what the task returns that ends here."""
        return run.id if self.ends_with == RUN_ID else run.summary()

    def done(self, run: Any) -> Event:
        """Return the event of a wait that succeeded: by default one for a report run."""
        return Event(
            outcome=DONE,
            report_run_id=run.id,
            status=run.status,
            message=described(self.generation, run),
            error=None,
        )


class ReportRunTrigger(_WaitTrigger):
    """
    Wait until a report run is finished.

    :param report_run_id: the report run.

    The other arguments are those of every wait: ``reportrun_conn_id``, ``stripe_context``,
    ``poll_interval``, ``max_poll_interval``, ``deadline`` (epoch seconds), ``outage_tolerance``.
    """

    def __init__(self, *, report_run_id: str, **wait: Unpack[WaitArguments]) -> None:
        super().__init__(**wait)
        self.report_run_id = report_run_id

    def flow(self) -> Flow[ReportRun]:
        """Poll until the report run is finished."""
        return flows.await_finished(
            self.generation, self.report_run_id or "", patience=self.patience()
        )


class CreateReportRunTrigger(_WaitTrigger):
    """
    Create a report run as soon as the API key has room for it.

    The request is repeated with the same key, so a restart creates no second report run.

    :param report: id of the report template.
    :param report_parameters: as sent, JSON values.
    :param result_options: as sent, or None.
    :param idempotency_key: the key.
    :param wait_for_completion: whether to wait until the report run is finished.
    :param runs_allowed: how many tries there were; each may use one more key after failed report
        runs, and one more after old errors.
    :param wait_for_data: whether to wait first until the API has the data of the interval.
    :param gone: ids of report runs whose files no longer exist, which count as failed.
    :param since: epoch seconds when the task began; report runs from before are not its own. Only
        for generations that have a list of report runs.
    :param is_shared: whether other tasks may have used the key before; None if not.
    :param sql: the query of a query run, in place of a report.

    The other arguments are those of every wait, as of ``ReportRunTrigger``.
    """

    def __init__(
        self,
        *,
        report: str = "",
        report_parameters: Mapping[str, Any] | None = None,
        result_options: Mapping[str, Any] | None = None,
        idempotency_key: str,
        wait_for_completion: bool = False,
        runs_allowed: int = 1,
        wait_for_data: bool = False,
        gone: Sequence[str] = (),
        since: float | None = None,
        is_shared: bool | None = None,
        sql: str | None = None,
        **wait: Unpack[WaitArguments],
    ) -> None:
        super().__init__(**wait)
        self.report = report
        self.report_parameters = dict(report_parameters or {})
        self.result_options = None if result_options is None else dict(result_options)
        self.idempotency_key = idempotency_key
        self.wait_for_completion = wait_for_completion
        self.runs_allowed = runs_allowed
        self.wait_for_data = wait_for_data
        self.gone = list(gone)
        self.since = since
        self.is_shared = is_shared
        self.sql = sql

    def flow(self) -> Flow[ReportRun]:
        """Go on where a worker deferred the task, from the beginning, under the same key."""
        return flows.fulfil(
            Order(
                api=self.generation,
                request=self.request(),
                idempotency_key=self.idempotency_key,
                tries=self.runs_allowed,
                gone=frozenset(self.gone),
                since=self.since,
                is_shared=bool(self.is_shared),
            ),
            Plan(
                wait_for_data=self.wait_for_data,
                wait_for_completion=self.wait_for_completion,
            ),
            patience=self.patience(),
            on_created=self._created,
        )

    def request(self) -> RunRequest:
        """Return what is requested."""
        if self.sql is not None:
            return QueryRequest(self.sql, self.result_options)
        return ReportRequest(self.report, self.report_parameters, self.result_options)

    async def push(self, ti: Any, run: Any) -> None:
        """Push what the task returns, and the link to the report run."""
        await ashow_link(ti, self.hook(), run.id)
        await super().push(ti, run)

    def _created(self, run: ReportRun) -> None:
        self.report_run_id = run.id


class ReportDataTrigger(_WaitTrigger, BaseEventTrigger):
    """
    Wait until the API has the data of an interval, or watch for the data of new days.

    All waits for one report over one connection share one request per poll.

    Without an ``interval_end``, the trigger is for an ``AssetWatcher``. It never ends, polls once a
    second at most, and fires whenever the data reach another midnight (UTC). The payload has
    ``report``, ``interval_start`` and ``interval_end`` of the new whole days, and
    ``available_through``. If Airflow keeps state for assets (3.3), the intervals follow one another
    without gaps. Otherwise, or if several assets share the watcher, a restart of the triggerer
    reports the last whole day again.

    :param report: id of the report template.
    :param interval_end: the instant after the last of the interval: an aware datetime, or ISO 8601
        with an offset.

    The other arguments are those of every wait, as of ``ReportRunTrigger``.
    """

    supports_triggerer_queue = True
    """A waiting task may use a queue, and a watcher may not; Airflow checks tasks only."""

    def __init__(
        self,
        *,
        report: str,
        interval_end: str | datetime | None = None,
        **wait: Unpack[WaitArguments],
    ) -> None:
        super().__init__(**wait)
        self.report = checked_id(report, "report")
        self.interval_end: str | None = None
        if interval_end is None:
            self.hook()  # a DAG file makes a watcher, so wrong arguments are import errors
            flows.check_shows_data(self.generation, self.report)
            self.poll_interval = max(self.poll_interval, WATCHER_SECONDS)
            self.max_poll_interval = max(self.max_poll_interval, WATCHER_SECONDS)
        else:
            end = parse_instant(interval_end, argument=INTERVAL_END, zone=None)
            self.interval_end = format_instant(end)

    def flow(self) -> Flow[Report]:
        """Poll until the data reach far enough."""
        interval_end = parse_instant(self.interval_end, argument=INTERVAL_END, zone=None)
        return flows.await_data(
            self.generation, self.report, interval_end, patience=self.patience()
        )

    def done(self, report: Any) -> Event:
        """Return the event of a wait that succeeded."""
        return Event(
            outcome=DONE,
            report_run_id=None,
            status=None,
            message=f"The data of {report.id} reach {self.interval_end}",
            error=None,
        )

    def returned(self, report: Any) -> Any:
        """Return the instant up to which there are data."""
        return format_instant(available_through(report))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the data of the interval, or watch."""
        if self.interval_end is not None:
            yield await self._wait()
            return
        polls = self.open_shared_stream(self.serialize()[1])
        async for event in self.filter_shared_stream(polls):
            yield event

    def shared_stream_key(self) -> Hashable | None:
        """Return what watchers share: all polls of one report over one connection."""
        if self.interval_end is not None:
            return None
        shared = (self.reportrun_conn_id, self.stripe_context, self.api, self.report)
        return (type(self).__qualname__, *shared, self.poll_interval, self.max_poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[datetime]:
        """
        Poll how far the data of a report reach, without end.

        Errors are logged, because Airflow would restart a watcher that ends at once.

        :param kwargs: those of any trigger that shares the polls.
        :return: the instant up to which there are data, for each successful poll.
        """
        watcher = cls(**kwargs)
        pace, hook = watcher.patience().pace, watcher.hook()
        through, since = None, time.monotonic()
        while True:
            try:
                seen = available_through(await hook.aget_report(watcher.report))
            except ReportRunError as error:
                log.log(
                    logging.WARNING if error.transient else logging.ERROR,
                    "Cannot see how far the data of %s reach; trying again: %s",
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
        """Send an event for each poll that shows new whole days."""
        watermark = Watermark(getattr(self, "asset_state_store", None), self.report)
        reported = read_instant(await watermark.recall())
        async for through in shared_stream:
            if reported is not None:
                # Only now is the event of the previous poll certain to be in Airflow's database.
                await watermark.remember(format_instant(reported))
            midnight = last_midnight(through)
            if reported is not None and midnight <= reported:
                continue
            since = midnight - timedelta(days=1) if reported is None else reported
            self.log.info("The data of %s reach %s", self.report, format_instant(through))
            yield TriggerEvent(
                {
                    "report": self.report,
                    "interval_start": format_instant(since),
                    "interval_end": format_instant(midnight),
                    "available_through": format_instant(through),
                }
            )
            reported = midnight
