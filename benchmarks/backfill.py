"""
Measure a backfill of 40 weeks in a real Airflow, from an API that runs 8 reports at a time.

The harness of the system tests starts PostgreSQL, the scheduler with LocalExecutor, the
dag-processor, the triggerer and the api-server, and stops them by pid, also after an interrupt. In
the sandbox, report runs take 5 s, randomly up to a tenth more or less. The settings are those for
report runs of two minutes on a clock that is 24 times as fast: polls every 30 s at first (1.25 s
here), retries after one minute (2.5 s), later five (12.5 s). Airflow's own time for a task is not
scaled, so it weighs 24 times as much as in reality. There are 8 worker slots, so tasks that wait on
workers can reach the limit too, and 16 active runs, because users do not know Stripe's limit.

Five alternatives run one after the other in the same Airflow:

- ``ReportRunToStorageOperator``, with its defaults;
- three tasks of this provider: create and sensor deferrable, then the download;
- the same three tasks with ``end_from_trigger``;
- by hand, with the HTTP provider: ``HttpOperator`` for the POST, with retries that back off (20, so
  that none fails), ``HttpSensor``, and a Python task that downloads with ``requests``. The API
  returns 200 for an unfinished report run, so the sensor needs a ``response_check``; then it
  silently ignores its ``deferrable=True`` (https://github.com/apache/airflow/issues/40209) and
  waits on the worker;
- by hand and rescheduled: the same in ``mode="reschedule"``, with a poll every 60 s (2.5 s here),
  the shortest interval that Airflow advises.

By hand no ``Idempotency-Key`` is sent, for the operator has none and a retry needs none as long as
nothing is lost. Nothing is killed here, so that this costs nothing; where the answer to a POST is
lost, the retry makes a second report run.

Told for each way:

- the wall time from the start of ``airflow backfill create`` to the end of the last DAG run; beside
  it the least possible, 40 x 5 s / 8;
- worker-slot seconds: the time between Airflow's audit log entry ``running`` of a task and the next
  one of the same task, which says how that part of it ended (``deferred``, ``up_for_reschedule``,
  ``up_for_retry``, ``success``, ``failed``), summed over all parts of all tries. The api-server
  writes these entries when the worker tells it of the change, so time in the triggerer, in a queue
  or between tries is not in it; nor is what the executor does before and after;
- retries used: tries beyond the first, and how many of them Airflow's own mistake has cost, which
  takes a task that is resumed within seconds for killed, and logs ``state mismatch``;
- POSTs and report runs, as the sandbox has seen them, and whether every file is there and whole.

``python -m benchmarks.backfill one_task by_hand --weeks 16`` measures only some ways and weeks, by
the ids of their DAGs, and stores nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import FOLDER, ROOT, keep, say

if TYPE_CHECKING:
    from system.backfill import Backfill
    from system.cluster import Cluster

    from airflow_provider_reportrun.sandbox import Sandbox

INTERVALS: Final = 40
LIMIT: Final = 8
RUN_SECONDS: Final = 5.0
SCALE: Final = 24
"""How much faster the clock is than the one the settings are for: 5 s represent 120 s."""
SLOTS: Final = 8
ACTIVE_RUNS: Final = 16
FILE_BYTES: Final = 200_000
FIRST_MONDAY: Final = date(2025, 1, 6)
END_SECONDS: Final = 1200.0
"""How long one alternative may take before the benchmark gives up."""
BOUND_SECONDS: Final = 36.0
"""The bound of the wall time with one task."""
ONE_TASK: Final = "ReportRunToStorageOperator"
THREE_TASKS: Final = "three tasks"
ENDING: Final = "three tasks (end_from_trigger)"
BY_HAND: Final = "by hand"
RESCHEDULED: Final = "by hand (reschedule)"
WAYS: Final = {
    ONE_TASK: "one_task",
    THREE_TASKS: "three_tasks",
    ENDING: "three_tasks_ending",
    BY_HAND: "by_hand",
    RESCHEDULED: "by_hand_rescheduled",
}
"""The DAG of each alternative."""
WARM_UP: Final = "warm_up"
PATIENCE: Final = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "600",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
}
"""Airflow's defaults, which the harness shortens to recover from kills; nothing is killed here."""
ENDS: Final = {"deferred", "up_for_reschedule", "up_for_retry", "success", "failed", "skipped"}
"""The audit log entries that end a task's time on a worker."""
MISMATCH: Final = "state mismatch"
"""The entry of a try that Airflow fails by mistake: see ``RUN_SECONDS`` of the system tests."""
PAGE: Final = 1000
_REFUSED: Final = 429


