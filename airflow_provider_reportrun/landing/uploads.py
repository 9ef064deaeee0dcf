"""Uploads that go on while a result is still received, and are held back until it is verified."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from typing_extensions import Self

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.models import Column

_MOST_WAITING: Final = 4
"""Blocks that may wait to be read by the store's client; they bound the memory."""


class CutOffError(Exception):
    """The upload is to be discarded."""


class Pipe:
    """
    Blocks that one thread writes, as a file that another thread reads.

    The end of the file is where the writer said so: if the writer fails, the reader fails too, and
    never mistakes a part for the whole.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._blocks: deque[bytes] = deque()
        self._rest = memoryview(b"")
        self._is_ended = self._is_cut = self._is_left = False
        self._cancel: Callable[[], object] | None = None

    def write(self, block: bytes) -> bool:
        """
        Append a block; wait if too many are not read yet.

        :return: False if nobody reads any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._blocks) < _MOST_WAITING or self._is_left)
            self._blocks.append(block)
            self._changed.notify_all()
            return not self._is_left

    def end(self) -> None:
        """End the file: everything was written."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def cut(self) -> None:
        """Make the reader fail."""
        with self._changed:
            self._is_cut = True
            self._changed.notify_all()
            cancel = self._cancel
        if cancel is not None:
            cancel()

    def leave(self) -> None:
        """Say that nobody reads any more."""
        with self._changed:
            self._is_left = True
            self._changed.notify_all()

    def on_cut(self, cancel: Callable[[], object]) -> None:
        """Set what else to do in ``cut``."""
        with self._changed:
            self._cancel = cancel
            is_cut = self._is_cut
        if is_cut:
            cancel()

    def read(self, size: int = -1) -> bytes:
        """
        Read bytes, fewer than ``size`` only at the end of the file.

        :param size: how many; less than 0 for all.
        :raises CutOffError: if the writer failed.
        """
        parts: list[memoryview] = []
        left = size
        while left and (part := self._next(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _next(self, most: int) -> memoryview:
        """Return what follows, up to a number of bytes if that is positive; empty at the end."""
        while not self._rest:
            with self._changed:
                self._changed.wait_for(lambda: self._blocks or self._is_ended or self._is_cut)
                if self._is_cut:
                    raise CutOffError
                if not self._blocks:
                    break
                self._rest = memoryview(self._blocks.popleft())
                self._changed.notify_all()
        part = self._rest if most < 0 else self._rest[:most]
        self._rest = self._rest[len(part) :]
        return part


class Upload:
    """
    One file on its way to a store; a context manager.

    Nothing is visible before ``complete``, and leaving it without that discards everything.

    :param name: the file's, in its folder.
    :param send: sends a file to the store, so that it becomes visible only after its end was read;
        called in a thread of its own.
    :param check: checks the size of the file in the store.
    """

    def __init__(
        self, name: str, send: Callable[[Pipe], None], check: Callable[[int], None]
    ) -> None:
        self.name = name
        self._send = send
        self._check = check
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reportrun-upload")
        self._pipe = Pipe()
        self._sent: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.restart()
        self._thread.shutdown()

    def write(self, block: bytes) -> None:
        """
        Append a block, which must not change afterwards.

        :raises LandingFailed: if the store failed.
        """
        sent = self._begun()
        if not self._pipe.write(block):
            sent.result()

    def restart(self) -> None:
        """Discard what was sent; the file begins again."""
        if self._sent is None:
            return
        self._pipe.cut()
        wait([self._sent])
        self._pipe, self._sent = Pipe(), None

    def complete(self, size: int) -> None:
        """
        Make the file visible.

        :param size: bytes that were written.
        :raises LandingFailed: if the store failed.
        """
        sent = self._begun()
        self._pipe.end()
        sent.result()
        self._sent = None
        self._check(size)

    def _begun(self) -> Future[None]:
        """Return the upload that goes on, or a new one."""
        if self._sent is None:
            self._sent = self._thread.submit(self._run, self._pipe)
        return self._sent

    def _run(self, pipe: Pipe) -> None:
        try:
            self._send(pipe)
        finally:
            pipe.leave()


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """A verified file, all of which is on its way to a store."""

    upload: Upload
    size: int
    """Bytes."""
    sha256: str
    rows: int | None = None
    columns: tuple[Column, ...] | None = None

    @property
    def name(self) -> str:
        """The name it will have for readers, relative to the destination's folder."""
        return self.upload.name
