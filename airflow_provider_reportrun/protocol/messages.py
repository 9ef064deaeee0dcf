"""
What a conversation yields and what it receives.

A conversation (see ``flows.py``) yields a ``Request``, a ``Pause`` or a ``Metric``. A driver
answers a request with a ``Response``, or throws ``TransportError`` into it if no answer arrived.

Requests and responses are dataclasses, because some fields are not shown or compared. Pauses and
metrics are named tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from airflow_provider_reportrun.protocol.metrics import Metric
from airflow_provider_reportrun.text import WORD, one_line

if TYPE_CHECKING:
    from airflow_provider_reportrun.secret import Secret

T = TypeVar("T")

STRIPE_CONTEXT = "Stripe-Context"


class Body(NamedTuple):
    """The body of a request, as it is sent."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to the API; the sender adds host and key."""

    method: str
    path: str
    """Begins with a slash, already percent-encoded."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    stripe_version: str | None = None
    """The API's version that paths and fields are of; the connection's overrides it."""
    account_header: str = STRIPE_CONTEXT
    """The header that names the account, if the connection or the task names one."""
    template: str = ""
    """The path with names in place of ids, for traces."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The ids, by those names."""
    fresh_since: float = field(default=float("inf"), compare=False)
    """
    Another conversation's answer will do if it was asked for at this time or later.

    Monotonic seconds. By default, no other answer will do.
    """
    seconds_left: float = field(default=float("inf"), compare=False)
    """How long the request may take in total; the connection may allow less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One whole answer."""

    status: int
    headers: Mapping[str, str]
    """The headers that are read, spelled as they are looked up."""
    body: bytes = field(repr=False)
    api_key: Secret | None = field(default=None, repr=False)
    """Cut out of the decoded body, in case the server echoes it."""

    known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was read from it, by reader, if several conversations share the answer."""

    @property
    def is_replay(self) -> bool:
        """
        Whether this is the answer to an earlier request with the same idempotency key.

        Source: https://docs.stripe.com/api/idempotent_requests
        """
        return self.headers.get("Idempotent-Replayed", "").lower() == "true"

    @property
    def request_id(self) -> str | None:
        """The request's id at Stripe, which Stripe's support asks for."""
        return one_line(self.headers.get("Request-Id") or "", WORD) or None


class Backoff(NamedTuple):
    """A short pause before one request is repeated. Every driver sleeps."""

    seconds: float


class WaitBegins(NamedTuple):
    """
    From here on, the conversation waits.

    A driver that does not wait stops here, before the first poll.
    """


class Sleep(NamedTuple):
    """A pause between two polls."""

    seconds: float
    hurries_for: str = ""
    """A capacity group. The pause is shorter while a create of it waits: the poll may find room."""
    hurried_seconds: float = 0.0
    """The shorter pause, if there is a capacity group."""


class TakeTurn(NamedTuple):
    """
    Wait for the turn to create, at most ``seconds``.

    If conversations share a line, one of them tries at a time. Without a line, the turn comes at
    once.
    """

    seconds: float
    group: str
    """The capacity group, which has a line of its own."""


class AwaitRoom(NamedTuple):
    """A pause that ends early if a report run of the same API key is known to have ended."""

    seconds: float


class LeaveLine(NamedTuple):
    """Pass the turn to the next in line."""


class RoomMade(NamedTuple):
    """A run of this API key has ended, so there is room for another."""

    group: str
    """Its capacity group."""


Pause: TypeAlias = Backoff | WaitBegins | Sleep | TakeTurn | AwaitRoom | LeaveLine | RoomMade
Step: TypeAlias = Request | Pause | Metric
Flow: TypeAlias = Generator[Step, Response | None, T]
"""A conversation that ends in a ``T``."""
Clock: TypeAlias = Callable[[], float]
"""Returns the time in seconds: since the epoch, or since any start if it is monotonic."""
Jitter: TypeAlias = Callable[[float, float], float]
"""Returns a number between the two, as ``random.uniform`` does."""
