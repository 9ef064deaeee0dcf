"""The operators for SQL queries: create a query run, land its result, or both in one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_provider_reportrun._compat import default_deferrable
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.landing import LAND, MAX_MEMBERS, MAX_UNPACKED_BYTES, REPLACE
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
from airflow_provider_reportrun.protocol.calls import if_any, key_if_any
from airflow_provider_reportrun.protocol.flows import Plan
from airflow_provider_reportrun.protocol.requests import QueryRequest, checked_sql
from airflow_provider_reportrun.task.arguments import (
    CONNECTION_CHECKS,
    QUERY_CHECKS,
    Check,
    check_known,
    choice,
    flag,
    plain_flag,
)
from airflow_provider_reportrun.task.ending import check_ending
from airflow_provider_reportrun.task.waiting import (
    DAY_SECONDS,
    MAX_POLL_INTERVAL_SECONDS,
    POLL_INTERVAL_SECONDS,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from pathlib import PurePath

    from airflow.sdk import Context, ObjectStoragePath, XComArg

    from airflow_provider_reportrun.landing import ColumnNames, IfEmpty, IfExists, OutputFormat
    from airflow_provider_reportrun.operators.report_run import OnClear
    from airflow_provider_reportrun.protocol.flows import Definition
    from airflow_provider_reportrun.protocol.generations import Api
    from airflow_provider_reportrun.task.arguments import Late
    from airflow_provider_reportrun.task.record import Record


def _sql(value: Any, name: str) -> str:  # noqa: ARG001 - the signature of a check
    return checked_sql(value)


_CREATE_CHECKS: Final[Mapping[str, Check]] = {
    "sql": _sql,
    "idempotency_key": key_if_any,
    "on_clear": choice(NEW_RUN, REUSE),
    "wait_for_completion": flag,
    "deferrable": plain_flag,
    "end_from_trigger": plain_flag,
    "poll_interval": seconds,
    "max_poll_interval": seconds,
    "timeout": seconds,
    **QUERY_CHECKS,
}
"""Checked when the DAG file is parsed, if the value is known by then."""


class CreateQueryRunOperator(RunOperator):
    """
    Create a query run: one per task instance and clear.

    The request has an idempotency key that is made from the task instance and the query. If the
    task is killed at any moment, its retry finds the same query run again, for 30 days. An error in
    the SQL is not retried.

    Returns (XCom) the query run id.

    :param sql: the query (templated), or the path of a ``.sql`` file next to the DAG file, which is
        a template too.
    :param result_options: how the result is made, such as ``{"compress_file": True}`` for a ZIP
        (templated).
    :param idempotency_key: replaces the task instance in the key (templated), so that tasks can
        share a query run; the number of clears and the query are still part of the key.
    :param on_clear: whether a clear of the task requests a new query run (``"new_run"``) or the
        same one again (``"reuse"``) (templated).
    :param wait_for_completion: whether to wait until the query run has succeeded. Then the try
        after a failed query run creates a new one, unless its SQL is wrong (templated).
    :param deferrable: whether to wait in the triggerer; by default ``[operators]
        default_deferrable``.
    :param end_from_trigger: whether the task ends in the triggerer if its wait there succeeds, so
        that no worker resumes it (Airflow 3.3). Every other outcome resumes the task on a worker.
        Such a task can have no outlets and no success callback, ``post_execute`` is not called, and
        Airflow refuses it if a plugin has listeners, as the OpenLineage provider does.
    :param poll_interval: shortest time between two polls: seconds or a timedelta. Only the first
        polls come sooner, when the run is about 2, 5 and 12 seconds old.
    :param max_poll_interval: longest time between two polls, likewise. The time grows with the age
        of the query run.
    :param timeout: for all waits together: seconds or a timedelta. After it, the query run goes on
        at Stripe, because the API has no cancel.
    :param reportrun_conn_id: the Airflow connection (templated).
    :param stripe_context: the account that the query is about; overrides the connection's
        (templated).
    :param api: the generation of the API, ``"v2.reporting"`` or ``"v2.data"``; overrides the
        connection's (templated). ``"v1"`` has no query runs.
    """

    template_fields: Sequence[str] = (
        "sql",
        "result_options",
        "idempotency_key",
        "on_clear",
        "wait_for_completion",
        "stripe_context",
        "api",
        "reportrun_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "result_options": "json"}  # noqa: RUF012 - as Airflow declares it
    noun = "query run"
    argument_checks = {**CONNECTION_CHECKS, **_CREATE_CHECKS, "result_options": if_any}  # noqa: RUF012 - of the base
    operator_extra_links = (ReportRunLink(),)
    ui_color = "#e8e6ff"

    def __init__(
        self,
        *,
        sql: str,
        result_options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        on_clear: OnClear | Late = "new_run",
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
        self.sql = sql
        self.result_options = result_options
        self.idempotency_key = idempotency_key
        self.on_clear = on_clear
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

    def hook(self) -> ReportRunHook:
        """
        Return a hook for query runs, which the caller closes.

        :raises InvalidInput: if the generation of the API has no query runs.
        """
        return super().hook().for_queries()

    def settle(
        self,
        context: Context,  # noqa: ARG002 - of the base
        hook: ReportRunHook,
        earlier: Record | None,  # noqa: ARG002
    ) -> Settled:
        """
        Return the query.

        :raises InvalidInput: if it is empty, or its options are not valid.
        """
        request = QueryRequest(self.sql, self.result_options or None)
        hook.api.create_body(request)
        return Settled(request)

    def settled_before(
        self,
        context: Context,
        hook: ReportRunHook,
        left_out: frozenset[str],  # noqa: ARG002 - of the base
    ) -> Settled:
        """Return the query."""
        return self.settle(context, hook, None)

    def correct(
        self,
        context: Context,  # noqa: ARG002 - of the base
        hook: ReportRunHook,  # noqa: ARG002
        left_out: frozenset[str],  # noqa: ARG002
    ) -> Settled | None:
        """Return None, because a query that the API refuses is wrong."""
        return None

    def plan(self, definition: Definition | None) -> Plan:  # noqa: ARG002 - of the base
        """Return what to do besides the create."""
        return Plan(wait_for_completion=self.wait_for_completion, rides_out_outages=False)


class DownloadQueryResultOperator(ApiOperator):
    """
    Land the result of a succeeded query run, whole or not at all.

    The other arguments, the XComs and the asset events are those of
    ``DownloadReportResultOperator``.

    :param query_run_id: the query run, usually ``create_task.output`` (templated).
    """

    template_fields: Sequence[str] = (
        "query_run_id",
        *LANDING_FIELDS,
        "stripe_context",
        "api",
        "reportrun_conn_id",
    )
    noun = "query run"
    argument_checks = {**LANDING_CHECKS, **CONNECTION_CHECKS, **QUERY_CHECKS}  # noqa: RUF012 - of the base
    operator_extra_links = (ReportRunLink(),)
    ui_color = "#e8e6ff"

    def __init__(
        self,
        *,
        query_run_id: str | XComArg,
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
        self.query_run_id = query_run_id
        self.reportrun_conn_id = reportrun_conn_id
        self.stripe_context = stripe_context
        self.api: Any = api
        check_known(self, QUERY_CHECKS)

    def hook(self) -> ReportRunHook:
        """
        Return a hook for query runs, which the caller closes.

        :raises InvalidInput: if the generation of the API has no query runs.
        """
        return super().hook().for_queries()

    def execute(self, context: Context) -> Any:
        """
        Land the result.

        :return: see the class.
        """
        return download_result(self, context, "query_run_id")


class QueryRunToStorageOperator(CreateQueryRunOperator):
    """
    Create a query run, wait for it and land its result, in one task.

    It always waits for completion, in the triggerer by default.

    Returns (XCom) what ``DownloadQueryResultOperator`` returns.

    The arguments are those of ``CreateQueryRunOperator`` except ``wait_for_completion``, and those
    of ``DownloadQueryResultOperator`` except ``query_run_id``.
    """

    template_fields: Sequence[str] = (*CreateQueryRunOperator.template_fields, *LANDING_FIELDS)
    argument_checks = {**CreateQueryRunOperator.argument_checks, **LANDING_CHECKS}  # noqa: RUF012 - of the base

    def __init__(
        self,
        *,
        sql: str,
        destination: str | PurePath | ObjectStoragePath,
        result_options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        on_clear: OnClear | Late = "new_run",
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
            sql=sql,
            result_options=result_options,
            idempotency_key=idempotency_key,
            on_clear=on_clear,
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
        Look at the destination before a query run is created.

        :return: the result of a task that keeps the existing file; None to go on.
        :raises LandingExists: if a file exists and ``if_exists`` is ``fail``.
        :raises InvalidInput: if the result cannot be landed as the arguments say.
        """
        return kept_or_none(self, context)

    def finish(
        self, context: Context, hook: ReportRunHook, attempt: Attempt, report_run_id: str
    ) -> Any:
        """
        Land the result, or that of another query run if its file no longer exists.

        :raises ResultGone: if the query run is this try's own; the next try creates a new one.
        """
        return land_or_replace(self, context, hook, attempt, report_run_id)
