"""The routes: they read requests, ask ``state`` and ``files``, and build answers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_reportrun.sandbox.answers import Dropped, FileAnswer, FileRequest
from airflow_provider_reportrun.sandbox.checks import accessible
from airflow_provider_reportrun.sandbox.clock import (
    NANOSECONDS,
    instant,
    with_milliseconds,
    with_nanoseconds,
)
from airflow_provider_reportrun.sandbox.faults import (
    Exchange,
    Faults,
    Operation,
    expired_file,
    s3_error,
)
from airflow_provider_reportrun.sandbox.files import ResultFiles, columns_of, content_type_of
from airflow_provider_reportrun.sandbox.problems import Problem, invalid_fields, not_found
from airflow_provider_reportrun.sandbox.state import Run, SeenRequest, State

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.connections import Connection, Connections
    from airflow_provider_reportrun.sandbox.keys import Caller, Keyring

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_VERSION = re.compile(r"\d{4}-\d\d-\d\d(\.[a-z_]+)?")
_INCLUDE = re.compile(r"include\[\d+\]")
_SCHEMA = "result.file.schema"
_LONGEST_KEY = 255
_MEDIA_TYPES = {"csv": "text/csv", "zip": "application/zip"}


class Api:
    """
    The Reporting API and the server of its result files.

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
        self._keyring = keyring
        self._files = files
        self._faults = faults
        self._connections = connections
        self._secret = secrets.token_bytes(32)
        self._numbers = itertools.count(1)

    def routes(self) -> list[Route]:
        """Return the routes; the last one takes every URL that the API does not know."""
        served: tuple[tuple[str, list[str], Operation, Handler], ...] = (
            ("/v2/reporting/report_runs", ["POST"], "create", self._create),
            ("/v2/reporting/report_runs/{id}", ["GET"], "get_run", self._get_run),
            ("/v2/reporting/reports/{id}", ["GET"], "get_report", self._get_report),
            ("/files/{path:path}", ["GET"], "download", self._download),
            ("/workbench/inspector", ["GET"], "other", self._inspect),
            ("/test/workbench/inspector", ["GET"], "other", self._inspect),
            ("/{path:path}", _METHODS, "other", self._unknown),
        )
        return [
            Route(path, self._endpoint(operation, handler), methods=methods)
            for path, methods, operation, handler in served
        ]

    def _endpoint(self, operation: Operation, handler: Handler) -> Handler:
        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as problem:
                headers = {"WWW-Authenticate": 'Bearer realm="Stripe"'}
                wanted = headers if problem.status == HTTPStatus.UNAUTHORIZED else None
                return JSONResponse(problem.as_json(), problem.status, wanted)

        async def endpoint(request: Request) -> Response:
            connection = self._connection(request)
            try:
                body = await request.body()
            except ClientDisconnect:
                return Dropped(connection)
            seen = self._seen(request, body, operation)
            fault = self._faults.take(operation, seen.target, body)
            exchange = Exchange(lambda: answered(request), connection)
            response = await (fault.play(exchange) if fault else exchange.handle())
            if response.headers.get("content-type", "").startswith("application/json"):
                response.headers.setdefault("Request-Id", f"req_{next(self._numbers):014d}")
            elif operation == "download":
                response.headers["x-amz-request-id"] = f"{next(self._numbers):016X}"
            seen.status = None if isinstance(response, Dropped) else response.status_code
            return response

        return endpoint

    def _connection(self, request: Request) -> Connection:
        client = request.client
        return self._connections.of((client.host, client.port) if client else None)

    def _seen(self, request: Request, body: bytes, operation: Operation) -> SeenRequest:
        client = request.client
        seen = SeenRequest(
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            headers=dict(request.headers),
            body=body,
            client=(client.host, client.port) if client else None,
            operation=operation,
            at=self._state.clock.now(),
        )
        self._state.remember(seen)
        return seen

    # -- the API ---------------------------------------------------------------------------

    async def _create(self, request: Request) -> Response:
        caller = self._caller(request)
        caller.must_write()
        body = _json_object(request, await request.body())
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise invalid_fields(f"`Idempotency-Key` must have 1 to {_LONGEST_KEY} characters.")
        run, is_new = self._state.create(caller, body, key)
        if is_new:
            # A new run is still running in the answer to its create, even if it takes no time.
            return JSONResponse(_described(run, "running"))
        return await self._run_answer(request, run, with_schema=False)

    async def _get_run(self, request: Request) -> Response:
        caller = self._caller(request)
        caller.must_read()
        included = _included(request)
        run = self._state.find(caller, request.path_params["id"])
        return await self._run_answer(request, run, with_schema=_SCHEMA in included)

    async def _get_report(self, request: Request) -> Response:
        self._caller(request).must_read()
        definition = accessible(request.path_params["id"])
        if definition is None:
            raise not_found()
        return JSONResponse(definition.as_json(self._state.window()))

    async def _inspect(self, request: Request) -> Response:
        """Show a run, without a key, in place of the page in Stripe's Workbench."""
        run = self._state.run(request.query_params.get("object", ""))
        if run is None:
            raise not_found()
        return JSONResponse(_described(run, run.status))

    async def _unknown(self, request: Request) -> Response:
        raise Problem(
            404,
            "not_found",
            f"Unrecognized request URL ({request.method}: {request.url.path}).",
            "invalid_request_error",
        )

    def _caller(self, request: Request) -> Caller:
        caller = self._keyring.identify(request.headers)
        version = request.headers.get("stripe-version")
        if version is None:
            raise Problem(
                400,
                "stripe_version_missing",
                "You must send a Stripe-Version header with every request to /v2.",
                "invalid_request_error",
            )
        if not _VERSION.fullmatch(version):
            raise Problem(
                400,
                "stripe_version_invalid",
                f"Invalid Stripe API version: {version[:64]}",
                "invalid_request_error",
            )
        return caller

    async def _run_answer(self, request: Request, run: Run, *, with_schema: bool) -> Response:
        status = run.status
        answer = _described(run, status)
        if status == "succeeded":
            path = await asyncio.to_thread(self._files.path_of, run)
            issued_ns = self._state.clock.now_ns()
            expires_ns = issued_ns + int(self._state.settings.url_seconds * NANOSECONDS)
            url = self._signed_url(request, run, issued_ns, expires_ns)
            self._state.remember_url(url)
            file: dict[str, Any] = {
                "content_type": content_type_of(run),
                "download_url": {
                    "expires_at": with_nanoseconds(expires_ns),
                    "url": url,
                },
                "size": str(path.stat().st_size),
            }
            if with_schema:
                file["schema"] = [
                    {"name": each.name, "type": each.type} for each in columns_of(run)
                ]
            answer["result"] = {"type": "file", "file": file}
        return JSONResponse(answer)

    # -- the result files ------------------------------------------------------------------

    def _signed_url(self, request: Request, run: Run, issued_ns: int, expires_ns: int) -> str:
        path = f"/files/us-west-2/{run.id}/{run.report}.{content_type_of(run)}"
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"SANDBOX/{instant(issued_ns):%Y%m%d}/us-west-2/s3/aws4_request",
            "X-Amz-Date": f"{instant(issued_ns):%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": str(max(1, round(self._state.settings.url_seconds))),
            # The expiry in nanoseconds, and a number that makes each URL unique.
            "X-Amz-Security-Token": f"{expires_ns}-{next(self._numbers)}",
            "X-Amz-SignedHeaders": "host",
        }
        signature = self._signature(path, query)
        address = f"{request.url.scheme}://{request.url.netloc}"
        return f"{address}{path}?{urlencode(query)}&X-Amz-Signature={signature}"

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        # Of the decoded values, as S3 does: clients may encode the same URL differently.
        signed = f"{path}?{urlencode(sorted(query.items()))}".encode()
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()

    async def _download(self, request: Request) -> Response:
        if "authorization" in request.headers:
            return s3_error(
                400,
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
                "Signature query string parameter or the Authorization header should be specified",
            )
        if any(name.startswith("stripe-") for name in request.headers):
            return s3_error(400, "InvalidRequest", "Stripe headers are not allowed here")
        query = dict(request.query_params)
        signature = query.pop("X-Amz-Signature", "")
        genuine = self._signature(request.url.path, query)
        if not hmac.compare_digest(genuine.encode(), signature.encode()):
            return s3_error(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            )
        expires_ns = int(query["X-Amz-Security-Token"].partition("-")[0])
        if self._state.clock.now_ns() >= expires_ns:
            return expired_file()
        return await self._file(request)

    async def _file(self, request: Request) -> Response:
        run = self._state.run(request.url.path.split("/")[3])
        if run is None:
            return s3_error(404, "NoSuchKey", "The specified key does not exist.")
        wanted = FileRequest(
            path=await asyncio.to_thread(self._files.path_of, run),
            etag=f'"{self._files.digest(run)[:32]}"',
            media_type=_MEDIA_TYPES.get(content_type_of(run), "binary/octet-stream"),
            range=request.headers.get("range"),
            if_range=request.headers.get("if-range"),
            is_head=request.method == "HEAD",
            connection=self._connection(request),
        )
        return FileAnswer(wanted)


