"""
Measure how late the end of a report run is noticed, and the requests for it, by its length.

The conversation is the real one, with the default intervals. Only the clock and the API are
simulated: the clock moves by the pauses, and an answer says whether the report run has ended. The
first poll comes half a second to two seconds after the create, as in a real triggerer. The
alternatives have the same first poll: one every 30 seconds, as a user would write it, and the pace
of this package without its early polls.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any, Final

from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.asking import Environment, Patience
from airflow_provider_reportrun.protocol.drivers import drive
from airflow_provider_reportrun.protocol.generations import DEFAULT, named
from airflow_provider_reportrun.protocol.messages import Pause, Request, Response, Sleep
from airflow_provider_reportrun.protocol.retry import Pace
from benchmarks.common import keep, say

LENGTHS: Final = (2, 5, 10, 20, 30, 60, 120, 300, 900)
"""Seconds."""
SPREAD: Final = (0.75, 1.25)
"""How much the lengths differ, so none of them fits an interval by chance."""
WAITS: Final = 2000
FIRST_POLL: Final = (0.5, 2.0)
INTERVAL: Final = 30.0
CREATED_AT: Final = 1_800_000_000.0
OURS: Final = "with early polls"
NO_EARLY: Final = "without early polls"
PLAIN: Final = "every 30 s"
_random = random.Random()  # noqa: S311 - no cryptography here


class _Wait:
    """One wait on a simulated clock."""

    def __init__(self, length: float, first_poll: float) -> None:
        self.length = length
        self.age = first_poll
        self.requests = 0

    def send(self, _request: Request) -> Response:
        self.requests += 1
        created = datetime.fromtimestamp(CREATED_AT, tz=timezone.utc).isoformat()
        status = "succeeded" if self.age >= self.length else "running"
        body = {"id": "reprun_1", "status": status, "report": "r", "created": created}
        return Response(status=200, headers={}, body=json.dumps(body).encode())

    def pause(self, step: Pause) -> None:
        if isinstance(step, Sleep):
            self.age += step.seconds


def ours(length: float, first_poll: float) -> tuple[float, int]:
    """Return when the end is noticed, by age, and after how many requests."""
    wait = _Wait(length, first_poll)
    environment = Environment(
        clock=lambda: CREATED_AT + wait.age, monotonic=lambda: wait.age, jitter=_random.uniform
    )
    flow = flows.await_finished(
        named(DEFAULT),
        "reprun_1",
        patience=Patience(deadline=CREATED_AT + 86_400),
        environment=environment,
    )
    drive(flow, send=wait.send, pause=wait.pause, measure=lambda _: None)
    return wait.age, wait.requests


def _even(length: float, first_poll: float) -> tuple[float, int]:
    return _polled(length, first_poll, lambda _: INTERVAL)


def _no_early(length: float, first_poll: float) -> tuple[float, int]:
    return _polled(length, first_poll, lambda age: Pace().delay(age, _random.uniform))


def _polled(length: float, age: float, delay: Callable[[float], float]) -> tuple[float, int]:
    requests = 1
    while age < length:
        age += delay(age)
        requests += 1
    return age, requests


WAYS: Final = {OURS: ours, NO_EARLY: _no_early, PLAIN: _even}


def _measured() -> Iterator[dict[str, Any]]:
    for length in LENGTHS:
        for way, wait in WAYS.items():
            lengths = [length * _random.uniform(*SPREAD) for _ in range(WAITS)]
            found = [wait(each, _random.uniform(*FIRST_POLL)) for each in lengths]
            late = [noticed - each for each, (noticed, _) in zip(lengths, found, strict=True)]
            yield {
                "length": length,
                "way": way,
                "late_mean": round(statistics.mean(late), 2),
                "late_worst": round(max(late), 2),
                "requests": round(statistics.mean(requests for _, requests in found), 2),
            }


def main() -> None:
    """Measure all lengths."""
    found = list(_measured())
    for each in found:
        say(f"lengths: {each}")
    keep("lengths", {"waits": WAITS, "found": found})


if __name__ == "__main__":
    main()
