"""The sensors: one waits for a report run, one for the data of an interval."""

from __future__ import annotations

import logging
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
from airflow_provider_reportrun.client import telemetry
from airflow_provider_reportrun.errors import (
    DeadlinePassed,
    ReportRunError,
    ReportRunFailed,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.links.report_run import ReportRunLink, keep_link, show_link
from airflow_provider_reportrun.protocol.calls import checked_id, if_any, is_nothing, required
from airflow_provider_reportrun.protocol.checks import available_through
from airflow_provider_reportrun.protocol.flows import OUTAGE_TOLERANCE_SECONDS, finished, poll
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    format_instant,
    parse_instant,
)
from airflow_provider_reportrun.protocol.metrics import (
    DATA,
    DATA_WAIT,
    DONE,
    ERROR,
    NOT_YET,
    REPORT_RUN,
    REPORT_WAIT,
    UNKNOWN,
    Metric,
)
from airflow_provider_reportrun.task.arguments import (
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
from airflow_provider_reportrun.task.outcomes import sensor_outcomes
from airflow_provider_reportrun.task.waiting import DAY_SECONDS, defer_timeout, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime, timedelta, tzinfo

    from airflow.sdk import Context, XComArg
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_reportrun.task.arguments import Late

_CHECKS: Final[Mapping[str, Check]] = {"deferrable": plain_flag, "poke_interval": seconds}
_RENDERED_CHECKS: Final[Mapping[str, Check]] = {
    "reportrun_conn_id": required,
    "stripe_context": if_any,
}
"""Of what only rendering can make nothing of."""

RESUME_PAUSE_SECONDS = 5.0
"""Longest pause between two looks after a wait in the triggerer, for the end has come already."""


class _ApiSensor(BaseSensorOperator):
    """
    What the sensors share: one look, repeated in place, by rescheduling or in the triggerer.

    Errors of network and API are let pass for 15 minutes without a good answer, in ``reschedule``
    mode until the timeout.

    :param reportrun_conn_id: the connection (templated).
    :param stripe_context: the account, over the connection's own (templated).
    :param deferrable: whether to wait in the triggerer.
    :param poke_interval: seconds between two looks.
    :param max_wait: longest time between two looks, in seconds.
    :param timeout: seconds until the task times out, from its first look.
    """

    looks_at: str
    """What is looked at, as metrics name it."""
    measured_as: str
    """The metric of the wait."""
    argument_checks: ClassVar[Mapping[str, Check]] = {**_CHECKS, **_RENDERED_CHECKS}

    def __init__(
        self,
        *,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        deferrable: bool = default_deferrable(),
        poke_interval: timedelta | float = 30.0,
        max_wait: timedelta | float | None = 300.0,
        timeout: timedelta | float = DAY_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, max_wait=max_wait, timeout=timeout, **kwargs)
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self.deferrable = deferrable
        self._last_good = time.monotonic()
        self._report = UNKNOWN
        check_known(self, _CHECKS)

    def look(self, context: Context, hook: ReportRunHook) -> Any:
        """
        Ask once.

        :return: what goes to XCom, or None for "not yet".
        :raises ReportRunError: when asking again does not help.
        """
        raise NotImplementedError

    def trigger(self, context: Context, **wait: Any) -> BaseTrigger:
        """
        Make the trigger that waits for the same.

        :param wait: the arguments of every wait.
        """
        raise NotImplementedError

    def after_trigger(self, event: Any) -> None:
        """
        Check the event that the task is resumed with.

        :raises ReportRunError: the error that the wait ended in.
        """
        raise NotImplementedError

    def goes_on(self) -> str:
        """Say what goes on although the wait stops; empty for nothing."""
        return ""

    def execute(self, context: Context) -> Any:
        """
        Look once, and go on as the mode says.

        :return: see the class.
        """
        with sensor_outcomes(self):
            check_all(self, self.argument_checks)
            self._last_good = time.monotonic()
            if not self.deferrable:
                return self._execute_in_place(context)
            deadline = time.time() + self.timeout
            found = self.poke(context)
            if found:
                return found.xcom_value
            return self._defer(context, deadline)

    def _execute_in_place(self, context: Context) -> Any:
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        age = time.time() - first.timestamp() if first else 0.0
        began = time.monotonic() - age
        asked_for = self.soft_fail, self.never_fail
        self.soft_fail = self.never_fail = False  # else the base sensor skips, and keeps the reason
        try:
            found = super().execute(context)
        except AirflowSensorTimeout as error:
            timeout = DeadlinePassed(f"{error} {self.goes_on()}".strip())
        except ReportRunError as error:
            self._ended(began, type(error).__name__)
            raise
        else:
            self._ended(began, DONE)
            return found
        finally:
            self.soft_fail, self.never_fail = asked_for
        self._ended(began, DeadlinePassed.__name__)
        raise timeout

    def _ended(self, began: float, outcome: str) -> None:
        """Measure how long a wait in place took, from its first look (monotonic)."""
        tags = {"report": self._report, "outcome": outcome}
        telemetry.measure(Metric(self.measured_as, tags, seconds=time.monotonic() - began))

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Look once, taking a transient error for "not yet", unless it has been one for too long.

        :raises ReportRunError: when asking again does not help, or was done for too long.
        """
        try:
            with self._hook() as hook:
                found = self.look(context, hook)
        except ReportRunError as error:
            is_news = isinstance(error, ReportRunFailed)
            telemetry.measure(poll(self.looks_at, DONE if is_news else ERROR))
            silent = time.monotonic() - self._last_good
            lasts = self.deferrable or not self.reschedule
            is_too_long = lasts and silent > OUTAGE_TOLERANCE_SECONDS
            if is_news or not error.transient or is_too_long:
                raise
            self.log.warning("No good answer for %.0f s while waiting: %s", silent, error)
            return PokeReturnValue(is_done=False)
        telemetry.measure(poll(self.looks_at, NOT_YET if found is None else DONE))
        self._last_good = time.monotonic()
        return PokeReturnValue(is_done=found is not None, xcom_value=found)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """
        Go on after the wait in the triggerer.

        :raises ReportRunError: the error that the wait ended in.
        """
        check_all(self, self.argument_checks)
        self.after_trigger(event)
        self.log.info("Resumed after the wait in the triggerer")
        self._last_good = time.monotonic()
        until = self._last_good + OUTAGE_TOLERANCE_SECONDS
        while not (found := self.poke(context)):
            if time.monotonic() > until:
                raise UnexpectedAnswer("The triggerer saw the end of the wait; the API denies it.")
            time.sleep(min(self.poke_interval, RESUME_PAUSE_SECONDS))
        return found.xcom_value

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume past the base sensor, whose ``soft_fail`` would skip on every error."""
        keep_link(self)
        with sensor_outcomes(self):
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Leave the report run alone, for the API has no cancel, and say so."""
        if self.goes_on():
            self.log.info("%s", self.goes_on())

    def _hook(self) -> ReportRunHook:
        return ReportRunHook(self.reportrun_conn_id, stripe_context=self.stripe_context)

    def _defer(self, context: Context, deadline: float) -> Any:
        longest = self.max_wait.total_seconds() if self.max_wait else self.poke_interval
        self.defer(
            trigger=self.trigger(
                context,
                reportrun_conn_id=self.reportrun_conn_id,
                stripe_context=self.stripe_context or None,
                poll_interval=self.poke_interval,
                max_poll_interval=longest,
                deadline=deadline,
            ),
            method_name="execute_complete",
            timeout=defer_timeout(deadline),
        )


class ReportRunSensor(_ApiSensor):
    """
    Wait until a report run has succeeded.

    In ``poke`` and ``reschedule`` mode it waits on workers, with ``deferrable=True`` in the
    triggerer. A report run that failed fails the task at once and is not retried, for waiting again
    does not help: clear the task that created it. Errors of network and API are let pass for 15
    minutes without a good answer, in ``reschedule`` mode until the timeout.

    Returns (XCom) plain values: ``report_run_id, status, report, report_name, report_parameters,
    content_type, size`` (bytes)``, created`` (ISO 8601)``, livemode``; never the result's URL.

    :param report_run_id: the report run, usually ``create_task.output`` (templated).
    :param reportrun_conn_id: the connection (templated).
    :param stripe_context: the account that the report is about, over the connection's own
        (templated).
    :param deferrable: whether to wait in the triggerer; by default ``[operators]
        default_deferrable``.
    :param poke_interval: seconds between two looks. When deferrable it is the shortest time between
        two: the time grows with the age of the report run.
    :param max_wait: longest time between two looks, in seconds: when deferrable, and with
        ``exponential_backoff``.
    :param timeout: seconds until the task fails with ``AirflowSensorTimeout``, from its first look.
    :param soft_fail: skip the task on a timeout and on a failed report run, and only then.
    :param never_fail: skip the task on any error.
    """

    template_fields: Sequence[str] = ("report_run_id", "reportrun_conn_id", "stripe_context")
    looks_at = REPORT_RUN
    measured_as = REPORT_WAIT
    operator_extra_links = (ReportRunLink(),)

    def __init__(self, *, report_run_id: str | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.report_run_id = report_run_id
        self._is_linked = False

    def look(self, context: Context, hook: ReportRunHook) -> dict[str, Any] | None:
        """
        Look at the report run.

        :raises ReportRunFailed: when it failed.
        """
        report_run_id = checked_id(self.report_run_id, "report_run_id")
        if not self._is_linked:
            show_link(self, context, hook.access, report_run_id)
            self._is_linked = True
        run = hook.get_report_run(report_run_id)
        self._report = run.report
        level = logging.INFO if run.is_finished else logging.DEBUG
        self.log.log(level, "Report run %s is %s", run.id, run.status)
        return finished(run).summary() if run.is_finished else None

    def trigger(self, context: Context, **wait: Any) -> BaseTrigger:  # noqa: ARG002 - of the base
        """Make the trigger that waits for the report run."""
        from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

        self.log.info("Waiting for report run %s in the triggerer", self.report_run_id)
        return ReportRunTrigger(
            report_run_id=checked_id(self.report_run_id, "report_run_id"), **wait
        )

    def after_trigger(self, event: Any) -> None:
        """Check that the event tells of a report run."""
        from airflow_provider_reportrun.triggers.report_run import resumed_report_run_id

        resumed_report_run_id(event)

    def goes_on(self) -> str:
        """Say that the report run goes on."""
        return f"Report run {self.report_run_id} goes on at Stripe"


class ReportDataSensor(_ApiSensor):
    """
    Wait until the API holds the data of an interval.

    Stripe prepares the data of a report twice a day, hours after they arise, and takes no interval
    that reaches past them; so the API is asked, and not the calendar. Deferrable sensors for the
    same report share one request per poll.

    Returns (XCom) the instant up to which there are data, RFC 3339 in UTC.

    :param report: id of the report template (templated).
    :param interval_end: the instant after the last of the interval (templated); by default the end
        of the run's data interval. Taken in the forms of ``CreateReportRunOperator``.
    :param timezone: name of the zone that dates and stamps without an offset are meant in
        (templated).
    :param reportrun_conn_id: the connection (templated).
    :param stripe_context: the account that the report is about, over the connection's own
        (templated).
    :param deferrable: whether to wait in the triggerer; by default ``[operators]
        default_deferrable``.
    :param poke_interval: seconds between two looks; when deferrable the shortest time between two.
    :param max_wait: longest time between two looks, in seconds: when deferrable, and with
        ``exponential_backoff``.
    :param timeout: seconds until the task fails with ``AirflowSensorTimeout``, from its first look.
    :param soft_fail: skip the task on a timeout, and only then.
    :param never_fail: skip the task on any error.
    """

    template_fields: Sequence[str] = (
        "report",
        "interval_end",
        "timezone",
        "reportrun_conn_id",
        "stripe_context",
    )
    argument_checks = {  # noqa: RUF012 - of the base
        **_CHECKS,
        **_RENDERED_CHECKS,
        "timezone": optional(zone),
    }
    looks_at = DATA
    measured_as = DATA_WAIT

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

    def look(self, context: Context, hook: ReportRunHook) -> str | None:
        """
        Look how far the data reach.

        :raises DataWindowUnknown: when the report does not say.
        """
        end = self._end(context)
        self._report = self.report
        through = available_through(hook.get_report(self.report))
        is_there = end <= through
        level = logging.INFO if is_there else logging.DEBUG
        self.log.log(level, "The data of %s reach %s", self.report, format_instant(through))
        return format_instant(through) if is_there else None

    def trigger(self, context: Context, **wait: Any) -> BaseTrigger:
        """Make the trigger that waits for the data."""
        from airflow_provider_reportrun.triggers.report_run import ReportDataTrigger

        end = format_instant(self._end(context))
        self.log.info("Waiting in the triggerer for the data of %s to reach %s", self.report, end)
        return ReportDataTrigger(report=self.report, interval_end=end, **wait)

    def after_trigger(self, event: Any) -> None:
        """Check that the event tells of data."""
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
