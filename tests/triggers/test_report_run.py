"""The triggers: through Airflow's serialiser and back, and in an event loop against the sandbox."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from airflow.models.trigger import Trigger
from support.cases import INTERVAL, STILL_RUNNING
from support.task_instances import first_event
from support.versions import import_string

from airflow_provider_reportrun.errors import DeadlinePassed, ServerError, from_json
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.sandbox import Answer, Fault, Hold
from airflow_provider_reportrun.triggers.report_run import (
    CreateReportRunTrigger,
    ReportRunTrigger,
)

ROWS = sorted((Path(__file__).parents[1] / "data" / "trigger_rows").glob("*/*.json"))
WAIT = {
    "reportrun_conn_id": "reportrun_default",
    "stripe_context": None,
    "poll_interval": 0.02,
    "max_poll_interval": 0.05,
    "outage_tolerance": 5.0,
}


def waiting(report_run_id, **arguments):
    """A trigger that waits for a report run."""
    arguments = WAIT | {"deadline": time.time() + 20} | arguments
    return ReportRunTrigger(report_run_id=report_run_id, **arguments)


def creating(**arguments):
    """A trigger that creates a report run."""
    defaults = {
        "report": "balance_summary",
        "report_parameters": INTERVAL,
        "result_options": None,
        "idempotency_key": "k" * 64,
        "wait_for_completion": True,
        "runs_allowed": 1,
        "deadline": time.time() + 20,
    }
    return CreateReportRunTrigger(**WAIT | defaults | arguments)


@pytest.fixture
def report_run(sandbox):
    """A report run to wait for."""
    return ReportRunHook().create_report_run("balance_summary", INTERVAL)


@pytest.mark.parametrize("trigger", [waiting("reprun_1"), creating()], ids=["wait", "create"])
def test_survives_being_stored_and_loaded(trigger):
    """A trigger made again from its row is the same trigger."""
    row = Trigger.from_object(trigger)
    again = import_string(row.classpath)(**row.kwargs)
    assert type(trigger) is type(again)
    assert trigger.serialize() == again.serialize()
    assert vars(trigger) == vars(again)


@pytest.mark.parametrize("row", ROWS, ids=[f"{r.parent.name} {r.stem}" for r in ROWS])
def test_loads_the_rows_of_earlier_releases(row):
    """Rows that a running deployment may hold keep their meaning; arguments are only added."""
    frozen = json.loads(row.read_text())
    kwargs = Trigger._decrypt_kwargs(Trigger.encrypt_kwargs(frozen["kwargs"]))
    classpath, now = import_string(frozen["classpath"])(**kwargs).serialize()
    assert frozen["classpath"] == classpath
    assert frozen["kwargs"] == {name: now[name] for name in frozen["kwargs"]}


def test_there_are_rows_of_every_trigger():
    """Each trigger has a frozen row of the release that brought it."""
    assert {"ReportRunTrigger", "CreateReportRunTrigger"} <= {
        json.loads(row.read_text())["classpath"].rpartition(".")[2] for row in ROWS
    }


def test_fires_once_when_the_report_run_is_finished(sandbox, report_run):
    """One event, and the generator ends."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=3))

    async def events():
        return [event.payload async for event in waiting(report_run.id).run()]

    (event,) = asyncio.run(events())
    assert event["outcome"] == "done"
    assert event["report_run_id"] == report_run.id


def test_a_failed_report_run_crosses_typed(sandbox):
    """The event holds the error's facts; the task raises it again."""
    sandbox.fail_next(1)
    report_run = ReportRunHook().create_report_run("balance_summary", INTERVAL)
    event = first_event(waiting(report_run.id))
    error = from_json(event["error"])
    assert event["outcome"] == "error"
    assert error.error_code == "internal_error"
    assert error.report_run_id == event["report_run_id"] == report_run.id
    assert error.transient


