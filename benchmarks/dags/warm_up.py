"""
A task that waits and ends in the triggerer, for a first run of everything that a backfill needs.

A triggerer takes 7 s of CPU for the first XCom that it pushes, because it loads Airflow's API.
"""

from __future__ import annotations

from airflow.sdk import DAG
from weekly import POLL_SECONDS, REPORT, WEEKLY

from airflow_provider_reportrun.operators.report_run import CreateReportRunOperator

with DAG("warm_up", **WEEKLY):
    CreateReportRunOperator(
        task_id="report",
        report=REPORT,
        wait_for_completion=True,
        deferrable=True,
        end_from_trigger=True,
        poll_interval=POLL_SECONDS,
    )
