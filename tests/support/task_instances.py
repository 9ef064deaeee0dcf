"""
Real task instances in milliseconds: Airflow's own task runner against an Execution API in memory.

Templating, XCom, connections, deferral and failures are Airflow's; only the server behind the
supervisor is a table. The triggers of a deferral run in an event loop of their own, as they do
under ``dag.test()``.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from unittest import mock

import httpx
from airflow.sdk import DAG
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import DagRun, TaskInstance
from airflow.sdk.execution_time.comms import DeferTask, TaskRescheduleStartDate
from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor, run_task_in_process

from support.versions import deserialize, import_string, serialize

WEEK = ("2026-10-26T00:00:00Z", "2026-11-02T00:00:00Z")


def dag(dag_id: str = "d", **arguments: Any) -> DAG:
    """A DAG without a schedule, for tasks to be made in."""
    defaults = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc)}
    return DAG(dag_id, **defaults | arguments)


def make_task(kind: Callable[..., Any], **arguments: Any) -> Any:
    """Make a task of a kind in a DAG of its own."""
    with dag():
        return kind(**{"task_id": "t"} | arguments)


@dataclass
class Outcome:
    """What became of a task instance."""

    state: str
    error: BaseException | None
    xcom: dict[str, Any]
    rendered: dict[str, Any]
    events: list[Any] = field(default_factory=list)
    deferrals: list[DeferTask] = field(default_factory=list)
    pushed: list[tuple[str, Any]] = field(default_factory=list)
    """Each XCom that was written, in order, as it was written."""
    outlet_events: Any = None
    message: Any = None
    """What the supervisor was told last."""
    task: Any = None
    """The operator as it was run: rendered, and with what it noted."""
    asked: list[str] = field(default_factory=list)
    """What the API server was asked for, in order: the method, and what it is about."""

    @property
    def returned(self) -> Any:
        """The task's return value."""
        return self.xcom.get("return_value")