def main() -> None:
    """Measure one alternative after the other, and store the results."""
    found = run(tuple(WAYS), INTERVALS)
    if not found:
        return
    keep(
        "backfill",
        {
            "intervals": INTERVALS,
            "limit": LIMIT,
            "run_seconds": RUN_SECONDS,
            "scale": SCALE,
            "slots": SLOTS,
            "active_runs": ACTIVE_RUNS,
            "postgresql": _postgresql(),
            "ways": found,
        },
    )


def run(ways: Sequence[str], intervals: int) -> list[dict[str, Any]]:
    """
    Measure alternatives in one Airflow.

    :return: what each took; empty if this machine lacks something.
    """
    sys.path += [str(ROOT / "tests"), str(ROOT / "scripts")]  # as pytest does, for the harness
    from system.cluster import Cluster, missing

    from airflow_provider_reportrun.sandbox import Sandbox

    lacking = missing("LocalExecutor")
    if lacking:
        say(f"backfill: skipped, because it needs {lacking}")
        return []
    found = []
    with (
        Sandbox(run_seconds=RUN_SECONDS, concurrency=LIMIT, size=FILE_BYTES) as sandbox,
        Cluster(
            "LocalExecutor",
            dags=sorted(FOLDER.glob("dags/*.py")),
            environment=_environment(sandbox),
        ) as cluster,
    ):
        for dag_id in (WARM_UP, *WAYS.values()):
            cluster.await_dag(dag_id)
        _warm_up(cluster, sandbox)
        for way in ways:
            sandbox.reset()
            found.append(measure(way, cluster, sandbox, intervals))
            say(f"backfill: { {k: v for k, v in found[-1].items() if k != 'spans_seconds'} }")
    return found


def _environment(sandbox: Sandbox) -> dict[str, str]:
    """Return the settings of Airflow, with the sandbox as each provider's connection."""
    http = {
        "conn_type": "http",
        "host": sandbox.url,
        "extra": {
            "Authorization": f"Bearer {sandbox.api_key}",
            "Stripe-Version": "2026-04-22.dahlia",
        },
    }
    return {
        **PATIENCE,
        "AIRFLOW__CORE__PARALLELISM": str(SLOTS),
        "AIRFLOW_CONN_REPORTRUN_DEFAULT": sandbox.connection_json,
        "AIRFLOW_CONN_STRIPE": json.dumps(http),
        "REPORTRUN_BENCH_SCALE": str(SCALE),
    }


def _warm_up(cluster: Cluster, sandbox: Sandbox) -> None:
    """Warm up: let each process do once what it does in a backfill."""
    from system.backfill import Backfill, mondays

    backfill = Backfill(cluster, sandbox, WARM_UP, mondays(FIRST_MONDAY, 1))
    backfill.create(max_active_runs=1)
    backfill.await_end(seconds=END_SECONDS)


