"""Answers for a conversation, and a world that plays them: nothing here opens a socket or waits."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from requests.structures import CaseInsensitiveDict

from airflow_provider_reportrun.errors import TransportError
from airflow_provider_reportrun.protocol.asking import Environment
from airflow_provider_reportrun.protocol.drivers import adrive, drive
from airflow_provider_reportrun.protocol.messages import AwaitRoom, Backoff, Response, Sleep

NOW = 1_800_000_000.0
"""When each scripted conversation begins."""


def answer(status: int = 200, body: Any = None, **headers: str) -> Response:
    """Make an answer: JSON values or bytes, and headers by names with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    return Response(status=status, headers=CaseInsensitiveDict(named), body=raw)


def refusal(status: int, code: str = "some_code", **headers: str) -> Response:
    """Make an error answer of the API's shape."""
    return answer(status, {"error": {"code": code, "message": "Said so."}}, **headers)


def run(status: str = "running", run_id: str = "reprun_1", **fields: Any) -> Response:
    """Make an answer that holds a report run."""
    return answer(200, {"id": run_id, "status": status, "report": "balance_summary", **fields})


def failed(run_id: str = "reprun_1", error_code: str = "internal_error") -> Response:
    """Make an answer that holds a failed report run."""
    details = {"failed": {"error_code": error_code, "error_message": "No luck."}}
    return run("failed", run_id, status_details=details)


def lost() -> TransportError:
    """Make the error of a connection that was cut."""
    return TransportError("Tried to ask: no answer.")


@dataclass
class World:
    """
    Plays a script to conversations; pauses move its clock and nothing else does.

    :param driver: ``blocking`` or ``awaiting``, which must make no difference.
    """

    driver: str
    now: float = NOW
    script: deque[Any] = field(default_factory=deque)
    then: Any = None
    sent: list[Any] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    steps: dict[int, float] = field(default_factory=dict)
    """By how much the clock is put forward or back with which request, from 1."""
    off_by: float = 0.0

    @property
    def environment(self):
        """What a conversation needs of the world; jitter takes the longer of both."""
        return Environment(
            clock=lambda: self.now + self.off_by,
            monotonic=lambda: self.now - NOW,
            jitter=lambda _, longest: longest,
        )

    @property
    def here(self):
        """The argument that puts a conversation into this world."""
        return {"environment": self.environment}

    @property
    def keys(self):
        """The idempotency keys that were sent, in order."""
        return [request.headers["Idempotency-Key"] for request in self.sent]

    def carry_out(self, flow, *script, then=None):
        """
        Carry a conversation out; the script must be played to its end.

        :param then: what is said whenever the script is over.
        """
        self.script.extend(script)
        self.then = then
        if self.driver == "blocking":
            result = drive(flow, send=self._send, pause=self._pause, measure=self.metrics.append)
        else:
            result = asyncio.run(
                adrive(flow, send=self._asend, pause=self._apause, measure=self.metrics.append)
            )
        assert not self.script, "the conversation ended before the script did"
        return result

    def _send(self, request):
        self.sent.append(request)
        self.asked_at.append(self.now)
        self.off_by += self.steps.get(len(self.sent), 0.0)
        said = self.script.popleft() if self.script or self.then is None else self.then
        if isinstance(said, Exception):
            raise said
        return said() if callable(said) else said

    def run_of(self, seconds: float) -> Callable[[], Response]:
        """Make what is said of a report run that began with the script and takes so long."""
        return lambda: run("succeeded" if self.now - NOW >= seconds else "running")

    def _pause(self, step):
        if isinstance(step, Backoff | Sleep | AwaitRoom):
            self.pauses.append(step.seconds)
            self.now += step.seconds

    async def _asend(self, request):
        return self._send(request)

    async def _apause(self, step):
        self._pause(step)
