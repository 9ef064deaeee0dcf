"""
A weekly report in three tasks: create the report run, wait for it, land its file.

With `CronDataIntervalTimetable`, the data interval of each run is the week before it, without
gaps when the clocks change; a plain cron schedule would give runs a zero-length data interval. With
`wait_for_data`, a run that starts before Stripe has the week's data waits instead of failing.
With `deferrable`, tasks wait in the triggerer and hold no worker slot while Stripe works.

The environment variable `REPORTRUN_LANDING` names the folder or store to land in.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG, Asset

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
    doc_md=__doc__,
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
        outlets=[Asset("stripe_weekly_activity")],
    )
    create >> wait >> land
