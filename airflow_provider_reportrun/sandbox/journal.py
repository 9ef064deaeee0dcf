"""A file that keeps the runs and the idempotency keys of a sandbox over a restart."""

from __future__ import annotations

import pickle
import threading
from dataclasses import fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_reportrun.sandbox import catalog, idempotency, state

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.clock import Clock
    from airflow_provider_reportrun.sandbox.idempotency import Claim, Scope

_STORED = (
    idempotency.Claim,
    idempotency.SavedAnswer,
    state.Run,
    state.NewRun,
    state.Selection,
    state.Sql,
    state.Failure,
    state.Content,
    catalog.Column,
    catalog.Window,
)
_FORMAT = [(kind.__name__, [each.name for each in fields(kind)]) for kind in _STORED]
"""The first record; a file with another one was written by other code, and is not read."""
_CLOCK = "clock"


class Journal:
    """
    One record for each create request that came to something, in the order of their ends.

    :param path: the file; its folder must be private, because reading it runs what is in it.
    :param clock: the sandbox's clock, which the records refer to and do not contain.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()

    def read(self) -> list[tuple[Scope | None, Claim]]:
        """Return the records; a file that is missing or of another version is begun anew."""
        records: list[tuple[Scope | None, Claim]] = []
        with self._lock:
            if not self._path.exists():
                self._begin()
                return records
            with self._path.open("r+b") as file:
                if self._next(file) == _FORMAT:
                    end = file.tell()
                    while (record := self._next(file)) is not None:
                        records.append(record)
                        end = file.tell()
                    file.truncate(end)  # A kill may have left half a record.
                    return records
            self._begin()
            return records

    def append(self, scope: Scope | None, claim: Claim) -> None:
        """Keep what came of a create request."""
        with self._lock, self._path.open("ab") as file:
            self._write(file, (scope, claim))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._begin()

    def _begin(self) -> None:
        with self._path.open("wb") as file:
            self._write(file, _FORMAT)

    def _write(self, file: IO[bytes], record: object) -> None:
        _Pickler(file, self._clock).dump(record)

    def _next(self, file: IO[bytes]) -> Any:
        """Read a record; None after the last whole one."""
        try:
            return _Unpickler(file, self._clock).load()
        except (EOFError, pickle.UnpicklingError, AttributeError, ImportError, ValueError):
            return None


class _Pickler(pickle.Pickler):
    """Refers to the clock by a name."""

    def __init__(self, file: IO[bytes], clock: Clock) -> None:
        super().__init__(file)
        self._clock = clock

    def persistent_id(self, obj: object) -> str | None:
        return _CLOCK if obj is self._clock else None


class _Unpickler(pickle.Unpickler):
    """Puts the clock of this sandbox in place of its name."""

    def __init__(self, file: IO[bytes], clock: Clock) -> None:
        super().__init__(file)
        self._clock = clock

    def persistent_load(self, pid: str) -> Clock:
        del pid  # There is only one.
        return self._clock
