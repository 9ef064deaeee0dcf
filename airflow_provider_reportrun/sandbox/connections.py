"""The open TCP connections: counts them, and cuts one at the wish of a fault."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TypeAlias

from uvicorn.protocols.http.h11_impl import H11Protocol

Address: TypeAlias = tuple[str, int]

_CUT_SECONDS = 30.0
"""How long a cut waits for a client that does not read what was sent before."""


class Connection:
    """
    One TCP connection, or a call within the process, which has none.

    :param transport: None for a call within the process.
    """

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self.lost = asyncio.Event()

    @property
    def is_gone(self) -> bool:
        """Whether nobody is left to send to."""
        return self._transport is not None and self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes as they are, past what HTTP would allow."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """End at once, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    async def cut(self, *, reset: bool = False) -> None:
        """
        End the connection, and come back when it is gone.

        :param reset: with a TCP reset, which may also take away what was sent just before;
            otherwise everything sent arrives first.
        :raises ConnectionResetError: for a call within the process.
        """
        if self._transport is None:
            raise ConnectionResetError("The sandbox cut this call short.")
        if reset:
            linger = struct.pack("ii", 1, 0)
            peer = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        else:
            self._transport.close()
        try:
            await asyncio.wait_for(self.lost.wait(), _CUT_SECONDS)
        except asyncio.TimeoutError:
            self._transport.abort()
            await self.lost.wait()


class Connections:
    """What the server's protocol tells about its connections, by the client's address."""

    def __init__(self) -> None:
        self.accepted = 0
        """How many were accepted so far."""
        self._open: dict[Address, Connection] = {}

    @property
    def open(self) -> int:
        """How many are open now."""
        return len(self._open)

    def made(self, client: Address, transport: asyncio.Transport) -> None:
        """Note a connection that was accepted."""
        self.accepted += 1
        self._open[client] = Connection(transport)

    def lost(self, client: Address) -> None:
        """Note a connection that is no more."""
        connection = self._open.pop(client, None)
        if connection is not None:
            connection.lost.set()

    def of(self, client: Address | None) -> Connection:
        """Find the connection that a request came by."""
        known = self._open.get(client) if client is not None else None
        return known or Connection(None)

    def cut_all(self) -> None:
        """End every connection at once; to be called in the server's own thread."""
        for connection in list(self._open.values()):
            connection.abort()


def protocol_for(connections: Connections) -> type[asyncio.Protocol]:
    """Make the protocol class of a server that keeps its connections there."""

    class CountedProtocol(H11Protocol):
        """uvicorn's HTTP protocol, which tells of its connections."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client is not None:
                connections.made(self.client, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.client is not None:
                connections.lost(self.client)

    return CountedProtocol
