"""Tell successful answers from refusals, and turn a refusal into the error that it means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_reportrun.errors import (
    ApiError,
    AuthenticationError,
    CapacityExceeded,
    DataNotAvailable,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ReportRunError,
    ServerError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    WAIT_FOR_DATA,
    format_instant,
)
from airflow_provider_reportrun.protocol.models import read_instant
from airflow_provider_reportrun.secret import Secret
from airflow_provider_reportrun.text import MESSAGE, WORD, one_line, sentence

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.messages import Response

CAPACITY_CODES = "_rate_limit_exceeded"
"""
How the codes end that say that there are too many runs at once: ``report_run_rate_limit_exceeded``,
``query_run_rate_limit_exceeded``. Too many requests have the codes ``rate_limit`` or none.
"""
INACCESSIBLE_CODES = "_inaccessible"
"""
How the codes end that say that an account may not use a report, or query runs:
``report_inaccessible``, ``query_run_api_inaccessible``.
"""
SQL_CODE = "query_run_invalid_sql"
"""Of a query, whose text may hold any words."""
IDEMPOTENCY_CODE = "idempotency_error"
"""v2 sends it as ``code``, v1 as ``type``."""
KEY_IN_USE_CODE = "idempotency_key_in_use"
"""The first request under the key is still in progress."""

_IN_USE = r"(?i)\bin[- ]progress\b|\bcurrently\b.*\buse\b"
"""How older versions of the API say the same without the code."""
_NOT_YET = r"(?i)\bavailable (through|until|up to)\b|\bnot yet available\b|\bnot available yet\b"
"""
How the API says that an interval ends after its data; it has no code for that.

Source: https://github.com/mozilla/bigquery-etl/pull/2959
"""
_OF_DATA = r"(?i)\bdata\b|interval|\d{4}-\d\d-\d\d[T ]"
"""What such a refusal is about. Waiting does not help if a feature is "not yet available"."""
_THROUGH = (
    r"(?i)(through|until|up to)\W*(?P<day>\d{4}-\d\d-\d\d)[T ]"
    r"(?P<time>\d\d:\d\d:\d\d(\.\d+)?) ?(UTC|Z)"
)
_UNKNOWN_PATH = "unrecognized request url"
LONGEST_RETRY_AFTER = 86_400.0
"""Seconds; a longer value is capped, because a wait of more than a day is no hint of Stripe's."""

_DENIED = (
    "The key may not do this: it needs {needs}. A key of an organisation or platform also needs a "
    "Stripe-Context (stripe_context of the connection or the task)."
)
_NO_CONTEXT = (
    "The key has no access to the account: set another stripe_context in the connection or task."
)
_INACCESSIBLE = (
    "The account has no access: use another account (key or stripe_context), or ask Stripe."
)
_BY_STATUS: Mapping[int, tuple[type[ApiError], str]] = {
    HTTPStatus.UNAUTHORIZED: (
        AuthenticationError,
        "The API does not know this key: check the password field of the connection.",
    ),
    HTTPStatus.FORBIDDEN: (PermissionDenied, _DENIED),
    HTTPStatus.NOT_FOUND: (
        NotFound,
        "Check the id, the key and stripe_context: the API finds no {sought} in the account.",
    ),
    HTTPStatus.CONFLICT: (
        ServerError,
        "Another request on the same object is in progress; try again.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        RateLimited,
        "There are too many requests; try again later.",
    ),
}
_IDEMPOTENCY = (
    IdempotencyMismatch,
    "The idempotency key was used before with other parameters; use another idempotency_key.",
)
_CAPACITY = (
    CapacityExceeded,
    "The API key has as many report runs in progress as it may; wait until one of them ends.",
)
_INVALID = (InvalidRequest, "Correct the request.")
_PATH = (
    NotFound,
    (
        "The API does not know this path: check the connection's host, api and stripe_version, and "
        "that the account has access to this API, which may be a preview."
    ),
)
_AT_WORK = (ServerError, "An earlier request under this key is still in progress; try again.")
_SERVER = (ServerError, "The API failed; try again later.")


def read_json(response: Response, tried: str, needs: str) -> Any:
    """
    Read a successful answer.

    :param tried: what was tried, on what, for the end of the error's message: ``"create a report
        run of balance_summary"``.
    :param needs: what a restricted key needs, for the error's message: ``Call.needs``.
    :return: decoded JSON.
    :raises ApiError: if the API refused; the subclass says why.
    :raises DataNotAvailable: if it refused an interval that ends after its data.
    :raises UnexpectedAnswer: if the answer is not one of this API.
    """
    data = _decode(response)
    if response.status == HTTPStatus.OK and isinstance(data, dict):
        return data
    said = _said(data)
    is_refusal = response.status >= HTTPStatus.BAD_REQUEST
    if is_refusal and (said is not None or response.status in _OUTAGE):
        raise _refusal(response, said or _Said(), tried, needs)
    content_type = one_line(response.headers.get("Content-Type") or "no content type", 100)
    came = "other JSON than the API's" if isinstance(data, dict) else f"{content_type}, not JSON"
    raise UnexpectedAnswer(
        f"Check the connection's host, and any proxy or gateway on the way: HTTP {response.status} "
        f"came with {came}. Tried to {tried}.",
        status=response.status,
        request_id=response.request_id,
    )


