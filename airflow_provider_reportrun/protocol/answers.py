"""Tell a good answer from a refusal, and make of a refusal the error that it means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_reportrun.errors import (
    ApiError,
    AuthenticationError,
    CapacityExceeded,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.secret import Secret

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.messages import Response

CAPACITY_CODE = "report_run_rate_limit_exceeded"
IDEMPOTENCY_CODE = "idempotency_error"
"""Sent as ``code`` by v2 and as ``type`` by v1."""

_LONGEST_MESSAGE = 500

_BY_STATUS: Mapping[int, tuple[type[ApiError], str]] = {
    401: (AuthenticationError, "Check the API key in the connection's password field."),
    403: (
        PermissionDenied,
        (
            "A restricted key needs reporting_read to read and reporting_write to create; "
            "a key of an organisation or platform also needs a Stripe-Context "
            "(stripe_context of the connection or the task)."
        ),
    ),
    404: (
        NotFound,
        "Check the id, and that key and Stripe-Context belong to the account that has it.",
    ),
    409: (ServerError, "Another request was at work on the same thing; ask again."),
    429: (RateLimited, "The API limits requests for a while; asking again later helps."),
}
_IDEMPOTENCY = (
    IdempotencyMismatch,
    "The idempotency key was used before with other parameters; give another idempotency_key.",
)
_CAPACITY = (
    CapacityExceeded,
    "The API key has as many report runs going as it may; wait until one of them ends.",
)
_INVALID = (InvalidRequest, "Correct what the message names.")
_SERVER = (ServerError, "The fault is on the API's side; asking again later helps.")


def read_json(response: Response, tried: str) -> Any:
    """
    Read a good answer.

    :param tried: what was asked for, on which noun, for the error's message: ``"create a report run
        of balance_summary"``.
    :return: decoded JSON.
    :raises ApiError: when the API refused; the leaf says why.
    :raises UnexpectedAnswer: when this is not the API speaking.
    """
    data = _decode(response)
    if response.status == 200 and isinstance(data, dict):  # noqa: PLR2004
        return data
    if response.status >= 400 and (isinstance(data, dict) or response.status in _OUTAGE):  # noqa: PLR2004
        raise _refusal(response, data if isinstance(data, dict) else {}, tried)
    content_type = (response.headers.get("Content-Type") or "no content type")[:100]
    raise UnexpectedAnswer(
        f"Tried to {tried}: something answered HTTP {response.status} with {content_type} in place "
        "of the API's JSON. Check the connection's host, and any proxy on the way.",
        status=response.status,
        request_id=response.request_id,
    )


_OUTAGE = frozenset({401, 429, *range(500, 600)})
"""What a gateway in front of the API may answer without JSON."""


def _refusal(response: Response, data: Mapping[str, Any], tried: str) -> ApiError:
    detail = data.get("error")
    error: Mapping[str, Any] = detail if isinstance(detail, dict) else {}
    code, message = str(error.get("code") or ""), str(error.get("message") or "")
    kind, advice = _meaning(response.status, code, str(error.get("type") or ""))
    said = f"{code}: {message}" if code and message else code or message or "no message"
    facts: dict[str, Any] = {
        "status": response.status,
        "code": code or None,
        "request_id": response.request_id,
        "should_retry": _flag(response.headers.get("Stripe-Should-Retry")),
        "retry_after": _seconds(response.headers.get("Retry-After")),
    }
    if kind is PermissionDenied:
        facts["context_missing"] = "access account" in message
    return kind(
        f"Tried to {tried}: the API answered {response.status} {said[:_LONGEST_MESSAGE]} {advice}",
        **facts,
    )


def _meaning(status: int, code: str, error_type: str) -> tuple[type[ApiError], str]:
    if status in {400, 409} and IDEMPOTENCY_CODE in {code, error_type}:
        return _IDEMPOTENCY
    if status == 429 and code == CAPACITY_CODE:  # noqa: PLR2004
        return _CAPACITY
    if status >= 500:  # noqa: PLR2004
        return _SERVER
    return _BY_STATUS.get(status, _INVALID)


def _decode(response: Response) -> Any:
    """Decode the body, and cut the key out after that: escapes and UTF-16 may hide it before."""
    try:
        data = json.loads(response.body, object_hook=_with_url_hidden)
        return response.api_key.cut(data) if response.api_key else data
    except (ValueError, RecursionError):
        return None


def _with_url_hidden(data: dict[str, Any]) -> dict[str, Any]:
    """Wrap a result's URL at once: whoever reads the answer keeps it in local variables."""
    download = data.get("download_url")
    if isinstance(download, dict) and isinstance(download.get("url"), str):
        download["url"] = Secret(download["url"])
    return data


def _flag(value: str | None) -> bool | None:
    return {"true": True, "false": False}.get((value or "").strip().lower())


def _seconds(value: str | None) -> float | None:
    """Read ``Retry-After`` in seconds; its other form, a date, Stripe never sent."""
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
