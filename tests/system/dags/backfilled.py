"""The DAGs that the system tests backfill; their patience is for report runs of two seconds."""

from __future__ import annotations

import os
from datetime import timedelta

import airflow.sdk
import pendulum
from airflow.sdk import DAG

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

LANDING = os.environ["REPORTRUN_LANDING"]
REPORT = "payouts_itemized"
WEEKLY = {
    "schedule": CronDataIntervalTimetable("0 0 * * 1", timezone="UTC"),
    "start_date": pendulum.datetime(2024, 1, 1, tz="UTC"),
    "end_date": pendulum.datetime(2025, 12, 29, tz="UTC"),  # nothing runs but backfills
    "catchup": False,
    "is_paused_upon_creation": False,
    "max_active_tasks": 64,
    "default_args": {"retries": 5, "retry_delay": timedelta(seconds=1)},
}
FAST = {"poll_interval": 1, "max_poll_interval": 2}

ONE_TASK = {
    "one_task": {},
    "one_task_reuse": {"on_clear": "reuse"},
    "one_task_v1": {"api": "v1", "report": "payouts.itemized.3"},
    "one_task_v2_data": {"api": "v2.data", "report": "name:payouts.itemized"},
    "cleared_create": {},
    "cleared_create_reuse": {"on_clear": "reuse"},
    "cleared_report": {},
    "stopped": {},
    "stopped_in_place": {"deferrable": False},
}
"""Each test that looks at all runs of a DAG has its own."""

for dag_id, arguments in ONE_TASK.items():
    with DAG(dag_id, **WEEKLY) as dag:
        ReportRunToStorageOperator(
            **{"task_id": "report", "report": REPORT} | FAST | arguments,
            destination=f"{LANDING}/{dag_id}/{{{{ data_interval_start | ds }}}}.csv",
        )
    globals()[dag_id] = dag


THREE_TASKS = {
    "three_tasks": {},
    "three_tasks_ending": {"end_from_trigger": True},
    "cleared_land": {},
}

for dag_id, arguments in THREE_TASKS.items():
    if arguments and not hasattr(airflow.sdk, "RetryPolicy"):  # before Airflow 3.3
        continue
    with DAG(dag_id, **WEEKLY) as dag:
        create = CreateReportRunOperator(
            task_id="create", report=REPORT, deferrable=True, **FAST, **arguments
        )
        wait = ReportRunSensor(
            task_id="wait",
            report_run_id=create.output,
            deferrable=True,
            poke_interval=1,
            max_wait=2,
            **arguments,
        )
        land = DownloadReportResultOperator(
            task_id="land",
            report_run_id="{{ ti.xcom_pull('wait')['report_run_id'] }}",
            destination=f"{LANDING}/{dag_id}/{{{{ data_interval_start | ds }}}}.csv",
        )
        create >> wait >> land
    globals()[dag_id] = dag
