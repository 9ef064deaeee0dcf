"""The line for capacity: many creates in one event loop, against a sandbox with little room."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

import pytest
from support.cases import INTERVAL, NO_ROOM, STILL_RUNNING

from airflow_provider_reportrun.client.session import CapacityLine
from airflow_provider_reportrun.errors import DeadlinePassed, from_json
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.sandbox import Answer, Fault, Hold, Sandbox
from airflow_provider_reportrun.triggers.report_run import CreateReportRunTrigger, ReportRunTrigger

FAST = {"poll_interval": 0.05, "max_poll_interval": 0.05}
NEVER = {"poll_interval": 60.0, "max_poll_interval": 60.0}
"""A test that waits for a poll of this pace fails at its time limit."""
LIMIT_SECONDS = 15.0


@dataclass
class Watch:
    """Lets creates through slowly, and counts how many are under way at once."""

    under_way: int = 0
    most: int = 0
    keys: list[str] = field(default_factory=list)

    async def play(self, _, exchange):
        """Count, and handle."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.01)
        try:
            return await exchange.handle()
        finally:
            self.under_way -= 1


def connection(sandbox, api_key):
    """A connection that does not hold requests back."""
    extra = {"max_requests_per_second": 1000}
    return json.dumps(json.loads(sandbox.connection_json) | {"password": api_key, "extra": extra})


@pytest.fixture(scope="module")
def small_sandbox():
    """One sandbox with room for two short report runs."""
    with Sandbox(run_seconds=0.3, concurrency=2) as sandbox:
        yield sandbox


@pytest.fixture
def small(small_sandbox, monkeypatch):
    """The sandbox, under two connections with one key and a third with another."""
    small_sandbox.reset()
    keys = {"DEFAULT": small_sandbox.api_key, "SAME": small_sandbox.api_key}
    keys["OTHER"] = small_sandbox.keyring.second.value
    for name, key in keys.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_REPORTRUN_{name}", connection(small_sandbox, key))
    return small_sandbox


def creating(name, **arguments):
    """A trigger that creates a report run under a key of its own, and waits for it."""
    defaults = {
        "report": "balance_summary",
        "report_parameters": INTERVAL,
        "idempotency_key": name,
        "wait_for_completion": True,
        "reportrun_conn_id": "reportrun_default",
        "deadline": time.time() + LIMIT_SECONDS,
        "outage_tolerance": 5.0,
    }
    return CreateReportRunTrigger(**defaults | FAST | arguments)


def watching(report_run_id, **arguments):
    """A trigger that waits for a report run."""
    defaults = {"reportrun_conn_id": "reportrun_default", "deadline": time.time() + LIMIT_SECONDS}
    return ReportRunTrigger(report_run_id=report_run_id, **defaults | FAST | arguments)


def begin(trigger):
    """Run a trigger beside others, as the triggerer does."""

    async def event():
        return (await anext(trigger.run())).payload

    return asyncio.create_task(event())


async def ends(*tasks):
    """Give the events of triggers, which must come long before a slow poll would bring them."""
    return await asyncio.wait_for(asyncio.gather(*tasks), LIMIT_SECONDS)


