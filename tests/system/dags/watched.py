"""A DAG that is scheduled on new data; its watcher looks often."""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator
from airflow_provider_reportrun.triggers.report_run import ReportDataTrigger

REPORT = "payouts_itemized"
LANDING = os.environ["REPORTRUN_LANDING"]
DATA = Asset(
    "watched",
    watchers=[
        AssetWatcher(
            name="watched",
            trigger=ReportDataTrigger(report=REPORT, poll_interval=5, max_poll_interval=5),
        )
    ],
)

with DAG(
    "watched",
    schedule=[DATA],
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
) as dag:

    @task
    def new_days(triggering_asset_events=None):
        """Say for each event what is to be created."""
        days = [event.extra["payload"] for event in triggering_asset_events[DATA]]
        return [
            {
                "interval_start": day["interval_start"],
                "interval_end": day["interval_end"],
                "idempotency_key": f"watched {day['interval_start']}",
                "destination": f"{LANDING}/watched/{day['interval_start'][:10]}.csv",
            }
            for day in days
        ]

    ReportRunToStorageOperator.partial(task_id="report", report=REPORT).expand_kwargs(new_days())
