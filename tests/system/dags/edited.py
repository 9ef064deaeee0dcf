"""A DAG whose number of retries a test edits while it runs."""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

LANDING = os.environ["REPORTRUN_LANDING"]
RETRIES = 4

with DAG(
    "edited",
    schedule=CronDataIntervalTimetable("0 0 * * 1", timezone="UTC"),
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    end_date=pendulum.datetime(2025, 12, 29, tz="UTC"),  # nothing runs but backfills
    catchup=False,
    is_paused_upon_creation=False,
    default_args={"retries": RETRIES, "retry_delay": timedelta(seconds=1)},
) as dag:
    ReportRunToStorageOperator(
        task_id="report",
        report="payouts_itemized",
        destination=f"{LANDING}/edited/{{{{ data_interval_start | ds }}}}.csv",
        poll_interval=1,
        max_poll_interval=2,
    )
