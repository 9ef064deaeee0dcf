"""What the system tests do with a backfill: start it, hold it where a kill shall hit, judge it."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from system.cluster import Cluster, process_behind, wait_for

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
    One backfill of a weekly DAG, and which task instances a kill has disturbed.

    :param starts: the first days of the weeks.
    """

    cluster: Cluster
    sandbox: Sandbox
    dag_id: str
    starts: list[str]
    disturbed: set[str] = field(default_factory=set)
    """The weeks with a task on a worker that was killed."""
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Tell what happened and when, which ``pytest -rP`` shows."""
        seconds = time.monotonic() - self.began
        sys.stdout.write(f"{seconds:4.0f} s, {self.dag_id}: {what}\n")

    def create(self, *, max_active_runs: int) -> None:
        """Start it as a user does."""
        self.cluster.await_dag(self.dag_id)
        self.cluster.airflow(
            *("backfill", "create", "--dag-id", self.dag_id),
            *("--from-date", self.starts[0], "--to-date", self.starts[-1]),
            *("--max-active-runs", str(max_active_runs)),
        )

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
        wait_for(lambda: len(held()) == 1, f"one {operation} that is held", seconds=10)
        return held()[0]

    def process_of(self, request: SeenRequest) -> psutil.Process:
        """Find the process that sent a request and waits for the answer."""
        assert request.client is not None
        process = process_behind(request.client[1])
        assert process is not None
        return process

    def kill_worker(self, request: SeenRequest, week: str) -> str | None:
        """
        Kill -9 the worker that waits for the answer to a request.

        :param week: that the request is about.
        :return: the component to start again, if any: a Celery worker, with all its tasks.
        """
        before = self.running()
        component = self.cluster.kill_worker_of(self.process_of(request))
        # On Celery every task that ran there is disturbed; one may have begun in between.
        self.disturbed |= {week} if component is None else before | self.running()
        return component

    def running(self) -> set[str]:
        """Name the weeks that have a task on a worker now."""
        instances = self.cluster.task_instances(self.dag_id)
        return {_monday(ti) for ti in instances if ti["state"] in {"queued", "running"}}

    def mismatched(self) -> set[str]:
        """
        Name the weeks in which Airflow itself failed a try by mistake, which it logs.

        A task that is resumed within one loop of a busy scheduler is taken for killed, when the
        executor's word of the part before the deferral is read after the resume: LocalExecutor
        then no longer knows the task. Only deferrals of seconds, such as here, are so short.
        """
        logs = self.cluster.api("GET", "/eventLogs?event=state%20mismatch&limit=1000")
        found = {each["run_id"] for each in logs["event_logs"] if each["dag_id"] == self.dag_id}
        runs = self.cluster.dag_runs(self.dag_id)
        return {_monday(run) for run in runs if run["dag_run_id"] in found}

    def waiting(self) -> int:
        """Count the tasks that wait in the triggerer."""
        instances = self.cluster.task_instances(self.dag_id)
        return sum(ti["state"] == "deferred" for ti in instances)

    def clear(self, task: str, *, week: str) -> None:
        """Clear the tasks of a week whose names contain ``task``, as a user does."""
        self.cluster.airflow(
            *("tasks", "clear", self.dag_id, "--task-regex", task, "--yes"),
            *("--start-date", week, "--end-date", week),
        )

    # -- what came of it -------------------------------------------------------------------

    def run_of(self, start: str) -> Run:
        """Find the one report run of a week."""
        (run,) = (each for each in self.sandbox.runs if _week(each.report_parameters) == start)
        return run

    def instance_of(self, start: str, task_id: str = "report") -> dict[str, Any]:
        """Find the task instance of a week."""
        instances = self.cluster.task_instances(self.dag_id)
        (ti,) = (ti for ti in instances if (_monday(ti), ti["task_id"]) == (start, task_id))
        return ti

    def creates(self) -> list[SeenRequest]:
        """List the POSTs."""
        return [each for each in self.sandbox.requests if each.operation == "create"]

    def downloads(self) -> int:
        """Count the downloads begun."""
        return sum(each.operation == "download" for each in self.sandbox.requests)

    def refused(self) -> set[str]:
        """Name the weeks whose create was answered with 429 at least once."""
        refused = (each for each in self.creates() if each.status == REFUSED)
        return {_week(each.json["report_parameters"]) for each in refused}

    def verify(self, *, task_id: str = "report") -> None:
        """Check that nothing was done twice, nothing is missing, and nothing is half."""
        assert Counter(_week(run.report_parameters) for run in self.sandbox.runs) == Counter(
            self.starts
        ), "one report run per interval"
        keys = {
            (_week(p.json["report_parameters"]), p.headers["idempotency-key"])
            for p in self.creates()
        }
        assert len(keys) == len(self.starts), "one key per interval"
        runs = self.cluster.dag_runs(self.dag_id)
        assert Counter(run["state"] for run in runs) == {"success": len(self.starts)}
        instances = self.cluster.task_instances(self.dag_id)
        self.verify_files(task_id=task_id)
        retried = {_monday(ti) for ti in instances if ti["try_number"] != 1}
        mismatched = self.mismatched()
        self.say(f"retried {sorted(retried)}; killed {sorted(self.disturbed)}")
        assert retried <= self.disturbed | mismatched, "only a kill uses up a retry"
        assert self.refused(), "the limit was reached"

    def verify_files(self, *, task_id: str = "report") -> None:
        """Check that each interval has its file, whole, and that nothing else lies there."""
        instances = self.cluster.task_instances(self.dag_id)
        folder = self.cluster.landing / self.dag_id
        assert {f"{start}.csv" for start in self.starts} == {f.name for f in folder.iterdir()}
        weeks = []
        for ti in (ti for ti in instances if ti["task_id"] == task_id):
            landing = self.cluster.xcom(ti, "landing")
            week = landing["interval_start"][:10]
            run = self.run_of(week)
            file = folder / f"{week}.csv"
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            served = hashlib.sha256(self.sandbox._files.path_of(run).read_bytes()).hexdigest()
            assert landing["report_run_id"] == run.id
            assert (digest, file.stat().st_size) == (landing["sha256"], landing["size"])
            assert digest == served, "what lies there is what was served"
            weeks.append(week)
        assert sorted(weeks) == self.starts


def _week(parameters: dict[str, Any]) -> str:
    return str(parameters["interval_start"])[:10]


def _monday(run_or_task: dict[str, Any]) -> str:
    # Not of the run id, which Airflow 3 makes of the day after the interval.
    return str(run_or_task["logical_date"])[:10]
