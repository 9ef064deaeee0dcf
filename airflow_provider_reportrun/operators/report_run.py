"""The operators: create a report run, land its result, or both in one task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from airflow.sdk import BaseOperator

from airflow_provider_reportrun._compat import AirflowSkipException, default_deferrable
from airflow_provider_reportrun.client import telemetry
from airflow_provider_reportrun.errors import (
    ApiError,
    CapacityExceeded,
    DataNotAvailable,
    DataWindowUnknown,
    InvalidInput,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ReportRunError,
    ResultGone,
    ServerError,
    TransportError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.landing import (
    FAIL,
    LAND,
    MAX_MEMBERS,
    MAX_UNPACKED_BYTES,
    PARQUET,
    REPLACE,
    SKIP,
)
from airflow_provider_reportrun.landing.columns import checked_types
from airflow_provider_reportrun.landing.places import (
    as_text,
    check_written,
    is_of_all_instances,
    is_path,
)
from airflow_provider_reportrun.links.report_run import (
    ReportRunLink,
    failures_linked,
    keep_link,
    show_link,
)
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.calls import (
    checked_id,
    checked_key,
    create_body,
    if_any,
    is_nothing,
    key_if_any,
    required,
)
from airflow_provider_reportrun.protocol.checks import check_parameters, is_covered, not_available
from airflow_provider_reportrun.protocol.flows import Order, Patience
from airflow_provider_reportrun.protocol.identity import TaskIdentity, body_digest, idempotency_key
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    half_open,
    missed_midnight,
    report_parameters,
)
from airflow_provider_reportrun.protocol.metrics import ATTACHES, Metric
from airflow_provider_reportrun.protocol.models import read_instant
from airflow_provider_reportrun.protocol.retry import Pace
from airflow_provider_reportrun.task.arguments import (
    Check,
    check_all,
    check_known,
    choice,
    file_name,
    flag,
    folder,
    mapping,
    optional,
    plain_flag,
    whole_number,
    zone,
)
from airflow_provider_reportrun.task.data_interval import (
    DATA_INTERVAL_END,
    DATA_INTERVAL_START,
    no_interval,
    rendered_to_nothing,
    zone_of,
)
from airflow_provider_reportrun.task.outcomes import (
    created_elsewhere,
    operator_outcomes,
    rendered_fields_kept,
)
from airflow_provider_reportrun.task.outlets import tell_outlets
from airflow_provider_reportrun.task.record import Record, recall, remember
from airflow_provider_reportrun.task.waiting import DAY_SECONDS, defer_timeout, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime, timedelta, tzinfo
    from pathlib import PurePath

    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context, ObjectStoragePath, XComArg

    from airflow_provider_reportrun.landing.land import Destination, Landing
    from airflow_provider_reportrun.protocol.models import Report, ReportRun
    from airflow_provider_reportrun.task.arguments import Late

_NO_DEFINITION: Final = (PermissionDenied, NotFound, DataWindowUnknown)
"""Why a definition may not be had for good, though a report run can be created."""
NEW_RUN: Final = "new_run"
REUSE: Final = "reuse"


def _column_types(value: Any, name: str) -> dict[str, str]:
    return checked_types(mapping(value, name))


_CREATE_CHECKS: Final[Mapping[str, Check]] = {
    "timezone": optional(zone),
    "report_parameters": optional(mapping),
    "idempotency_key": key_if_any,
    "on_clear": choice(NEW_RUN, REUSE),
    "validate": flag,
    "wait_for_data": flag,
    "wait_for_completion": flag,
    "deferrable": plain_flag,
    "poll_interval": seconds,
    "max_poll_interval": seconds,
    "timeout": seconds,
}
_RENDERED_CHECKS: Final[Mapping[str, Check]] = {
    "reportrun_conn_id": required,
    "stripe_context": if_any,
}
"""Of what only rendering can make nothing of."""
_CREATE_RENDERED: Final = {
    **_RENDERED_CHECKS,
    "result_options": if_any,
}
_LANDING_RENDERED: Final = {
    **_RENDERED_CHECKS,
    "destination": required,
    "storage_conn_id": if_any,
}
_LANDING_CHECKS: Final[Mapping[str, Check]] = {
    "storage_options": optional(mapping),
    "if_exists": choice(REPLACE, SKIP, FAIL),
    "if_empty": choice(LAND, SKIP, FAIL),
    "decompress": flag,
    "marker": optional(file_name),
    "spool_dir": optional(folder),
    "max_unpacked_bytes": whole_number,
    "max_members": whole_number,
    "output_format": optional(choice(PARQUET)),
    "column_types": optional(_column_types),
}


class _ReportRunOperator(BaseOperator):
    """What all operators share: checked arguments, and what they have done, for lineage."""

    argument_checks: ClassVar[Mapping[str, Check]] = {}
    _report_run_id: str | None = None
    _landing: Landing | None = None

    def get_openlineage_facets_on_complete(
        self,
        task_instance: Any,  # noqa: ARG002 - as OpenLineage calls it
    ) -> OperatorLineage[Any, Any]:
        """Tell the OpenLineage provider, which alone calls this, what was done: failed or not."""
        from airflow_provider_reportrun.task.lineage import lineage_of

        return lineage_of(self._report_run_id, self._landing)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What one try is to do: what to ask for, what earlier tries did, and until when."""

    order: Order
    record: Record
    patience: Patience


