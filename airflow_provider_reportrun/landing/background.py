"""Work in threads of their own, so that reading, computing and writing overlap."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final, TypeVar

from typing_extensions import Self

_Item = TypeVar("_Item")
_BLOCKS: Final = 4
"""Blocks that may wait to be hashed; they bound the memory."""


class Background:
    """
    Calls functions in a thread of its own, in their order; a context manager that ends the thread.

    This helps if the functions release the interpreter's lock, as those of hashlib, pyarrow and
    files do.

    :param most_waiting: calls that may wait; ``call`` waits if there are more.
    """

    def __init__(self, name: str, most_waiting: int) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"reportrun-{name}")
        self._most_waiting = most_waiting
        self._waiting: deque[Future[object]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """
        Call a function soon.

        :raises Exception: what an earlier call raised.
        """
        if len(self._waiting) == self._most_waiting:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(function, *arguments))

    def finish(self) -> None:
        """
        Wait for all calls.

        :raises Exception: what a call raised.
        """
        while self._waiting:
            self._waiting.popleft().result()


class Digest(Background):
    """The SHA-256 of a sequence of blocks, computed in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("sha256", _BLOCKS)
        self.restart()

    def restart(self) -> None:
        """Forget all blocks."""
        self._sha256 = hashlib.sha256()

    def update(self, block: bytes) -> None:
        """Add a block, which must not change afterwards."""
        self.call(self._sha256.update, block)

    def hexdigest(self) -> str:
        """Wait for the hash of all blocks, and return it."""
        self.finish()
        return self._sha256.hexdigest()


def ahead(items: Generator[_Item, None, None]) -> Iterator[_Item]:
    """Yield items, each of which is made in another thread while the one before is used."""
    end: Final = object()
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="reportrun-ahead") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
