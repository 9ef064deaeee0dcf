"""
Measure the cost of a waiting trigger: CPU and connections per poll, memory, event loop delay.

A triggerer is one process with one event loop for all triggers. The benchmark runs 300 and 2,000
waiting ``ReportRunTrigger`` over TLS on loopback, each time in a fresh process, with the server in
another one. The alternatives use the same server at the same interval: a bare shared aiohttp
session, which is the least possible cost; ``HttpSensorTrigger``, as users of the HTTP provider
would wait; and ``DbtCloudRunJobTrigger``, of a well-kept provider of a similar API. Other load on
the machine only ever adds CPU, so the result is the least of several rounds, with the ratio of the
medians.

The request budget is lifted, because the interval is shortened. Two further measurements keep it:
connections at the default intervals, sixty times as fast (with the time that idle connections stay
open shortened alike), and 10,000 waiters with their defaults.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from benchmarks.common import KIB, Server, connection, in_fresh_process, keep, resident_bytes, say

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

API_KEY: Final = "rk_test_benchmark_0001"
BARE: Final = "bare aiohttp session"
OURS: Final = "ReportRunTrigger"
HTTP: Final = "HttpSensorTrigger"
DBT: Final = "DbtCloudRunJobTrigger"
LOADS: Final = (
    {"waiters": 300, "interval": 1.5, "seconds": 5.0, "rounds": {BARE: 4, OURS: 4}},
    {"waiters": 2000, "interval": 8.0, "seconds": 8.0, "rounds": {BARE: 2, OURS: 2}},
)
"""All have 200 to 250 polls a second, which even the slowest can do."""
SCALE: Final = 60
"""How much faster the clock of the default intervals is."""
POLL_INTERVAL: Final = 30.0
MAX_POLL_INTERVAL: Final = 300.0
BOUNDS: Final = {"ratio_to_bare": 1.25, "connections_per_poll": 0, "kib_per_waiter": 40}
LOOK_SECONDS: Final = 0.02
"""How often the event loop's delay is measured."""

Waiter: TypeAlias = Callable[[int], Coroutine[Any, Any, None]]
"""Waits for the report run with a number."""


@asynccontextmanager
async def waiter_of(way: str, address: str, interval: float) -> AsyncIterator[Waiter]:
    """Return what waits in this way, with a poll every ``interval`` seconds."""
    if way == BARE:
        async with _bare(address, interval) as wait:
            yield wait
    else:
        triggers: dict[str, Callable[[int], BaseTrigger]] = {
            OURS: lambda number: _reportrun(number, interval, interval),
            HTTP: lambda number: _http(number, interval),
            DBT: lambda number: _dbt(number, interval),
        }
        yield lambda number: _run(triggers[way](number))


@asynccontextmanager
async def _bare(address: str, interval: float) -> AsyncIterator[Waiter]:
    import json

    import aiohttp

    connector = aiohttp.TCPConnector(limit=16, keepalive_timeout=900)
    headers = {
        "Authorization": f"Bearer {API_KEY}",
        "Stripe-Version": "2026-04-22.dahlia",
        "Accept": "application/json",
    }
    async with aiohttp.ClientSession(connector=connector) as session:

        async def wait(number: int) -> None:
            url = f"https://{address}/v2/reporting/report_runs/{_run_id(number)}"
            while True:
                async with session.get(url, headers=headers) as answer:
                    if json.loads(await answer.read())["status"] != "running":
                        return
                await asyncio.sleep(interval)

        yield wait


def _run_id(number: int) -> str:
    return f"reprun_test_{number:08d}"


async def _run(trigger: BaseTrigger) -> None:
    """Run a trigger as the triggerer does; here, it is an error if its wait ends."""
    async for event in trigger.run():
        raise RuntimeError(f"The wait has ended: {event}")


def _reportrun(number: int, poll_interval: float, max_poll_interval: float) -> BaseTrigger:
    from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

    return ReportRunTrigger(
        report_run_id=_run_id(number),
        reportrun_conn_id="bench",
        poll_interval=poll_interval,
        max_poll_interval=max_poll_interval,
        deadline=time.time() + 3600,
    )


def _http(number: int, interval: float) -> BaseTrigger:
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    return HttpSensorTrigger(
        endpoint=f"missing/{_run_id(number)}",
        http_conn_id="bench_http",
        headers={"Authorization": f"Bearer {API_KEY}", "Accept": "application/json"},
        poke_interval=interval,
    )


def _dbt(number: int, interval: float) -> BaseTrigger:
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    return DbtCloudRunJobTrigger(
        conn_id="bench_dbt",
        run_id=number,
        account_id=1,
        poll_interval=interval,
        end_time=time.time() + 3600,
    )