class CreateReportRunOperator(_ReportRunOperator):
    """
    Create a report run for the data interval of the DAG run: one per task instance and clear.

    The request carries an idempotency key made of the task instance, so a task that is killed
    anywhere around it finds the same report run again when it is retried, for 30 days.

    Returns (XCom) the report run id.

    :param report: id of the report template (templated).
    :param interval_start: first instant of the report, inclusive (templated); by default the start
        of the data interval, unless the report's definition does not list it. An aware datetime,
        an ISO 8601 string with an offset, or, where ``timezone`` is given or the DAG's timetable is
        in UTC, a date or a stamp without one. None sends none.
    :param interval_end: instant after the last, exclusive (templated); likewise.
    :param timezone: name of the zone that dates and stamps without an offset are meant in
        (templated).
    :param report_parameters: further parameters of the report: strings, lists of strings, dates or
        datetimes (templated); any sequence is a list. An interval named here is sent in place of
        the default.
    :param result_options: ``{"compress_file": True}`` for a ZIP (templated).
    :param idempotency_key: stands in for the task instance in the key (templated), to share a
        report run between tasks; the clear generation and the parameters are still part of it.
    :param on_clear: whether clearing the task asks for a new report run (``"new_run"``) or for the
        same one again (``"reuse"``) (templated).
    :param validate: whether to compare the parameters with the report's definition first, at the
        price of one GET for each report every five minutes. A key that may not read definitions is
        logged and stops nothing (templated).
    :param wait_for_data: whether to wait until the API holds the data of the interval, in place of
        failing with ``DataNotAvailable``, which is retried (templated).
    :param wait_for_completion: whether to wait until the report run has succeeded. Then the next
        try after a report run that failed creates a new one, unless its file was too large
        (templated).
    :param deferrable: whether to wait, for capacity and for the report, in the triggerer; by
        default ``[operators] default_deferrable``.
    :param poll_interval: shortest time between two requests of a wait: seconds or a timedelta.
    :param max_poll_interval: longest time; in between, it grows with the age of the report run.
    :param timeout: for all of the waiting: seconds or a timedelta. The report run goes on at Stripe
        when it passes, for the API has no cancel.
    :param reportrun_conn_id: the connection (templated).
    :param stripe_context: the account that the report is about, over the connection's own
        (templated).
    """

    template_fields: Sequence[str] = (
        "report",
        "interval_start",
        "interval_end",
        "report_parameters",
        "result_options",
        "idempotency_key",
        "timezone",
        "on_clear",
        "validate",
        "wait_for_data",
        "wait_for_completion",
        "stripe_context",
        "reportrun_conn_id",
    )
    argument_checks = {**_CREATE_CHECKS, **_CREATE_RENDERED}  # noqa: RUF012 - of the base
    template_fields_renderers = {"report_parameters": "json", "result_options": "json"}  # noqa: RUF012 - as Airflow declares it
    operator_extra_links = (ReportRunLink(),)
    overwrite_rtif_after_execution = True
    ui_color = "#e8e6ff"

    def __init__(
        self,
        *,
        report: str,
        interval_start: str | date | datetime | None = DATA_INTERVAL_START,
        interval_end: str | date | datetime | None = DATA_INTERVAL_END,
        timezone: tzinfo | Late | None = None,
        report_parameters: Mapping[str, Any] | Late | None = None,
        result_options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        on_clear: Late = NEW_RUN,
        validate: bool | Late = True,
        wait_for_data: bool | Late = False,
        wait_for_completion: bool | Late = False,
        deferrable: bool = default_deferrable(),
        poll_interval: float | timedelta = 30.0,
        max_poll_interval: float | timedelta = 300.0,
        timeout: float | timedelta = DAY_SECONDS,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report = report
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.timezone: Any = timezone
        self.report_parameters: Any = report_parameters
        self.result_options = result_options
        self.idempotency_key = idempotency_key
        self.on_clear: Any = on_clear
        self.validate: Any = validate
        self.wait_for_data: Any = wait_for_data
        self.wait_for_completion: Any = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.max_poll_interval = max_poll_interval
        self.timeout = timeout
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self._defaults = {
            name
            for name, value, default in (
                (INTERVAL_START, interval_start, DATA_INTERVAL_START),
                (INTERVAL_END, interval_end, DATA_INTERVAL_END),
            )
            if value == default
        }
        bounds = {INTERVAL_START: interval_start, INTERVAL_END: interval_end}
        self._unset = {name for name, value in bounds.items() if value is None}
        self._empty = {name for name, value in bounds.items() if value == ""}
        self._max_tries: int | None = None
        self._left_out: frozenset[str] = frozenset()
        check_known(self, _CREATE_CHECKS)

    def execute(self, context: Context) -> Any:
        """
        Create the report run, or find it again, and wait where asked to.

        :return: see the class.
        """
        with rendered_fields_kept(self, context), operator_outcomes(self):
            check_all(self, self.argument_checks)
            return self._execute(context)

    def _execute(self, context: Context) -> Any:
        self._max_tries = context["ti"].max_tries
        patience = self._patience()
        with (
            ReportRunHook(self.reportrun_conn_id, stripe_context=self.stripe_context) as hook,
            failures_linked(self, context, hook),
        ):
            definition = _Definition(hook, self.report)
            end = self.interval_end
            order = self._settle(context, hook, definition)
            self._warn_of_last_second(context, end, order)
            try:
                return self._carry_out(context, hook, order, patience, definition)
            except (InvalidRequest, DataWindowUnknown):
                corrected = self._corrected(context, hook)
                if corrected is None:
                    raise
            return self._carry_out(context, hook, corrected, patience, definition)

    def _carry_out(
        self,
        context: Context,
        hook: ReportRunHook,
        order: Order,
        patience: Patience,
        definition: _Definition,
    ) -> Any:
        attempt = self._attempt(context, order, patience)
        run = self._find(hook, attempt.record)
        if run is None:
            remember(context, attempt.record)
            missing = self._check(definition, hook, attempt.order)
            run = self._create(hook, attempt.order, attempt.patience, missing)
        return self._go_on(context, hook, attempt, run)

    def _attempt(self, context: Context, order: Order, patience: Patience) -> _Attempt:
        """Say what this try is to do, in view of what earlier ones did."""
        record = self._record(context, order, patience)
        tries = context["ti"].try_number - record.first_try + 1
        return _Attempt(
            order=replace(
                order,
                idempotency_key=record.idempotency_key,
                runs_allowed=max(tries, 1) if self.wait_for_completion else 1,
                gone=frozenset(record.gone),
            ),
            record=record,
            patience=replace(patience, deadline=record.deadline),
        )

    def _go_on(
        self, context: Context, hook: ReportRunHook, attempt: _Attempt, run: ReportRun
    ) -> Any:
        """Go on with a report run that was created or found."""
        remember(context, replace(attempt.record, report_run_id=run.id))
        show_link(self, context, hook.access, run.id)
        if self.wait_for_completion:
            run = self._await(hook, run, attempt.patience)
        return self._complete(context, hook, run.id, attempt)

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        max_tries: int | None = None,
        left_out: Sequence[str] = (),
    ) -> Any:
        """
        Go on after a wait in the triggerer.

        A task that is cleared while it runs is resumed once more by Airflow, with the event of
        before the clear; it begins anew instead.

        :param max_tries: of the task instance when it was deferred, which a clear changes; None
            where an earlier release deferred it.
        :param left_out: defaulted bounds that were not sent.
        :return: see the class.
        :raises ReportRunError: the error that the wait ended in.
        """
        from airflow_provider_reportrun.triggers.report_run import resumed_report_run_id

        self._max_tries = context["ti"].max_tries
        if max_tries not in (None, self._max_tries):
            return self.execute(context)
        self._left_out = frozenset(left_out)
        with operator_outcomes(self):
            check_all(self, self.argument_checks)
        with (
            operator_outcomes(self),
            ReportRunHook(self.reportrun_conn_id, stripe_context=self.stripe_context) as hook,
            failures_linked(self, context, hook),
        ):
            try:
                report_run_id = resumed_report_run_id(event)
            except (InvalidRequest, DataWindowUnknown):
                if self._corrected(context, hook) is None:
                    raise
                return self._execute(context)
            self.log.info("Resumed with report run %s", report_run_id)
            order = self._show(self._order(context, hook, self._left_out))
            attempt = self._attempt(context, order, self._patience())
            if attempt.record.report_run_id != report_run_id:
                remember(context, replace(attempt.record, report_run_id=report_run_id))
            self._report_run_id = report_run_id
            show_link(self, context, hook.access, report_run_id)
            return self._complete(context, hook, report_run_id, attempt)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume, or end where the triggerer did not keep the deadline."""
        keep_link(self)
        with rendered_fields_kept(self, context), operator_outcomes(self):
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Leave the report run alone, for the API has no cancel, and say so."""
        if self._report_run_id:
            self.log.info("Report run %s goes on at Stripe", self._report_run_id)

    def _complete(
        self,
        context: Context,  # noqa: ARG002 - these are for those who land as well
        hook: ReportRunHook,  # noqa: ARG002
        report_run_id: str,
        attempt: _Attempt,  # noqa: ARG002
    ) -> Any:
        return report_run_id

    def _record(self, context: Context, order: Order, patience: Patience) -> Record:
        """Give what an earlier try of the same clear generation wrote down, or begin anew."""
        max_tries: int = context["ti"].max_tries
        digest = _digest(order)
        new = Record(
            max_tries=max_tries,
            digest=digest,
            first_try=self._first_try(context),
            idempotency_key=order.idempotency_key,
            deadline=patience.deadline,
            left_out=sorted(self._left_out),
        )
        found = recall(context)
        if found is not None and found.digest == digest and found.max_tries == max_tries:
            return found
        self._tell_of_clear(max_tries - (self.retries or 0) + 1)
        if found is None or found.digest != digest:
            return new
        if self.on_clear == REUSE:
            return replace(found, max_tries=max_tries, deadline=patience.deadline)
        return new

    def _tell_of_clear(self, first_try: int) -> None:
        if first_try > 1:
            self.log.info(
                "This task was cleared: on_clear=%r asks for %s",
                self.on_clear,
                "a new report run" if self.on_clear == NEW_RUN else "the same report run again",
            )

    def _find(self, hook: ReportRunHook, record: Record) -> ReportRun | None:
        """
        Look at the report run that an earlier try wrote down.

        :return: None where there is none, or a new one is due in its place.
        """
        if record.report_run_id is None:
            return None
        try:
            run = hook.get_report_run(record.report_run_id)
        except NotFound:
            return None
        if self.wait_for_completion and run.failure is not None and run.failure.transient:
            return None
        self._report_run_id = run.id
        telemetry.measure(Metric(ATTACHES, {"report": run.report}))
        self.log.info(
            "Attached to report run %s of %s, of an earlier try; it is %s",
            run.id,
            run.report,
            run.status,
        )
        return run

    def _check(
        self, definition: _Definition, hook: ReportRunHook, order: Order
    ) -> ReportRunError | None:
        """
        Compare the order with the report's definition.

        A definition that cannot be read stops nothing; where that may pass, a wait for data waits.

        :return: why the data are to be waited for, else None.
        :raises InvalidInput: names everything that is wrong, at once.
        :raises DataNotAvailable: when the interval reaches past the data.
        """
        if not (self.validate or self.wait_for_data):
            return None
        interval_end = read_instant(order.report_parameters.get(INTERVAL_END))
        missing: ReportRunError | None = None
        try:
            missing = self._missing_data(definition, hook, order, interval_end)
        except (ApiError, TransportError, UnexpectedAnswer, DataWindowUnknown) as error:
            if not (error.transient or isinstance(error, _NO_DEFINITION)):
                raise
            self.log.warning("Going on without the definition of the report: %s", error)
            if self.wait_for_data and error.transient:
                missing = error
        if missing is None or interval_end is None:
            return None
        if not self.wait_for_data:
            raise missing
        return missing

    def _missing_data(
        self,
        definition: _Definition,
        hook: ReportRunHook,
        order: Order,
        interval_end: datetime | None,
    ) -> DataNotAvailable | None:
        """
        Check the parameters, and tell whether the interval reaches past the data.

        :return: the error of an interval that does, else None.
        """
        report = definition.get()
        if self.validate:
            check_parameters(report, order.report_parameters)
        if interval_end is None or is_covered(report, interval_end):
            return None
        now = hook.definition(
            order.report, fetched_since=definition.wanted_at
        )  # an old copy hides new data
        return None if is_covered(now, interval_end) else not_available(now, interval_end)

    def _create(
        self,
        hook: ReportRunHook,
        order: Order,
        patience: Patience,
        missing: ReportRunError | None = None,
    ) -> ReportRun:
        """
        Create the report run, as soon as its data are there and there is room for it.

        :param missing: why its data are to be waited for, where that is known.
        """
        if missing is None:
            try:
                return self._create_now(hook, order, patience)
            except DataNotAvailable as error:
                if not self.wait_for_data:
                    raise
                missing = error
        self.log.info("Waiting for data: %s", missing.message)
        if self.deferrable:
            self._defer_create(order, patience)
        run = hook.converse(flows.create_with_data(order, patience=patience))
        self._report_run_id = run.id
        return run

    def _create_now(self, hook: ReportRunHook, order: Order, patience: Patience) -> ReportRun:
        """Create the report run, waiting for capacity where it is scarce."""
        # In place, Airflow's own retries ride out an outage; only for capacity it is waited.
        in_place: Patience | None = replace(patience, outage_tolerance_seconds=0.0)
        if self.deferrable or time.time() > patience.deadline:
            in_place = None
        try:
            run = hook.converse(flows.create(order, patience=in_place))
        except (CapacityExceeded, RateLimited, ServerError) as error:
            is_outage = isinstance(error, ServerError) and not error.is_conflict
            if is_outage or not self.deferrable:
                raise
            self.log.info("Waiting in the triggerer until it can be created: %s", error)
            self._defer_create(order, patience)
        self._report_run_id = run.id
        return run

    def _await(self, hook: ReportRunHook, run: ReportRun, patience: Patience) -> ReportRun:
        """Wait until the report run has succeeded."""
        if run.is_finished:
            return flows.finished(run)
        if self.deferrable:
            self._defer_await(run.id, patience)
        return hook.converse(flows.await_finished(run.id, patience=patience))

    def _patience(self) -> Patience:
        """
        Say how long and how often to look, from now on.

        :raises InvalidInput: names the argument.
        """
        return Patience(
            deadline=time.time() + seconds(self.timeout, "timeout"),
            pace=Pace(
                shortest_seconds=seconds(self.poll_interval, "poll_interval"),
                longest_seconds=seconds(self.max_poll_interval, "max_poll_interval"),
            ),
        )

    def _trigger_arguments(self, patience: Patience) -> dict[str, Any]:
        return {
            "reportrun_conn_id": self.reportrun_conn_id,
            "stripe_context": self.stripe_context or None,
            "poll_interval": patience.pace.shortest_seconds,
            "max_poll_interval": patience.pace.longest_seconds,
            "deadline": patience.deadline,
        }

    def _defer_create(self, order: Order, patience: Patience) -> NoReturn:
        from airflow_provider_reportrun.triggers.report_run import CreateReportRunTrigger

        self.defer(
            trigger=CreateReportRunTrigger(
                report=order.report,
                report_parameters=order.report_parameters,
                result_options=order.result_options,
                idempotency_key=order.idempotency_key,
                runs_allowed=order.runs_allowed,
                wait_for_completion=self.wait_for_completion,
                wait_for_data=self.wait_for_data,
                gone=sorted(order.gone),
                **self._trigger_arguments(patience),
            ),
            method_name="execute_complete",
            kwargs=self._resume_arguments(),
            timeout=defer_timeout(patience.deadline),
        )

    def _defer_await(self, report_run_id: str, patience: Patience) -> NoReturn:
        from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

        self.log.info("Waiting for report run %s in the triggerer", report_run_id)
        self.defer(
            trigger=ReportRunTrigger(
                report_run_id=report_run_id, **self._trigger_arguments(patience)
            ),
            method_name="execute_complete",
            kwargs=self._resume_arguments(),
            timeout=defer_timeout(patience.deadline),
        )

    def _resume_arguments(self) -> dict[str, Any]:
        left_out = {"left_out": sorted(self._left_out)} if self._left_out else {}
        return {"max_tries": self._max_tries, **left_out}

    def _settle(self, context: Context, hook: ReportRunHook, definition: _Definition) -> Order:
        """
        Say what is to be created, without the defaulted bounds that the report does not take.

        What an earlier try left out is left out again, whatever the definition says now, because
        another body is another idempotency key.

        :raises InvalidInput: names the argument and the fix; no create was sent.
        """
        defaulted = self._defaulted()
        if not defaulted:
            return self._show(self._order(context, hook))
        self._order(context, hook, defaulted)  # what the user gave is refused before any request
        found = recall(context)
        if found is not None and defaulted.issuperset(found.left_out):
            try:
                order = self._order(context, hook, frozenset(found.left_out))
            except InvalidInput:  # the record is of another report
                order = None
            if order is not None and _digest(order) == found.digest:
                return self._show(order)
        left_out = frozenset[str]()
        needed = self._lacks_interval(defaulted)
        # A run without an interval, and a task without parameters, leave nothing to ask for.
        is_empty = needed and len(defaulted) > 1 and not self.report_parameters
        if not is_empty and (needed or self.validate or self.wait_for_data):
            left_out = self._not_taken(defaulted, definition, needed=needed)
        return self._show(self._order(context, hook, left_out))

    def _warn_of_last_second(self, context: Context, end: Any, order: Order) -> None:
        """
        Warn of an end that was meant to be inclusive; a timetable's own may be at 23:59.

        :param end: the argument as it was given.
        """
        midnight = missed_midnight(
            (self.report_parameters or {}).get(INTERVAL_END, end),
            zone=zone_of(self.timezone, context),
            from_second=59 if INTERVAL_END in self._defaulted() else 0,
        )
        if midnight is not None and INTERVAL_END in order.report_parameters:
            sent = order.report_parameters[INTERVAL_END]
            self.log.warning("%s", half_open(sent, midnight))

    def _corrected(self, context: Context, hook: ReportRunHook) -> Order | None:
        """
        Say what to send after a refusal that may be about a defaulted bound.

        Nothing was created under the refused body, so another key can make no second report run.

        :return: None where no bound was sent that the definition does not list.
        """
        wrong = self._defaulted() - self._left_out
        if not wrong:
            return None
        not_taken = self._not_taken(wrong, _Definition(hook, self.report), needed=True)
        if not not_taken:
            return None
        return self._show(self._order(context, hook, self._left_out | not_taken))

    def _defaulted(self) -> frozenset[str]:
        """Name the bounds that nobody gave, in an argument or in ``report_parameters``."""
        return frozenset(self._defaults - set(self.report_parameters or ()))

    def _lacks_interval(self, defaulted: frozenset[str]) -> bool:
        """Tell whether the defaulted bounds could not be sent anyway."""
        bounds = {INTERVAL_START: self.interval_start, INTERVAL_END: self.interval_end}
        return not all(bounds[name] for name in defaulted) or len(set(bounds.values())) == 1

    def _not_taken(
        self, defaulted: frozenset[str], definition: _Definition, *, needed: bool
    ) -> frozenset[str]:
        """
        Name the defaulted bounds that the report's definition does not list, and log them.

        :param needed: whether nothing can be sent without the definition.
        :return: none where the definition cannot be read: then they are sent, if there are any.
        :raises ReportRunError: when it is needed and may come back.
        """
        try:
            taken = definition.get().parameters
        except ReportRunError as error:
            if error.transient and needed:
                raise
            return frozenset()
        not_taken = frozenset(defaulted - set(taken))
        if not_taken:
            self.log.info(
                "The report %s does not take %s, so the data interval's is not sent",
                self.report,
                " and ".join(sorted(not_taken, reverse=True)),
            )
        return not_taken

    def _show(self, order: Order) -> Order:
        """Show under Rendered Templates which interval is sent."""
        self.interval_start = _shown(order.report_parameters.get(INTERVAL_START))
        self.interval_end = _shown(order.report_parameters.get(INTERVAL_END))
        return order

    def _order(
        self, context: Context, hook: ReportRunHook, left_out: frozenset[str] = frozenset()
    ) -> Order:
        """
        Say what is to be created.

        :param left_out: defaulted bounds that are not sent.
        :raises InvalidInput: names the argument and the fix; nothing was sent.
        """
        self._left_out = left_out
        parameters = self._checked_parameters(context, left_out)
        body = create_body(self.report, parameters, self.result_options or None)
        own = self.idempotency_key
        key = idempotency_key(
            _identity(context["ti"]) if own is None else checked_key(own),
            namespace=hook.access.idempotency_namespace,
            generation=self._first_try(context),
            stripe_context=hook.effective_context,
            body=body,
        )
        return Order(
            report=body["report"],
            report_parameters=body["report_parameters"],
            result_options=body.get("result_options"),
            idempotency_key=key,
        )

    def _first_try(self, context: Context) -> int:
        """
        Give the clear generation: the number of its first try.

        Clearing sets ``max_tries`` to the tries so far and the retries, which makes this number the
        same over retries and deferrals and new after a clear of a finished or deferred task.
        """
        first_try: int = context["ti"].max_tries - (self.retries or 0) + 1
        return first_try if self.on_clear == NEW_RUN else 1

    def _checked_parameters(
        self, context: Context, left_out: frozenset[str]
    ) -> dict[str, str | list[str]]:
        given = self.report_parameters or {}
        bounds = {
            name: None if name in left_out else value
            for name, value in (
                (INTERVAL_START, self.interval_start),
                (INTERVAL_END, self.interval_end),
            )
        }
        for name, value in bounds.items():
            if name in given and name not in self._defaults and value is not None:
                raise InvalidInput(
                    f"{name} is named twice, as an argument and in report_parameters. "
                    "Keep one of them."
                )
            is_none = name in left_out or name in self._unset
            if name not in given and is_nothing(value) and not is_none:
                is_own = name not in self._defaults | self._empty
                raise rendered_to_nothing(name) if is_own else no_interval(name, context)
        zone = zone_of(self.timezone, context)
        return report_parameters(
            given, start=bounds[INTERVAL_START], end=bounds[INTERVAL_END], zone=zone
        )


