"""
Runs the weekly example in a process of its own, once for each day named on the command line.

As a process of its own so that logs go where Airflow sends them. Prints the states of the runs.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pendulum
from airflow.utils.db import initdb

EXAMPLE = Path(__file__).parents[2] / "example_dags" / "weekly_report.py"


def main(days: list[str]) -> None:
    """Run the DAG for each day."""
    initdb()
    spec = importlib.util.spec_from_file_location("weekly_report", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.dag.get_task("wait").poke_interval = 0.1
    for task in module.dag.tasks:
        task.retries = 0
    states = [str(module.dag.test(logical_date=pendulum.parse(day)).state.value) for day in days]
    print("STATES", *states)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(sys.argv[1:])