class ExecutionApi:
    """The tables that a worker reads and writes: XCom, rendered fields, the run."""

    def __init__(
        self, run: dict[str, Any], max_tries: int, xcom: dict[str, Any], store: dict[str, Any]
    ) -> None:
        self.run = run
        self.store = store
        self.max_tries = max_tries
        self.xcom = dict(xcom)
        self.pushed: list[tuple[str, Any]] = []
        self.rendered: dict[str, Any] = {}
        self.resume: dict[str, Any] = {}
        self.rescheduled_since: str | None = None
        self.is_next_try = False
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as the API server does."""
        path = request.url.path
        body = json.loads(request.content) if request.content else None
        self.asked.append(f"{request.method} {path.rsplit('/', 1)[-1]}")
        if path.endswith("/run"):
            context = {"dag_run": self.run, "max_tries": self.max_tries, "should_retry": True}
            return httpx.Response(200, json=context | self.resume)
        if "/xcoms/" in path:
            return self._xcom(request.method, path.rsplit("/", 1)[-1], body)
        self.is_next_try |= path.endswith("/state") and body["state"] == "up_for_retry"
        is_gone = path.endswith("/rtif") and self.is_next_try  # the row has another id by then
        if path.endswith("/rtif") and not is_gone:
            self.rendered.update(body)
        if is_gone or "/connections/" in path or "/variables/" in path:
            return httpx.Response(404, json={"detail": {"reason": "not_found", "message": "no"}})
        if "/store/ti/" in path:
            return self._store(request.method, path.rsplit("/", 1)[-1], body)
        if "/task-reschedules/" in path:
            return httpx.Response(200, json=self.rescheduled_since)
        return httpx.Response(200, json={"ok": True})

    def _store(self, method: str, key: str, body: Any) -> httpx.Response:
        if method == "PUT":
            self.store[key] = body["value"]
            return httpx.Response(204)
        if method == "GET" and key in self.store:
            return httpx.Response(200, json={"value": self.store[key]})
        return httpx.Response(404, json={"detail": {"reason": "not_found", "message": "no"}})

    def _xcom(self, method: str, key: str, body: Any) -> httpx.Response:
        if method == "POST":
            self.xcom[key] = body
            self.pushed.append((key, body))
            return httpx.Response(201, json={"message": "ok"})
        if method == "GET" and key in self.xcom:
            return httpx.Response(200, json={"key": key, "value": self.xcom[key]})
        return httpx.Response(404, json={"detail": {"reason": "not_found", "message": "no"}})


def _dag_run(interval: tuple[str, str] | None, fields: dict[str, Any]) -> dict[str, Any]:
    start, end = interval or (None, None)
    run = {
        "dag_id": "d",
        "run_id": "r",
        "logical_date": start,
        "data_interval_start": start,
        "data_interval_end": end,
        "run_after": "2026-11-02T00:00:00Z",
        "start_date": "2026-11-02T00:00:00Z",
        "end_date": None,
        "run_type": "manual",
        "state": "running",
        "conf": {},
        "consumed_asset_events": [],
        "partition_key": None,
    } | fields
    return {name: value for name, value in run.items() if name in DagRun.model_fields}


def first_event(trigger: Any) -> Any:
    """Run a trigger as ``dag.test()`` does: in a loop of its own, up to its first event."""

    async def first() -> Any:
        return await anext(trigger.run(), None)

    event = asyncio.run(first())
    return event.payload if event else None


def load_trigger(message: DeferTask) -> Any:
    """Make the trigger of a deferral as the triggerer does, from what was serialised."""
    kwargs = deserialize(message.model_dump()["trigger_kwargs"])
    return import_string(message.classpath)(**kwargs)


def end_in_triggerer(operator: Any, message: DeferTask) -> tuple[Any, dict[str, Any]]:
    """
    Run the trigger of a deferral as the triggerer does, which tells it of its task instance.

    :return: its first event, and the XComs that it pushed.
    """
    api = ExecutionApi({}, 0, {}, {})
    trigger, ti = load_trigger(message), _task_instance(operator)
    trigger.task_instance = ti
    with served_by(api):
        event = InProcessTestSupervisor.run_trigger_in_process(trigger=trigger, ti=ti)
    return event, api.xcom


def served_by(api: ExecutionApi) -> Any:
    """Let supervisors use an API server that is a table."""

    def client(*_: Any, **__: Any) -> Client:
        transport = httpx.MockTransport(api.answer)
        return Client(base_url=None, dry_run=True, token="", transport=transport)

    return mock.patch.object(InProcessTestSupervisor, "_api_client", client)


def _task_instance(operator: Any, *, try_number: int = 1, map_index: int = -1) -> TaskInstance:
    fields = {
        "id": uuid.uuid4(),
        "task_id": operator.task_id,
        "dag_id": operator.dag_id,
        "run_id": "r",
        "try_number": try_number,
        "map_index": map_index,
        "dag_version_id": uuid.uuid4(),
    }
    return TaskInstance(**{k: v for k, v in fields.items() if k in TaskInstance.model_fields})


def run_task(
    operator: Any,
    *,
    try_number: int = 1,
    max_tries: int | None = None,
    map_index: int = -1,
    interval: tuple[str, str] | None = WEEK,
    run_fields: dict[str, Any] | None = None,
    xcom: dict[str, Any] | None = None,
    store: dict[str, Any] | None = None,
    event_of: Callable[[Any], Any] | None = first_event,
    resume: dict[str, Any] | None = None,
    rescheduled_since: str | None = None,
) -> Outcome:
    """
    Run a task instance to its end.

    :param operator: in a DAG; a mapped one is to be given unmapped.
    :param max_tries: as the scheduler keeps it; None for a task that was never cleared.
    :param interval: of the DAG run; None for a run without one.
    :param store: the task state store, kept by the caller over tries; None begins with an empty
        one, as on versions that have none.
    :param event_of: gives the event of a trigger; None stops at the first deferral.
    :param rescheduled_since: when a sensor was rescheduled first, ISO 8601.
    :param resume: ``next_method`` and ``next_kwargs`` to begin with, in place of ``execute``.
    """
    max_tries = operator.retries if max_tries is None else max_tries
    store = {} if store is None else store
    api = ExecutionApi(_dag_run(interval, run_fields or {}), max_tries, xcom or {}, store)
    if rescheduled_since:
        api.rescheduled_since = rescheduled_since
        api.resume = {"task_reschedule_count": 1}
    if resume:
        api.resume = {
            "next_method": resume["next_method"],
            "next_kwargs": serialize(resume["next_kwargs"]),
        }

    ti = _task_instance(operator, try_number=try_number, map_index=map_index)
    outcome = Outcome(state="", error=None, xcom=api.xcom, rendered=api.rendered, pushed=api.pushed)
    outcome.asked = api.asked
    with (
        served_by(api),
        # Airflow 3.0 leaves the parsing of this one to the pipe that there is none of here.
        mock.patch.object(TaskRescheduleStartDate, "model_construct", TaskRescheduleStartDate),
    ):
        for _ in range(10):
            result = run_task_in_process(ti, operator)
            outcome.state, outcome.error = result.ti.state.value, result.error
            outcome.message = result.msg
            outcome.task = result.ti.task
            outcome.outlet_events = getattr(result.msg, "outlet_events", None)
            if not isinstance(result.msg, DeferTask):
                return outcome
            outcome.deferrals.append(result.msg)
            if event_of is None:
                return outcome
            event = event_of(load_trigger(result.msg))
            outcome.events.append(event)
            kwargs = deserialize(result.msg.model_dump()["next_kwargs"]) | {"event": event}
            api.resume = {
                "next_method": result.msg.next_method,
                "next_kwargs": serialize(kwargs),
            }
    raise AssertionError("the task defers without end")


def run_sensor(sensor: Any, **arguments: Any) -> Outcome:
    """Run a sensor to its end; it is rescheduled as by the scheduler, but without the waits."""
    began = datetime.now(tz=timezone.utc).isoformat()
    since = None
    for _ in range(100):
        outcome = run_task(sensor, rescheduled_since=since, **arguments)
        if outcome.state != "up_for_reschedule":
            return outcome
        since = began
    raise AssertionError("the sensor reschedules without end")
