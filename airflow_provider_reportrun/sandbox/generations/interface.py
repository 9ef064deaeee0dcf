"""What a generation of the API is to the rest of the sandbox."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from airflow_provider_reportrun.sandbox.connections import Connection
    from airflow_provider_reportrun.sandbox.downloads import SignedUrls
    from airflow_provider_reportrun.sandbox.faults import Hook, Operation
    from airflow_provider_reportrun.sandbox.files import ResultFiles
    from airflow_provider_reportrun.sandbox.keys import Keyring
    from airflow_provider_reportrun.sandbox.problems import Problem
    from airflow_provider_reportrun.sandbox.state import Run, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What all generations share."""

    state: State
    keyring: Keyring
    files: ResultFiles
    urls: SignedUrls


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One request, read to its end.

    :param at_start: awaited by a create that holds its idempotency key, before it has any effect.
    :param at_end: awaited by a create after its effect, before its answer is settled.
    """

    request: Request
    body: bytes
    connection: Connection
    at_start: Hook
    at_end: Hook


Handler: TypeAlias = Callable[[Call], Awaitable["Response"]]


@dataclass(frozen=True, slots=True)
class Served:
    """One operation: its method, its path as Starlette writes it, and its handler."""

    method: str
    path: str
    operation: Operation
    handle: Handler


class Generation(ABC):
    """
    One generation of the API.

    :param backend: what all generations share.
    """

    name: ClassVar[str]
    """What its runs and requests are marked with, such as ``v2.data.queries``."""
    api: ClassVar[str]
    """The extra ``api`` of connections that use it, such as ``v2.data``."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @abstractmethod
    def operations(self) -> Iterator[Served]:
        """Yield what it serves."""

    @abstractmethod
    def error_json(self, problem: Problem) -> dict[str, Any]:
        """Write the body of an error answer."""

    def refusal(self, problem: Problem) -> Response:
        """Write an error answer."""
        headers = {}
        if problem.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="Stripe"'
        if problem.should_retry is not None:
            headers["Stripe-Should-Retry"] = str(problem.should_retry).lower()
        return JSONResponse(self.error_json(problem), problem.status, headers)

    @abstractmethod
    def describe(self, run: Run, status: str) -> dict[str, Any]:
        """Write a run without its result."""

    @classmethod
    @abstractmethod
    def reports(cls) -> Iterator[str]:
        """Yield a line about each report that it offers, for the output of the command."""


def report_line(name: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> str:
    """Return the name of a report, and what is special about its parameters."""
    bounds = ("interval_start", "interval_end")
    notes = [f"no {bound}" for bound in bounds if bound not in (*required, *optional)]
    notes += [f"requires {each}" for each in required if each not in bounds]
    return f"{name} ({', '.join(notes)})" if notes else name
