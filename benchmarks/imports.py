"""
How much longer a DAG file takes to import for our operators and sensors.

The DAG processor imports every DAG file again and again, so this is paid for each of them. Measured
on top of what any DAG file imports of ``airflow.sdk``, in fresh interpreters. Beside it: the
operators and sensors of the dbt Cloud and HTTP providers, which one would write the same DAG with.
"""

from __future__ import annotations

import statistics
import sys
import time
from importlib import import_module
from typing import Any, Final

from benchmarks.common import in_fresh_process, keep, say

ROUNDS: Final = {"reportrun": 7, "dbt-cloud": 3, "http": 3}
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
    "http": [
        "airflow.providers.http.operators.http",
        "airflow.providers.http.sensors.http",
    ],
}
HTTP_LIBRARIES: Final = ("aiohttp", "httpx", "requests")


def measure(modules: list[str]) -> dict[str, Any]:
    """Import modules, and tell how long that took and which HTTP libraries came along."""
    from airflow.sdk import DAG, BaseOperator  # noqa: F401 - what every DAG file has anyway

    before = {name for name in HTTP_LIBRARIES if name in sys.modules}
    began, cpu = time.perf_counter(), time.process_time()
    for module in modules:
        import_module(module)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    loaded = [name for name in HTTP_LIBRARIES if name in sys.modules and name not in before]
    return {
        "ms": round(seconds * 1000, 2),
        "cpu_ms": round(cpu * 1000, 2),
        "loaded": loaded,
        "loaded_before": sorted(before),
    }


def main() -> None:
    """Measure in turn, so that what else the machine does falls on all alike."""
    raw: dict[str, list[dict[str, Any]]] = {name: [] for name in MODULES}
    for way, modules in MODULES.items():
        in_fresh_process("benchmarks.imports:measure", modules=modules)  # writes the bytecode
        say(f"imports: {way} is compiled")
    for number in range(max(ROUNDS.values())):
        for way, modules in MODULES.items():
            if number < ROUNDS[way]:
                raw[way].append(in_fresh_process("benchmarks.imports:measure", modules=modules))
    median, median_cpu = (
        {way: round(statistics.median(each[name] for each in runs), 1) for way, runs in raw.items()}
        for name in ("ms", "cpu_ms")
    )
    say(f"imports: {median}")
    keep(
        "imports",
        {
            "bound_ms": BOUND_MS,
            "median_ms": median,
            "median_cpu_ms": median_cpu,
            "loads": {way: runs[0]["loaded"] for way, runs in raw.items()},
            "raw": raw,
        },
    )


if __name__ == "__main__":
    main()
