"""The operators: create a report run, land its result, or both in one task."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from airflow_provider_reportrun._compat import default_deferrable, is_resumed
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.landing import (
    LAND,
    MAX_MEMBERS,
    MAX_UNPACKED_BYTES,
    REPLACE,
    ColumnNames,
    IfEmpty,
    IfExists,
    OutputFormat,
)
from airflow_provider_reportrun.links.report_run import ReportRunLink
from airflow_provider_reportrun.operators._base import ApiOperator
from airflow_provider_reportrun.operators._landing import (
    LANDING_CHECKS,
    LANDING_FIELDS,
    download_result,
    kept_or_none,
    land_or_replace,
    take_landing_arguments,
)
from airflow_provider_reportrun.operators._running import (
    NEW_RUN,
    REUSE,
    Attempt,
    RunOperator,
    Settled,
)
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.calls import (
    if_any,
    key_if_any,
)
from airflow_provider_reportrun.protocol.flows import Plan
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    format_instant,
    parse_instant,
)
from airflow_provider_reportrun.task.arguments import (
    API_CHECKS,
    CONNECTION_CHECKS,
    Check,
    check_known,
    choice,
    flag,
    mapping,
    optional,
    plain_flag,
    zone,
)
from airflow_provider_reportrun.task.data_interval import DATA_INTERVAL_END, DATA_INTERVAL_START
from airflow_provider_reportrun.task.draft import Draft, WrittenBounds
from airflow_provider_reportrun.task.ending import check_ending
from airflow_provider_reportrun.task.waiting import (
    DAY_SECONDS,
    MAX_POLL_INTERVAL_SECONDS,
    POLL_INTERVAL_SECONDS,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime, timedelta, tzinfo
    from pathlib import PurePath

    import jinja2
    from airflow.sdk import Context, ObjectStoragePath, XComArg

    from airflow_provider_reportrun.errors import ReportRunError
    from airflow_provider_reportrun.protocol.flows import Definition
    from airflow_provider_reportrun.protocol.generations import Api
    from airflow_provider_reportrun.task.arguments import Late
    from airflow_provider_reportrun.task.record import Record

OnClear: TypeAlias = Literal["new_run", "reuse"]
_CREATE_CHECKS: Final[Mapping[str, Check]] = {
    "timezone": optional(zone),
    "report_parameters": optional(mapping),
    "idempotency_key": key_if_any,
    "on_clear": choice(NEW_RUN, REUSE),
    "validate": flag,
    "wait_for_data": flag,
    "wait_for_completion": flag,
    "deferrable": plain_flag,
    "end_from_trigger": plain_flag,
    "poll_interval": seconds,
    "max_poll_interval": seconds,
    "timeout": seconds,
    **API_CHECKS,
}
"""Checked when the DAG file is parsed, if the value is known by then."""


class CreateReportRunOperator(RunOperator):
    """
    Create a report run for the data interval of the DAG run: one per task instance and clear.

    The request has an idempotency key that is made from the task instance. If the task is killed
    at any moment, its retry finds the same report run again, for 30 days.

    Returns (XCom) the report run id.

    :param report: id of the report template (templated).
    :param interval_start: first instant of the report, inclusive (templated); by default the start
        of the data interval, unless the report's definition does not list it. An aware datetime or
        an ISO 8601 string with an offset. If ``timezone`` is passed or the DAG's timetable is in
        UTC, also a date or a timestamp without an offset. None sends none.
    :param interval_end: instant after the last one, exclusive (templated); in the same forms. By
        default the end of the data interval, unless the report's definition does not list it.
    :param timezone: name of the zone of dates and of timestamps without an offset (templated).
    :param report_parameters: further parameters of the report: strings, sequences of strings, dates
        or datetimes (templated). An interval in it is sent instead of the default.
    :param result_options: ``{"compress_file": True}`` for a ZIP (templated).
    :param idempotency_key: replaces the task instance in the key (templated), so that tasks can
        share a report run; the number of clears and the parameters are still part of the key.
    :param on_clear: whether a clear of the task requests a new report run (``"new_run"``) or the
        same one again (``"reuse"``) (templated).
    :param validate: whether to compare the parameters with the report's definition first, which
        costs at most one GET per report every five minutes. If the key may not read definitions,
        that is logged and nothing is checked (templated).
    :param wait_for_data: whether to wait until the API has the data of the interval. Otherwise the
        task fails with ``DataNotAvailable`` and is retried (templated).
    :param wait_for_completion: whether to wait until the report run has succeeded. Then the try
        after a failed report run creates a new one, unless its file was too large (templated).
    :param deferrable: whether to wait in the triggerer; by default ``[operators]
        default_deferrable``.
    :param end_from_trigger: whether the task ends in the triggerer if its wait there succeeds, so
        that no worker resumes it (Airflow 3.3). Every other outcome resumes the task on a worker.
        Such a task can have no outlets and no success callback, ``post_execute`` is not called, and
        Airflow refuses it if a plugin has listeners, as the OpenLineage provider does.
    :param poll_interval: shortest time between two polls: seconds or a timedelta. Only the first
        polls come sooner, when the run is about 2, 5 and 12 seconds old.
    :param max_poll_interval: longest time between two polls, likewise. The time grows with the age
        of the report run.
    :param timeout: for all waits together: seconds or a timedelta. After it, the report run goes on
        at Stripe, because the API has no cancel.
    :param reportrun_conn_id: the Airflow connection (templated).
    :param stripe_context: the account that the report is about; overrides the connection's
        (templated).
    :param api: the generation of the API, ``"v2.reporting"``, ``"v2.data"`` or ``"v1"``; overrides
        the connection's (templated).
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
        "api",
        "reportrun_conn_id",
    )
    argument_checks = {**_CREATE_CHECKS, **CONNECTION_CHECKS, "result_options": if_any}  # noqa: RUF012 - of the base
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
        on_clear: OnClear | Late = "new_run",
        validate: bool | Late = True,
        wait_for_data: bool | Late = False,
        wait_for_completion: bool | Late = False,
        deferrable: bool = default_deferrable(),
        end_from_trigger: bool = False,
        poll_interval: float | timedelta = POLL_INTERVAL_SECONDS,
        max_poll_interval: float | timedelta = MAX_POLL_INTERVAL_SECONDS,
        timeout: float | timedelta = DAY_SECONDS,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        api: Api | Late | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report = report
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.written_bounds = WrittenBounds.of(interval_start, interval_end)
        self.timezone: Any = timezone
        self.report_parameters: Any = report_parameters
        self.result_options = result_options
        self.idempotency_key = idempotency_key
        self.on_clear = on_clear
        self.validate: Any = validate
        self.wait_for_data: Any = wait_for_data
        self.wait_for_completion: Any = wait_for_completion
        self.deferrable = deferrable
        self.end_from_trigger = end_from_trigger
        self.poll_interval = poll_interval
        self.max_poll_interval = max_poll_interval
        self.timeout = timeout
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self.api: Any = api
        check_known(self, _CREATE_CHECKS)
        check_ending(self)

    def render_template_fields(
        self, context: Context, jinja_env: jinja2.Environment | None = None
    ) -> None:
        """
        Render templates as Airflow does, and the data interval's bounds as they are sent.

        Then Airflow need not store the rendered fields again after the task. A resumed task that
        fails keeps showing the bounds as Airflow renders them, as in earlier releases.
        """
        super().render_template_fields(context, jinja_env)
        for name in () if is_resumed(context.get("ti")) else self.written_bounds.default:
            with suppress(InvalidInput):  # the task says so when it runs
                bound = parse_instant(getattr(self, name), argument=name, zone=None)
                setattr(self, name, format_instant(bound))

    def settle(self, context: Context, hook: ReportRunHook, earlier: Record | None) -> Settled:
        """
        Decide which default bounds of the interval are sent.

        Without the definition all of them are sent, if there are any to send.

        :raises InvalidInput: names the argument and the fix; no create was sent.
        :raises ReportRunError: if nothing can be sent without the definition, and it cannot be
            read at the moment.
        """
        draft = Draft.of(self, context, hook.api)
        draft.request(draft.defaulted)  # refuse what the user passed before any request
        left_out, definition = draft.left_out_before(earlier), None
        if left_out is None and _is_definition_needed(self, draft):
            definition = hook.converse(flows.define(hook.api, self.report))
            if draft.lacks_interval:
                _raise_if_it_may_pass(definition)
            left_out = draft.not_taken(definition)
            self._log_left_out(left_out)
        left_out = left_out or frozenset()
        request = draft.request(left_out)
        if (warning := draft.inclusive_end(request)) is not None:
            self.log.warning("%s", warning)
        return self._settled(draft, left_out, definition)

    def settled_before(
        self, context: Context, hook: ReportRunHook, left_out: frozenset[str]
    ) -> Settled:
        """Return what was requested before the task was deferred."""
        return self._settled(Draft.of(self, context, hook.api), left_out)

    def correct(
        self, context: Context, hook: ReportRunHook, left_out: frozenset[str]
    ) -> Settled | None:
        """
        Leave out further default bounds, if the API refused them.

        Nothing was created with the refused body, so another key makes no second report run.

        :return: None if the definition lists all bounds that were sent.
        """
        draft = Draft.of(self, context, hook.api)
        if not draft.defaulted - left_out:
            return None
        definition = hook.converse(flows.define(hook.api, self.report))
        _raise_if_it_may_pass(definition)
        not_taken = draft.not_taken(definition) - left_out
        if not not_taken:
            return None
        self._log_left_out(not_taken)
        return self._settled(draft, left_out | not_taken, definition)

    def _settled(
        self, draft: Draft, left_out: frozenset[str], definition: Definition | None = None
    ) -> Settled:
        request = draft.request(left_out)
        # Airflow shows these under Rendered Templates.
        self.interval_start = _text_or_none(request.parameters.get(INTERVAL_START))
        self.interval_end = _text_or_none(request.parameters.get(INTERVAL_END))
        return Settled(request, left_out, definition)

    def _log_left_out(self, left_out: frozenset[str]) -> None:
        if left_out:
            self.log.info(
                "The report %s does not take %s, so the data interval's is not sent",
                self.report,
                " and ".join(sorted(left_out, reverse=True)),
            )

    def plan(self, definition: Definition | None) -> Plan:
        """Return what to do besides the create."""
        return Plan(
            validate=self.validate,
            wait_for_data=self.wait_for_data,
            wait_for_completion=self.wait_for_completion,
            definition=definition,
            rides_out_outages=False,
        )


