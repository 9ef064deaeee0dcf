"""
What all triggers of a triggerer share: sessions, request budgets and the line for capacity.

A session and its budget are shared per (connection, event loop). The first user opens them. They
are closed shortly after the last user has left, or at once if the loop is ending. The line is
shared per (API host, key, capacity group and event loop). Idempotency keys ensure correctness; the
line only saves requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from typing_extensions import assert_never

from airflow_provider_reportrun.client import transport
from airflow_provider_reportrun.client.access import ApiAccess
from airflow_provider_reportrun.client.answers import Answers
from airflow_provider_reportrun.protocol.messages import (
    AwaitRoom,
    Backoff,
    LeaveLine,
    Pause,
    Request,
    Response,
    RoomMade,
    Sleep,
    TakeTurn,
    WaitBegins,
)

if TYPE_CHECKING:
    import aiohttp
    from aiolimiter import AsyncLimiter

    from airflow_provider_reportrun.secret import Secret

log = logging.getLogger(__name__)

LOOK_UP_SECONDS: Final = 300.0
"""How long a connection's content is used before it is read again: the key may be replaced."""
LINGER_SECONDS: Final = 10.0
"""How long a session without users is kept open for the next trigger."""
_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""Answers that a replaced key or context may have caused."""

Lines: TypeAlias = "dict[tuple[str, Secret, str], CapacityLine]"
"""By API host, key and capacity group."""
LookUp: TypeAlias = Callable[[], Awaitable[ApiAccess]]
"""Reads the connection, awaiting."""


class CapacityLine:
    """
    The creates of one API key that wait for room: one at a time tries, in order of arrival.

    asyncio's lock is fair, so its queue of waiters is the line.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()

    @property
    def is_waited_in(self) -> bool:
        """Whether a create waits for room."""
        return self._turn.locked()

    def room_made(self) -> None:
        """Record that a report run of the key has ended: the first in line may try at once."""
        self._room.set()

    async def take_turn(self, seconds: float) -> bool:
        """Wait in line, at most ``seconds``, and tell whether the turn has come."""
        # Not wait_for: before Python 3.12 it can swallow a cancellation that arrives together with
        # the turn. asyncio.wait neither cancels the acquire nor loses its result.
        turn = asyncio.ensure_future(self._turn.acquire())
        try:
            await asyncio.wait({turn}, timeout=seconds)
        except asyncio.CancelledError:
            # The turn may have come just before this cancellation. cancel() then has no effect, and
            # a turn that nobody uses would block the line for ever.
            turn.add_done_callback(self._give_back)
            turn.cancel()
            raise
        if not turn.done():
            # Wait for the outcome: the turn may come despite the timeout.
            turn.cancel()
            await asyncio.wait({turn})
        if turn.cancelled():
            return False
        # Forget room that was made earlier: the create that has the turn tries at once anyway.
        self._room.clear()
        return True

    def _give_back(self, turn: asyncio.Future[Literal[True]]) -> None:
        if not turn.cancelled():
            self._turn.release()

    async def await_room(self, seconds: float) -> None:
        """Wait until a report run of the key ends, at most ``seconds``."""
        room = asyncio.ensure_future(self._room.wait())
        try:
            await asyncio.wait({room}, timeout=seconds)
        finally:
            room.cancel()
        # The next wait needs another report run to end: this room is for the create that now tries.
        self._room.clear()

    def leave(self) -> None:
        """Pass the turn to the next in line."""
        self._turn.release()


@dataclass(frozen=True, slots=True)
class _Open:
    """What is open for a connection, as it was last read."""

    access: ApiAccess
    headers: dict[str, str]
    session: aiohttp.ClientSession
    budget: AsyncLimiter


