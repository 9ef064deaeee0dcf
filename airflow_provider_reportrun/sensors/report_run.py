"""The sensors: one waits for a report run, one for the data of an interval."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.sdk import BaseOperator

from airflow_provider_reportrun._compat import (
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    default_deferrable,
)
from airflow_provider_reportrun.errors import DeadlinePassed, ReportRunError, UnexpectedAnswer
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.links.report_run import ReportRunLink, keep_link, show_link
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.asking import (
    OUTAGE_TOLERANCE_SECONDS,
    TIMED_OUT,
    Patience,
)
from airflow_provider_reportrun.protocol.calls import checked_id, is_nothing
from airflow_provider_reportrun.protocol.checks import available_through
from airflow_provider_reportrun.protocol.drivers import WouldWait
from airflow_provider_reportrun.protocol.generations import argument_of
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    format_instant,
    parse_instant,
)
from airflow_provider_reportrun.protocol.retry import Pace
from airflow_provider_reportrun.task.arguments import (
    API_CHECKS,
    CONNECTION_CHECKS,
    Check,
    check_all,
    check_known,
    optional,
    plain_flag,
    zone,
)
from airflow_provider_reportrun.task.data_interval import (
    DATA_INTERVAL_END,
    no_interval,
    rendered_to_nothing,
    zone_of,
)
from airflow_provider_reportrun.task.ending import FACTS, check_ending, ending_of
from airflow_provider_reportrun.task.outcomes import sensor_outcomes
from airflow_provider_reportrun.task.rendering import KeepsRenderingError
from airflow_provider_reportrun.task.waiting import (
    DAY_SECONDS,
    MAX_POLL_INTERVAL_SECONDS,
    POLL_INTERVAL_SECONDS,
    defer_timeout,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime, timedelta, tzinfo

    from airflow.sdk import Context, XComArg
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_reportrun.protocol.generation import Generation
    from airflow_provider_reportrun.protocol.generations import Api
    from airflow_provider_reportrun.protocol.messages import Flow
    from airflow_provider_reportrun.protocol.models import Report, ReportRun
    from airflow_provider_reportrun.task.arguments import Late

_CHECKS: Final[Mapping[str, Check]] = {
    "deferrable": plain_flag,
    "end_from_trigger": plain_flag,
    "poke_interval": seconds,
    **API_CHECKS,
}

RESUME_PAUSE_SECONDS = 5.0
"""Longest pause between two polls after the triggerer has seen the end of the wait."""


class _ApiSensor(KeepsRenderingError, BaseSensorOperator):
    """
    What the sensors share: one wait, in place, by rescheduling or in the triggerer.

    A poke carries the conversation out up to its next pause. Network and API errors are tolerated
    for up to 15 minutes without a good answer; in ``reschedule`` mode, until the timeout.

    :param reportrun_conn_id: the Airflow connection (templated).
    :param stripe_context: the account; overrides the connection's (templated).
    :param api: the generation of the API; overrides the connection's (templated).
    :param deferrable: whether to wait in the triggerer.
    :param end_from_trigger: whether to end there.
    :param poke_interval: seconds between two polls.
    :param max_wait: longest time between two polls, in seconds.
    :param timeout: seconds until the task times out, from its first poll.
    """

    noun: ClassVar[str] = "report run"
    """What the sensor is about, for messages."""
    argument_checks: ClassVar[Mapping[str, Check]] = {**_CHECKS, **CONNECTION_CHECKS}

    def __init__(
        self,
        *,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        api: Api | Late | None = None,
        deferrable: bool = default_deferrable(),
        end_from_trigger: bool = False,
        poke_interval: timedelta | float = POLL_INTERVAL_SECONDS,
        max_wait: timedelta | float | None = MAX_POLL_INTERVAL_SECONDS,
        timeout: timedelta | float = DAY_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, max_wait=max_wait, timeout=timeout, **kwargs)
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self.api: Any = api
        self.deferrable = deferrable
        self.end_from_trigger = end_from_trigger
        self._pokes: Flow[Any] | None = None
        check_known(self, _CHECKS)
        check_ending(self)

    def show(self, context: Context, hook: ReportRunHook) -> None:
        """Show what the wait is for, before the first poll."""

    def conversation(
        self, context: Context, hook: ReportRunHook, patience: Patience, *, measured: bool
    ) -> Flow[Any]:
        """
        Return the wait.

        :param measured: whether to measure how long it took.
        """
        raise NotImplementedError

    def result(self, found: Any) -> Any:
        """Return the XCom for what the conversation returned."""
        raise NotImplementedError

    def trigger(self, context: Context, **wait: Any) -> BaseTrigger:
        """
        Return the trigger that waits for the same.

        :param wait: the arguments of every wait.
        """
        raise NotImplementedError

    def after_trigger(self, event: Any) -> None:
        """
        Check the event that resumes the task.

        :raises ReportRunError: the error that ended the wait.
        """
        raise NotImplementedError

    def goes_on(self) -> str:
        """Describe what goes on although the wait stops; empty for nothing."""
        return ""

    def execute(self, context: Context) -> Any:
        """
        Poll once, and go on as the mode says.

        :return: see the class.
        """
        with sensor_outcomes(self):
            check_all(self, self.argument_checks)
            self._pokes = None
            if not self.deferrable:
                return self._execute_in_place(context)
            deadline = time.time() + self.timeout
            found = self.poke(context)
            if found:
                return found.xcom_value
            with self._hook() as hook:
                return self._defer(context, deadline, hook.api)

    def _execute_in_place(self, context: Context) -> Any:
        wanted = self.soft_fail, self.never_fail
        self.soft_fail = self.never_fail = False  # else the base sensor skips, and hides the reason
        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            timeout = DeadlinePassed(f"{TIMED_OUT} {error} {self.goes_on()}".strip())
        finally:
            self.soft_fail, self.never_fail = wanted
        raise timeout

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Poll once; a transient error counts as "not yet", unless the outage is too long.

        :raises ReportRunError: if repeating does not help, or was done for too long.
        """
        with self._hook() as hook:
            if self._pokes is None:
                self.show(context, hook)
                patience = self._patience(context)
                self._pokes = self.conversation(
                    context, hook, patience, measured=not self.deferrable
                )
            try:
                found = hook.converse(self._pokes, waits=False)
            except WouldWait:
                return PokeReturnValue(is_done=False)
            except ReportRunError:
                self._pokes = None
                raise
        self._pokes = None
        return PokeReturnValue(is_done=True, xcom_value=self.result(found))

    def _patience(self, context: Context) -> Patience:
        """Return the patience of pokes in place, where Airflow decides when the next one is."""
        first = None
        if self.reschedule and not self.deferrable and "ti" in context:
            first = context["ti"].get_first_reschedule_date(context)
        waited = max(time.time() - first.timestamp(), 0.0) if first else 0.0
        return Patience(
            deadline=float("inf") if self.deferrable else time.time() + self.timeout - waited,
            pace=Pace(shortest_seconds=self.poke_interval, longest_seconds=self.poke_interval),
            waited_seconds=waited,
            shares_polls=False,
        )

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """
        Resume after the wait in the triggerer.

        :raises ReportRunError: the error that ended the wait.
        """
        check_all(self, self.argument_checks)
        self.after_trigger(event)
        self.log.info("Resumed after the wait in the triggerer")
        pause = min(self.poke_interval, RESUME_PAUSE_SECONDS)
        patience = Patience(
            deadline=time.time() + OUTAGE_TOLERANCE_SECONDS,
            pace=Pace(shortest_seconds=pause, longest_seconds=pause),
            shares_polls=False,
        )
        try:
            with self._hook() as hook:
                return self.result(
                    hook.converse(self.conversation(context, hook, patience, measured=False))
                )
        except DeadlinePassed as error:
            denied = error
        raise UnexpectedAnswer(
            "Clear this task: the triggerer saw the end of the wait, and the API denies it. "
            f"{denied.message}"
        )

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume past the base sensor, whose ``soft_fail`` would skip on every error."""
        keep_link(self)
        with sensor_outcomes(self):
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Log that the report run goes on, because the API has no cancel."""
        if self.goes_on():
            self.log.info("%s", self.goes_on())

    def _hook(self) -> ReportRunHook:
        return ReportRunHook(
            self.reportrun_conn_id, stripe_context=self.stripe_context, api=self.api
        )

    def _defer(self, context: Context, deadline: float, api: Generation) -> Any:
        longest = self.max_wait.total_seconds() if self.max_wait else self.poke_interval
        self.defer(
            trigger=self.trigger(
                context,
                reportrun_conn_id=self.reportrun_conn_id,
                stripe_context=self.stripe_context or None,
                api=argument_of(api),
                poll_interval=self.poke_interval,
                max_poll_interval=longest,
                deadline=deadline,
                ends_with=ending_of(self, FACTS),
            ),
            method_name="execute_complete",
            timeout=defer_timeout(deadline),
        )


