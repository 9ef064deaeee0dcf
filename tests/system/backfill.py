"""What the system tests do with a backfill: start it, hold it where a kill shall hit, judge it."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from system.cluster import Cluster, process_behind, wait_for

from airflow_provider_reportrun import errors

if TYPE_CHECKING:
    import psutil
    from starlette.responses import Response

    from airflow_provider_reportrun.sandbox import Fault, Run, Sandbox, SeenRequest
    from airflow_provider_reportrun.sandbox.faults import Exchange

HOLD_SECONDS = 300.0
"""Longer than any test takes."""
REFUSED = 429
FINISHED = {"success", "failed"}


def mondays(first: date, count: int) -> list[str]:
    """List the first days of consecutive weeks."""
    return [f"{first + timedelta(weeks=week):%Y-%m-%d}" for week in range(count)]


class HoldCreated:
    """
    Keeps the answer to a create that was successful: all has happened, and the client cannot know.

    :param passed: so many successes go through before.
    """

    def __init__(self, *, passed: int = 0) -> None:
        self._passed = passed
        self.held = threading.Event()

    async def play(self, fault: Fault, exchange: Exchange) -> Response:
        """Answer, but one success only when the fault is released."""
        response = await exchange.handle()
        if response.status_code == 200 and not self.held.is_set():
            if self._passed:
                self._passed -= 1
            else:
                self.held.set()
                await fault.pause(HOLD_SECONDS)
        return response


@dataclass
class Backfill:
    """
    One backfill of a weekly DAG.

    :param starts: the first days of the weeks.
    """

    cluster: Cluster
    sandbox: Sandbox
    dag_id: str
    starts: list[str]
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Tell what happened and when, which ``pytest -rP`` shows."""
        seconds = time.monotonic() - self.began
        sys.stdout.write(f"{seconds:4.0f} s, {self.dag_id}: {what}\n")

    def create(self, *, max_active_runs: int) -> None:
        """Start it as the UI does."""
        self.cluster.await_dag(self.dag_id)
        body = {
            "dag_id": self.dag_id,
            "from_date": f"{self.starts[0]}T00:00:00Z",
            "to_date": f"{self.starts[-1]}T00:00:00Z",
            "max_active_runs": max_active_runs,
        }
        self.cluster.api("POST", "/backfills", body)

    def await_end(self, *, seconds: float) -> None:
        """Wait until every DAG run is finished."""

        def are_finished() -> bool:
            runs = self.cluster.dag_runs(self.dag_id)
            return len(runs) >= len(self.starts) and {r["state"] for r in runs} <= FINISHED

        wait_for(are_finished, f"the end of {self.dag_id}", seconds=seconds, every=1.0)

    def request_held(self, operation: str) -> SeenRequest:
        """Find the request that the sandbox is holding."""

        def held() -> list[SeenRequest]:
            requests = [each for each in self.sandbox.requests if each.operation == operation]
            return [each for each in requests if each.status is None]

        # Others may be under way for a moment.
        wait_for(lambda: len(held()) == 1, f"one {operation} that is held", seconds=60)
        return held()[0]

    def process_of(self, request: SeenRequest) -> psutil.Process:
        """Find the process that sent a request and waits for the answer."""
        assert request.client is not None
        process = process_behind(request.client[1], server_port=self.sandbox.port)
        assert process is not None
        return process

    def kill_worker(self, request: SeenRequest) -> str | None:
        """
        Kill -9 the worker that waits for the answer to a request.

        :return: the component to start again, if any: a Celery worker, with all its tasks.
        """
        return self.cluster.kill_worker_of(self.process_of(request))

    def running(self) -> set[str]:
        """Name the weeks that have a task on a worker now."""
        instances = self.cluster.task_instances(self.dag_id)
        return {_monday(ti) for ti in instances if ti["state"] in {"queued", "running"}}

    def retried(self) -> list[str]:
        """Name the weeks with a task that was begun more than once."""
        instances = self.cluster.task_instances(self.dag_id)
        return sorted(_monday(ti) for ti in instances if ti["try_number"] != 1)

    def waiting(self) -> int:
        """Count the tasks that wait in the triggerer."""
        return len(self.waiting_weeks())

    def waiting_weeks(self) -> set[str]:
        """Name the weeks whose task waits in the triggerer."""
        instances = self.cluster.task_instances(self.dag_id)
        return {_monday(ti) for ti in instances if ti["state"] == "deferred"}

    def done_weeks(self) -> set[str]:
        """Name the weeks whose task has succeeded."""
        instances = self.cluster.task_instances(self.dag_id)
        return {_monday(ti) for ti in instances if ti["state"] == "success"}

    def created(self) -> set[str]:
        """Name the weeks that have a report run."""
        return {_week(run.report_parameters) for run in self.sandbox.runs}

    def clear(self, task_id: str, *, week: str) -> None:
        """Clear a task of a week, and no other, as the UI does."""
        body = {
            "dag_run_id": self.instance_of(week, task_id)["dag_run_id"],
            "task_ids": [task_id],
            "only_failed": False,
            "dry_run": False,
        }
        self.cluster.api("POST", f"/dags/{self.dag_id}/clearTaskInstances", body)

    # -- what came of it -------------------------------------------------------------------

    def runs_of(self, start: str) -> list[Run]:
        """List the report runs of a week, in the order of creation."""
        return [run for run in self.sandbox.runs if _week(run.report_parameters) == start]

    def run_of(self, start: str) -> Run:
        """Find the one report run of a week."""
        (run,) = self.runs_of(start)
        return run

    def instance_of(self, start: str, task_id: str = "report") -> dict[str, Any]:
        """Find the task instance of a week."""
        instances = self.cluster.task_instances(self.dag_id)
        (ti,) = (ti for ti in instances if (_monday(ti), ti["task_id"]) == (start, task_id))
        return ti

    def creates(self) -> list[SeenRequest]:
        """List the POSTs."""
        return [each for each in self.sandbox.requests if each.operation == "create"]

    def downloads(self) -> list[SeenRequest]:
        """List the downloads begun."""
        return [each for each in self.sandbox.requests if each.operation == "download"]

    def refused(self) -> set[str]:
        """Name the weeks whose create was answered with 429 at least once."""
        refused = (each for each in self.creates() if each.status == REFUSED)
        return {week_of(each) for each in refused}

    def verify_slots_are_free(self) -> None:
        """Check that the tasks that wait hold no worker and no slot of their pool."""
        assert self.running() == set()
        pool = self.cluster.api("GET", "/pools/default_pool")
        busy = {name: pool[f"{name}_slots"] for name in ("running", "queued", "scheduled")}
        assert busy == {"running": 0, "queued": 0, "scheduled": 0}
        assert pool["deferred_slots"] == self.waiting() > 0
        assert pool["open_slots"] == pool["slots"]

    def verify(self, *, task_id: str = "report") -> None:
        """Check that nothing was done twice, nothing is missing, and nothing is half."""
        assert Counter(_week(run.report_parameters) for run in self.sandbox.runs) == Counter(
            self.starts
        ), "one report run per interval"
        keys = {(week_of(post), post.headers["idempotency-key"]) for post in self.creates()}
        assert len(keys) == len(self.starts), "one key per interval"
        runs = self.cluster.dag_runs(self.dag_id)
        assert Counter(run["state"] for run in runs) == {"success": len(self.starts)}
        self.verify_files(task_id=task_id)
        assert self.refused(), "the limit was reached"
        raised = self.cluster.errors(self.dag_id) & set(vars(errors))
        assert raised == set(), "no try ended in an error, least of all in a refusal"
        self.say(f"killed by the test or by Airflow, and begun again: {self.retried()}")

    def verify_files(self, *, task_id: str = "report") -> None:
        """Check that each interval has its file, whole, and that nothing else lies there."""
        instances = self.cluster.task_instances(self.dag_id)
        folder = self.cluster.landing / self.dag_id
        assert {f"{start}.csv" for start in self.starts} == {f.name for f in folder.iterdir()}
        weeks = []
        for ti in (ti for ti in instances if ti["task_id"] == task_id):
            landing = self.cluster.xcom(ti, "landing")
            week = landing["interval_start"][:10]
            run = self.runs_of(week)[-1]
            file = folder / f"{week}.csv"
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            served = hashlib.sha256(self.sandbox._files.path_of(run).read_bytes()).hexdigest()
            assert landing["report_run_id"] == run.id
            assert (digest, file.stat().st_size) == (landing["sha256"], landing["size"])
            assert digest == served, "what lies there is what was served"
            weeks.append(week)
        assert sorted(weeks) == self.starts


def week_of(create: SeenRequest) -> str:
    """Return the first day of the week that a create of any generation asks for."""
    if create.generation == "v1":
        return _week(create.form["parameters"])
    body = create.json
    return _week(body.get("report_parameters") or body["parameters"])


def _week(parameters: dict[str, Any]) -> str:
    start = str(parameters["interval_start"])
    if start.isdigit():
        start = datetime.fromtimestamp(int(start), tz=timezone.utc).isoformat()
    return start[:10]


def _monday(run_or_task: dict[str, Any]) -> str:
    # Not of the run id, which Airflow 3 makes of the day after the interval.
    return str(run_or_task["logical_date"])[:10]
