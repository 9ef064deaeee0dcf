"""
How to test a DAG with report runs in it: offline, in seconds, through ``dag.test()``.

The fixture ``reportrun_sandbox`` comes with the provider; pytest finds it by itself.
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
    """The DAG under test, which does not wait between its looks and tries."""
    from weekly_report import dag

    for task in dag.tasks:
        task.retry_delay = pendulum.duration(seconds=0)
    return dag


def landed() -> list[Path]:
    """The files in the folder that ``conftest.py`` lets the DAG land in."""
    from conftest import LANDING

    return sorted(LANDING.glob("*.csv"))


def test_lands_the_week_before(dag: DAG, reportrun_sandbox: Sandbox) -> None:
    """One report run for the interval, and one file."""
    run = dag.test(logical_date=MONDAY)
    assert run.state == "success"
    (report_run,) = reportrun_sandbox.runs
    assert report_run.report_parameters["interval_start"] == "2026-01-05T00:00:00.000Z"
    assert [file.name for file in landed()] == ["activity_2026-01-05.csv"]


def test_a_report_run_that_fails_is_no_success(dag: DAG, reportrun_sandbox: Sandbox) -> None:
    """The wait fails, and nothing is landed."""
    reportrun_sandbox.fail_next()
    run = dag.test(logical_date=MONDAY.add(weeks=1))
    assert run.state == "failed"
    assert "activity_2026-01-12.csv" not in [file.name for file in landed()]
