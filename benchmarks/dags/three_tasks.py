"""A weekly report in three tasks."""

from __future__ import annotations

from airflow.sdk import DAG
from weekly import LANDING, POLL_SECONDS, REPORT, WEEKLY, scaled

from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
)
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor

with DAG("three_tasks", **WEEKLY):
    create = CreateReportRunOperator(
        task_id="create",
        report=REPORT,
        deferrable=True,
        poll_interval=POLL_SECONDS,
        max_poll_interval=scaled(300),
    )
    wait = ReportRunSensor(
        task_id="wait",
        report_run_id=create.output,
        deferrable=True,
        poke_interval=POLL_SECONDS,
        max_wait=scaled(300),
    )
    land = DownloadReportResultOperator(
        task_id="land",
        report_run_id=create.output,
        destination=f"{LANDING}/three_tasks/{{{{ data_interval_start | ds }}}}.csv",
    )
    create >> wait >> land
