"""The open TCP connections: counts them, and cuts one if a fault asks for it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TypeAlias

from uvicorn.protocols.http.h11_impl import H11Protocol

Address: TypeAlias = tuple[str, int]

_CUT_SECONDS = 30.0
"""How long a cut waits for a client that does not read what was sent."""


class Connection:
    """
    One TCP connection, or a call within the process, which has no connection.

    :param transport: None for a call within the process.
    """

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self.lost = asyncio.Event()

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self._transport is not None and self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send raw bytes, which may break the rules of HTTP."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Close at once, and discard what is not sent yet."""
        if self._transport is not None:
            self._transport.abort()

    async def cut(self, *, reset: bool = False) -> None:
        """
        Close the connection, and return when it is gone.

        :param reset: by a TCP reset, which may also discard what was sent just before;
            otherwise the client receives all of it first.
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
    """The connections of the server, by the client's address."""

    def __init__(self) -> None:
        self.accepted = 0
        """How many were accepted so far."""
        self._open: dict[Address, Connection] = {}

    @property
    def open(self) -> int:
        """How many are open now."""
        return len(self._open)

    def made(self, client: Address, transport: asyncio.Transport) -> None:
        """Record an accepted connection."""
        self.accepted += 1
        self._open[client] = Connection(transport)

    def lost(self, client: Address) -> None:
        """Record that a connection is gone."""
        connection = self._open.pop(client, None)
        if connection is not None:
            connection.lost.set()

    def of(self, client: Address | None) -> Connection:
        """Return the connection of a request."""
        known = self._open.get(client) if client is not None else None
        return known or Connection(None)

    def cut_all(self) -> None:
        """Close every connection at once; call it in the server's own thread."""
        for connection in list(self._open.values()):
            connection.abort()


def protocol_for(connections: Connections) -> type[asyncio.Protocol]:
    """Return a protocol class that records the connections of its server."""

    class CountedProtocol(H11Protocol):
        """uvicorn's HTTP protocol that records its connections."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client is not None:
                connections.made(self.client, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.client is not None:
                connections.lost(self.client)

    return CountedProtocol
