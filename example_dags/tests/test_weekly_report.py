"""
Test a DAG that uses report runs: offline, in seconds, with ``dag.test()``.

The provider includes the fixture ``reportrun_sandbox``; pytest loads it automatically.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pendulum
import pytest

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_provider_reportrun.sandbox import Sandbox

MONDAY = pendulum.datetime(2026, 1, 12, tz="UTC")


@pytest.fixture
def dag(airflow_db: None) -> DAG:
    """Return the DAG under test, without pauses between tries, and without its asset."""
    from weekly_report import dag

    for task in dag.tasks:
        task.retry_delay = pendulum.duration(seconds=0)
        task.outlets = []  # on Airflow 3.0, dag.test() refuses assets that it does not know
    return dag


def landed() -> list[Path]:
    """Return the files in the folder that ``conftest.py`` names in ``REPORTRUN_LANDING``."""
    from conftest import LANDING

    return sorted(LANDING.glob("*.csv"))


def test_lands_the_week_before(dag: DAG, reportrun_sandbox: Sandbox) -> None:
    """The DAG creates one report run for the interval, and lands one file."""
    run = dag.test(logical_date=MONDAY)
    assert run.state == "success"
    (report_run,) = reportrun_sandbox.runs
    assert report_run.report_parameters["interval_start"] == "2026-01-05T00:00:00.000Z"
    assert [file.name for file in landed()] == ["activity_2026-01-05.csv"]


def test_a_failed_report_run_fails_the_dag_run(dag: DAG, reportrun_sandbox: Sandbox) -> None:
    """The wait fails, and the DAG lands nothing."""
    reportrun_sandbox.fail_next()
    run = dag.test(logical_date=MONDAY.add(weeks=1))
    assert run.state == "failed"
    assert "activity_2026-01-12.csv" not in [file.name for file in landed()]