def _connect(facts: dict[str, Any], **extra: Any) -> None:
    """Point the connections of all alternatives to the server, whose certificate they trust."""
    address = facts["address"]
    os.environ["SSL_CERT_FILE"] = facts["ca_bundle"]
    os.environ["AIRFLOW_CONN_BENCH"] = connection(f"https://{address}", API_KEY, **extra)
    os.environ["AIRFLOW_CONN_BENCH_HTTP"] = f'{{"conn_type": "http", "host": "https://{address}"}}'
    os.environ["AIRFLOW_CONN_BENCH_DBT"] = (
        f'{{"conn_type": "dbt_cloud", "host": "{address}", "password": "{API_KEY}"}}'
    )


class LoopDelay:
    """How late the event loop runs what is due."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    async def watch(self) -> None:
        """Measure again and again."""
        while True:
            due = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self.delays.append(time.monotonic() - due)

    def facts(self) -> dict[str, float]:
        """Return the worst delay and the 99th percentile, in milliseconds."""
        ordered = sorted(self.delays)
        return {
            "loop_delay_worst_ms": round(ordered[-1] * 1000, 1),
            "loop_delay_p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
        }


def measure(way: str, waiters: int, interval: float, seconds: float) -> dict[str, Any]:
    """Measure one alternative in this process."""
    with Server("benchmarks.poll_server:serve", age_seconds=0) as server:
        _connect(server.facts, max_requests_per_second=10_000)
        return asyncio.run(_measure(server, way, waiters, interval, seconds))


async def _measure(
    server: Server, way: str, waiters: int, interval: float, seconds: float
) -> dict[str, Any]:
    # What every way needs in a triggerer; each way's own imports count as its memory.
    for shared in ("airflow.jobs.triggerer_job_runner", "aiohttp"):
        import_module(shared)
    before = resident_bytes()
    async with waiter_of(way, server.facts["address"], interval) as wait:

        async def from_its_turn(number: int) -> None:
            await asyncio.sleep(number * interval / waiters)
            await wait(number)

        first = asyncio.create_task(wait(0))
        await asyncio.sleep(1.0)  # imports, the connection, a first poll
        tasks = [first, *(asyncio.create_task(from_its_turn(n)) for n in range(1, waiters))]
        await asyncio.sleep(interval + 1.0)
        delay = LoopDelay()
        watching = asyncio.create_task(delay.watch())
        server.ask("reset")
        cpu, began = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        cpu, took = time.process_time() - cpu, time.monotonic() - began
        counts = server.ask("look")
        memory = resident_bytes() - before
        watching.cancel()
        await _end(tasks)
    return {
        "way": way,
        "waiters": waiters,
        "interval": interval,
        "polls": counts["polls"],
        "polls_per_second": round(counts["polls"] / took, 1),
        "cpu_ms_per_poll": round(cpu / counts["polls"] * 1000, 4),
        "share_of_core": round(cpu / took, 4),
        "connections_per_poll": round(counts["connections"] / counts["polls"], 4),
        "kib_per_waiter": round(memory / KIB / waiters, 2),
        **delay.facts(),
    }


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Stop waits that are still in progress, and raise if one is not."""
    over = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in over:
        task.result()
        raise RuntimeError("A wait has ended.")


def count_connections(waiters: int, seconds: float) -> dict[str, Any]:
    """Count connections of waits at the default intervals, sixty times as fast."""
    from airflow_provider_reportrun.client import transport

    transport.IDLE_CONNECTION_SECONDS = transport.IDLE_CONNECTION_SECONDS / SCALE  # type: ignore[misc]
    with Server("benchmarks.poll_server:serve", age_seconds=0) as server:
        _connect(server.facts, max_requests_per_second=20 * SCALE)
        return asyncio.run(_count_connections(server, waiters, seconds))


async def _count_connections(server: Server, waiters: int, seconds: float) -> dict[str, Any]:
    shortest, longest = POLL_INTERVAL / SCALE, MAX_POLL_INTERVAL / SCALE
    tasks = [
        asyncio.create_task(_run(_reportrun(number, shortest, longest)))
        for number in range(waiters)
    ]
    await asyncio.sleep(3 * shortest)
    first = server.ask("reset")
    await asyncio.sleep(seconds)
    then = server.ask("look")
    await _end(tasks)
    return {
        "waiters": waiters,
        "seconds_as_if": round(seconds * SCALE),
        "connections_at_first": first["connections"],
        "polls": then["polls"],
        "connections": then["connections"],
    }


