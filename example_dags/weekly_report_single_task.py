"""
A weekly report in one task, which needs a third of the task instances and suits backfills.

With `if_exists="skip"`, a week whose file already exists needs no report run.

The environment variable `REPORTRUN_LANDING` names the folder or store to land in.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG, Asset

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
    doc_md=__doc__,
    tags=["reportrun"],
) as dag:
    ReportRunToStorageOperator(
        task_id="report",
        report="payouts_itemized",
        destination=f"{LANDING}/payouts_{{{{ data_interval_start | ds }}}}.csv",
        if_exists="skip",
        outlets=[Asset("stripe_weekly_payouts")],
    )