class _LandingOperator(_ReportRunOperator):
    """What the operators that land a result share: where to, how, and what they tell."""

    landing_fields: Sequence[str] = (
        "destination",
        "storage_conn_id",
        "storage_options",
        "if_exists",
        "if_empty",
        "decompress",
        "marker",
        "max_unpacked_bytes",
        "max_members",
        "spool_dir",
        "output_format",
        "column_types",
    )
    argument_checks = {**_LANDING_CHECKS, **_LANDING_RENDERED}  # noqa: RUF012 - of the base

    def __init__(
        self,
        *,
        destination: str | PurePath | ObjectStoragePath,
        storage_conn_id: str | None = None,
        storage_options: Mapping[str, Any] | Late | None = None,
        if_exists: Late = REPLACE,
        decompress: bool | Late = False,
        marker: Late | None = None,
        max_unpacked_bytes: int | Late = MAX_UNPACKED_BYTES,
        max_members: int | Late = MAX_MEMBERS,
        spool_dir: str | PurePath | None = None,
        output_format: Late | None = None,
        column_types: Mapping[str, str] | Late | None = None,
        if_empty: Late = LAND,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow renders no template in a path of pathlib.
        self.destination: Any = as_text(destination) if is_path(destination) else destination
        self.storage_conn_id = storage_conn_id
        self.storage_options: Any = storage_options
        self.if_exists: Any = if_exists
        self.decompress: Any = decompress
        self.marker: Any = marker
        self.max_unpacked_bytes: Any = max_unpacked_bytes
        self.max_members: Any = max_members
        self.spool_dir: Any = spool_dir
        self.output_format: Any = output_format
        self.column_types: Any = column_types
        self.if_empty: Any = if_empty
        check_known(self, _LANDING_CHECKS)
        # A mapped instance is made by its worker, where execute refuses without a retry.
        if not getattr(self, "_BaseOperator__from_mapped", False):
            check_written(self.destination, storage_conn_id)

    def _destination(self, context: Context) -> Destination:
        from airflow_provider_reportrun.landing.land import Destination
        from airflow_provider_reportrun.landing.spool import owner_name

        ti = context["ti"]
        return Destination(
            uri=self.destination,
            storage_conn_id=self.storage_conn_id or None,
            storage_options=self.storage_options,
            if_exists=self.if_exists,
            decompress=self.decompress,
            marker=self.marker,
            max_unpacked_bytes=self.max_unpacked_bytes,
            max_members=self.max_members,
            spool_dir=self.spool_dir or None,
            output_format=self.output_format,
            column_types=self.column_types,
            if_empty=self.if_empty,
            owner=owner_name(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
            is_first_try=ti.try_number <= 1,
        )

    def _warn_of_one_file(self, context: Context) -> None:
        """Warn if the instances of a mapped task overwrite each other's file."""
        written = context["dag"].task_dict.get(self.task_id)
        destination = getattr(written, "partial_kwargs", {}).get("destination")
        if is_of_all_instances(destination):
            self.log.warning(
                "Put {{ ti.map_index }} or a mapped value into destination: every instance of this "
                "mapped task lands in %s, and the last one stays",
                self.destination,
            )

    def _land(self, context: Context, hook: ReportRunHook, report_run_id: str) -> str | list[str]:
        self._warn_of_one_file(context)
        landing = self._destination(context).land(hook, report_run_id)
        if landing.report_run_id is not None:
            landing = replace(landing, stripe_context=hook.effective_context)
        return self._tell(context, landing)

    def _tell(self, context: Context, landing: Landing) -> str | list[str]:
        """
        Put the facts into XCom and onto the events of the outlet assets.

        :raises AirflowSkipException: after that, for a result without rows that is to be skipped.
        """
        self._landing = landing
        facts = landing.as_json()
        if self.do_xcom_push:
            context["ti"].xcom_push(key="landing", value=facts)
        if landing.is_empty:
            raise AirflowSkipException(
                f"The result of report run {landing.report_run_id} has no rows, and if_empty is "
                f"'skip': nothing was published at {landing.uri}."
            )
        tell_outlets(self.outlets, context, facts)
        return landing.returned


class DownloadReportResultOperator(_LandingOperator):
    """
    Land the result of a succeeded report run, whole or not at all.

    The result's URL lives five minutes, so it is asked for here and not passed on. The file is
    staged where no reader looks, verified against the size that the API announced (and the
    checksums of a ZIP), and only then published.

    Returns (XCom) the URI of what was landed, without a connection id; with ``decompress`` into a
    folder a list of them. XCom ``landing`` holds ``uri, size`` (bytes)``, sha256, content_type,
    report_run_id, report, report_parameters, stripe_context, livemode, interval_start,
    interval_end, members, skipped``, and after a conversion
    ``rows, columns, received``; the same facts go onto the events of the task's outlet assets.

    :param report_run_id: the report run, usually ``create_task.output`` (templated).
    :param destination: a full local path, one that begins with ``./`` or ``../``, or any URI that
        Airflow has a filesystem for (templated); a ``pathlib.Path`` of the worker or an
        ``ObjectStoragePath`` does as well. A text that ends in ``/`` is a folder, in which the file
        is named after the report run.
    :param storage_conn_id: the Airflow connection of the store (templated).
    :param storage_options: how the store is to keep files, in its own words (templated). For S3
        they are ``ExtraArgs`` of boto3's ``upload_file``, such as ``{"ServerSideEncryption":
        "aws:kms", "SSEKMSKeyId": "..."}``, an ``ACL`` or a ``StorageClass``; for other stores
        arguments of ``open`` of their fsspec filesystem. By default none.
    :param if_exists: what to do when something stands there: ``"replace"``, ``"skip"`` (keep it,
        and say so) or ``"fail"`` (templated).
    :param if_empty: what to do with a result without rows, be it a header alone, nothing at all, or
        a ZIP of such files: ``"land"`` it like any other, ``"skip"`` the task, or ``"fail"`` it
        with ``ResultEmpty``. The last two publish nothing and leave alone what stands there
        (templated).
    :param decompress: whether to unpack a ZIP: into a folder under its members' names, or, when it
        holds one file, as the destination (templated).
    :param marker: name of an empty file, such as ``"_SUCCESS"``, that is published in a folder
        after all others, for readers who wait for it; by default none. An earlier one is not taken
        away while its folder is landed in anew (templated).
    :param max_unpacked_bytes: a ZIP that would unpack to more is refused; by default 50 GB, ten
        times what Stripe lets a result have, so that no ZIP fills the disk by surprise (templated).
    :param max_members: a ZIP with more entries is refused (templated); by default 1,000, for each
        file of a folder is told in XCom.
    :param spool_dir: local folder for temporary files, for stores (templated); by default the
        system's.
    :param output_format: ``"parquet"`` to convert CSV while landing, in blocks, for which the extra
        ``parquet`` must be installed; by default what Stripe sends is landed as it is. Columns have
        the types that Stripe announces for them, and are text where it announces none; what it
        announces as a double lands as ``decimal(38,18)``, for so is money. A value that does not
        fit is an error, and then nothing is published. A ZIP needs ``decompress`` with it; its
        members' names, and those of files in folders, end in ``.parquet`` then (templated).
    :param column_types: names of columns and their types, over what Stripe announces:
        ``bigint, boolean, date, decimal, double, timestamp, timestamptz, varchar`` or, with digits
        in all and after the point, ``decimal(38,9)`` (templated).
    :param reportrun_conn_id: the connection (templated).
    :param stripe_context: the account that the report is about, over the connection's own
        (templated).
    """

    template_fields: Sequence[str] = (
        "report_run_id",
        *_LandingOperator.landing_fields,
        "stripe_context",
        "reportrun_conn_id",
    )
    operator_extra_links = (ReportRunLink(),)
    ui_color = "#e8e6ff"

    def __init__(
        self,
        *,
        report_run_id: str | XComArg,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report_run_id = report_run_id
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context

    def execute(self, context: Context) -> Any:
        """
        Land the result.

        :return: see the class.
        """
        with operator_outcomes(self):
            check_all(self, self.argument_checks)
        with (
            operator_outcomes(self),
            created_elsewhere(),
            ReportRunHook(self.reportrun_conn_id, stripe_context=self.stripe_context) as hook,
        ):
            self._report_run_id = report_run_id = checked_id(self.report_run_id, "report_run_id")
            show_link(self, context, hook.access, report_run_id)
            return self._land(context, hook, report_run_id)


class ReportRunToStorageOperator(CreateReportRunOperator, _LandingOperator):
    """
    Create a report run, wait for it and land its result, in one task.

    A third of the task instances of the three tasks; made for backfills. Takes the arguments of
    ``CreateReportRunOperator`` (but ``wait_for_completion``, which is always so) and of
    ``DownloadReportResultOperator`` (but ``report_run_id``); ``deferrable`` and
    ``wait_for_data`` are on by default.

    Returns (XCom) what ``DownloadReportResultOperator`` returns.
    """

    template_fields: Sequence[str] = (
        *CreateReportRunOperator.template_fields,
        *_LandingOperator.landing_fields,
    )
    argument_checks = {  # noqa: RUF012 - of the base
        **CreateReportRunOperator.argument_checks,
        **_LandingOperator.argument_checks,
    }

    def __init__(
        self, *, deferrable: bool = True, wait_for_data: bool | Late = True, **kwargs: Any
    ) -> None:
        super().__init__(
            deferrable=deferrable, wait_for_data=wait_for_data, wait_for_completion=True, **kwargs
        )

    def _execute(self, context: Context) -> Any:
        kept = self._destination(context).look()
        if kept is not None:
            return self._tell(context, kept)
        return super()._execute(context)

    def _order(
        self, context: Context, hook: ReportRunHook, left_out: frozenset[str] = frozenset()
    ) -> Order:
        order = super()._order(context, hook, left_out)
        is_compressed = (order.result_options or {}).get("compress_file")
        self._destination(context).check_result("zip" if is_compressed else "csv")
        return order

    def _complete(
        self, context: Context, hook: ReportRunHook, report_run_id: str, attempt: _Attempt
    ) -> Any:
        try:
            return self._land(context, hook, report_run_id)
        except ResultGone as error:
            gone = error
        return self._land_another(context, hook, attempt, report_run_id, gone)

    def _land_another(
        self,
        context: Context,
        hook: ReportRunHook,
        attempt: _Attempt,
        report_run_id: str,
        error: ResultGone,
    ) -> Any:
        """
        Land another report run, where an earlier try left one whose file is gone by now.

        Nothing but the attempt to land it tells that, where Airflow keeps no state between tries,
        so this try goes on to what it may ask for anew.

        :raises ResultGone: when the report run is this try's own; the next try may ask anew.
        """
        lost = {*attempt.order.gone, report_run_id}
        record = replace(attempt.record, report_run_id=None, gone=sorted(lost))
        order = replace(attempt.order, gone=frozenset(lost))
        remember(context, record)
        if order.runs_allowed > 1:
            self.log.info("The file of report run %s is gone: %s", report_run_id, error)
            run = self._create(hook, order, attempt.patience)
            if run.id not in lost:
                return self._go_on(context, hook, replace(attempt, order=order, record=record), run)
        raise ResultGone(
            f"The result file is gone (HTTP {error.status}); the next try makes a new report run. "
            f"If there is none, clear this task. It was of report run {report_run_id}.",
            **{**error.facts, "report_run_id": report_run_id, "transient": True},
        )


class _Definition:
    """
    A report's definition, which one try asks for once at most, even where it cannot be had.

    :param report: id of the report.
    """

    def __init__(self, hook: ReportRunHook, report: str) -> None:
        self.wanted_at = time.monotonic()
        self._hook = hook
        self._report = report
        self._found: Report | None = None
        self._failure: ReportRunError | None = None

    def get(self) -> Report:
        """
        Get the definition, where it will do as this process got it a while ago.

        :raises ReportRunError: as ``ReportRunHook.definition`` does, the same each time.
        """
        if self._failure is not None:
            raise self._failure
        if self._found is None:
            try:
                self._found = self._hook.definition(self._report)
            except ReportRunError as error:
                self._failure = error
                raise
        return self._found


def _digest(order: Order) -> str:
    return body_digest(create_body(order.report, order.report_parameters, order.result_options))


def _identity(ti: Any) -> TaskIdentity:
    return TaskIdentity(
        dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index
    )


def _shown(value: str | list[str] | None) -> str | None:
    return value if isinstance(value, str) else None