def measure_many(waiters: int, seconds: float, age_seconds: float) -> dict[str, Any]:
    """Measure very many waits with all defaults, as just after a start of the triggerer."""
    with Server("benchmarks.poll_server:serve", age_seconds=age_seconds) as server:
        _connect(server.facts)
        return asyncio.run(_measure_many(server, waiters, seconds))


async def _measure_many(server: Server, waiters: int, seconds: float) -> dict[str, Any]:
    first = asyncio.create_task(_run(_reportrun(0, POLL_INTERVAL, MAX_POLL_INTERVAL)))
    await asyncio.sleep(1.0)
    before, began = resident_bytes(), time.monotonic()
    tasks = [first]
    for number in range(1, waiters):
        trigger = _reportrun(number, POLL_INTERVAL, MAX_POLL_INTERVAL)
        tasks.append(asyncio.create_task(_run(trigger)))
        if number % 100 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(1.0)
    starting = time.monotonic() - began
    delay = LoopDelay()
    watching = asyncio.create_task(delay.watch())
    server.ask("reset")
    cpu, began = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    counts = server.ask("look")
    memory = resident_bytes() - before
    watching.cancel()
    await _end(tasks)
    return {
        "waiters": waiters,
        "starting_seconds": round(starting, 2),
        "polls_per_second": round(counts["polls"] / took, 1),
        "share_of_core": round(cpu / took, 4),
        "connections": counts["connections"],
        "kib_per_waiter": round(memory / KIB / waiters, 2),
        **delay.facts(),
    }


def main() -> None:
    """Run all measurements."""
    raw = []
    for load in LOADS:
        raw += _rounds(**load)  # type: ignore[arg-type]
    with ThreadPoolExecutor() as pool:  # they sleep, nearly all the time
        counting = [pool.submit(_fresh_count, waiters) for waiters in (1, 10, 300)]
        many = in_fresh_process(
            "benchmarks.polls:measure_many", waiters=10_000, seconds=15.0, age_seconds=3600
        )
        say(f"polls: {many}")
        counted = [each.result() for each in counting]
    loads = [_summary(raw, int(load["waiters"])) for load in LOADS]  # type: ignore[call-overload]
    keep(
        "polls",
        {
            "bounds": BOUNDS,
            "loads": loads,
            "connections_at_default_intervals": counted,
            "ten_thousand_at_defaults": many,
            "raw": raw,
        },
    )


def _rounds(
    waiters: int, interval: float, seconds: float, rounds: dict[str, int]
) -> list[dict[str, Any]]:
    """Measure in turn, so other load on the machine affects all equally."""
    found = []
    most = max(rounds.values())
    for number in range(most):
        for way in (BARE, OURS, HTTP, DBT):
            if number < rounds.get(way, 1):
                found.append(
                    in_fresh_process(
                        "benchmarks.polls:measure",
                        way=way,
                        waiters=waiters,
                        interval=interval,
                        seconds=seconds,
                    )
                )
                say(f"polls: {found[-1]}")
    return found


def _fresh_count(waiters: int) -> dict[str, Any]:
    counted: dict[str, Any] = in_fresh_process(
        "benchmarks.polls:count_connections", waiters=waiters, seconds=30.0
    )
    say(f"polls: {counted}")
    return counted


def _summary(raw: list[dict[str, Any]], waiters: int) -> dict[str, Any]:
    """Combine the rounds of each alternative; CPU is the least of them, see above."""
    together: dict[str, Callable[[list[float]], float]] = {
        "polls_per_second": statistics.median,
        "cpu_ms_per_poll": min,
        "connections_per_poll": statistics.mean,
        "kib_per_waiter": statistics.median,
        "loop_delay_p99_ms": statistics.median,
        "loop_delay_worst_ms": max,
    }
    ways, median_cpu = {}, {}
    for way in (BARE, OURS, HTTP, DBT):
        runs = [run for run in raw if run["way"] == way and run["waiters"] == waiters]
        ways[way] = {
            name: round(put([run[name] for run in runs]), 4) for name, put in together.items()
        }
        median_cpu[way] = statistics.median(run["cpu_ms_per_poll"] for run in runs)
    least = {way: found["cpu_ms_per_poll"] for way, found in ways.items()}
    return {
        "waiters": waiters,
        "ratio_to_bare": {way: round(least[way] / least[BARE], 2) for way in ways},
        "ratio_to_bare_of_medians": {
            way: round(median_cpu[way] / median_cpu[BARE], 2) for way in ways
        },
        "ways": ways,
    }


if __name__ == "__main__":
    main()
