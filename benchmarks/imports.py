"""
Measure how much the operators and sensors add to the import time of a DAG file.

The DAG processor imports every DAG file again and again, so each file pays this time. It is
measured on top of what any DAG file imports from ``airflow.sdk``, in fresh interpreters. The
alternatives are operators and sensors of providers that also wait for something, or that users
would write the same DAG with. Whole DAG files are measured too: the weekly example, and the same
DAG written by hand with the HTTP provider.
"""

from __future__ import annotations

import os
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.common import FOLDER, ROOT, in_fresh_process, keep, say

ROUNDS: Final = 7
BOUND_MS: Final = 30.0
MODULES: Final = {
    "reportrun": [
        "airflow_provider_reportrun.operators.report_run",
        "airflow_provider_reportrun.sensors.report_run",
    ],
    "dbt-cloud": [
        "airflow.providers.dbt.cloud.operators.dbt",
        "airflow.providers.dbt.cloud.sensors.dbt",
    ],
    "databricks": [
        "airflow.providers.databricks.operators.databricks",
        "airflow.providers.databricks.sensors.databricks",
    ],
    "google campaign manager": [
        "airflow.providers.google.marketing_platform.operators.campaign_manager",
        "airflow.providers.google.marketing_platform.sensors.campaign_manager",
    ],
    "http": [
        "airflow.providers.http.operators.http",
        "airflow.providers.http.sensors.http",
    ],
}
DAG_FILES: Final = {
    "weekly example": ROOT / "example_dags" / "weekly_report.py",
    "by hand": FOLDER / "dags" / "by_hand.py",
}
HTTP_LIBRARIES: Final = ("aiohttp", "httpx", "requests")


def measure(modules: list[str]) -> dict[str, Any]:
    """Import modules, and return how long that took and which HTTP libraries it loaded."""

    def import_all() -> None:
        for module in modules:
            import_module(module)

    return _measured(import_all)


def parse(dag_file: str) -> dict[str, Any]:
    """Run a DAG file as the DAG processor does, and return the same."""
    os.environ |= {"REPORTRUN_LANDING": "/nowhere", "REPORTRUN_BENCH_SCALE": "1"}
    sys.path.insert(0, str(Path(dag_file).parent))
    return _measured(lambda: runpy.run_path(dag_file))


def _measured(act: Callable[[], object]) -> dict[str, Any]:
    from airflow.sdk import DAG, BaseOperator  # noqa: F401 - what every DAG file has anyway

    before = {name for name in HTTP_LIBRARIES if name in sys.modules}
    began, cpu = time.perf_counter(), time.process_time()
    act()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    loaded = [name for name in HTTP_LIBRARIES if name in sys.modules and name not in before]
    return {
        "ms": round(seconds * 1000, 2),
        "cpu_ms": round(cpu * 1000, 2),
        "loaded": loaded,
        "loaded_before": sorted(before),
    }


def main() -> None:
    """Measure in turn, so other load on the machine affects all equally."""
    imported = _in_turn("measure", {way: {"modules": names} for way, names in MODULES.items()})
    parsed = _in_turn("parse", {way: {"dag_file": str(file)} for way, file in DAG_FILES.items()})
    keep(
        "imports",
        {
            "bound_ms": BOUND_MS,
            "median_ms": _medians(imported, "ms"),
            "median_cpu_ms": _medians(imported, "cpu_ms"),
            "parse_median_ms": _medians(parsed, "ms"),
            "loads": {way: runs[0]["loaded"] for way, runs in imported.items()},
            "raw": imported,
            "parse_raw": parsed,
        },
    )


def _in_turn(function: str, ways: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Measure all alternatives round by round, after a round that writes the bytecode."""
    raw: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, arguments in ways.items():
            facts = in_fresh_process(f"benchmarks.imports:{function}", **arguments)
            if number:
                raw[way].append(facts)
    say(f"imports: {function}: {_medians(raw, 'ms')}")
    return raw


def _medians(raw: dict[str, list[dict[str, Any]]], name: str) -> dict[str, float]:
    return {
        way: round(statistics.median(each[name] for each in runs), 1) for way, runs in raw.items()
    }


if __name__ == "__main__":
    main()