def measure(way: str, cluster: Cluster, sandbox: Sandbox, intervals: int) -> dict[str, Any]:
    """Run a backfill with one alternative, and return what it took."""
    from system.backfill import Backfill, mondays

    backfill = Backfill(cluster, sandbox, WAYS[way], mondays(FIRST_MONDAY, intervals))
    began = time.time()
    backfill.create(max_active_runs=ACTIVE_RUNS)
    command_seconds = time.time() - began
    backfill.await_end(seconds=END_SECONDS)
    runs = cluster.dag_runs(backfill.dag_id)
    makespan = max(_epoch(run["end_date"]) for run in runs) - began
    lower_bound = intervals * RUN_SECONDS / LIMIT
    spans = [(run.created_ns / 1e9 - began, run.finishes_ns / 1e9 - began) for run in sandbox.runs]
    creates = backfill.creates()
    log = _audit_log(cluster, backfill.dag_id)
    tasks = _by_task(log)

    def per_interval(number: float) -> float:
        return round(number / intervals, 2)

    return {
        "way": way,
        "makespan_seconds": round(makespan, 2),
        "lower_bound_seconds": lower_bound,
        "drawn_run_seconds_over_limit": round(sum(end - start for start, end in spans) / LIMIT, 2),
        "of_lower_bound": round(makespan / lower_bound, 3),
        "command_seconds": round(command_seconds, 2),
        "slot_seconds_per_interval": per_interval(sum(each["seconds"] for each in tasks.values())),
        "starts_per_interval": per_interval(sum(each["starts"] for each in tasks.values())),
        "tasks": tasks,
        "retries": sum(ti["try_number"] - 1 for ti in cluster.task_instances(backfill.dag_id)),
        "retries_by_mismatch": sum(entry["event"] == MISMATCH for entry in log),
        "posts_per_interval": per_interval(len(creates)),
        "refused": sum(each.status == _REFUSED for each in creates),
        "report_runs_per_interval": per_interval(len(spans)),
        "requests_per_interval": per_interval(len(sandbox.requests)),
        "succeeded": sum(run["state"] == "success" for run in runs),
        "whole_files": _whole_files(backfill),
        "spans_seconds": [[round(start, 2), round(end, 2)] for start, end in spans],
    }


def _by_task(log: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return how often each task was started on a worker, and its total time there."""
    tasks: dict[str, dict[str, float]] = defaultdict(lambda: {"starts": 0, "seconds": 0.0})
    for task_id, seconds in _on_worker(log):
        tasks[task_id]["starts"] += 1
        tasks[task_id]["seconds"] += seconds
    return {
        task_id: {name: round(value, 2) for name, value in found.items()}
        for task_id, found in tasks.items()
    }


def _on_worker(log: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """List each stay on a worker: the task, and the seconds between its audit log entries."""
    running: dict[tuple[str, str], float] = {}
    for entry in log:
        instance = (entry["run_id"], entry["task_id"])
        at = _epoch(entry["when"])
        if entry["event"] == "running":
            running[instance] = at
        elif entry["event"] in ENDS and instance in running:
            yield entry["task_id"], at - running.pop(instance)
    if running:
        raise RuntimeError(f"The audit log tells no end of {sorted(running)}.")


def _audit_log(cluster: Cluster, dag_id: str) -> list[dict[str, Any]]:
    """List the audit log entries of a DAG, oldest first."""
    path = f"/eventLogs?dag_id={dag_id}&order_by=event_log_id&limit={PAGE}"
    log: list[dict[str, Any]] = []
    while True:
        page = cluster.api("GET", f"{path}&offset={len(log)}")
        log += page["event_logs"]
        if len(log) >= page["total_entries"]:
            return log


def _epoch(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def _whole_files(backfill: Backfill) -> int:
    folder: Path = backfill.cluster.landing / backfill.dag_id
    files = (folder / f"{start}.csv" for start in backfill.starts)
    return sum(file.is_file() and file.stat().st_size == FILE_BYTES for file in files)


def _postgresql() -> str:
    from local_airflow.postgresql import programs

    folder = programs()
    assert folder is not None  # noqa: S101 - the measurement ran on it
    told = subprocess.run(  # noqa: S603 - of our own making
        [str(folder / "postgres"), "--version"], check=True, capture_output=True, text=True
    )
    return told.stdout.strip()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure some alternatives, and store nothing.")
    parser.add_argument("dag_ids", nargs="+", choices=WAYS.values(), metavar="dag_id")
    parser.add_argument("--weeks", type=int, default=INTERVALS)
    return parser.parse_args()


if __name__ == "__main__":
    chosen = _arguments()
    run([way for way in WAYS if WAYS[way] in chosen.dag_ids], chosen.weeks)
