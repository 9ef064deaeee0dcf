"""DAGs that land a report and tell assets, references and aliases of it."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.sdk import DAG, Asset, AssetAlias, task

from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

LANDING = os.environ["REPORTRUN_LANDING"]
FILE = f"{LANDING}/r.csv"
WEEKLY = Asset("weekly", uri="x-report://weekly")

LANDINGS = {
    "by_name": {"outlets": [Asset.ref(name="weekly")]},
    "by_uri": {"outlets": [Asset.ref(uri="x-report://weekly")]},
    "to_file": {"outlets": [AssetAlias("stripe")]},
    "to_folder": {
        "outlets": [AssetAlias("stripe")],
        "destination": f"{LANDING}/week/",
        "decompress": True,
    },
    "kept": {"outlets": [AssetAlias("stripe")], "if_exists": "skip"},
    "all_kinds": {
        "outlets": [
            Asset("plain", uri="x-report://plain"),
            Asset.ref(name="weekly"),
            AssetAlias("one"),
            AssetAlias("two"),
        ]
    },
}


def dag_of(name: str) -> DAG:
    """A task that lands, after one that makes the asset known that references name."""
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    with DAG(f"told_{name}", schedule=None, start_date=start) as dag:

        @task(outlets=[WEEKLY])
        def other() -> None:
            """Make the asset known."""

        other() >> ReportRunToStorageOperator(
            task_id="land",
            report="balance_summary",
            interval_start="2026-10-26T00:00:00Z",
            interval_end="2026-11-02T00:00:00Z",
            poll_interval=0.05,
            **{"destination": FILE} | LANDINGS[name],
        )
    return dag


DAGS = {name: dag_of(name) for name in LANDINGS}
globals().update(DAGS)