class SharedSession:
    """
    One session and one request budget for all users of a connection in an event loop.

    :param look_up: reads the connection.
    :param lines: the lines of all API keys in the event loop.
    """

    def __init__(self, look_up: LookUp, lines: Lines) -> None:
        self._look_up = look_up
        self._lines = lines
        self._looked_up_at = float("-inf")
        self._looking_up = asyncio.Lock()
        self._open: _Open | None = None
        self._sessions: list[aiohttp.ClientSession] = []
        # By account and path.
        self._answers: Answers[asyncio.Task[Response]] = Answers()
        self.users = 0
        self.linger: asyncio.Task[None] | None = None

    async def current(self) -> _Open:
        """
        Return what is open, after reading the connection again if it was last read long ago.

        :raises InvalidInput: if the connection cannot be used.
        """
        fresh = self._fresh()
        if fresh is not None:
            return fresh
        async with self._looking_up:
            # Another user may have read it while this one waited for the lock.
            if self._fresh() is None:
                self._renew(await self._read_connection())
                self._looked_up_at = time.monotonic()
            assert self._open is not None  # noqa: S101 - just renewed
            return self._open

    async def line(self, group: str) -> CapacityLine:
        """Return the line of the current key for a capacity group."""
        access = (await self.current()).access
        return self._lines.setdefault((access.base_url, access.api_key, group), CapacityLine())

    def is_room_wanted(self, group: str) -> bool:
        """Tell whether a create with the current key waits for room in a capacity group."""
        line = self._known_line(group)
        return line is not None and line.is_waited_in

    def room_made(self, group: str) -> None:
        """Record that a run of the current key and a capacity group has ended."""
        if (line := self._known_line(group)) is not None:
            line.room_made()

    def _known_line(self, group: str) -> CapacityLine | None:
        """Return the line if a create has waited in it, without reading the connection."""
        if self._open is None:
            return None
        access = self._open.access
        return self._lines.get((access.base_url, access.api_key, group))

    async def _read_connection(self) -> ApiAccess:
        """Read the connection; if Airflow fails to return it, keep using what was last read."""
        try:
            return await self._look_up()
        except Exception:
            if self._open is None:
                raise
            # Any exception: during an outage of Airflow itself, a connection looks undefined.
            log.warning(
                "The connection cannot be read again; its last content is used", exc_info=True
            )
            return self._open.access

    def _fresh(self) -> _Open | None:
        """Return what is open if the connection was read recently, else None."""
        is_old = time.monotonic() - self._looked_up_at > LOOK_UP_SECONDS
        return None if is_old else self._open

    def _renew(self, access: ApiAccess) -> None:
        """Open what the connection says; a replaced session stays open for its users."""
        from aiolimiter import AsyncLimiter

        old = self._open
        if old is not None and old.access == access:
            return
        if old is not None and _network(old.access) == _network(access):
            session = old.session
        else:
            session = transport.new_async_session(access)
            self._sessions.append(session)
        if old is not None and old.access.max_requests_per_second == access.max_requests_per_second:
            budget = old.budget
        else:
            # One request every 1/rate seconds, not a burst every second: this needs fewer sockets.
            budget = AsyncLimiter(1, 1 / access.max_requests_per_second)
        self._open = _Open(access, transport.api_headers(access), session, budget)

    async def send(self, request: Request, *, stripe_context: str | None) -> Response:
        """
        Send one request within the budget, or share an answer that is fresh enough.

        :param stripe_context: overrides the connection's; None keeps that.
        :raises TransportError: if no whole answer arrived.
        :raises InvalidInput: if the connection cannot be used.
        """
        if request.fresh_since == float("inf"):
            return await self._send(request, stripe_context)
        question = (stripe_context, request.path)
        # Everyone who asks during a request shares its outcome, even a failure. Afterwards, only a
        # good answer is shared, and a failure is retried.
        task = self._answers.find(question, request.fresh_since)
        if task is None or (task.done() and not _is_good(task)):
            task = asyncio.create_task(self._send(request, stripe_context))
            self._answers.keep(question, task, time.monotonic())
        # Shielded: if one user is cancelled, the others still get the answer.
        return await asyncio.shield(task)

    async def _send(self, request: Request, stripe_context: str | None) -> Response:
        while True:
            async with (self._fresh() or await self.current()).budget:
                # Read again: what is open may have been renewed during the wait for the budget.
                now = self._fresh() or await self.current()
                headers = now.headers
                if stripe_context:
                    headers = {**headers, "Stripe-Context": stripe_context}
                response = await transport.asend(now.session, now.access, headers, request)
            # The key may have been replaced since the connection was last read. After a 401 or 403,
            # read it again, and send again only if it differs from what was refused. This ends,
            # because every further round needs another change of the connection.
            if response.status not in _REFUSED or not await self._has_changed(now):
                return response

    async def _has_changed(self, before: _Open) -> bool:
        """Tell whether the connection differs from the refused one, such as by a replaced key."""
        # No new reading if another refused user already read the connection and found it changed.
        if self._open is before:
            self._looked_up_at = float("-inf")
        return (await self.current()).access != before.access

    async def close(self) -> None:
        """Close everything; may be called again."""
        sessions, self._sessions, self._open = self._sessions, [], None
        requests = self._answers.drop()
        for task in requests:
            task.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        for session in sessions:
            await session.close()


