"""
The same weekly report in one task: a third of the task instances, made for backfills.

``if_exists="skip"`` spends no report run on a week whose file is there already.

``REPORTRUN_LANDING`` (environment) names the folder or store to land in.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG

from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

LANDING = os.environ.get("REPORTRUN_LANDING", "/tmp/reports")  # noqa: S108 - an example

with DAG(
    "weekly_report_single_task",
    schedule=CronDataIntervalTimetable("0 0 * * 1", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    tags=["reportrun"],
) as dag:
    ReportRunToStorageOperator(
        task_id="report",
        report="payouts_itemized",
        destination=f"{LANDING}/payouts_{{{{ data_interval_start | ds }}}}.csv",
        if_exists="skip",
    )