class DownloadReportResultOperator(ApiOperator):
    """
    Land the result of a succeeded report run, whole or not at all.

    The result's URL is valid for five minutes, so this task requests it itself. The file is staged
    where no reader finds it. It is published only after its size, and the checksums of a ZIP, are
    verified.

    Returns (XCom) the URI of what was landed, without a connection id; with ``decompress`` into a
    folder, a list of URIs. XCom ``landing`` has ``uri, size, sha256, content_type,
    report_run_id, report, report_parameters, stripe_context, livemode, api, interval_start,
    interval_end, members, skipped``, and after a conversion ``rows, columns, received``. The events
    of the task's outlet assets have the same facts.

    :param report_run_id: the report run, usually ``create_task.output`` (templated).
    :param destination: an absolute local path, a path that begins with ``./`` or ``../``, or any
        URI that Airflow has a filesystem for (templated); also a ``pathlib.Path`` or an
        ``ObjectStoragePath``. Text that ends in ``/`` is a folder: the file in it is named after
        the report run.
    :param storage_conn_id: the Airflow connection of the store (templated).
    :param storage_options: how the store keeps files (templated). For S3, ``ExtraArgs`` of boto3's
        ``upload_file``, such as ``{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "..."}``, an
        ``ACL`` or a ``StorageClass``. For other stores, arguments of ``open`` of their fsspec
        filesystem. By default none.
    :param if_exists: what to do if the file exists: ``"replace"`` it, ``"skip"`` (keep it, and say
        so) or ``"fail"`` (templated).
    :param if_empty: what to do with a result without rows (only a header, nothing at all, or a ZIP
        of such files): ``"land"`` it like any other, ``"skip"`` the task, or ``"fail"`` it with
        ``ResultEmpty``. The last two publish nothing and keep an existing file (templated).
    :param decompress: whether to unpack a ZIP: into a folder under its members' names, or, if it
        has one member, as the destination (templated).
    :param marker: name of an empty file, such as ``"_SUCCESS"``, that is published in a folder
        after all others, for readers who wait for it; by default none. A marker from before is not
        removed while the folder is landed again (templated).
    :param max_unpacked_bytes: a ZIP that would unpack to more is refused; by default 50 GB, ten
        times the largest result that Stripe allows, so that no ZIP fills the disk (templated).
    :param max_members: a ZIP with more entries is refused (templated); by default 1,000, because
        XCom lists each file of a folder.
    :param spool_dir: local folder for temporary files, for stores (templated); by default the
        system's.
    :param output_format: ``"parquet"`` converts CSV while landing, in blocks; this needs the extra
        ``parquet``. ``"csv.gz"`` compresses it with gzip. By default, the file is landed as Stripe
        sends it. Columns of a Parquet file get the types that Stripe announces, and are text if it
        announces none. Columns announced as ``double`` are written as ``decimal(38,18)``, because
        Stripe uses ``double`` for money. If a value does not fit, the task fails and nothing is
        published. A ZIP also needs ``decompress``. File names in folders end in ``.parquet`` or
        ``.csv.gz`` (templated).
    :param column_types: names of columns and their types, which override what Stripe announces:
        ``bigint, boolean, date, decimal, double, timestamp, timestamptz, varchar`` or, with the
        number of digits in total and after the point, ``decimal(38,9)``. The names are those of the
        report, also with ``column_names`` (templated).
    :param column_names: ``"snake"`` renames the columns to names that warehouses take without
        quotes: ``metadata[order id]`` to ``metadata_order_id``, ``Card Brand`` to ``card_brand``.
        If two columns would have the same name, the task fails and nothing is published. A ZIP also
        needs ``decompress``. By default, names are kept (templated).
    :param reportrun_conn_id: the Airflow connection (templated).
    :param stripe_context: the account that the report is about; overrides the connection's
        (templated).
    :param api: the generation of the API, ``"v2.reporting"``, ``"v2.data"`` or ``"v1"``; overrides
        the connection's (templated).
    """

    template_fields: Sequence[str] = (
        "report_run_id",
        *LANDING_FIELDS,
        "stripe_context",
        "api",
        "reportrun_conn_id",
    )
    argument_checks = {**LANDING_CHECKS, **CONNECTION_CHECKS}  # noqa: RUF012 - of the base
    operator_extra_links = (ReportRunLink(),)
    ui_color = "#e8e6ff"

    def __init__(
        self,
        *,
        report_run_id: str | XComArg,
        destination: str | PurePath | ObjectStoragePath,
        storage_conn_id: str | None = None,
        storage_options: Mapping[str, Any] | Late | None = None,
        if_exists: IfExists | Late = REPLACE,
        if_empty: IfEmpty | Late = LAND,
        decompress: bool | Late = False,
        marker: Late | None = None,
        max_unpacked_bytes: int | Late = MAX_UNPACKED_BYTES,
        max_members: int | Late = MAX_MEMBERS,
        spool_dir: str | PurePath | None = None,
        output_format: OutputFormat | Late | None = None,
        column_types: Mapping[str, str] | Late | None = None,
        column_names: ColumnNames | Late | None = None,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        api: Api | Late | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        take_landing_arguments(self, locals())
        self.report_run_id = report_run_id
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self.api: Any = api
        check_known(self, API_CHECKS)

    def execute(self, context: Context) -> Any:
        """
        Land the result.

        :return: see the class.
        """
        return download_result(self, context, "report_run_id")


class ReportRunToStorageOperator(CreateReportRunOperator):
    """
    Create a report run, wait for it and land its result, in one task.

    A DAG has a third of the task instances of the three tasks, so this operator suits backfills. It
    always waits for completion, in the triggerer by default, and by default waits for the data too.

    Returns (XCom) what ``DownloadReportResultOperator`` returns.

    The arguments are those of ``CreateReportRunOperator`` except ``wait_for_completion``, and those
    of ``DownloadReportResultOperator`` except ``report_run_id``.
    """

    template_fields: Sequence[str] = (*CreateReportRunOperator.template_fields, *LANDING_FIELDS)
    argument_checks = {**CreateReportRunOperator.argument_checks, **LANDING_CHECKS}  # noqa: RUF012 - of the base

    def __init__(
        self,
        *,
        report: str,
        destination: str | PurePath | ObjectStoragePath,
        interval_start: str | date | datetime | None = DATA_INTERVAL_START,
        interval_end: str | date | datetime | None = DATA_INTERVAL_END,
        timezone: tzinfo | Late | None = None,
        report_parameters: Mapping[str, Any] | Late | None = None,
        result_options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        on_clear: OnClear | Late = "new_run",
        validate: bool | Late = True,
        wait_for_data: bool | Late = True,
        deferrable: bool = True,
        poll_interval: float | timedelta = POLL_INTERVAL_SECONDS,
        max_poll_interval: float | timedelta = MAX_POLL_INTERVAL_SECONDS,
        timeout: float | timedelta = DAY_SECONDS,
        storage_conn_id: str | None = None,
        storage_options: Mapping[str, Any] | Late | None = None,
        if_exists: IfExists | Late = REPLACE,
        if_empty: IfEmpty | Late = LAND,
        decompress: bool | Late = False,
        marker: Late | None = None,
        max_unpacked_bytes: int | Late = MAX_UNPACKED_BYTES,
        max_members: int | Late = MAX_MEMBERS,
        spool_dir: str | PurePath | None = None,
        output_format: OutputFormat | Late | None = None,
        column_types: Mapping[str, str] | Late | None = None,
        column_names: ColumnNames | Late | None = None,
        reportrun_conn_id: str = ReportRunHook.default_conn_name,
        stripe_context: str | None = None,
        api: Api | Late | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            report=report,
            interval_start=interval_start,
            interval_end=interval_end,
            timezone=timezone,
            report_parameters=report_parameters,
            result_options=result_options,
            idempotency_key=idempotency_key,
            on_clear=on_clear,
            validate=validate,
            wait_for_data=wait_for_data,
            wait_for_completion=True,
            deferrable=deferrable,
            end_from_trigger=False,
            poll_interval=poll_interval,
            max_poll_interval=max_poll_interval,
            timeout=timeout,
            reportrun_conn_id=reportrun_conn_id,
            stripe_context=stripe_context,
            api=api,
            **kwargs,
        )
        take_landing_arguments(self, locals())

    def kept(self, context: Context) -> Any | None:
        """
        Look at the destination before a report run is created.

        :return: the result of a task that keeps the existing file; None to go on.
        :raises LandingExists: if a file exists and ``if_exists`` is ``fail``.
        :raises InvalidInput: if the result cannot be landed as the arguments say.
        """
        return kept_or_none(self, context)

    def finish(
        self, context: Context, hook: ReportRunHook, attempt: Attempt, report_run_id: str
    ) -> Any:
        """
        Land the result, or that of another report run if its file no longer exists.

        :raises ResultGone: if the report run is this try's own; the next try creates a new one.
        """
        return land_or_replace(self, context, hook, attempt, report_run_id)


def _is_definition_needed(task: CreateReportRunOperator, draft: Draft) -> bool:
    """Tell whether the report's definition decides what is sent, or is checked anyway."""
    if not draft.defaulted or draft.is_hopeless:
        return False
    return bool(draft.lacks_interval or task.validate or task.wait_for_data)


def _raise_if_it_may_pass(definition: Definition) -> None:
    """
    Raise why a definition cannot be read, if that may change.

    :raises ReportRunError: if the error is transient.
    """
    failure: ReportRunError | None = definition.failure
    if failure is not None and failure.transient:
        raise failure


def _text_or_none(value: str | list[str] | None) -> str | None:
    return value if isinstance(value, str) else None
