"""
What a conversation yields and what it is given back.

A conversation (see ``flows.py``) yields a ``Request`` or a ``Sleep``; a driver answers a request
with a ``Response``, or throws ``TransportError`` in where none came.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

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
    """Whatever case the server used; looked up regardless of it, as both HTTP libraries do."""
    body: bytes = field(repr=False)

    @property
    def request_id(self) -> str | None:
        """Stripe's id of the request, for its support."""
        return self.headers.get("Request-Id")


@dataclass(frozen=True, slots=True)
class Sleep:
    """A pause that the conversation asks for."""

    seconds: float


Step: TypeAlias = Request | Sleep
Flow: TypeAlias = Generator[Step, Response | None, T]
"""A conversation that ends in a ``T``."""
Clock: TypeAlias = Callable[[], float]
"""Tells the time in seconds since the epoch."""
Jitter: TypeAlias = Callable[[float, float], float]
"""Gives a number between the two, as ``random.uniform`` does."""
