"""
What tasks and watchers remember, where Airflow has a store for it (3.3).

A task instance remembers its report run between its tries. Correctness rests on the idempotency key
alone, on every version. What the record adds: a retry reattaches with a GET in place of a POST, the
deadline counts from the first try after a clear, and a change of ``retries`` in mid-flight does not
change the key.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from typing import Any, Final

log = logging.getLogger(__name__)

STORE: Final = "task_state_store"
"""The name in the task's context."""
NAME: Final = "report_run"
"""The key in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was asked for, under which key, until when, and what came of it: JSON values."""

    max_tries: int
    """Of the task instance; a clear changes it, and the store outlives a clear."""
    digest: str
    """Of what was sent."""
    first_try: int
    """Of the clear generation, which ``retries`` alone would not tell after an edit."""
    idempotency_key: str
    deadline: float
    """Epoch seconds."""
    report_run_id: str | None = None
    left_out: list[str] = field(default_factory=list)
    """Defaulted bounds of the interval that were not sent."""
    gone: list[str] = field(default_factory=list)
    """Report runs of this clear generation whose files were no longer there."""


def recall(context: Any) -> Record | None:
    """Give what an earlier try wrote down, or None."""
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
    """Write down for later tries what this one has done."""
    store = context.get(STORE)
    if store is not None:
        store.set(NAME, asdict(record))


class Watermark:
    """
    How far the watcher of an asset has told, which outlives the triggerer.

    :param store: what Airflow gives the watcher: None before 3.3.
    :param name: in the store, for an asset may have several watchers.
    """

    def __init__(self, store: Any, name: str) -> None:
        self._store = store
        self._name = f"{name}: told through"
        self._kept: str | None = None

    async def recall(self) -> str | None:
        """Give what was remembered last, or None."""
        if self._store is not None:
            try:
                self._kept = await self._store.aget(self._name)
            except ValueError:  # several assets have this watcher, and each a store of its own
                log.info("A watcher of several assets does not remember how far it has told")
                self._store = None
        return self._kept

    async def remember(self, told: str) -> None:
        """Keep how far was told, where that is news."""
        if self._store is not None and told != self._kept:
            await self._store.aset(self._name, told)
            self._kept = told
