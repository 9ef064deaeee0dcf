"""What the generations of v2 have in common: JSON, versions, includes, and attaching repeats."""

from __future__ import annotations

import asyncio
import json
import re
from abc import abstractmethod
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.responses import JSONResponse, Response

from airflow_provider_reportrun.sandbox.generations.interface import Call, Generation, Served
from airflow_provider_reportrun.sandbox.idempotency import KeyInUse, KeyReused
from airflow_provider_reportrun.sandbox.problems import Problem, invalid_fields, not_found
from airflow_provider_reportrun.sandbox.sql import InvalidSql
from airflow_provider_reportrun.sandbox.state import NoRoom, failure_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_reportrun.sandbox.keys import Caller, Right
    from airflow_provider_reportrun.sandbox.state import Kind, NewRun, Run

IDEMPOTENCY_SECONDS = 30 * 24 * 3600
"""How long a key attaches to its first run."""
LONGEST_KEY = 255
"""Characters of an idempotency key."""
USUAL_LIMIT = 10
"""How many items a page has, unless the request says otherwise."""

_VERSION = re.compile(r"\d{4}-\d\d-\d\d(\.[a-z_]+)?")
_PREVIEW = re.compile(r"\d{4}-\d\d-\d\d\.preview")
_INCLUDE = re.compile(r"include\[\d+\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list, by its first index."""

    start: int = 0
    limit: int = USUAL_LIMIT


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What a request for a run asks for.

    :param version: of the API.
    :param included: what ``include[0]=...`` names.
    :param page: of inline rows.
    """

    request: Request
    version: str
    included: AbstractSet[str] = frozenset()
    page: Page = Page()


class V2(Generation):
    """A generation of v2: a create attaches to the run that its key already made."""

    kind: ClassVar[Kind]
    runs_path: ClassVar[str]
    read_permission: ClassVar[str]
    create_right: ClassVar[Right]
    create_permission: ClassVar[str]
    since: ClassVar[str | None] = None
    """The first preview that has these paths; None if any version will do."""

    def operations(self) -> Iterator[Served]:
        """Yield the operations on runs."""
        yield Served("POST", self.runs_path, "create", self._create)
        yield Served("GET", f"{self.runs_path}/{{id}}", "get_run", self._get_run)

    def error_json(self, problem: Problem) -> dict[str, Any]:
        """Write the body of an error answer."""
        return problem.as_json()

    @abstractmethod
    def new_run(self, body: dict[str, Any], version: str) -> NewRun:
        """
        Check the body of a create request.

        :raises Problem: if something is wrong with it.
        """

    @abstractmethod
    async def run_answer(self, run: Run, status: str, asked: Asked) -> dict[str, Any]:
        """Write a run with its result, if it has one in this status."""

    @abstractmethod
    def read_query(self, request: Request) -> tuple[set[str], Page]:
        """
        Read the query of a GET of a run.

        :return: what to include, and the page of inline rows.
        :raises Problem: if something in it is unknown.
        """

    @abstractmethod
    def no_room(self) -> Problem:
        """Return the refusal of a run above the limit of concurrent runs."""

    def caller(self, call: Call) -> tuple[Caller, str]:
        """
        Identify the sender of a request.

        :return: the caller, and the version of the API.
        :raises Problem: 400, 401 or 403.
        """
        headers = call.request.headers
        caller = self.backend.keyring.identify(headers)
        version = headers.get("stripe-version")
        if version is None:
            raise Problem(
                400,
                "stripe_version_missing",
                "You must send a Stripe-Version header with every request to /v2.",
                "invalid_request_error",
            )
        if not _VERSION.fullmatch(version):
            raise _wrong_version(f"Invalid Stripe API version: {version[:64]}")
        if self.since is not None and not (_PREVIEW.fullmatch(version) and version >= self.since):
            raise _wrong_version(
                f"The Stripe-Version {version[:64]} does not have {self.runs_path}. "
                f"Send a preview version from {self.since} on."
            )
        return caller, version

    async def _create(self, call: Call) -> Response:
        caller, version = self.caller(call)
        caller.must(self.create_right, self.create_permission)
        no_query(call.request)
        body = json_object(call)
        key = idempotency_key(call.request)
        scope = None if key is None else (self.name, caller.account, key)
        state = self.backend.state
        try:
            claim = state.keys.claim(scope, json.dumps(body, sort_keys=True), IDEMPOTENCY_SECONDS)
        except KeyReused:
            raise _other_parameters() from None
        except KeyInUse:
            raise _in_use() from None
        if claim.run is not None:
            claim.run.attached += 1
            asked = Asked(call.request, version)
            return JSONResponse(await self._current(claim.run, asked))
        # Only success is remembered: a refused request is executed again.
        try:
            new = self.new_run(body, version)
            await call.at_start()
            try:
                run = claim.run = state.start(caller, self.kind, new, key)
            except NoRoom:
                raise self.no_room() from None
            # A new run is still running in the answer to its create, even if it takes no time.
            answer = await self.run_answer(run, "running", Asked(call.request, version))
            await call.at_end()
            return JSONResponse(answer)
        finally:
            state.keys.release(scope, claim)

    async def _get_run(self, call: Call) -> Response:
        caller, version = self.caller(call)
        caller.must("read", self.read_permission)
        included, page = self.read_query(call.request)
        run = self.backend.state.find(caller, self.kind, call.request.path_params["id"])
        if run is None:
            raise not_found()
        asked = Asked(call.request, version, included, page)
        return JSONResponse(await self._current(run, asked))

    async def _current(self, run: Run, asked: Asked) -> dict[str, Any]:
        """Write a run as it is now; some SQL fails only when it runs."""
        if run.status == "succeeded":
            try:
                await asyncio.to_thread(self.backend.files.path_of, run)
            except InvalidSql as error:
                run.failure = failure_of("query_run_invalid_sql", str(error))
        return await self.run_answer(run, run.status, asked)


def _wrong_version(message: str) -> Problem:
    """Return the refusal of a ``Stripe-Version``."""
    return Problem(400, "stripe_version_invalid", message, "invalid_request_error")


def _other_parameters() -> Problem:
    return Problem(
        409,
        "idempotency_error",
        "An idempotent retry occurred with different request parameters.",
        # Missing in the schema, but the SDK makes an IdempotencyError by it only.
        "idempotency_error",
    )


def _in_use() -> Problem:
    return Problem(
        409,
        "idempotency_conflict",
        "Another request with the same idempotency key is in progress. Try again later.",
        "idempotency_error",
        should_retry=True,
    )


def idempotency_key(request: Request) -> str | None:
    """
    Read the idempotency key of a request.

    :raises Problem: 400 for a key that is empty or too long.
    """
    key: str | None = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise invalid_fields(f"`Idempotency-Key` must have 1 to {LONGEST_KEY} characters.")
    return key


def json_object(call: Call) -> dict[str, Any]:
    """
    Read a body that is a JSON object.

    :raises Problem: 400 or 415.
    """
    media_type = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(
            415,
            "unsupported_media_type",
            "For v2 API endpoints, only JSON is supported. "
            "Send the header 'Content-Type: application/json'.",
            "invalid_request_error",
        )
    try:
        parsed = json.loads(call.body)
        # No answer could repeat half a surrogate pair.
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise _unreadable("The request body is not valid JSON.") from None
    if not isinstance(parsed, dict):
        raise _unreadable("The request body must be a JSON object.")
    return parsed


def _unreadable(message: str) -> Problem:
    return Problem(400, "invalid_request_body", message, "invalid_request_error")


def no_query(request: Request) -> None:
    """
    Refuse any query.

    :raises Problem: 400 ``invalid_fields``.
    """
    read_includes(request, ())


def read_includes(
    request: Request,
    allowed: tuple[str, ...],
    others: tuple[str, ...] = (),
    pattern: re.Pattern[str] = _INCLUDE,
) -> set[str]:
    """
    Read ``include[0]=...`` of a query.

    :param allowed: what may be included.
    :param others: the names of further parameters.
    :param pattern: how an include is spelled.
    :raises Problem: 400 ``invalid_fields`` for anything else.
    """
    included = set()
    for name, value in request.query_params.multi_items():
        if name in others:
            continue
        if not allowed or not pattern.fullmatch(name):
            hint = " Arrays in a query are indexed: include[0]=..." if name == "include" else ""
            raise invalid_fields(f"Unknown query parameter `{name}`.{hint}")
        if value not in allowed:
            raise invalid_fields(
                f"`{name}` does not accept {value!r}. Allowed values: {', '.join(allowed)}."
            )
        included.add(value)
    return included
