"""The API's error answers, as exceptions that each generation turns into its own JSON."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """
    An error answer.

    :param status: the HTTP status.
    :param code: ``error.code``; the v2 schema requires one in every error, and v1 has few.
    :param message: ``error.message``.
    :param kind: ``error.type``, which most v2 errors do not have and v1 requires.
    :param param: ``error.param``, the parameter that v1 refuses.
    :param should_retry: the header ``Stripe-Should-Retry``; None for none.
    """

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        kind: str | None = None,
        *,
        param: str | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.kind = kind
        self.param = param
        self.should_retry = should_retry

    def as_json(self) -> dict[str, Any]:
        """Build the body of the answer as v2 does."""
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


def unknown_url(method: str, path: str) -> Problem:
    """Return the refusal of a URL that the API does not have."""
    return Problem(
        404,
        "not_found",
        f"Unrecognized request URL ({method}: {path}).",
        "invalid_request_error",
    )
