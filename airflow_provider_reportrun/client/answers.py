"""Answers that conversations share, so that many waits for the same thing send one request."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KEPT_SECONDS: Final = 300.0
"""How long an answer is kept; no conversation accepts an older one."""


class Answers(Generic[T]):
    """
    The latest answer to each question, and when it was asked (monotonic seconds).

    The blocking driver keeps answers. The awaiting driver keeps tasks, so that a request that is
    still on its way is shared too.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[T, float]] = {}

    def find(self, question: Hashable, since: float) -> T | None:
        """Return the answer if it was asked for at ``since`` or later."""
        answer, asked_at = self._kept.get(question, (None, float("-inf")))
        return answer if asked_at >= since else None

    def keep(self, question: Hashable, answer: T, asked_at: float) -> None:
        """Keep an answer, and drop those that are too old for anybody."""
        oldest = time.monotonic() - KEPT_SECONDS
        for old in [one for one, (_, asked) in self._kept.items() if asked < oldest]:
            del self._kept[old]
        self._kept[question] = (answer, asked_at)

    def drop(self) -> list[T]:
        """Drop all answers, and return them."""
        dropped = [answer for answer, _ in self._kept.values()]
        self._kept.clear()
        return dropped
