"""
A SQL query per week in one task: the query is in `weekly_query.sql`, next to this file.

Airflow renders that file, so each week has a query and a query run of its own. A query sees the
data that Stripe has when it runs, which is some hours old. So the DAG runs at noon, and its query
is about the week that ended twelve hours before. With `if_exists="skip"`, a week whose file
already exists needs no query run.

`api="v2.reporting"` and `api="v2.data"` have queries, `api="v1"` has none.

The environment variable `REPORTRUN_LANDING` names the folder or store to land in.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import DAG, Asset

from airflow_provider_reportrun.operators.query_run import QueryRunToStorageOperator

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

LANDING = os.environ.get("REPORTRUN_LANDING", "/tmp/reports")  # noqa: S108 - an example

with DAG(
    "weekly_query",
    schedule=CronDataIntervalTimetable("0 12 * * 1", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 5, 12, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    doc_md=__doc__,
    tags=["reportrun"],
) as dag:
    QueryRunToStorageOperator(
        task_id="query",
        sql="weekly_query.sql",
        destination=f"{LANDING}/queries/{{{{ data_interval_start | ds }}}}.csv",
        if_exists="skip",
        outlets=[Asset("stripe_weekly_totals")],
    )