class RunSensor(_ApiSensor):
    """A sensor that waits for a run."""

    operator_extra_links = (ReportRunLink(),)

    def run_id(self) -> str:
        """
        Return the id of the run.

        :raises InvalidInput: if it is not valid; names the argument.
        """
        name = f"{self.noun.replace(' ', '_')}_id"
        return checked_id(getattr(self, name), name)

    def show(self, context: Context, hook: ReportRunHook) -> None:
        """Link to the run."""
        show_link(self, context, hook.access, self.run_id(), stays=not self.deferrable)

    def conversation(
        self,
        context: Context,  # noqa: ARG002 - of the base
        hook: ReportRunHook,
        patience: Patience,
        *,
        measured: bool,
    ) -> Flow[ReportRun]:
        """Return the wait for the run."""
        return flows.await_finished(hook.api, self.run_id(), patience=patience, measured=measured)

    def result(self, found: ReportRun) -> dict[str, Any]:
        """Return the facts of the run."""
        return found.summary()

    def trigger(self, context: Context, **wait: Any) -> BaseTrigger:  # noqa: ARG002 - of the base
        """Return the trigger that waits for the run."""
        from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

        self.log.info("Waiting for %s %s in the triggerer", self.noun, self.run_id())
        return ReportRunTrigger(report_run_id=self.run_id(), **wait)

    def after_trigger(self, event: Any) -> None:
        """Check that the event is about a run."""
        from airflow_provider_reportrun.triggers.report_run import resumed_report_run_id

        resumed_report_run_id(event)

    def goes_on(self) -> str:
        """Say that the run goes on at Stripe."""
        return f"{self.noun.capitalize()} {self.run_id()} goes on at Stripe"


