"""
Measure what waits on v1 cost: by the list, one request for up to a hundred report runs, or by GETs.

``/v1/reporting`` has a list of report runs, which all waits of a triggerer share. The alternative
is the same trigger without the list, so that each wait sends a GET of its own. Both wait in a fresh
process for 300 report runs, which finish one after the other, in no order. The server, in another
process, counts requests. Intervals are thirty times as short as the defaults are at first, and the
request budget is lifted. Other load on the machine only ever adds CPU, so both numbers are the
least of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import Server, connection, in_fresh_process, keep, say

if TYPE_CHECKING:
    from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

API_KEY: Final = "rk_test_benchmark_0001"
LIST: Final = "by the list"
GETS: Final = "one GET each"
WAITERS: Final = 300
INTERVAL: Final = 1.0
FIRST_SECONDS: Final = 8.0
LAST_SECONDS: Final = 16.0
"""How long the first and the last report run take: at thirty times the speed, 4 and 8 minutes."""
ROUNDS: Final = 2


def run_id(number: int) -> str:
    """Return the id of a report run; the list has the highest first."""
    return f"frr_test_{number:08d}"


def trigger(way: str, number: int) -> ReportRunTrigger:
    """Return the trigger of one wait."""
    from msgspec.structs import replace

    from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

    class WithoutList(ReportRunTrigger):
        """Polls its own report run, as triggers do if the API has no list."""

        @property
        def generation(self) -> Any:
            return replace(super().generation, run_listing=None)

    return (ReportRunTrigger if way == LIST else WithoutList)(
        report_run_id=run_id(number),
        reportrun_conn_id="bench",
        api="v1",
        poll_interval=INTERVAL,
        max_poll_interval=INTERVAL,
        deadline=time.time() + 600,
    )


def measure(way: str) -> dict[str, Any]:
    """Measure one alternative in this process."""
    with Server("benchmarks.list_server:serve", runs=WAITERS) as server:
        os.environ["SSL_CERT_FILE"] = server.facts["ca_bundle"]
        address = f"https://{server.facts['address']}"
        extra = {"max_requests_per_second": 10_000, "api": "v1"}
        os.environ["AIRFLOW_CONN_BENCH"] = connection(address, API_KEY, **extra)
        return asyncio.run(_measure(server, way))


async def _measure(server: Server, way: str) -> dict[str, Any]:
    warm = asyncio.create_task(_wait(trigger(way, 0)))
    await asyncio.sleep(1.0)  # imports, the connection, a first poll
    warm.cancel()
    await asyncio.gather(warm, return_exceptions=True)
    server.ask(f"start {FIRST_SECONDS} {LAST_SECONDS}")
    cpu, began = time.process_time(), time.monotonic()

    async def from_its_turn(number: int) -> None:
        await asyncio.sleep(number * INTERVAL / WAITERS)
        await _wait(trigger(way, number))

    await asyncio.gather(*map(from_its_turn, range(WAITERS)))
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    requests = server.ask("look")["requests"]
    return {
        "way": way,
        "waiters": WAITERS,
        "requests": requests,
        "requests_per_wait": round(requests / WAITERS, 3),
        "cpu_ms_per_wait": round(cpu / WAITERS * 1000, 3),
        "seconds": round(took, 1),
    }


async def _wait(waiting: ReportRunTrigger) -> None:
    """Run a trigger as the triggerer does, to its end."""
    async for event in waiting.run():
        if event.payload["outcome"] != "done":
            raise RuntimeError(f"The wait has failed: {event}")
        return


def main() -> None:
    """Run all measurements, in turn, so other load on the machine affects both alike."""
    raw = []
    for _ in range(ROUNDS):
        for way in (LIST, GETS):
            raw.append(in_fresh_process("benchmarks.lists:measure", way=way))
            say(f"lists: {raw[-1]}")
    ways = {
        way: {
            name: min(run[name] for run in raw if run["way"] == way)
            for name in ("requests_per_wait", "cpu_ms_per_wait")
        }
        for way in (LIST, GETS)
    }
    keep("lists", {"waiters": WAITERS, "ways": ways, "raw": raw})


if __name__ == "__main__":
    main()
