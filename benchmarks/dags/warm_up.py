"""One task that does nothing, for a first run of everything that a backfill needs."""

from __future__ import annotations

from airflow.sdk import DAG, task
from weekly import WEEKLY

with DAG("warm_up", **WEEKLY):

    @task
    def nothing() -> None:
        """Do nothing."""

    nothing()
