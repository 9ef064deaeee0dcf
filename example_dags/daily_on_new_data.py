"""
A report of each new day as soon as Stripe has its data: scheduled by an event, not by the clock.

The watcher polls in the triggerer and needs no worker. A DAG run may have several events, if more
arrived during the run before, so each event becomes a mapped task instance. An event may arrive
twice (see `ReportDataTrigger`); the idempotency key ensures that both lead to one report run.

The environment variable `REPORTRUN_LANDING` names the folder or store to land in.
"""

from __future__ import annotations

import os
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator
from airflow_provider_reportrun.triggers.report_run import ReportDataTrigger

LANDING = os.environ.get("REPORTRUN_LANDING", "/tmp/reports")  # noqa: S108 - an example
REPORT = "balance_change_from_activity_itemized"
DATA = Asset(
    "stripe_activity_data",
    watchers=[AssetWatcher(name="stripe_activity", trigger=ReportDataTrigger(report=REPORT))],
)

with DAG(
    "daily_on_new_data",
    schedule=[DATA],
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    doc_md=__doc__,
    tags=["reportrun"],
) as dag:

    @task
    def new_days(triggering_asset_events: Any = None) -> list[dict[str, str]]:
        """Return for each event what to create and where to land it."""
        days = [event.extra["payload"] for event in triggering_asset_events[DATA]]
        return [
            {
                "interval_start": day["interval_start"],
                "interval_end": day["interval_end"],
                "idempotency_key": f"{REPORT} {day['interval_start']} {day['interval_end']}",
                "destination": f"{LANDING}/daily/activity_{day['interval_start'][:10]}.csv",
            }
            for day in days
        ]

    ReportRunToStorageOperator.partial(
        task_id="report",
        report=REPORT,
        map_index_template="{{ task.interval_start }}",
        outlets=[Asset("stripe_daily_activity")],
    ).expand_kwargs(new_days())
