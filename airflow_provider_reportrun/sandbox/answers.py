"""Answers that Starlette has no class for: a result file, and a cut connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from airflow_provider_reportrun.sandbox.connections import Connection

CHUNK_BYTES = 256 * 1024
_FILLER = b"#"
_SLICES_A_SECOND = 20
_BEYOND_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Dropped(Response):
    """
    No answer: cuts the connection before a byte is sent.

    :param connection: the connection to cut.
    :param reset: by a TCP reset instead of an orderly close.
    """

    def __init__(self, connection: Connection, *, reset: bool = False) -> None:
        super().__init__()
        self._connection = connection
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Cut the connection."""
        await self._connection.cut(reset=self._reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    A fault of a download; a field that keeps its default changes nothing.

    :param cut_after: cut the connection after this many bytes of the answer's body.
    :param reset: cut by a TCP reset, which may also discard the last bytes sent.
    :param bytes_per_second: send no faster than this.
    :param stall_at: stop sending after this many bytes of the body.
    :param stall_seconds: how long to stop; ``fault.release()`` ends it earlier.
    :param truncate_to: serve only this many bytes of the file, with a correct Content-Length.
    :param extra: serve this many bytes more than the file has, with a correct Content-Length.
    :param announce: send this Content-Length instead of the correct one, and close the
        connection after the answer.
    :param expired: answer 403, as for an expired URL.
    :param ranges: False: ignore ``Range``, and send neither ``ETag`` nor ``Accept-Ranges``.
    :param corrupt_at: flip the bits of one byte at this offset of the file.
    :param redirect: answer 302 to a pre-signed URL of the same file, on this host name, such as
        ``localhost``; it refuses the API key.
    :param etag: send this ``ETag``, quotes included, as if the file had changed.
    """

    cut_after: int | None = None
    reset: bool = False
    bytes_per_second: float | None = None
    stall_at: int | None = None
    stall_seconds: float = 60.0
    truncate_to: int | None = None
    extra: int = 0
    announce: int | None = None
    expired: bool = False
    ranges: bool = True
    corrupt_at: int | None = None
    redirect: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """
    A file, and the part of it that was requested.

    :param path: the file, which must not change.
    :param etag: strong, quotes included.
    :param media_type: the ``Content-Type`` of the file.
    :param range: the ``Range`` header.
    :param if_range: the ``If-Range`` header.
    :param signed_url: issues a pre-signed URL of the same file.
    """

    path: Path
    etag: str
    media_type: str
    range: str | None
    if_range: str | None
    is_head: bool
    connection: Connection
    signed_url: Callable[[], str]


class FileAnswer(Response):
    """
    Streams a result file, or a part of it.

    :param wanted: the file, and the part of it that was requested.
    :param delivery: the fault; None for a correct download.
    :param pause: waits this many seconds, or until the fault is released.
    """

    def __init__(
        self,
        wanted: FileRequest,
        delivery: Delivery | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        delivery = delivery or Delivery()
        if delivery.etag is not None:
            wanted = replace(wanted, etag=delivery.etag)
        self.wanted = wanted
        self._delivery = delivery
        self._pause = pause
        self._size = wanted.path.stat().st_size
        if delivery.truncate_to is not None:
            self._size = min(self._size, delivery.truncate_to)
        self._size += delivery.extra
        self._start, self._stop = 0, self._size
        status = self._narrow() if delivery.ranges else 200
        super().__init__(status_code=status, headers=self._described(status))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send head and body."""
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        if not self.wanted.is_head:
            with self.wanted.path.open("rb") as file:
                if not await self._stream(file, send):
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if self._delivery.announce is not None and not self.wanted.is_head:
            await self._go_beyond()

    async def _stream(self, file: BinaryIO, send: Send) -> bool:
        """Send the body; return False if the connection was cut or the client left."""
        delivery, connection = self._delivery, self.wanted.connection
        whole = self._stop - self._start
        stop = min(
            each for each in (whole, delivery.cut_after, delivery.announce) if each is not None
        )
        sent = 0
        for step in self._steps(stop):
            if sent == delivery.stall_at:
                await self._pause(delivery.stall_seconds)
            body = self._read(file, self._start + sent, step)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            if delivery.bytes_per_second is not None:
                await asyncio.sleep(step / delivery.bytes_per_second)
            sent += step
            if connection.is_gone:
                return False
        if sent == delivery.stall_at:
            await self._pause(delivery.stall_seconds)
        if delivery.cut_after == stop or (delivery.announce or 0) > whole:
            await connection.cut(reset=delivery.reset)
            return False
        return True

    def _steps(self, stop: int) -> Iterator[int]:
        """Yield the sizes of the pieces that the body is sent in."""
        most, stall_at = CHUNK_BYTES, self._delivery.stall_at or 0
        if self._delivery.bytes_per_second is not None:
            most = max(1, min(most, int(self._delivery.bytes_per_second / _SLICES_A_SECOND)))
        sent = 0
        while sent < stop:
            mark = stall_at if sent < stall_at < stop else stop
            step = min(most, mark - sent)
            yield step
            sent += step

    def _read(self, file: BinaryIO, offset: int, count: int) -> bytes:
        file.seek(offset)
        data = file.read(count)
        if len(data) < count:
            data += _FILLER * (count - len(data))
        wrong = self._delivery.corrupt_at
        if wrong is not None and offset <= wrong < offset + count:
            at = wrong - offset
            data = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        return data

    async def _go_beyond(self) -> None:
        """Send bytes beyond the announced length, then close the connection."""
        first = self._start + (self._delivery.announce or 0)
        count = min(self._stop - first, _BEYOND_BYTES)
        with self.wanted.path.open("rb") as file:
            self.wanted.connection.write(self._read(file, first, count))
        await self.wanted.connection.cut(reset=self._delivery.reset)

    def _narrow(self) -> int:
        """Apply ``Range``, and return the status that results."""
        wanted = self.wanted
        found = _RANGE.fullmatch(wanted.range or "")
        changed = wanted.if_range is not None and wanted.if_range != wanted.etag
        # S3 answers a malformed range, or a list of ranges, with the whole file.
        if found is None or changed or found[0] == "bytes=-":
            return 200
        first, last = found[1], found[2]
        if not first:
            start, stop = max(self._size - int(last), 0), self._size
        else:
            start = int(first)
            stop = min(int(last) + 1, self._size) if last else self._size
            if last and int(last) < start:
                return 200
        if start >= self._size:
            self._start = self._stop = 0
            return 416
        self._start, self._stop = start, stop
        return 206

    def _described(self, status: int) -> dict[str, str]:
        length = self._stop - self._start
        if self._delivery.announce is not None:
            length = self._delivery.announce
        # Set here because Starlette would add a charset, which S3 does not.
        headers = {"Content-Length": str(length), "Content-Type": self.wanted.media_type}
        if self._delivery.ranges:
            headers |= {"Accept-Ranges": "bytes", "ETag": self.wanted.etag}
        if status == HTTPStatus.PARTIAL_CONTENT:
            headers["Content-Range"] = f"bytes {self._start}-{self._stop - 1}/{self._size}"
        elif status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            headers["Content-Range"] = f"bytes */{self._size}"
        return headers
