"""
A weekly report from Stripe to a table, with two DAGs and an asset between them.

`report_to_parquet` lands a Parquet file each week and updates the asset `stripe_activity`. Airflow
then starts `parquet_to_table`, which loads the file into a table of DuckDB. The event of the asset
says which file has landed, and the interval of its report. If several weeks land at once, as in a
backfill, one run loads all of them. A run by hand loads all files again.

A week may land again. So the load replaces the rows of the interval in one transaction: no row
counts twice, and a load that dies leaves the table as it was. Money is decimal in the report, in
the file and in the table.

The environment variable `REPORTRUN_LANDING` names the folder to land in, and `REPORTRUN_DUCKDB` the
file of the database. Other databases are in the guide to loading.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, task

from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

LANDING = os.environ.get("REPORTRUN_LANDING", "/tmp/reports")  # noqa: S108 - an example
DATABASE = os.environ.get("REPORTRUN_DUCKDB", "/tmp/finance.duckdb")  # noqa: S108 - an example
ACTIVITY = Asset("stripe_activity")

with DAG(
    "report_to_parquet",
    schedule=CronDataIntervalTimetable("0 0 * * 1", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    doc_md=__doc__,
    tags=["reportrun"],
) as to_parquet:
    ReportRunToStorageOperator(
        task_id="report",
        report="balance_change_from_activity_itemized",
        destination=f"{LANDING}/activity/{{{{ data_interval_start | ds }}}}.parquet",
        output_format="parquet",
        column_names="snake",
        outlets=[ACTIVITY],
    )


def replace_interval(facts: Mapping[str, Any], database: str) -> int:
    """Replace the rows of an interval with those of a file; return how many there are."""
    import duckdb

    interval = {name: facts[name] for name in ("interval_start", "interval_end")}
    file = {**interval, "uri": facts["uri"]}
    rows = (
        "SELECT *, $interval_start::TIMESTAMP AS interval_start,"
        " $interval_end::TIMESTAMP AS interval_end FROM read_parquet($uri)"
    )
    those = (
        "FROM activity WHERE interval_start = $interval_start::TIMESTAMP"
        " AND interval_end = $interval_end::TIMESTAMP"
    )
    with closing(duckdb.connect(database)) as connection:
        connection.execute("BEGIN")
        connection.execute(f"CREATE TABLE IF NOT EXISTS activity AS {rows} LIMIT 0", file)
        connection.execute(f"DELETE {those}", interval)
        connection.execute(f"INSERT INTO activity BY NAME {rows}", file)
        connection.execute("COMMIT")
        return int(connection.execute(f"SELECT count(*) {those}", interval).fetchall()[0][0])


with DAG(
    "parquet_to_table",
    schedule=[ACTIVITY],
    start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2},
    doc_md=__doc__,
    tags=["reportrun"],
) as to_table:

    @task(inlets=[ACTIVITY])
    def landed(
        triggering_asset_events: Any = None, inlet_events: Any = None
    ) -> list[dict[str, Any]]:
        """
        Return the facts of each file that has landed since the first event of this run.

        Airflow adds no event to a run that waits to start, and may start no further run for it, so
        the later events are read as well. A run by hand has no events, and loads all files.
        """
        first = min((event.timestamp for event in triggering_asset_events[ACTIVITY]), default=None)
        events = [e for e in inlet_events[ACTIVITY] if first is None or e.timestamp >= first]
        return list({event.extra["uri"]: dict(event.extra) for event in events}.values())

    @task(
        map_index_template="{{ task.op_kwargs['facts']['interval_start'] }}",
        max_active_tis_per_dag=1,  # DuckDB has one writer at a time
        outlets=[Asset("stripe_activity_table")],
    )
    def load(facts: dict[str, Any]) -> int:
        """Load one file; return its number of rows."""
        return replace_interval(facts, DATABASE)

    @task
    def totals() -> list[str]:
        """Return what is in the table, for the XCom of this task."""
        import duckdb

        query = (
            "SELECT interval_start::DATE, currency, count(*), sum(net) FROM activity"
            " GROUP BY ALL ORDER BY ALL"
        )
        with closing(duckdb.connect(DATABASE, read_only=True)) as connection:
            rows = connection.execute(query).fetchall()
        return [
            f"{week} {currency}: {count} rows, net {net.normalize():f}"
            for week, currency, count, net in rows
        ]

    load.expand(facts=landed()) >> totals()