async def until(condition):
    """Wait for something to happen in the sandbox."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it does not happen")


def posts(sandbox, key=None):
    """The creates that arrived, all or those of one idempotency key."""
    return [
        request
        for request in sandbox.requests
        if request.operation == "create" and key in (None, request.headers["idempotency-key"])
    ]


def refused(sandbox):
    """How many creates were answered that there is no room."""
    return [request.status for request in posts(sandbox)].count(429)


def created(sandbox):
    """The keys of the report runs, in the order of creation."""
    return [run.idempotency_key for run in sandbox.runs]


def error_of(event):
    """The typed error of an event."""
    assert event["outcome"] == "error", event
    return from_json(event["error"])


# A backfill


def test_everyone_is_served_once_and_in_order(small):
    """One report run for each, first come first served, one probe at a time, few refusals."""
    watch = Watch()
    small.faults.add(Fault("create", watch, times=None))
    names = [f"week-{number:02d}" for number in range(10)]

    async def main():
        pace = {"poll_interval": 0.2, "max_poll_interval": 0.2}
        return await ends(*[begin(creating(name, **pace)) for name in names])

    events = asyncio.run(main())
    assert {event["outcome"] for event in events} == {"done"}
    assert created(small) == names
    assert [event["report_run_id"] for event in events] == [run.id for run in small.runs]
    assert watch.most == 1
    assert refused(small) <= 2 * len(names)


def test_a_backfill_takes_little_longer_than_the_limit_demands(small):
    """Room is used as soon as a watched report run ends, however slowly creates are repeated."""
    names = [f"week-{number}" for number in range(8)]

    async def main():
        pace = {"poll_interval": 0.1, "max_poll_interval": 60.0}
        return await ends(*[begin(creating(name, **pace)) for name in names])

    began = time.monotonic()
    asyncio.run(main())
    assert len(small.runs) == len(names)
    assert time.monotonic() - began < 4 * len(names) * 0.3 / 2


@pytest.mark.parametrize("watcher", ["create", "wait"])
@pytest.mark.parametrize("conn", ["reportrun_default", "reportrun_same"])
def test_the_next_asks_at_once_when_a_watched_report_run_ends(small, watcher, conn):
    """Whichever trigger of the key sees the end, over whichever connection."""
    small.limit(1)

    async def main():
        if watcher == "create":
            first = begin(creating("first"))
            await until(lambda: small.runs)
        else:
            run = await ReportRunHook().acreate_report_run(
                "balance_summary", INTERVAL, idempotency_key="first"
            )
            first = begin(watching(run.id))
        second = begin(
            creating("second", wait_for_completion=False, reportrun_conn_id=conn, **NEVER)
        )
        return await ends(first, second)

    events = asyncio.run(main())
    assert [event["outcome"] for event in events] == ["done", "done"]
    assert created(small) == ["first", "second"]
    assert refused(small) <= 2


def test_a_failed_report_run_makes_room_as_well(small):
    """The end of a report run is what counts, and not how it ends."""
    small.limit(1)
    small.fail_next(1)

    async def main():
        first = begin(creating("first"))
        await until(lambda: small.runs)
        return await ends(first, begin(creating("second", wait_for_completion=False, **NEVER)))

    failed, second = asyncio.run(main())
    assert failed["outcome"] == "error"
    assert second["outcome"] == "done"


def test_creates_that_do_not_wait_for_the_report_leave_the_line(small):
    """Their turn ends with the create: nobody waits for what they created."""
    small.limit(5)

    async def main():
        tasks = [
            begin(creating(f"week-{number}", wait_for_completion=False, **NEVER))
            for number in range(5)
        ]
        return await ends(*tasks)

    assert {event["outcome"] for event in asyncio.run(main())} == {"done"}
    assert refused(small) == 0


def test_another_key_has_a_line_of_its_own(small):
    """Its room is its own, too."""
    small.limit(0)

    async def main():
        waits = begin(creating("waits", **NEVER))
        await until(lambda: refused(small) == 1)
        small.limit(1)
        (event,) = await ends(begin(creating("other", reportrun_conn_id="reportrun_other")))
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        return event

    assert asyncio.run(main())["outcome"] == "done"
    assert created(small) == ["other"]


def test_connections_with_one_key_share_the_line(small):
    """What is first in line over one connection keeps another connection's creates waiting."""
    small.limit(0)

    async def main():
        first = begin(creating("first", **NEVER))
        await until(lambda: refused(small) == 1)
        second = begin(creating("second", reportrun_conn_id="reportrun_same"))
        await asyncio.sleep(0.3)
        asked = len(posts(small))
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        return asked

    assert asyncio.run(main()) == 1


# The turn is given on


def test_when_the_first_in_line_is_cancelled(small):
    """Marked failed or cleared: the next asks at once."""
    small.limit(0)

    async def main():
        first = begin(creating("first", **NEVER))
        await until(lambda: refused(small) == 1)
        second = begin(creating("second", wait_for_completion=False, **NEVER))
        await asyncio.sleep(0.05)
        small.limit(1)
        first.cancel()
        (event,) = await ends(second)
        return event, first.cancelled()

    event, is_cancelled = asyncio.run(main())
    assert event["outcome"] == "done"
    assert is_cancelled
    assert created(small) == ["second"]


def test_when_one_in_the_middle_is_cancelled(small):
    """Whoever stands in line may leave it, and the others keep their places."""
    small.limit(0)

    async def main():
        tasks = [begin(creating(str(number))) for number in range(3)]
        await until(lambda: refused(small) >= 1)
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        small.limit(1)
        return await ends(tasks[0], tasks[2])

    assert [event["outcome"] for event in asyncio.run(main())] == ["done", "done"]
    assert created(small) == ["0", "2"]


@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("refusals", [0, 2])
def test_when_the_first_in_line_fails_for_good(small, status, refusals):
    """What the API does not take is no reason for others to wait."""
    small.faults.add(Fault("create", NO_ROOM, times=refusals))
    small.faults.add(Fault("create", Answer(status=status)))

    async def main():
        first = begin(creating("first"))
        await until(lambda: posts(small))
        second = begin(creating("second", wait_for_completion=False, **NEVER))
        return await ends(first, second)

    first, second = asyncio.run(main())
    assert error_of(first).status == status
    assert second["outcome"] == "done"
    assert len(posts(small, "first")) == refusals + 1


def test_when_the_first_in_line_passes_its_deadline(small):
    """Its pause is cut short by the deadline, and the next asks."""
    small.limit(0)

    async def main():
        first = begin(creating("first", **NEVER, deadline=time.time() + 3))
        await until(lambda: posts(small))
        second = begin(creating("second"))
        (event,) = await ends(first)
        small.limit(1)
        return event, *(await ends(second))

    first, second = asyncio.run(main())
    assert isinstance(error_of(first), DeadlinePassed)
    assert second["outcome"] == "done"
    assert created(small) == ["second"]


