"""What the tests of several folders mean by the same name: an interval, a pace, a fault, a mode."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_reportrun.sandbox import Answer, Patch, Sandbox

START, END = "2026-10-26T00:00:00.000Z", "2026-11-02T00:00:00.000Z"
"""The data interval of ``run_task``, as the API writes it."""
INTERVAL = {"interval_start": START, "interval_end": END}
"""The same as report parameters."""
DAY_SECONDS = 24 * 3600
BODY = b"a,b\n1,2\n"
"""A small result file."""

FAST = {"poll_interval": 0.05, "max_poll_interval": 0.1}
"""The pace of an operator or a trigger that waits."""
FAST_SENSOR = {"poke_interval": 0.05, "max_wait": 0.1}
"""The pace of a sensor."""

STILL_RUNNING = Patch({"status": "running", "result": None})
"""A report run that has not finished."""
NO_ROOM = Answer(
    status=429,
    body={"error": {"code": "report_run_rate_limit_exceeded", "message": "No room."}},
)
"""A refused create: the account runs as many reports as it may."""

PLACES = pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferrable"])
"""Where an operator waits."""
MODES = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
"""How a sensor waits."""
STORE = pytest.param(True, id="store", marks=pytest.mark.needs("task_state_store"))
STORES = pytest.mark.parametrize("keeps", [pytest.param(False, id="no store"), STORE])
"""Whether Airflow keeps a task state store from try to try."""
NATIVE = pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
"""How a DAG renders templates."""


class Advance:
    """Lets time pass at the sandbox before it handles a request."""

    def __init__(self, sandbox: Sandbox, seconds: float = DAY_SECONDS) -> None:
        self.sandbox, self.seconds = sandbox, seconds

    async def play(self, _: Any, exchange: Any) -> Any:
        """Let time pass, and handle the request."""
        self.sandbox.advance(self.seconds)
        return await exchange.handle()


def operations(sandbox: Sandbox) -> list[str | None]:
    """Return the operations of the requests that arrived, in order."""
    return [request.operation for request in sandbox.requests]
