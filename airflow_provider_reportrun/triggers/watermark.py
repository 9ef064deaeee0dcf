"""How far a watcher has reported, if Airflow has a store for assets (3.3)."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


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
