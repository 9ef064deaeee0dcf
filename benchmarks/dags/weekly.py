"""What the DAGs of the backfill benchmark share; it is copied beside them."""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.sdk import CronDataIntervalTimetable

LANDING = os.environ["REPORTRUN_LANDING"]
REPORT = "payouts_itemized"
SCALE = float(os.environ["REPORTRUN_BENCH_SCALE"])
"""So many times faster than what the settings are meant for."""


def scaled(seconds: float) -> float:
    """Bring a setting to the clock of the benchmark, in seconds."""
    return seconds / SCALE


POLL_SECONDS = scaled(30)
RETRY_DELAY = timedelta(seconds=scaled(60))
MAX_RETRY_DELAY = timedelta(seconds=scaled(300))
WEEKLY = {
    "schedule": CronDataIntervalTimetable("0 0 * * 1", timezone="UTC"),
    "start_date": pendulum.datetime(2024, 1, 1, tz="UTC"),
    "end_date": pendulum.datetime(2025, 12, 29, tz="UTC"),  # nothing runs but backfills
    "catchup": False,
    "is_paused_upon_creation": False,
    "default_args": {"retries": 2, "retry_delay": RETRY_DELAY},
}
