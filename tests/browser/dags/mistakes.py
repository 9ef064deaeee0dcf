"""
The mistakes of ``docs/failures.md``, each in a task with the name that its row has there.

The DAGs are paused until a test begins. Retries show which mistakes fail for good.
"""

from __future__ import annotations

import os
from functools import partial

import pendulum
from airflow.sdk import DAG

from airflow_provider_reportrun.operators.query_run import CreateQueryRunOperator
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

LANDING = os.environ.get("REPORTRUN_LANDING", "/tmp/reports")  # noqa: S108 - of make standalone
REPORT = "balance_change_from_activity_itemized"
PAYOUTS = "payout_reconciliation_by_id_itemized"
WEEK = {"interval_start": "2026-10-26T00:00:00Z", "interval_end": "2026-11-02T00:00:00Z"}
DAY = f"{LANDING}/{{{{ data_interval_start | ds }}}}.csv"
PARIS = CronDataIntervalTimetable("@weekly", timezone="Europe/Paris")

dag_of = partial(
    DAG,
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
    is_paused_upon_creation=True,
    default_args={"retries": 2},
    tags=["mistakes"],
)
create = partial(CreateReportRunOperator, report=REPORT)
land = partial(DownloadReportResultOperator, report_run_id="reprun_none", destination=DAY)
store = partial(ReportRunToStorageOperator, report=REPORT, poll_interval=1, destination=DAY)

with dag_of("mistakes", schedule=CronDataIntervalTimetable("@weekly", timezone="UTC")) as mistakes:
    create(task_id="unknown_report", report="balance_change_from_activty_itemized")
    create(task_id="inaccessible_report", report="connected_account_payouts_itemized")
    create(task_id="unknown_parameter", report_parameters={"currenzy": "usd"})
    create(task_id="wrong_value", report_parameters={"currency": "dollar"})
    create(task_id="missing_parameter", report=PAYOUTS)
    create(task_id="refused_parameter", report_parameters={"color": "red"}, validate=False)
    create(task_id="future_interval", interval_end="{{ data_interval_end.add(years=1) }}")
    create(task_id="missing_connection", reportrun_conn_id="reportrun_none")
    create(task_id="wrong_key", reportrun_conn_id="wrong_key")
    create(task_id="malformed_key", reportrun_conn_id="malformed_key")
    create(task_id="restricted_key", reportrun_conn_id="restricted_key")
    create(task_id="unknown_extra", reportrun_conn_id="unknown_extra")
    create(task_id="wrong_api", reportrun_conn_id="wrong_api")
    create(task_id="wrong_host", reportrun_conn_id="wrong_host")
    land(task_id="unknown_run")
    store(task_id="too_large", report="card_transactions_itemized")
    store(task_id="missing_provider", destination="hdfs://host/report.csv")
    store(task_id="missing_storage_connection", destination="s3://none@bucket/report.csv")
    store(task_id="unwritable_folder", destination="/dev/null/reports/report.csv")
    store(task_id="parquet_as_csv", output_format="{{ 'parquet' }}")
    store(task_id="zip_as_csv", result_options={"compress_file": True})
    there = store(task_id="there", destination=f"{LANDING}/there.csv")
    there >> store(task_id="file_exists", destination=f"{LANDING}/there.csv", if_exists="fail")
    CreateQueryRunOperator(task_id="missing_sql", api="v2.data", sql="none.sql")
    store(task_id="wrong_template", destination=f"{LANDING}/{{{{ ds }}.csv")

with dag_of("mistake_plain_cron", schedule="@weekly") as plain_cron:
    create(task_id="plain_cron")

with dag_of("mistake_zone", schedule=PARIS) as zone:
    create(task_id="date_without_zone", interval_start="{{ ds }}")

with dag_of("mistake_no_interval", schedule=None) as no_interval:
    store(task_id="no_interval", destination=f"{LANDING}/one.csv")
    created = create(task_id="no_interval_of_three")
    wait = ReportRunSensor(task_id="wait", report_run_id=created.output)
    created >> wait >> land(task_id="land", report_run_id=created.output)
    store(task_id="template_without_interval", **WEEK)

with dag_of("mistake_warnings", schedule=None) as warnings:
    store(task_id="kept_after_clear", destination=f"{LANDING}/kept.csv", if_exists="skip", **WEEK)
    ReportRunToStorageOperator.partial(
        task_id="same_file", poll_interval=1, destination=f"{LANDING}/same.csv", **WEEK
    ).expand(report=[REPORT, "payouts_itemized"])
