"""
Planned faults: what the sandbox does wrong, when, and how often.

A ``Fault`` selects requests and says how often it fires. Its action says what happens then:
``Answer``, ``Crash``, ``LoseAnswer``, ``Refuse``, ``Hold``, ``Patch`` or ``Delivery``.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from starlette.responses import Response

from airflow_provider_reportrun.sandbox.answers import Delivery, Dropped, FileAnswer
from airflow_provider_reportrun.sandbox.problems import Problem

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.connections import Connection

Operation: TypeAlias = Literal[
    "create",
    "get_run",
    "list_runs",
    "get_report",
    "list_reports",
    "get_file",
    "download",
    "other",
]
"""What a request is about, in every generation; a query run is created and got as a run."""

Hook: TypeAlias = Callable[[], Awaitable[None]]
_LOOK_SECONDS = 0.01


async def nothing() -> None:
    """Do nothing at a point where a fault may."""


class Handle(Protocol):
    """Handles a request correctly, apart from what the hooks do."""

    async def __call__(self, at_start: Hook = nothing, at_end: Hook = nothing) -> Response:
        """
        Answer the request.

        :param at_start: awaited before the request has any effect.
        :param at_end: awaited after its effect, before its answer is settled.
        """


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request in progress: how to handle it, how to write an error, and its connection."""

    handle: Handle
    error_json: Callable[[Problem], dict[str, Any]]
    connection: Connection


class Action(Protocol):
    """What a fault does to an exchange."""

    async def play(self, fault: Fault, exchange: Exchange) -> Response:
        """Return the faulty answer."""


class Fault:
    """
    One planned fault.

    :param on: the operation that it affects, in every generation: ``create``, ``get_run``,
        ``list_runs``, ``get_report``, ``list_reports``, ``get_file``, ``download`` or ``other``;
        ``any`` for all operations.
    :param action: what happens.
    :param times: how often it fires; None for no limit.
    :param after: how many matching requests pass first.
    :param match: only requests with this text in path, query or body.
    """

    def __init__(
        self,
        on: Operation | Literal["any"],
        action: Action | Delivery,
        *,
        times: int | None = 1,
        after: int = 0,
        match: str = "",
    ) -> None:
        self.on = on
        self.action = action
        self.times = times
        self.after = after
        self.match = match
        self.fired = 0
        """How often it fired so far."""
        self.reached = threading.Event()
        """Set when it fires; for a ``Hold``, when the request is held."""
        self._released = threading.Event()

    def release(self) -> None:
        """Release every request that this fault holds, now and later."""
        self._released.set()

    async def pause(self, seconds: float) -> None:
        """Wait this many seconds, or until released."""
        until = time.monotonic() + seconds
        # Another thread releases it, and a loop cannot await that thread's event.
        while not self._released.is_set() and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(min(_LOOK_SECONDS, seconds))

    async def play(self, exchange: Exchange) -> Response:
        """Carry out the action."""
        if isinstance(self.action, Delivery):
            response = await _delivered(self.action, self, exchange)
        else:
            response = await self.action.play(self, exchange)
        self.reached.set()
        return response

    def takes(self, operation: Operation, text: str) -> bool:
        """Return whether it fires for a request, and count."""
        if self.on not in ("any", operation) or self.match not in text:
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.fired += 1
        return True


