"""The errors that the API answers with, as exceptions that the routes turn into JSON."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """
    An error answer.

    :param status: the HTTP status.
    :param code: ``error.code``; the v2 schema wants one in every error.
    :param message: ``error.message``.
    :param kind: ``error.type``, which most v2 errors do not carry.
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
    """Refuse a value that the caller sent."""
    return Problem(400, "invalid_fields", message)


def not_found() -> Problem:
    """Know nothing of the resource, or nothing that this account may see."""
    return Problem(404, "not_found", "The resource wasn't found.")


def permission_denied(message: str) -> Problem:
    """Refuse a key that is known and may not do this."""
    return Problem(403, "permission_denied", message, "invalid_request_error")


def too_many_runs() -> Problem:
    """Refuse one more report run while the key's limit of running ones is reached."""
    return Problem(
        429,
        "report_run_rate_limit_exceeded",
        "This API key has reached its limit of concurrently running reports. "
        "Wait for existing reports to complete before retrying the request.",
        "rate_limit",
    )


def other_parameters() -> Problem:
    """Refuse a known idempotency key that comes with another body."""
    return Problem(
        409,
        "idempotency_error",
        "An idempotent retry occurred with different request parameters.",
    )