class ReportRunSensor(RunSensor):
    """
    Wait until a report run has succeeded.

    In ``poke`` and ``reschedule`` mode it waits on workers, with ``deferrable=True`` in the
    triggerer. A failed report run fails the task at once, without a retry, because waiting again
    does not help: clear the task that created it. Network and API errors are tolerated for up to 15
    minutes without a good answer; in ``reschedule`` mode, until the timeout.

    Returns (XCom) plain values: ``report_run_id, status, report, report_name, report_parameters,
    content_type, size`` (bytes)``, created`` (ISO 8601)``, livemode``; never the result's URL.

    :param report_run_id: the report run, usually ``create_task.output`` (templated).
    :param reportrun_conn_id: the Airflow connection (templated).
    :param stripe_context: the account that the report is about; overrides the connection's
        (templated).
    :param api: the generation of the API, ``"v2.reporting"``, ``"v2.data"`` or ``"v1"``; overrides
        the connection's (templated).
    :param deferrable: whether to wait in the triggerer; by default ``[operators]
        default_deferrable``.
    :param end_from_trigger: whether the task ends in the triggerer if its wait there succeeds, so
        that no worker resumes it (Airflow 3.3). Every other outcome resumes the task on a worker.
        Such a task can have no outlets and no success callback, ``post_execute`` is not called, and
        Airflow refuses it if a plugin has listeners, as the OpenLineage provider does.
    :param poke_interval: seconds between two polls; in the triggerer the shortest time, which grows
        with the age of the report run. There, only the first polls come sooner, when the report run
        is about 2, 5 and 12 seconds old.
    :param max_wait: longest time between two polls, in seconds: in the triggerer, and with
        ``exponential_backoff``.
    :param timeout: seconds until the task fails with ``AirflowSensorTimeout``, from its first poll.
    :param soft_fail: skip the task on a timeout and on a failed report run, and only then.
    :param never_fail: skip the task on any error.
    """

    template_fields: Sequence[str] = ("report_run_id", "reportrun_conn_id", "stripe_context", "api")

    def __init__(self, *, report_run_id: str | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.report_run_id = report_run_id


class ReportDataSensor(_ApiSensor):
    """
    Wait until the API has the data of an interval.

    Stripe prepares the data of reports twice a day, some hours later, and refuses an interval that
    ends after them. So the sensor asks the API, and does not rely on a time of day. Deferrable
    sensors for the same report share one request per poll.

    Returns (XCom) the instant up to which there are data, RFC 3339 in UTC.

    :param report: id of the report template (templated).
    :param interval_end: the instant after the last of the interval (templated); by default the end
        of the run's data interval. It has the forms that ``CreateReportRunOperator`` accepts.
    :param timezone: name of the zone of dates and of timestamps without an offset (templated).
    :param reportrun_conn_id: the Airflow connection (templated).
    :param stripe_context: the account that the report is about; overrides the connection's
        (templated).
    :param api: the generation of the API, ``"v2.reporting"``, ``"v2.data"`` or ``"v1"``; overrides
        the connection's (templated).
    :param deferrable: whether to wait in the triggerer; by default ``[operators]
        default_deferrable``.
    :param end_from_trigger: whether the task ends in the triggerer if its wait there succeeds, so
        that no worker resumes it (Airflow 3.3). Every other outcome resumes the task on a worker.
        Such a task can have no outlets and no success callback, ``post_execute`` is not called, and
        Airflow refuses it if a plugin has listeners, as the OpenLineage provider does.
    :param poke_interval: seconds between two polls; in the triggerer the shortest time.
    :param max_wait: longest time between two polls, in seconds: in the triggerer, and with
        ``exponential_backoff``.
    :param timeout: seconds until the task fails with ``AirflowSensorTimeout``, from its first poll.
    :param soft_fail: skip the task on a timeout, and only then.
    :param never_fail: skip the task on any error.
    """

    template_fields: Sequence[str] = (
        "report",
        "interval_end",
        "timezone",
        "reportrun_conn_id",
        "stripe_context",
        "api",
    )
    argument_checks = {  # noqa: RUF012 - of the base
        **_CHECKS,
        **CONNECTION_CHECKS,
        "timezone": optional(zone),
    }

    def __init__(
        self,
        *,
        report: str,
        interval_end: str | date | datetime = DATA_INTERVAL_END,
        timezone: tzinfo | Late | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report = report
        self.interval_end = interval_end
        self.timezone: Any = timezone
        self._is_default = interval_end == DATA_INTERVAL_END
        self._is_empty = interval_end == ""
        check_known(self, self.argument_checks)

    def conversation(
        self,
        context: Context,
        hook: ReportRunHook,
        patience: Patience,
        *,
        measured: bool,
    ) -> Flow[Report]:
        """Return the wait for the data."""
        end = self._end(context)
        return flows.await_data(hook.api, self.report, end, patience=patience, measured=measured)

    def result(self, found: Report) -> str:
        """Return the instant up to which there are data."""
        return format_instant(available_through(found))

    def trigger(self, context: Context, **wait: Any) -> BaseTrigger:
        """Return the trigger that waits for the data."""
        from airflow_provider_reportrun.triggers.report_run import ReportDataTrigger

        end = format_instant(self._end(context))
        self.log.info("Waiting in the triggerer for the data of %s to reach %s", self.report, end)
        return ReportDataTrigger(report=self.report, interval_end=end, **wait)

    def after_trigger(self, event: Any) -> None:
        """Check that the event is about data."""
        from airflow_provider_reportrun.triggers.report_run import resumed_after_data

        resumed_after_data(event)

    def _end(self, context: Context) -> datetime:
        if is_nothing(self.interval_end):
            is_own = not self._is_default and not self._is_empty
            raise (
                rendered_to_nothing(INTERVAL_END) if is_own else no_interval(INTERVAL_END, context)
            )
        zone = zone_of(self.timezone, context)
        return parse_instant(self.interval_end, argument=INTERVAL_END, zone=zone)
