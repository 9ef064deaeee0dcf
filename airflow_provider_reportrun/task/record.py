"""
What a task instance remembers between tries, if Airflow has a store for it (3.3).

On every version, the idempotency key alone ensures correctness. The record adds three things: a
retry reattaches with a GET instead of a POST, the deadline counts from the first try after a clear,
and changing ``retries`` while the task runs does not change the key.
"""

from __future__ import annotations

import time
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict, replace

STORE: Final = "task_state_store"
"""The store's name in the task's context."""
NAME: Final = "report_run"
"""The key of the record in the store."""


class Record(Struct, frozen=True, kw_only=True):
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
    left_out: list[str] = []
    """Bounds of the interval that were defaults and were not sent."""
    began: float | None = None
    """Epoch seconds when the first try began; None in the records of earlier releases."""
    gone: list[str] = []
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
                began=_seconds(more.get("began")),
            )
        case _:
            return None


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def remember(context: Any, record: Record) -> None:
    """Store the record of this try for later tries."""
    store = context.get(STORE)
    if store is not None:
        store.set(NAME, asdict(record))


def clear_generation(task: Any, context: Any) -> int:
    """
    Return the number of the first try after the last clear, which identifies the clear.

    Clearing sets ``max_tries`` to the number of tries so far plus the retries. So this number stays
    the same over retries and deferrals, and changes if a finished or deferred task is cleared.
    """
    first_try: int = context["ti"].max_tries - (task.retries or 0) + 1
    return first_try


def is_first(task: Any, context: Any) -> bool:
    """
    Tell whether a try is the task instance's first, so that no record can exist.

    :param context: of a try that starts from its beginning.
    """
    return context["ti"].try_number <= 1 and clear_generation(task, context) <= 1


def began_at(context: Any, first_try: int) -> float:
    """
    Return when a try may have begun, in epoch seconds.

    The first of all began after the DAG run did. When the first try after a clear began, only its
    own record knows; without it, this try counts.

    :param first_try: the number of the try.
    """
    ti, run = context["ti"], context.get("dag_run")
    started = getattr(run, "start_date", None) if first_try <= 1 else None
    instant = started or getattr(ti, "start_date", None)
    return time.time() if instant is None else float(instant.timestamp())


def continued(new: Record, found: Record | None, *, reuses: bool) -> Record:
    """
    Return the record of an earlier try to continue with, or the new one.

    :param new: the record if there was no earlier try.
    :param found: what is in the store.
    :param reuses: whether a clear keeps the report run.
    """
    if found is None or found.digest != new.digest:
        return new
    if found.max_tries == new.max_tries:
        return found
    if reuses:
        return replace(found, max_tries=new.max_tries, deadline=new.deadline)
    return new
