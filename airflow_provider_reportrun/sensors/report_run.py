"""The sensor that waits for a report run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue, conf

from airflow_provider_reportrun._compat import AirflowSensorTimeout
from airflow_provider_reportrun.errors import DeadlinePassed, ReportRunError
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.outcomes import sensor_outcomes
from airflow_provider_reportrun.protocol.calls import checked_id
from airflow_provider_reportrun.protocol.flows import OUTAGE_TOLERANCE_SECONDS, finished
from airflow_provider_reportrun.waiting import DAY_SECONDS, defer_timeout

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg


class ReportRunSensor(BaseSensorOperator):
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

    def __init__(
        self,
        *,
        report_run_id: str | XComArg,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 30.0,
        max_wait: timedelta | float | None = 300.0,
        timeout: timedelta | float = DAY_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, max_wait=max_wait, timeout=timeout, **kwargs)
        self.report_run_id = report_run_id
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self.deferrable = deferrable
        self._last_good = time.monotonic()

    def execute(self, context: Context) -> Any:
        """
        Look once, and go on as the mode says.

        :return: see the class.
        """
        with sensor_outcomes(self):
            if not self.deferrable:
                self._last_good = time.monotonic()
                return self._execute_in_place(context)
            deadline = time.time() + self.timeout
            found = self.poke(context)
            if found:
                return found.xcom_value
            return self._defer(deadline)

    def _execute_in_place(self, context: Context) -> Any:
        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            timeout = DeadlinePassed(
                f"{error} Report run {self.report_run_id} goes on at Stripe.",
                report_run_id=str(self.report_run_id),
            )
        raise timeout

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """
        Look once.

        :raises ReportRunFailed: when the report run failed.
        :raises ReportRunError: when asking again does not help, or was done for too long.
        """
        try:
            with self._hook() as hook:
                run = hook.get_report_run(checked_id(self.report_run_id, "report_run_id"))
        except ReportRunError as error:
            self._let_pass(error)
            return PokeReturnValue(is_done=False)
        self._last_good = time.monotonic()
        self.log.debug("Report run %s is %s", run.id, run.status)
        if not run.is_finished:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=finished(run).summary())

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """
        Go on after the wait in the triggerer.

        :raises ReportRunError: the error that the wait ended in.
        """
        from airflow_provider_reportrun.triggers.report_run import resumed_report_run_id

        report_run_id = resumed_report_run_id(event)
        with self._hook() as hook:
            return finished(hook.get_report_run(report_run_id)).summary()

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume past the base sensor, whose ``soft_fail`` would skip on every error."""
        with sensor_outcomes(self):
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Leave the report run alone, for the API has no cancel, and say so."""
        self.log.info("Report run %s goes on at Stripe", self.report_run_id)

    def _hook(self) -> ReportRunHook:
        return ReportRunHook(self.reportrun_conn_id, stripe_context=self.stripe_context)

    def _let_pass(self, error: ReportRunError) -> None:
        """Take a transient error for "not yet", unless it has been one for too long."""
        silent = time.monotonic() - self._last_good
        is_too_long = not self.reschedule and silent > OUTAGE_TOLERANCE_SECONDS
        if not error.transient or is_too_long:
            raise error
        self.log.warning("No good answer for %.0f s while waiting: %s", silent, error)

    def _defer(self, deadline: float) -> Any:
        from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

        self.log.info("Waiting for report run %s in the triggerer", self.report_run_id)
        longest = self.max_wait.total_seconds() if self.max_wait else self.poke_interval
        self.defer(
            trigger=ReportRunTrigger(
                report_run_id=checked_id(self.report_run_id, "report_run_id"),
                reportrun_conn_id=self.reportrun_conn_id,
                stripe_context=self.stripe_context or None,
                poll_interval=self.poke_interval,
                max_poll_interval=longest,
                deadline=deadline,
            ),
            method_name="execute_complete",
            timeout=defer_timeout(deadline),
        )