def test_whoever_passes_the_deadline_in_line_asks_no_more(small):
    """All of a backfill may reach their deadline at once: that is no reason for all to ask."""
    small.limit(0)
    watch = Watch()
    small.faults.add(Fault("create", watch, times=None))

    async def main():
        first = begin(creating("first", **NEVER))
        await until(lambda: refused(small) == 1)
        others = [begin(creating(str(n), deadline=time.time() + 0.3)) for n in range(5)]
        events = await ends(*others)
        small.limit(1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return events

    for event in asyncio.run(main()):
        error = error_of(event)
        assert isinstance(error, DeadlinePassed)
        assert "room for one more report run" in error.message
    assert watch.most == 1
    assert len(posts(small)) == 1
    assert small.runs == []


async def tick(times):
    """Let the event loop go round so many times."""
    for _ in range(times):
        await asyncio.sleep(0)


@pytest.mark.parametrize("ticks", range(6))
def test_a_cancellation_is_not_lost_where_the_turn_comes(ticks):
    """Whoever is cancelled in the very moment does not go on, and the turn is given on."""

    async def main():
        line = CapacityLine()
        went_on = []

        async def user():
            assert await line.take_turn(10.0)
            try:
                await tick(10)
                went_on.append(True)
            finally:
                line.leave()

        assert await line.take_turn(10.0)
        task = asyncio.create_task(user())
        await tick(5)
        line.leave()
        await tick(ticks)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled(), went_on, await line.take_turn(0.2)

    assert asyncio.run(main()) == (True, [], True)


@pytest.mark.parametrize("ticks", range(6))
def test_a_cancellation_is_not_lost_where_room_is_made(ticks):
    """Whoever is cancelled in the very moment does not ask once more."""

    async def main():
        line = CapacityLine()
        went_on = []

        async def user():
            await line.await_room(10.0)
            await tick(10)
            went_on.append(True)

        task = asyncio.create_task(user())
        await tick(5)
        line.room_made()
        await tick(ticks)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled(), went_on

    assert asyncio.run(main()) == (True, [])


# Restarts


def test_a_trigger_that_runs_twice_makes_one_report_run(small):
    """Two triggerers that both believe the trigger to be theirs end with one report run."""

    async def main():
        one = creating("same")
        other = CreateReportRunTrigger(**one.serialize()[1])
        return await ends(begin(one), begin(other))

    one, other = asyncio.run(main())
    assert one["report_run_id"] == other["report_run_id"] == small.runs[0].id
    assert created(small) == ["same"]


@pytest.mark.parametrize("before", ["handling", "answering"])
def test_a_trigger_that_is_killed_in_its_create_makes_one_report_run(small, before):
    """Started again in another loop, it finds the report run that it had made, or makes it."""
    held = small.faults.add(Fault("create", Hold(seconds=10, before=before)))
    trigger = creating("same")

    async def killed():
        task = begin(trigger)
        await until(held.reached.is_set)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(killed())
    held.release()

    async def again():
        return await ends(begin(CreateReportRunTrigger(**trigger.serialize()[1])))

    (event,) = asyncio.run(again())
    assert event["report_run_id"] == small.runs[0].id
    assert created(small) == ["same"]


# The deadline


def test_a_deadline_in_the_line_says_that_there_was_no_room(small):
    """No report run is named, for there is none."""
    small.limit(0)

    async def main():
        return await ends(begin(creating("first", deadline=time.time() + 0.2)))

    (event,) = asyncio.run(main())
    error = error_of(event)
    assert isinstance(error, DeadlinePassed)
    assert "the API key to have room for one more report run" in error.message
    assert "goes on" not in error.message
    assert event["report_run_id"] is None


def test_a_deadline_after_the_line_says_how_long_each_took(small):
    """The report run is named and goes on, and what the line took is told apart."""
    small.faults.add(Fault("create", NO_ROOM, times=3))
    small.faults.add(Fault("get_run", STILL_RUNNING, times=None))

    async def main():
        return await ends(begin(creating("first", deadline=time.time() + 0.5)))

    (event,) = asyncio.run(main())
    error = error_of(event)
    assert isinstance(error, DeadlinePassed)
    assert error.report_run_id == event["report_run_id"] == small.runs[0].id
    assert f"report run {small.runs[0].id} to finish" in error.message
    assert "goes on at Stripe" in error.message
    assert "waiting for data or room" in error.message


# Hurry


@pytest.mark.parametrize("waits", [False, True], ids=["nobody waits", "a create waits"])
def test_polls_hurry_while_creates_wait(small, waits):
    """An end is noticed sooner where somebody wants the room, and at the usual pace elsewhere."""
    pace = {"poll_interval": 0.3, "max_poll_interval": 0.3}

    async def main():
        run = await ReportRunHook().acreate_report_run("balance_summary", INTERVAL)
        small.limit(0)
        small.faults.add(Fault("get_run", STILL_RUNNING, times=None))
        tasks = []
        if waits:
            tasks = [begin(creating("waits", **NEVER))]
            await until(lambda: refused(small) == 1)
        tasks.append(begin(watching(run.id, **pace)))
        await asyncio.sleep(1.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    polls = len([request for request in small.requests if request.operation == "get_run"])
    assert polls >= 7 if waits else 3 <= polls <= 4
