"""The API's error answers, as exceptions that the routes turn into JSON."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """
    An error answer.

    :param status: the HTTP status.
    :param code: ``error.code``; the v2 schema requires one in every error.
    :param message: ``error.message``.
    :param kind: ``error.type``, which most v2 errors do not have.
    """

    def __init__(self, status: int, code: str, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.kind = kind

    def as_json(self) -> dict[str, Any]:
        """Build the body of the answer."""
        error = {"code": self.code, "message": self.message}
        if self.kind is not None:
            error["type"] = self.kind
        return {"error": error}


def invalid_fields(message: str) -> Problem:
    """Return the refusal of a value that the caller sent."""
    return Problem(400, "invalid_fields", message)


def not_found() -> Problem:
    """Return the refusal of an id that the account does not have."""
    return Problem(404, "not_found", "The resource wasn't found.")


def permission_denied(message: str) -> Problem:
    """Return the refusal of a known key that lacks a permission."""
    return Problem(403, "permission_denied", message, "invalid_request_error")


def too_many_runs() -> Problem:
    """Return the refusal of a run above the key's limit of concurrent runs."""
    return Problem(
        429,
        "report_run_rate_limit_exceeded",
        "This API key has reached its limit of concurrently running reports. "
        "Wait for existing reports to complete before retrying the request.",
        "rate_limit",
    )


def other_parameters() -> Problem:
    """Return the refusal of a known idempotency key with another body."""
    return Problem(
        409,
        "idempotency_error",
        "An idempotent retry occurred with different request parameters.",
    )
