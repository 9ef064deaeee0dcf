"""A mistake that is known when the file is parsed: the UI shows it as an import error."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

with DAG("mistake_in_file", schedule=None) as dag:
    ReportRunToStorageOperator(
        task_id="relative_path", report="balance_summary", destination="reports/report.csv"
    )
