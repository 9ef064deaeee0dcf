"""The promised names with their documented types: read by mypy alone, never run."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import requests
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, XComArg
from typing_extensions import assert_type

from airflow_provider_reportrun import __version__, errors
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.query_run import (
    CreateQueryRunOperator,
    DownloadQueryResultOperator,
    QueryRunToStorageOperator,
)
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.protocol.models import Report, ReportRun, ResultFacts
from airflow_provider_reportrun.sandbox import Sandbox
from airflow_provider_reportrun.sensors.query_run import QueryRunSensor
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor
from airflow_provider_reportrun.triggers.report_run import (
    CreateReportRunTrigger,
    ReportDataTrigger,
    ReportRunTrigger,
)

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

assert_type(__version__, str)


def hook() -> None:
    """The hook, blocking."""
    base: BaseHook = ReportRunHook()
    ReportRunHook("other", stripe_context="acct_1", api="v1")
    with ReportRunHook(reportrun_conn_id="other", stripe_context=None) as opened:
        assert_type(opened, ReportRunHook)
        assert_type(opened.get_conn(), requests.Session)
        run = opened.create_report_run("balance_summary", {"columns": ["a"], "currency": "eur"})
        opened.create_report_run(
            report="balance_summary",
            report_parameters={"interval_start": datetime(2026, 8, 3, tzinfo=timezone.utc)},
            result_options={"compress_file": True},
            idempotency_key="mine",
        )
        assert_type(run, ReportRun)
        assert_type(opened.get_report_run(run.id), ReportRun)
        assert_type(opened.get_report("balance_summary"), Report)
        opened.wait_for_report_run(run.id, poll_interval=5, timeout=60)
        waited = opened.wait_for_report_run(
            report_run_id=run.id, poll_interval=5.0, timeout=timedelta(hours=1)
        )
        assert_type(waited, ReportRun)
        assert_type(opened.download_result(run.id, "report.csv"), ResultFacts)
        assert_type(opened.download_result(run.id, path=Path("report.csv")), ResultFacts)
        assert_type(opened.test_connection(), tuple[bool, str])
    del base


async def awaiting_hook(awaiting: ReportRunHook) -> None:
    """The hook, awaiting."""
    run = await awaiting.acreate_report_run(
        "balance_summary", {}, {"compress_file": False}, idempotency_key=None
    )
    assert_type(run, ReportRun)
    assert_type(await awaiting.aget_report_run(run.id), ReportRun)
    assert_type(await awaiting.aget_report("balance_summary"), Report)


def models(run: ReportRun, report: Report, facts: ResultFacts) -> None:
    """What the hook returns."""
    assert_type(run.id, str)
    assert_type(run.status, str)
    assert_type(run.is_finished, bool)
    assert_type(run.created_at, datetime | None)
    assert_type(run.summary(), dict[str, Any])
    if run.file is not None:
        assert_type(run.file.size, int | None)
    for name, parameter in report.parameters.items():
        assert_type(name, str)
        assert_type(parameter.allowed_values, tuple[str, ...] | None)
        assert_type(parameter.latest, datetime | None)
    assert_type(facts.size, int)
    assert_type(facts.sha256, str)


def tasks() -> None:
    """A DAG author's three tasks, and the one."""
    with DAG("d", schedule=None) as made:
        create = CreateReportRunOperator(task_id="create", report="balance_summary")
        CreateReportRunOperator(
            task_id="more",
            report="balance_summary",
            interval_start=datetime(2026, 8, 3, tzinfo=timezone.utc),
            interval_end=date(2026, 8, 10),
            timezone="Europe/Paris",
            report_parameters={"columns": ["a"]},
            result_options={"compress_file": True},
            idempotency_key="{{ ds }}",
            on_clear="reuse",
            wait_for_completion=True,
            deferrable=True,
            poll_interval=30,
            max_poll_interval=timedelta(minutes=5),
            timeout=24 * 3600.0,
            reportrun_conn_id="other",
            stripe_context="acct_1",
            retries=2,
        )
        CreateReportRunOperator(
            task_id="all_data", report="r", interval_start=None, interval_end=None
        )
        CreateReportRunOperator(
            task_id="as_rendered", report="r", report_parameters=made.param("parameters")
        )
        wait = ReportRunSensor(
            task_id="wait",
            report_run_id=create.output,
            reportrun_conn_id="other",
            stripe_context="acct_1",
            deferrable=True,
            poke_interval=30,
            max_wait=timedelta(minutes=5),
            timeout=3600.0,
            soft_fail=True,
        )
        data = ReportDataSensor(
            task_id="data",
            report="balance_summary",
            interval_end="{{ data_interval_end }}",
            deferrable=True,
            poke_interval=60.0,
            max_wait=600.0,
            timeout=timedelta(days=1),
        )
        download = DownloadReportResultOperator(
            task_id="download",
            report_run_id=XComArg(create),
            destination="s3://bucket/{{ ds }}.csv",
            storage_conn_id="aws_default",
            if_exists="skip",
            decompress=True,
            spool_dir="/var/spool",
            output_format="parquet",
            column_types={"net": "decimal(18,2)"},
            column_names="snake",
        )
        DownloadReportResultOperator(
            task_id="as_asked",
            report_run_id=XComArg(create),
            destination="/srv/reports/",
            if_exists="{{ params.if_exists }}",
            decompress=made.param("unpack"),
            max_unpacked_bytes="{{ params.most }}",
            spool_dir=PurePath("/var/spool"),
            column_types="{{ params.types | tojson }}",
            column_names=made.param("names"),
        )
        whole = ReportRunToStorageOperator(
            task_id="whole",
            report="balance_summary",
            destination="/srv/reports/",
            if_exists="fail",
            deferrable=False,
        )
    operators: list[BaseOperator] = [create, wait, data, download, whole]
    sensors: list[BaseSensorOperator] = [wait, data]
    del operators, sensors


