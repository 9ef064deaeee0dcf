"""
A weekly report in three tasks: create the report run, wait for it, land its file.

``CronDataIntervalTimetable`` gives every run the week before it as its data interval, without gaps
over changes of daylight saving; a plain cron schedule would give runs without a length.
``wait_for_data`` lets a run that starts before Stripe has the week's data wait in place of failing.
``deferrable`` waits in the triggerer, so that no worker slot is held while Stripe works.

``REPORTRUN_LANDING`` (environment) names the folder or store to land in.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG

from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
)
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

LANDING = os.environ.get("REPORTRUN_LANDING", "/tmp/reports")  # noqa: S108 - an example

with DAG(
    "weekly_report",
    schedule=CronDataIntervalTimetable("0 0 * * 1", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    tags=["reportrun"],
) as dag:
    create = CreateReportRunOperator(
        task_id="create",
        report="balance_change_from_activity_itemized",
        report_parameters={"currency": "usd"},
        wait_for_data=True,
        deferrable=True,
    )
    wait = ReportRunSensor(task_id="wait", report_run_id=create.output, deferrable=True)
    land = DownloadReportResultOperator(
        task_id="land",
        report_run_id=create.output,
        destination=f"{LANDING}/activity_{{{{ data_interval_start | ds }}}}.csv",
    )
    create >> wait >> land
