"""The server of all generations: it remembers requests, plays faults, and serves files."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_reportrun.sandbox.answers import Dropped, FileAnswer
from airflow_provider_reportrun.sandbox.downloads import SignedUrls
from airflow_provider_reportrun.sandbox.faults import Exchange, Faults, Hook, nothing
from airflow_provider_reportrun.sandbox.generations import GENERATIONS
from airflow_provider_reportrun.sandbox.generations.interface import (
    Backend,
    Call,
    Generation,
    Served,
)
from airflow_provider_reportrun.sandbox.inspector import page_of, unknown_page
from airflow_provider_reportrun.sandbox.problems import Problem, unknown_url
from airflow_provider_reportrun.sandbox.state import SeenRequest, State

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.connections import Connection, Connections
    from airflow_provider_reportrun.sandbox.files import ResultFiles
    from airflow_provider_reportrun.sandbox.keys import Keyring

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_ECHOED = ("Stripe-Version", "Idempotency-Key")


class Api:
    """
    The Reporting API in all its generations, and the server of its result files.

    :param state: the runs and all else that is remembered.
    :param keyring: the known API keys.
    :param files: the result files.
    :param faults: the planned faults.
    :param connections: the open connections of the server.
    """

    def __init__(
        self,
        state: State,
        *,
        keyring: Keyring,
        files: ResultFiles,
        faults: Faults,
        connections: Connections,
    ) -> None:
        self._state = state
        self._faults = faults
        self._connections = connections
        self._urls = SignedUrls(state, files)
        backend = Backend(state=state, keyring=keyring, files=files, urls=self._urls)
        self._generations = [make(backend) for make in GENERATIONS]
        self._numbers = itertools.count(1)

    def routes(self) -> list[Route]:
        """Return the routes; the last one takes every URL that no generation knows."""
        return [
            Route(served.path, self._endpoint(served, generation), methods=methods)
            for served, generation, methods in self._served()
        ]

    def _served(self) -> Iterator[tuple[Served, Generation | None, list[str]]]:
        for generation in self._generations:
            for served in generation.operations():
                methods = _METHODS if served.method == "*" else [served.method]
                yield served, generation, methods
        yield Served("GET", SignedUrls.PATH, "download", self._urls.download), None, ["GET"]
        for path in ("/workbench/inspector", "/test/workbench/inspector"):
            yield Served("GET", path, "other", self._inspect), None, ["GET"]
        yield Served("*", "/{path:path}", "other", _unknown), None, _METHODS

    def _endpoint(self, served: Served, generation: Generation | None) -> Endpoint:
        refuse = generation.refusal if generation is not None else _refusal
        error_json = generation.error_json if generation is not None else Problem.as_json

        async def endpoint(request: Request) -> Response:
            connection = self._connection(request)
            try:
                body = await request.body()
            except ClientDisconnect:
                return Dropped(connection)

            async def handle(at_start: Hook = nothing, at_end: Hook = nothing) -> Response:
                call = Call(
                    request=request,
                    body=body,
                    connection=connection,
                    at_start=at_start,
                    at_end=at_end,
                )
                try:
                    if served.operation == "create":
                        return await served.handle(call)
                    await at_start()
                    response = await served.handle(call)
                    await at_end()
                except Problem as problem:
                    return refuse(problem)
                return response

            seen = self._seen(request, body, served, generation)
            fault = self._faults.take(served.operation, seen.target, body)
            exchange = Exchange(handle, error_json, connection)
            response = await (fault.play(exchange) if fault else handle())
            self._add_headers(request, response, is_api=generation is not None)
            seen.status = None if isinstance(response, Dropped) else response.status_code
            return response

        return endpoint

    def _add_headers(self, request: Request, response: Response, *, is_api: bool) -> None:
        number = next(self._numbers)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        if is_json or (is_api and isinstance(response, FileAnswer)):
            response.headers.setdefault("Request-Id", f"req_{number:014d}")
            for name in _ECHOED if is_api else ():
                if name in request.headers:
                    response.headers.setdefault(name, request.headers[name])
        elif not is_api:
            response.headers["x-amz-request-id"] = f"{number:016X}"

    def _connection(self, request: Request) -> Connection:
        client = request.client
        return self._connections.of((client.host, client.port) if client else None)

    def _seen(
        self, request: Request, body: bytes, served: Served, generation: Generation | None
    ) -> SeenRequest:
        client = request.client
        seen = SeenRequest(
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            headers=dict(request.headers),
            body=body,
            client=(client.host, client.port) if client else None,
            operation=served.operation,
            generation=generation.name if generation is not None else None,
            at=self._state.clock.now(),
        )
        self._state.remember(seen)
        return seen

    async def _inspect(self, call: Call) -> Response:
        """Show a run, without a key, in place of the page in Stripe's Workbench."""
        object_id = call.request.query_params.get("object", "")
        run = self._state.run(object_id)
        if run is None:
            return unknown_page(object_id)
        (generation,) = (each for each in self._generations if each.name == run.generation)
        return page_of(generation.describe(run, run.status))


def build_app(api: Api) -> Starlette:
    """Return the ASGI application."""
    return Starlette(routes=api.routes())


async def _unknown(call: Call) -> Response:
    raise unknown_url(call.request.method, call.request.url.path)


def _refusal(problem: Problem) -> Response:
    return JSONResponse(problem.as_json(), problem.status)
