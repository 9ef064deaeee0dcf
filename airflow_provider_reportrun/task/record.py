"""
What tasks and watchers remember, if Airflow has a store for it (3.3).

A task instance remembers its report run between tries. On every version, the idempotency key alone
ensures correctness. The record adds three things: a retry reattaches with a GET instead of a POST,
the deadline counts from the first try after a clear, and changing ``retries`` while the task runs
does not change the key.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from typing import Any, Final

log = logging.getLogger(__name__)

STORE: Final = "task_state_store"
"""The store's name in the task's context."""
NAME: Final = "report_run"
"""The key of the record in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was requested, under which key, with which deadline, and the result: JSON values."""

    max_tries: int
    """The task instance's; a clear changes it, but does not empty the store."""
    digest: str
    """Digest of the request body."""
    first_try: int
    """First try of the clear generation; it cannot be computed once ``retries`` was edited."""
    idempotency_key: str
    deadline: float
    """Epoch seconds."""
    report_run_id: str | None = None
    left_out: list[str] = field(default_factory=list)
    """Bounds of the interval that were defaults and were not sent."""
    gone: list[str] = field(default_factory=list)
    """Report runs of this clear generation whose files no longer exist."""


def recall(context: Any) -> Record | None:
    """Return the record of an earlier try, or None."""
    store = context.get(STORE)
    match store.get(NAME) if store is not None else None:
        case {
            "max_tries": int(max_tries),
            "digest": str(digest),
            "first_try": int(first_try),
            "idempotency_key": str(key),
            "deadline": int() | float() as deadline,
            "report_run_id": str() | None as report_run_id,
            **more,
        }:
            return Record(
                max_tries=max_tries,
                digest=digest,
                first_try=first_try,
                idempotency_key=key,
                deadline=float(deadline),
                report_run_id=report_run_id,
                left_out=_names(more.get("left_out")),
                gone=_names(more.get("gone")),
            )
        case _:
            return None


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def remember(context: Any, record: Record) -> None:
    """Store the record of this try for later tries."""
    store = context.get(STORE)
    if store is not None:
        store.set(NAME, asdict(record))


class Watermark:
    """
    The instant that an asset's watcher last reported, which outlives the triggerer.

    :param store: the store that Airflow passes to the watcher; None before 3.3.
    :param name: of the watcher in the store, because an asset may have several.
    """

    def __init__(self, store: Any, name: str) -> None:
        self._store = store
        self._name = f"{name}: told through"
        self._kept: str | None = None

    async def recall(self) -> str | None:
        """Return what was last stored, or None."""
        if self._store is not None:
            try:
                self._kept = await self._store.aget(self._name)
            except ValueError:  # several assets have this watcher, each with its own store
                log.info("A watcher of several assets does not remember how far it has told")
                self._store = None
        return self._kept

    async def remember(self, told: str) -> None:
        """Store the instant that was reported, if it changed."""
        if self._store is not None and told != self._kept:
            await self._store.aset(self._name, told)
            self._kept = told
