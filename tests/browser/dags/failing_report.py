"""A report that is too large whatever is asked of it, awaited by a sensor that fails with it."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from airflow_provider_reportrun.operators.report_run import CreateReportRunOperator
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor

with DAG(
    "failing_report",
    schedule="@once",
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
) as dag:
    create = CreateReportRunOperator(
        task_id="create",
        report="card_transactions_itemized",
        interval_start="2026-10-26T00:00:00Z",
        interval_end="2026-11-02T00:00:00Z",
    )
    wait = ReportRunSensor(task_id="wait", report_run_id=create.output, poke_interval=1)
