"""
Several reports of one week by dynamic task mapping, downloaded as ZIP and unpacked.

Each report run has its own mapped task instance, idempotency key, retries and file.

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
REPORTS = [
    "balance_summary",
    "payouts_itemized",
    "ending_balance_reconciliation_itemized",
]

with DAG(
    "mapped_reports",
    schedule=CronDataIntervalTimetable("0 0 * * 1", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
    default_args={"retries": 2, "map_index_template": "{{ REPORTS[ti.map_index] }}"},
    user_defined_macros={"REPORTS": REPORTS},
    doc_md=__doc__,
    tags=["reportrun"],
) as dag:
    create = CreateReportRunOperator.partial(
        task_id="create",
        result_options={"compress_file": True},
        deferrable=True,
    ).expand(report=REPORTS)
    wait = ReportRunSensor.partial(task_id="wait", deferrable=True).expand(
        report_run_id=create.output
    )
    land = DownloadReportResultOperator.partial(
        task_id="land",
        destination=f"{LANDING}/{{{{ data_interval_start | ds }}}}/",
        decompress=True,
        outlets=[Asset("stripe_weekly_reports")],
    ).expand(report_run_id=create.output)
    create >> wait >> land