class Talk:
    """
    One conversation over a shared session: its requests, its pauses, its place in the line.

    :param stripe_context: overrides the connection's; None keeps that.
    """

    def __init__(self, shared: SharedSession, stripe_context: str | None) -> None:
        self._shared = shared
        self._stripe_context = stripe_context
        self._turn_in: CapacityLine | None = None

    async def send(self, request: Request) -> Response:
        """Send one request, as ``SharedSession.send`` does."""
        return await self._shared.send(request, stripe_context=self._stripe_context)

    async def access(self) -> ApiAccess:
        """Return what the connection said when it was last read."""
        return (await self._shared.current()).access

    async def pause(self, step: Pause) -> None:
        """Carry out a step between the requests of a conversation."""
        match step:
            case Sleep() | Backoff():
                await self._sleep(step)
            case TakeTurn():
                await self._take_turn(step)
            case AwaitRoom():
                await self._await_room(step.seconds)
            case LeaveLine():
                self.leave_line()
            case RoomMade():
                self._shared.room_made(step.group)
            case WaitBegins():
                return
            case _:
                assert_never(step)

    async def _take_turn(self, step: TakeTurn) -> None:
        line = await self._shared.line(step.group)
        if await line.take_turn(step.seconds):
            self._turn_in = line

    async def _sleep(self, step: Sleep | Backoff) -> None:
        seconds = step.seconds
        # A report run that ends makes room, but the line learns of it only at the next poll.
        if isinstance(step, Sleep) and self._shared.is_room_wanted(step.hurries_for):
            seconds = step.hurried_seconds
        await asyncio.sleep(seconds)

    async def _await_room(self, seconds: float) -> None:
        # Room is for the create that has the turn; without a turn this is a plain pause.
        if self._turn_in is None:
            await asyncio.sleep(seconds)
        else:
            await self._turn_in.await_room(seconds)

    def leave_line(self) -> None:
        """Pass the turn to the next in line, if this conversation has it; may be called again."""
        line, self._turn_in = self._turn_in, None
        if line is not None:
            line.leave()


def _network(access: ApiAccess) -> tuple[object, ...]:
    """Return what a session is made from."""
    return (access.base_url, access.ca_bundle, access.proxy, access.request_timeout_seconds)


def _is_good(task: asyncio.Task[Response]) -> bool:
    """Tell whether a finished request has an answer worth sharing."""
    if task.cancelled() or task.exception() is not None:
        return False
    return task.result().status == HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class _Loop:
    """What is shared in one event loop."""

    sessions: dict[str, SharedSession]
    lines: Lines


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()


@asynccontextmanager
async def shared_session(conn_id: str, look_up: LookUp) -> AsyncIterator[SharedSession]:
    """
    Use the session of a connection in the running event loop.

    :param conn_id: names the connection.
    :param look_up: reads the connection, on first use and when the last reading is old.
    """
    loop = _loops.setdefault(asyncio.get_running_loop(), _Loop({}, {}))
    shared = loop.sessions.setdefault(conn_id, SharedSession(look_up, loop.lines))
    if shared.linger is not None:
        shared.linger.cancel()
        shared.linger = None
    shared.users += 1
    is_ending = False
    try:
        yield shared
    except asyncio.CancelledError:
        is_ending = True
        raise
    finally:
        shared.users -= 1
        if shared.users == 0:
            # A cancelled user may mean that the loop is ending, before a lingering task would run.
            if is_ending:
                await _close(loop, conn_id, shared)
            else:
                shared.linger = asyncio.create_task(_linger(loop, conn_id, shared))


@asynccontextmanager
async def talk(conn_id: str, look_up: LookUp, stripe_context: str | None) -> AsyncIterator[Talk]:
    """
    Hold one conversation over the session of a connection in the running event loop.

    :param stripe_context: overrides the connection's; None keeps that.
    """
    async with shared_session(conn_id, look_up) as shared:
        one = Talk(shared, stripe_context)
        try:
            yield one
        finally:
            one.leave_line()


async def _linger(loop: _Loop, conn_id: str, shared: SharedSession) -> None:
    """Close the session if it still has no user, even if the loop ends and cancels this task."""
    try:
        await asyncio.sleep(LINGER_SECONDS)
    finally:
        if shared.users == 0:
            await _close(loop, conn_id, shared)


async def _close(loop: _Loop, conn_id: str, shared: SharedSession) -> None:
    if loop.sessions.get(conn_id) is shared:
        del loop.sessions[conn_id]
    await shared.close()