def test_the_deadline_is_absolute(sandbox, report_run):
    """A trigger that is started after its deadline looks once and ends."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    event = first_event(waiting(report_run.id, deadline=time.time() - 1))
    assert isinstance(from_json(event["error"]), DeadlinePassed)
    assert len([r for r in sandbox.requests if r.method == "GET"]) == 1


def test_a_report_run_that_finished_meanwhile_is_noticed_after_the_deadline(sandbox, report_run):
    """The last look counts, also after a triggerer was down past the deadline."""
    assert first_event(waiting(report_run.id, deadline=time.time() - 1))["outcome"] == "done"


def test_rides_out_an_outage(sandbox, report_run):
    """Errors within the tolerance are let pass."""
    sandbox.faults.add(Fault("get_run", _down(), times=6))
    assert first_event(waiting(report_run.id))["outcome"] == "done"


def test_an_outage_that_lasts_ends_the_wait(sandbox, report_run):
    """Without one good answer for the tolerated time, the error is told, typed."""
    sandbox.faults.add(Fault("get_run", _down(), times=None))
    event = first_event(waiting(report_run.id, outage_tolerance=0.1))
    assert isinstance(from_json(event["error"]), ServerError)


def test_a_bug_surfaces_as_a_crash(sandbox, report_run):
    """Only errors of this package become events; anything else is a traceback for the log."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    trigger = waiting(report_run.id)
    trigger.deadline = "soon"
    with pytest.raises(TypeError):
        first_event(trigger)


def test_the_connection_may_be_wrong(sandbox, monkeypatch):
    """A connection that cannot be used is told by its name."""
    event = first_event(waiting("reprun_1", reportrun_conn_id="nowhere"))
    assert "no Airflow connection 'nowhere'" in event["message"]


def test_many_triggers_share_connections(sandbox, report_run, monkeypatch):
    """Ten waits of one loop poll over few connections, and open none while polling."""
    extra = ', "extra": {"max_requests_per_second": 1000}}'
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json.replace("}", extra)
    )
    before = sandbox.connections
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=200))

    async def all_of_them():
        return await asyncio.gather(*[anext(waiting(report_run.id).run()) for _ in range(10)])

    assert len(asyncio.run(all_of_them())) == 10
    assert sandbox.connections - before <= 10
    assert len(sandbox.requests) > 200


def test_nothing_is_left_open(sandbox, report_run):
    """Each loop closes what it opened, also when it is cancelled in the middle of a wait."""
    held = sandbox.faults.add(Fault("get_run", Hold(seconds=10), after=1))

    async def cancelled():
        task = asyncio.create_task(anext(waiting(report_run.id).run()))
        sandbox.faults.add(Fault("get_run", STILL_RUNNING))
        await asyncio.to_thread(held.reached.wait, 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    first_event(waiting(report_run.id))
    held.release()
    for _ in range(100):
        if sandbox.open_connections == 0:
            break
        time.sleep(0.02)
    assert sandbox.open_connections == 0


def test_a_cancelled_wait_says_that_the_report_run_goes_on(sandbox, report_run, capsys):
    """Marked failed, cleared or shut down: the log names the report run, and nothing is sent."""
    still_running = sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))

    async def cancelled():
        task = asyncio.create_task(anext(waiting(report_run.id, poll_interval=5.0).run()))
        await asyncio.to_thread(still_running.reached.wait, 10)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    assert (
        f"report run {report_run.id} stops; the report run goes on at Stripe"
        in capsys.readouterr().out
    )
    assert {r.method for r in sandbox.requests[1:]} == {"GET"}


def test_a_replaced_key_is_picked_up_after_a_refusal(sandbox, report_run, monkeypatch):
    """After a 401 the connection is read again, so that the next wait uses the new key."""
    sandbox.faults.add(Fault("get_run", Answer(status=401)))

    async def two_waits():
        first = await anext(waiting(report_run.id).run())
        second = await anext(waiting(report_run.id).run())
        return first.payload["outcome"], second.payload["outcome"]

    assert asyncio.run(two_waits()) == ("error", "done")


def test_a_key_that_is_replaced_while_all_wait_fails_nobody(sandbox, report_run, monkeypatch):
    """The first wait that is refused reads the connection again, and asks with the new key."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=20))

    async def waits():
        tasks = [asyncio.create_task(anext(waiting(report_run.id).run())) for _ in range(3)]
        await asyncio.sleep(0.3)
        key = sandbox.keyring.second.value
        monkeypatch.setenv(
            "AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json.replace(sandbox.api_key, key)
        )
        sandbox.faults.clear()
        sandbox.faults.add(Fault("get_run", Answer(status=401)))
        return [(await task).payload["outcome"] for task in tasks]

    assert asyncio.run(waits()) == ["done"] * 3
    keys = {r.headers["authorization"] for r in sandbox.requests if r.operation == "get_run"}
    assert f"Bearer {sandbox.keyring.second.value}" in keys


def _down():
    return Answer(status=503, headers={"Stripe-Should-Retry": "false"})
