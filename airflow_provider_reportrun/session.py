"""
What all triggers of one connection share in a triggerer: one session, one request budget.

Shared per (connection, event loop); opened by the first that needs it and closed a little after the
last has left, or at once where the loop is ending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakKeyDictionary

from airflow_provider_reportrun import transport
from airflow_provider_reportrun.connection import ApiAccess

if TYPE_CHECKING:
    import aiohttp
    from aiolimiter import AsyncLimiter

    from airflow_provider_reportrun.protocol.messages import Request, Response

LOOK_UP_SECONDS: Final = 300.0
"""How long what a connection said is trusted: a key may have been replaced."""
LINGER_SECONDS: Final = 10.0
"""How long a session without users is kept for the next trigger."""
_REFUSED: Final = frozenset({401, 403})

LookUp: TypeAlias = Callable[[], Awaitable[ApiAccess]]
"""Reads the connection, awaiting."""


class SharedSession:
    """
    One session and one request budget, for all who use a connection in an event loop.

    :param look_up: reads the connection.
    """

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._looked_up_at = float("-inf")
        self._looking_up = asyncio.Lock()
        self._access: ApiAccess | None = None
        self._session: aiohttp.ClientSession | None = None
        self._budget: AsyncLimiter | None = None
        self._headers: dict[str, str] = {}
        self.users = 0
        self.linger: asyncio.Task[None] | None = None

    async def access(self) -> ApiAccess:
        """
        Give what the connection says, read again when that was long ago.

        :raises InvalidInput: when the connection cannot be used.
        """
        async with self._looking_up:
            if time.monotonic() - self._looked_up_at > LOOK_UP_SECONDS or self._access is None:
                found = await self._look_up()
                if found != self._access:
                    await self._renew(found)
                self._looked_up_at = time.monotonic()
                return found
            return self._access

    async def send(self, request: Request, *, stripe_context: str | None) -> Response:
        """
        Send one request within the budget.

        :param stripe_context: over the connection's own; None leaves that.
        :raises TransportError: when no whole answer came.
        :raises InvalidInput: when the connection cannot be used.
        """
        access = self._access
        if access is None or time.monotonic() - self._looked_up_at > LOOK_UP_SECONDS:
            access = await self.access()
        assert self._budget is not None  # noqa: S101 - there is one wherever there is an access
        assert self._session is not None  # noqa: S101 - likewise
        headers = self._headers
        if stripe_context:
            headers = {**headers, "Stripe-Context": stripe_context}
        async with self._budget:
            response = await transport.asend(self._session, access, headers, request)
        if response.status in _REFUSED:
            self._looked_up_at = float("-inf")
        return response

    async def _renew(self, access: ApiAccess) -> None:
        from aiolimiter import AsyncLimiter

        await self.close()
        self._access = access
        self._headers = transport.api_headers(access)
        self._session = transport.new_async_session(access)
        # One request each 1/rate seconds rather than a burst each second: fewer connections.
        self._budget = AsyncLimiter(1, 1 / access.max_requests_per_second)

    async def close(self) -> None:
        """Close the session; safe to repeat."""
        session, self._session, self._access = self._session, None, None
        if session is not None:
            await session.close()


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedSession]] = (
    WeakKeyDictionary()
)


@asynccontextmanager
async def shared_session(conn_id: str, look_up: LookUp) -> AsyncIterator[SharedSession]:
    """
    Use the session that a connection has in the running event loop.

    :param conn_id: names the connection.
    :param look_up: reads it, when this is the first use or the last reading is old.
    """
    sessions = _shared.setdefault(asyncio.get_running_loop(), {})
    shared = sessions.setdefault(conn_id, SharedSession(look_up))
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
            if is_ending:
                await _close(sessions, conn_id, shared)
            else:
                shared.linger = asyncio.create_task(_linger(sessions, conn_id, shared))


async def _linger(sessions: dict[str, SharedSession], conn_id: str, shared: SharedSession) -> None:
    """Close the session when nobody came, also when the loop ends meanwhile and cancels this."""
    try:
        await asyncio.sleep(LINGER_SECONDS)
    finally:
        if shared.users == 0:
            await _close(sessions, conn_id, shared)


async def _close(sessions: dict[str, SharedSession], conn_id: str, shared: SharedSession) -> None:
    if sessions.get(conn_id) is shared:
        del sessions[conn_id]
    await shared.close()