def build_app(api: Api) -> Starlette:
    """Return the ASGI application."""
    return Starlette(routes=api.routes())


def _described(run: Run, status: str) -> dict[str, Any]:
    details = {}
    if status == "failed" and run.failure is not None:
        details["failed"] = {
            "error_code": run.failure.error_code,
            "error_message": run.failure.error_message,
        }
    return {
        "id": run.id,
        "object": "v2.reporting.report_run",
        "created": with_milliseconds(run.created),
        "report": run.report,
        "report_name": run.new.definition.name,
        "report_parameters": run.report_parameters,
        "result": None,
        "result_options": {"compress_file": run.compress_file},
        "status": status,
        "status_details": details,
        "livemode": False,
    }


def _json_object(request: Request, body: bytes) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(
            415,
            "unsupported_media_type",
            "For v2 API endpoints, only JSON is supported. "
            "Send the header 'Content-Type: application/json'.",
            "invalid_request_error",
        )
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise _unreadable("The request body is not valid JSON.") from None
    if not isinstance(parsed, dict):
        raise _unreadable("The request body must be a JSON object.")
    return parsed


def _unreadable(message: str) -> Problem:
    return Problem(400, "invalid_request_body", message, "invalid_request_error")


def _included(request: Request) -> set[str]:
    included = set()
    for name, value in request.query_params.multi_items():
        if not _INCLUDE.fullmatch(name):
            hint = " Arrays in a query are indexed: include[0]=..." if name == "include" else ""
            raise invalid_fields(f"Unknown query parameter `{name}`.{hint}")
        if value != _SCHEMA:
            raise invalid_fields(f"`{name}` does not accept {value!r}. Allowed values: {_SCHEMA}.")
        included.add(value)
    return included
