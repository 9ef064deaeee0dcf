"""
What a conversation yields and what it is given back.

A conversation (see ``flows.py``) yields a ``Request``, a ``Pause`` or a ``Metric``; a driver
answers a request with a ``Response``, or throws ``TransportError`` in where none came.

Pauses and metrics are named tuples, whose classes are made in a fifth of the time that frozen
dataclasses take: each DAG file pays for this import.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from airflow_provider_reportrun.protocol.metrics import Metric
from airflow_provider_reportrun.text import WORD, one_line

if TYPE_CHECKING:
    from airflow_provider_reportrun.secret import Secret

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to the API; who sends it adds address, key and version."""

    method: str
    path: str
    """Begins with a slash, already percent-encoded."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """JSON values, or None for no body."""
    template: str = ""
    """The path with names in place of ids, for those who trace requests."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the request is about, by those names."""
    fresh_for_seconds: float = 0.0
    """An answer that others got so long ago will do, where there is one to share."""
    seconds_left: float = field(default=float("inf"), compare=False)
    """How long it may take in all, for whoever waits; the connection may allow less."""

    def encoded_body(self) -> bytes | None:
        """The body as JSON in UTF-8, the same bytes for the same values."""
        if self.body is None:
            return None
        return json.dumps(self.body, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One whole answer."""

    status: int
    headers: Mapping[str, str]
    """Those that are read here, in the case that they are read in."""
    body: bytes = field(repr=False)
    api_key: Secret | None = field(default=None, repr=False)
    """Cut out of what is read of the body, should the server repeat it."""

    @property
    def request_id(self) -> str | None:
        """Stripe's id of the request, for its support."""
        return one_line(self.headers.get("Request-Id") or "", WORD) or None


class Sleep(NamedTuple):
    """A pause that the conversation asks for."""

    seconds: float
    may_hurry: bool = False
    """Whether others may wish for less: for a poll whose good news makes room."""


class TakeTurn(NamedTuple):
    """
    Wait for one's turn to ask for capacity, at most so long.

    Where conversations share a line, one of them asks at a time; alone, it is one's turn at once.
    """

    seconds: float


class AwaitRoom(NamedTuple):
    """A pause that ends early where a report run of the same key is known to have ended."""

    seconds: float


class LeaveLine(NamedTuple):
    """Give one's turn to the next."""


class RoomMade(NamedTuple):
    """A report run of this key has ended, so there is room for another."""


Pause: TypeAlias = Sleep | TakeTurn | AwaitRoom | LeaveLine | RoomMade
Step: TypeAlias = Request | Pause | Metric
Flow: TypeAlias = Generator[Step, Response | None, T]
"""A conversation that ends in a ``T``."""
Clock: TypeAlias = Callable[[], float]
"""Tells the time in seconds: since the epoch, or since whenever where it is monotonic."""
Jitter: TypeAlias = Callable[[float, float], float]
"""Gives a number between the two, as ``random.uniform`` does."""