def tasks_of_queries() -> None:
    """The same of SQL queries."""
    with DAG("q", schedule=None) as made:
        create = CreateQueryRunOperator(
            task_id="create",
            sql="select 1",
            result_options={"compress_file": True},
            idempotency_key="{{ ds }}",
            on_clear="reuse",
            wait_for_completion=made.param("wait"),
            deferrable=True,
            poll_interval=30,
            max_poll_interval=timedelta(minutes=5),
            timeout=24 * 3600.0,
            reportrun_conn_id="other",
            stripe_context="acct_1",
            api="v2.data",
        )
        wait = QueryRunSensor(
            task_id="wait",
            query_run_id=create.output,
            api="v2.data",
            deferrable=True,
            poke_interval=30,
            max_wait=timedelta(minutes=5),
            soft_fail=True,
        )
        download = DownloadQueryResultOperator(
            task_id="download",
            query_run_id=XComArg(create),
            destination=PurePath("/srv/queries/"),
            if_exists="skip",
            output_format="csv.gz",
            column_names="{{ params.names }}",
            api="{{ params.api }}",
        )
        whole = QueryRunToStorageOperator(
            task_id="whole", sql="weekly.sql", destination="s3://bucket/{{ ds }}.csv", api=None
        )
        CreateReportRunOperator(task_id="old", report="balance.summary.1", api="v1")
        ReportRunSensor(task_id="of_old", report_run_id="frr_1", api="v1")
        ReportDataSensor(task_id="data", report="balance.summary.1", api=made.param("api"))
    operators: list[BaseOperator] = [create, wait, download, whole]
    sensors: list[BaseSensorOperator] = [wait]
    del operators, sensors


def triggers() -> list[BaseTrigger]:
    """What is stored of a wait."""
    wait = ReportRunTrigger(
        report_run_id="reprun_1",
        reportrun_conn_id="reportrun_default",
        stripe_context=None,
        poll_interval=30.0,
        max_poll_interval=300.0,
        deadline=1_800_000_000.0,
    )
    create = CreateReportRunTrigger(
        report="balance_summary",
        report_parameters={"currency": "eur"},
        result_options=None,
        idempotency_key="k",
        wait_for_completion=True,
        reportrun_conn_id="reportrun_default",
        deadline=1_800_000_000.0,
    )
    data = ReportDataTrigger(
        report="balance_summary",
        interval_end="2026-08-10T00:00:00.000Z",
        reportrun_conn_id="reportrun_default",
        deadline=1_800_000_000.0,
    )
    query = CreateReportRunTrigger(
        sql="select 1",
        result_options={"compression": "zip"},
        idempotency_key="k",
        wait_for_completion=True,
        api="v2.data.query_runs",
    )
    assert_type(wait.serialize(), tuple[str, dict[str, Any]])
    return [wait, create, data, query]


def caught(error: errors.ReportRunError) -> None:
    """One base, and facts that have types."""
    assert_type(error.transient, bool)
    assert_type(error.request_id, str | None)
    assert_type(error.report_run_id, str | None)
    if isinstance(error, errors.ApiError):
        assert_type(error.status, int | None)
        assert_type(error.retry_after, float | None)
    if isinstance(error, errors.ReportRunFailed):
        assert_type(error.error_code, str | None)
    base: Exception = errors.LandingExists("x", uri="s3://bucket/file.csv")
    del base


def sandbox() -> None:
    """The offline API."""
    with Sandbox(port=0, run_seconds=0.5, concurrency=2, size=1000, seed=1) as running:
        assert_type(running, Sandbox)
        assert_type(running.connection_uri, str)
        assert_type(running.port, int)
        assert_type(running.connections, int)
        running.advance(60)
        running.limit(1)
        running.fail_next(2, "file_size_above_limit")
        running.deliver_next(b"a,b\n", content_type="csv")