_OUTAGE = frozenset({HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)})
"""Statuses that pass by themselves, in any form: a gateway does not use Stripe's error form."""


class _Said(NamedTuple):
    """The content of a refusal by Stripe."""

    code: str = ""
    message: str = ""
    type: str = ""
    param: str = ""


def _said(data: Any) -> _Said | None:
    """
    Read a refusal in Stripe's form: ``{"error": {...}}`` with text as message, code or type.

    :return: None for any other form, which a proxy or gateway on the way may have sent.
    """
    error = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict):
        return None
    found = {name: error.get(name) or "" for name in ("code", "message", "type")}
    if not any(found.values()) or not all(isinstance(each, str) for each in found.values()):
        return None
    param = error.get("param")
    return _Said(
        code=one_line(found["code"], WORD),
        message=one_line(found["message"], MESSAGE),
        type=one_line(found["type"], WORD),
        param=param if isinstance(param, str) else "",
    )


def _refusal(response: Response, said: _Said, tried: str, needs: str) -> ReportRunError:
    kind, advice = _meaning(response.status, said)
    replay = {"is_replay": True} if response.is_replay else {}
    words = ": ".join(filter(None, (said.code, said.message))) or "no message"
    came = f"The API answered {response.status} {sentence(words[:MESSAGE])} Tried to {tried}."
    if kind is InvalidRequest and _is_not_yet(said):
        return DataNotAvailable(
            f"{WAIT_FOR_DATA} {came}",
            available_through=_through(said.message),
            request_id=response.request_id,
            **replay,
        )
    facts: dict[str, Any] = {
        "status": response.status,
        "code": said.code or None,
        "request_id": response.request_id,
        "should_retry": _flag(response.headers.get("Stripe-Should-Retry")),
        "retry_after": _seconds(response.headers.get("Retry-After")),
        **replay,
    }
    if kind is PermissionDenied:
        advice = _denial(said)
        facts["context_missing"] = advice == _NO_CONTEXT
    if kind is InvalidRequest:
        facts["about"] = _about(said)
    if kind is NotFound:
        facts["unknown_path"] = advice == _PATH[1]
    sought = tried.removeprefix("get ") if tried.startswith("get ") else "such object"
    told = advice.replace("{needs}", needs).replace("{sought}", sought)
    return kind(f"{told} {came}", **facts)


def _denial(said: _Said) -> str:
    if "access account" in said.message:
        return _NO_CONTEXT
    return _INACCESSIBLE if said.code.endswith(INACCESSIBLE_CODES) else _DENIED


def _is_not_yet(said: _Said) -> bool:
    is_of_data = re.search(_OF_DATA, f"{said.param} {said.message}") is not None
    is_late = re.search(_NOT_YET, said.message) is not None
    return said.code != SQL_CODE and is_of_data and is_late


def _meaning(status: int, said: _Said) -> tuple[type[ApiError], str]:
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT}:
        if _is_in_use(said):
            return _AT_WORK
        if IDEMPOTENCY_CODE in {said.code, said.type}:
            return _IDEMPOTENCY
    if status == HTTPStatus.TOO_MANY_REQUESTS and said.code.endswith(CAPACITY_CODES):
        return _CAPACITY
    is_missing = status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}
    if is_missing and said.message.lower().startswith(_UNKNOWN_PATH):
        return _PATH
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _SERVER
    return _BY_STATUS.get(status, _INVALID)


def _is_in_use(said: _Said) -> bool:
    if said.code == KEY_IN_USE_CODE:
        return True
    is_of_keys = IDEMPOTENCY_CODE in {said.code, said.type}
    return is_of_keys and re.search(_IN_USE, said.message) is not None


def _through(message: str) -> str | None:
    found = re.search(_THROUGH, message)
    instant = read_instant(f"{found['day']}T{found['time']}Z") if found else None
    return format_instant(instant) if instant else None


def _about(said: _Said) -> str | None:
    """Return the interval bound that a refusal is about, if it is about exactly one."""
    words = said.param or said.message
    named = [bound for bound in (INTERVAL_START, INTERVAL_END) if bound in words]
    return named[0] if len(named) == 1 else None


def _decode(response: Response) -> Any:
    """Decode the body, then cut the key out; before, escapes or UTF-16 may hide it."""
    try:
        data = json.loads(response.body, object_hook=_with_url_hidden)
        key = response.api_key
        return key.cut(data) if key and key.may_be_in(_text(response.body)) else data
    except (ValueError, RecursionError):
        return None


def _text(body: bytes) -> str:
    """Decode a body as ``json.loads`` does."""
    return body.decode(json.detect_encoding(body), "surrogatepass")


def _with_url_hidden(data: dict[str, Any]) -> dict[str, Any]:
    """Wrap a result's URL while decoding, because local variables may be recorded."""
    download = data.get("download_url")
    if isinstance(download, dict) and isinstance(download.get("url"), str):
        download["url"] = Secret(download["url"])
    return data


def _flag(value: str | None) -> bool | None:
    return {"true": True, "false": False}.get((value or "").strip().lower())


def _seconds(value: str | None) -> float | None:
    """Read ``Retry-After`` in seconds; Stripe never sent its other form, a date."""
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER) if 0 <= seconds < float("inf") else None
