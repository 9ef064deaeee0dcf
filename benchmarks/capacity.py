"""
Measure how fast a backfill is under the limit of concurrent report runs, and what is refused.

48 creates, which also wait for their reports, start at once in one event loop, like the deferred
tasks of a backfill; the sandbox runs 4 report runs of 2 s at a time. The least possible time is
48 x 2 s / 4. (The run times in the sandbox differ randomly by up to a tenth; the results contain
their sum.) There are two paces, both with a budget of 1,200 requests per second: fast polls (0.1 s)
and the defaults on a clock that is sixty times as fast, where 2 s represent 120 s, 0.5 s a
``poll_interval`` of 30 s, 5 s a ``max_poll_interval`` of 300 s, and the budget 20 per second.

The alternatives are simulated over a bare aiohttp session, without their cost for workers:

- back-off: every waiter repeats its own POST after 30 s, then twice as long each time, up to 300 s,
  jittered by half (0.5 s to 5 s on this clock);
- task retry: a refused POST fails the task, which Airflow starts again after its default
  ``retry_delay`` of 5 minutes (5 s on this clock), without limit; with its default of no retries,
  44 of the 48 would fail.

Both poll a report run every ``poll_interval`` until it is finished.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import Server, connection, in_fresh_process, keep, say, tell

if TYPE_CHECKING:
    import aiohttp

RUNS: Final = 48
LIMIT: Final = 4
RUN_SECONDS: Final = 2.0
SCALE: Final = 60
"""How much faster the clock is than the one the defaults are for: 2 s represent 120 s."""
QUEUE: Final = "capacity queue"
BACKOFF: Final = "back-off"
RETRY: Final = "task retry"
RETRY_SECONDS: Final = 300 / SCALE
FIRST_BACKOFF_SECONDS: Final = 30 / SCALE
LONGEST_BACKOFF_SECONDS: Final = 300 / SCALE
PACES: Final = {
    "fast polls": {"poll_interval": 0.1, "max_poll_interval": 1.0},
    "defaults": {"poll_interval": 30 / SCALE, "max_poll_interval": 300 / SCALE},
}
BOUNDS: Final = {
    "fast polls": {"of_lower_bound": 1.10, "refused_per_run": 2.0},
    "defaults": {"of_lower_bound": 1.25, "refused_per_run": 2.0},
}
FIRST_DAY: Final = datetime(2025, 1, 6, tzinfo=timezone.utc)
_REFUSED: Final = 429


def serve() -> None:
    """Run a sandbox, and answer each line with the report runs and refused creates so far."""
    from airflow_provider_reportrun.sandbox import Sandbox

    with Sandbox(run_seconds=RUN_SECONDS, concurrency=LIMIT, size=1000) as sandbox:
        tell({"url": sandbox.url, "api_key": sandbox.api_key})
        while sys.stdin.readline():
            creates = [seen for seen in sandbox.requests if seen.operation == "create"]
            facts = {
                "runs": [[run.created_ns / 1e9, run.finishes_ns / 1e9] for run in sandbox.runs],
                "refused": sum(seen.status == _REFUSED for seen in creates),
                "creates": len(creates),
                "requests": len(sandbox.requests),
            }
            tell(facts)


def measure(way: str, pace: str) -> dict[str, Any]:
    """Measure one alternative at one pace, in this process."""
    with Server("benchmarks.capacity:serve") as server:
        os.environ["AIRFLOW_CONN_BENCH"] = connection(
            server.facts["url"], server.facts["api_key"], max_requests_per_second=20 * SCALE
        )
        began, ended, took = asyncio.run(_all(way, server.facts, **PACES[pace]))
        facts = server.ask("look")
    spans = [(created - began, finished - began) for created, finished in facts["runs"]]
    lower_bound = RUNS * RUN_SECONDS / LIMIT
    return {
        "way": way,
        "pace": pace,
        "makespan_seconds": round(took, 2),
        "lower_bound_seconds": lower_bound,
        "drawn_run_seconds_over_limit": round(sum(end - start for start, end in spans) / LIMIT, 2),
        "of_lower_bound": round(took / lower_bound, 3),
        "runs": len(spans),
        "refused": facts["refused"],
        "refused_per_run": round(facts["refused"] / len(spans), 2),
        "requests_per_run": round((facts["requests"] - 1) / len(spans), 1),
        "ended_seconds": [round(each - began, 2) for each in sorted(ended)],
        "spans_seconds": [[round(start, 2), round(end, 2)] for start, end in spans],
    }


async def _all(
    way: str, facts: dict[str, Any], poll_interval: float, max_poll_interval: float
) -> tuple[float, list[float], float]:
    """Start all at once; return when that was, when each ended, and the total time."""
    import aiohttp

    from airflow_provider_reportrun.hooks.report_run import ReportRunHook

    # Warm up, like a triggerer that has run for a while: import all, and read the connection.
    await ReportRunHook("bench").aget_report("balance_summary")
    async with aiohttp.ClientSession(
        facts["url"],
        headers={
            "Authorization": f"Bearer {facts['api_key']}",
            "Stripe-Version": "2026-04-22.dahlia",
        },
    ) as session:

        async def one(number: int) -> float:
            if way == QUEUE:
                await _queued(number, poll_interval, max_poll_interval)
            else:
                pauses = _backoff if way == BACKOFF else _retry
                await _by_itself(session, number, poll_interval, pauses)
            return time.time()

        began, clock = time.time(), time.monotonic()
        ended = await asyncio.gather(*(one(number) for number in range(RUNS)))
        return began, ended, time.monotonic() - clock


def _request(number: int) -> dict[str, Any]:
    """Return the body of a create: one week each."""
    start = FIRST_DAY + timedelta(weeks=number)
    stamps = [f"{at:%Y-%m-%dT%H:%M:%S}.000Z" for at in (start, start + timedelta(weeks=1))]
    return {
        "report": "balance_summary",
        "report_parameters": dict(zip(("interval_start", "interval_end"), stamps, strict=True)),
    }


async def _queued(number: int, poll_interval: float, max_poll_interval: float) -> None:
    from airflow_provider_reportrun.triggers.report_run import CreateReportRunTrigger

    trigger = CreateReportRunTrigger(
        **_request(number),
        idempotency_key=f"benchmark-{number}",
        wait_for_completion=True,
        reportrun_conn_id="bench",
        poll_interval=poll_interval,
        max_poll_interval=max_poll_interval,
        deadline=time.time() + 600,
    )
    async for event in trigger.run():
        if event.payload["outcome"] != "done":
            raise RuntimeError(f"The wait ended in {event.payload}")


def _backoff(refused: int) -> float:
    ceiling = min(FIRST_BACKOFF_SECONDS * 2.0 ** (refused - 1), LONGEST_BACKOFF_SECONDS)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - no secret


def _retry(_: int) -> float:
    return RETRY_SECONDS


async def _by_itself(
    session: aiohttp.ClientSession,
    number: int,
    poll_interval: float,
    pause: Callable[[int], float],
) -> None:
    """Create a report run and wait for it, independently of the others."""
    refused = 0
    while True:
        status, run = await _answer(
            session.post(
                "/v2/reporting/report_runs",
                json=_request(number),
                headers={"Idempotency-Key": f"benchmark-{number}"},
            )
        )
        if status != _REFUSED:
            break
        refused += 1
        await asyncio.sleep(pause(refused))
    while run["status"] == "running":
        await asyncio.sleep(poll_interval)
        _, run = await _answer(session.get(f"/v2/reporting/report_runs/{run['id']}"))


async def _answer(request: Awaitable[aiohttp.ClientResponse]) -> tuple[int, Any]:
    answer = await request
    return answer.status, await answer.json()


def main() -> None:
    """Measure the queue at both paces, then the others in parallel, because they mostly sleep."""
    found = _side_by_side([(QUEUE, pace) for pace in PACES])
    found += _side_by_side([(way, pace) for way in (BACKOFF, RETRY) for pace in PACES])
    keep(
        "capacity",
        {
            "runs": RUNS,
            "limit": LIMIT,
            "run_seconds": RUN_SECONDS,
            "paces": PACES,
            "bounds": BOUNDS,
            "ways": found,
        },
    )


def _side_by_side(cases: list[tuple[str, str]]) -> list[dict[str, Any]]:
    def one(case: tuple[str, str]) -> dict[str, Any]:
        way, pace = case
        facts: dict[str, Any] = in_fresh_process("benchmarks.capacity:measure", way=way, pace=pace)
        shown = {name: value for name, value in facts.items() if not name.endswith("s_seconds")}
        say(f"capacity: {shown | {'makespan_seconds': facts['makespan_seconds']}}")
        return facts

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, cases))


if __name__ == "__main__":
    main()
