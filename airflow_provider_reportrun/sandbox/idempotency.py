"""Idempotency keys: which request holds a key, and what came of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_reportrun.sandbox.clock import NANOSECONDS, Clock

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.journal import Journal
    from airflow_provider_reportrun.sandbox.state import Run

Scope: TypeAlias = tuple[str, str, str]
"""Generation, account and key."""


class KeyInUse(Exception):
    """The first request under the key is still in progress."""


class KeyReused(Exception):
    """The key is known with another body."""


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """An answer that v1 replays byte for byte."""

    status: int
    body: bytes
    should_retry: str | None = None
    """The header ``Stripe-Should-Retry``."""


@dataclass(slots=True)
class Claim:
    """A key that a request holds, and what came of the request."""

    fingerprint: str
    made_ns: int
    in_progress: bool = True
    run: Run | None = None
    """The run that v2 attaches a repeat to."""
    answer: SavedAnswer | None = None
    """The answer that v1 replays."""

    @property
    def is_settled(self) -> bool:
        """Whether a repeat has something to be answered with."""
        return self.run is not None or self.answer is not None


class Keys:
    """
    The idempotency keys of one sandbox; each method may be called from any thread.

    :param clock: the sandbox's clock.
    :param journal: is told of every key that is settled; None if nothing is.
    """

    def __init__(self, clock: Clock, journal: Journal | None = None) -> None:
        self._clock = clock
        self._journal = journal
        self._lock = threading.Lock()
        self._claims: dict[Scope, Claim] = {}

    def claim(self, scope: Scope | None, fingerprint: str, window_seconds: float) -> Claim:
        """
        Claim a key, or find what came of the first request under it.

        :param scope: None for a request without a key, which nothing repeats.
        :param fingerprint: equal for equal bodies.
        :param window_seconds: how long the key is remembered.
        :return: a settled claim if this is a repeat, else one to settle and to release.
        :raises KeyInUse: if the first request under the key is in progress.
        :raises KeyReused: if the first request under the key had another body.
        """
        now = self._clock.now_ns()
        with self._lock:
            known = self._claims.get(scope) if scope is not None else None
            if known is not None and now - known.made_ns < window_seconds * NANOSECONDS:
                if known.fingerprint != fingerprint:
                    raise KeyReused
                if known.in_progress:
                    raise KeyInUse
                return known
            claim = Claim(fingerprint, now)
            if scope is not None:
                self._claims[scope] = claim
            return claim

    def restore(self, scope: Scope, claim: Claim) -> None:
        """Remember a key that was settled before the start."""
        self._claims[scope] = claim

    def release(self, scope: Scope | None, claim: Claim) -> None:
        """End a request; the key is forgotten if nothing came of it."""
        with self._lock:
            claim.in_progress = False
            if claim.is_settled and self._journal is not None:
                self._journal.append(scope, claim)
            if scope is not None and not claim.is_settled and self._claims.get(scope) is claim:
                del self._claims[scope]
