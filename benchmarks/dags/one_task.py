"""A weekly report in one task."""

from __future__ import annotations

from airflow.sdk import DAG
from weekly import LANDING, POLL_SECONDS, REPORT, WEEKLY, scaled

from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

with DAG("one_task", **WEEKLY):
    ReportRunToStorageOperator(
        task_id="report",
        report=REPORT,
        destination=f"{LANDING}/one_task/{{{{ data_interval_start | ds }}}}.csv",
        poll_interval=POLL_SECONDS,
        max_poll_interval=scaled(300),
    )