class Faults:
    """The faults of one sandbox; each request gets the first that fires, in the order added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Plan a fault, and return it."""
        with self._lock:
            self._planned.append(fault)
        return fault

    def take(self, operation: Operation, target: str, body: bytes) -> Fault | None:
        """Return the fault that fires for a request; later faults do not count that request."""
        text = target + "\n" + body.decode(errors="replace")
        with self._lock:
            return next((each for each in self._planned if each.takes(operation, text)), None)

    def clear(self) -> None:
        """Forget every fault, and release the requests that they hold."""
        with self._lock:
            for fault in self._planned:
                fault.release()
            self._planned.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    Answers in place of the API, which does not see the request.

    :param status: the HTTP status.
    :param body: a JSON value, or text or bytes to send unchanged; None for an error in the API's
        form if the status is 400 or above, and for an empty body otherwise.
    :param headers: further headers, such as ``Retry-After`` or ``Location``.
    :param content_type: the ``Content-Type`` of the body.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    async def play(self, fault: Fault, exchange: Exchange) -> Response:  # noqa: ARG002
        """Return the given answer."""
        body = self.body
        if body is None and self.status >= HTTPStatus.BAD_REQUEST:
            body = exchange.error_json(_standard_error(self.status))
        elif body is None:
            body = b""
        if not isinstance(body, str | bytes):
            body = json.dumps(body)
        return Response(body, self.status, dict(self.headers), self.content_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseAnswer:
    """
    Handles the request, then cuts the connection without sending a byte.

    :param reset: by a TCP reset instead of an orderly close.
    """

    reset: bool = False

    async def play(self, fault: Fault, exchange: Exchange) -> Response:  # noqa: ARG002
        """Handle the request, then cut the connection."""
        await exchange.handle()
        return Dropped(exchange.connection, reset=self.reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """
    Cuts the connection without handling the request.

    :param reset: by a TCP reset instead of an orderly close.
    """

    reset: bool = False

    async def play(self, fault: Fault, exchange: Exchange) -> Response:  # noqa: ARG002
        """Cut the connection."""
        return Dropped(exchange.connection, reset=self.reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """
    Keeps a request waiting.

    :param seconds: how long, in real time; ``fault.release()`` ends it earlier.
    :param before: ``handling`` holds the request before it reaches the API, ``answering`` after
        the API is done with it, and ``finishing`` in between: a create has made its run then,
        and its idempotency key is in use.
    """

    seconds: float = 30.0
    before: Literal["handling", "finishing", "answering"] = "handling"

    async def play(self, fault: Fault, exchange: Exchange) -> Response:
        """Wait before, during or after handling."""
        if self.before == "finishing":
            return await exchange.handle(at_end=lambda: self._wait(fault))
        if self.before == "handling":
            await self._wait(fault)
            return await exchange.handle()
        response = await exchange.handle()
        await self._wait(fault)
        return response

    async def _wait(self, fault: Fault) -> None:
        fault.reached.set()
        await fault.pause(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """
    Lets the API itself fail while it handles a request, unlike ``Answer``, which it never sees.

    v1 saves the answer of such a create and replays it to each repeat under the same idempotency
    key, for 24 hours. v2 executes a repeat again.

    :param status: 500 or another error of the server.
    :param creates_run: whether a create makes its run before it fails.
    :param should_retry: the header ``Stripe-Should-Retry``; None for none.
    """

    status: int = 500
    creates_run: bool = False
    should_retry: bool | None = None

    async def play(self, fault: Fault, exchange: Exchange) -> Response:  # noqa: ARG002
        """Handle the request until it fails."""

        async def fail() -> None:
            raise Problem(
                self.status,
                "api_error",
                "An unknown error occurred.",
                "api_error",
                should_retry=self.should_retry,
            )

        if self.creates_run:
            return await exchange.handle(at_end=fail)
        return await exchange.handle(at_start=fail)


@dataclass(frozen=True, slots=True)
class Patch:
    """
    Changes the JSON of an answer; answers other than 200 stay unchanged.

    :param change: a mapping to merge in, nested mappings included, or a function that takes
        the object and returns another.
    """

    change: Mapping[str, Any] | Callable[[dict[str, Any]], Any]

    async def play(self, fault: Fault, exchange: Exchange) -> Response:  # noqa: ARG002
        """Handle, then change the answer."""
        response = await exchange.handle()
        if response.status_code != HTTPStatus.OK or isinstance(response, FileAnswer):
            return response
        body = json.loads(bytes(response.body))
        change = self.change
        changed = change(body) if callable(change) else merged(body, change)
        # In ASCII, because JSON may contain half a surrogate pair and UTF-8 may not.
        return Response(json.dumps(changed), media_type="application/json")


async def _delivered(delivery: Delivery, fault: Fault, exchange: Exchange) -> Response:
    response = await exchange.handle()
    if not isinstance(response, FileAnswer):
        return response
    if delivery.expired:
        return expired_file()
    if delivery.redirect is not None:
        url = urlsplit(response.wanted.signed_url())
        elsewhere = url._replace(netloc=url.netloc.replace(url.hostname or "", delivery.redirect))
        return Response(status_code=HTTPStatus.FOUND, headers={"Location": urlunsplit(elsewhere)})
    return FileAnswer(response.wanted, delivery, fault.pause)


def merged(body: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a change into an object, nested objects included."""
    both = dict(body)
    for name, value in change.items():
        old = both.get(name)
        nested = isinstance(old, dict) and isinstance(value, Mapping) and value
        both[name] = merged(old, value) if nested and isinstance(old, dict) else value
    return both


def s3_error(status: int, code: str, message: str) -> Response:
    """Return an error in the form of S3: XML, with its own request id."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>"
        "<RequestId>SANDBOX</RequestId><HostId>sandbox</HostId></Error>"
    )
    return Response(body, status, media_type="application/xml")


def expired_file() -> Response:
    """Return the error of an expired URL."""
    return s3_error(403, "AccessDenied", "Request has expired")


def _standard_error(status: int) -> Problem:
    kinds = {429: ("rate_limit", "Too many requests."), 409: ("conflict", "Conflict.")}
    code, message = kinds.get(status, ("api_error", "An error that the sandbox was asked for."))
    return Problem(status, code, message)
