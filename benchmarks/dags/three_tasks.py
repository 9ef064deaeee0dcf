"""A weekly report in three tasks, whose waits end on workers or in the triggerer."""

from __future__ import annotations

from airflow.sdk import DAG
from weekly import LANDING, POLL_SECONDS, REPORT, WEEKLY, scaled

from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
)
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor

for dag_id, ends in (("three_tasks", False), ("three_tasks_ending", True)):
    with DAG(dag_id, **WEEKLY) as dag:
        create = CreateReportRunOperator(
            task_id="create",
            report=REPORT,
            deferrable=True,
            end_from_trigger=ends,
            poll_interval=POLL_SECONDS,
            max_poll_interval=scaled(300),
        )
        wait = ReportRunSensor(
            task_id="wait",
            report_run_id=create.output,
            deferrable=True,
            end_from_trigger=ends,
            poke_interval=POLL_SECONDS,
            max_wait=scaled(300),
        )
        land = DownloadReportResultOperator(
            task_id="land",
            report_run_id=create.output,
            destination=f"{LANDING}/{dag_id}/{{{{ data_interval_start | ds }}}}.csv",
        )
        create >> wait >> land
    globals()[dag_id] = dag
