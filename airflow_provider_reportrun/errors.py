"""
All errors of this package, as one tree that does not depend on Airflow.

::

    ReportRunError
    ├── InvalidInput            an argument, a connection or an interval cannot be used
    ├── TransportError          no answer, or only part of one, came back
    ├── ApiError                the API refused
    │   ├── AuthenticationError 401: the key
    │   ├── PermissionDenied    403: what the key may do, or Stripe-Context
    │   ├── NotFound            404: no such report or report run
    │   │   └── ResultGone      404, 410: the file of a report run no longer exists
    │   ├── InvalidRequest      400, 415 and other 4xx: what was sent
    │   ├── IdempotencyMismatch 409: the same key with other parameters
    │   ├── RateLimited         429: too many requests, or locked for a moment
    │   ├── CapacityExceeded    429: too many report runs at once for this key
    │   └── ServerError         5xx, and conflicts with another request (409, 400)
    ├── UnexpectedAnswer        the answer is not one of this API
    ├── DataNotAvailable        the API does not hold the interval's data yet
    ├── DataWindowUnknown       the API does not say which data a report has
    ├── ReportRunFailed         the report run ended in ``failed``
    │   └── ReportRunCanceled   or in ``canceled``
    ├── DeadlinePassed          the wait reached its deadline
    ├── DownloadRefused         a result URL must not be followed
    ├── ResultCorrupt           a result file differs from what was announced
    ├── ResultEmpty             a result has no rows, and ``if_empty`` is ``"fail"``
    ├── ConversionFailed        a result file does not fit the requested format
    ├── LandingExists           the destination already exists
    ├── LandingFailed           the destination could not be written
    └── BadTriggerEvent         a task was resumed with an event that cannot be read

Each error says in ``transient`` whether trying again later could help.
``task/outcomes.py`` decides how an error leaves a task: retried, failed for good, or skipped.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from airflow_provider_reportrun.text import encodable, plain, shown


class ReportRunError(Exception):
    """
    Base of all errors of this package.

    :param message: what was tried, on what, what came back, and what to do.
    :param facts: values of attributes that the class declares; others raise ``TypeError``.

    Every error keeps its facts through pickling and through ``to_json`` and ``from_json``.
    """

    transient: bool = False
    """Whether trying again later could help."""
    request_id: str | None = None
    """The ``Request-Id`` of the answer, which Stripe's support asks for."""
    report_run_id: str | None = None
    """The report run that the error is about, if there is one."""
    is_replay: bool = False
    """Whether the API repeated the error of an earlier request with the same idempotency key."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(encodable(message))
        for name, value in facts.items():
            if name not in self.fact_names():
                raise TypeError(f"{type(self).__name__} has no fact {name!r}")
            setattr(self, name, encodable(value) if isinstance(value, str) else value)

    @classmethod
    def fact_names(cls) -> frozenset[str]:
        """Return the names of the attributes that the class and its bases declare."""
        declared = (vars(each).get("__annotations__", {}) for each in cls.__mro__)
        return frozenset(name for names in declared for name in names)

    @property
    def message(self) -> str:
        """The message without the request id."""
        return str(self.args[0])

    @property
    def facts(self) -> dict[str, Any]:
        """The attributes that were set on this error, as JSON values."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __str__(self) -> str:
        if self.request_id and self.request_id not in self.message:
            return f"{self.message} (Request-Id: {self.request_id})"
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self.message, self.facts)


def rebuild(kind: type[ReportRunError], message: str, facts: dict[str, Any]) -> ReportRunError:
    """Rebuild an error from its parts, for pickle."""
    return kind(message, **facts)


class InvalidInput(ReportRunError):
    """An argument, a connection field or an interval cannot be used; nothing was sent."""


class TransportError(ReportRunError):
    """No whole answer came back: the connection was refused, timed out, cut off, or TLS failed."""

    transient = True


class ApiError(ReportRunError):
    """The API answered with an error."""

    status: int | None = None
    """HTTP status."""
    code: str | None = None
    """The API's error code; Stripe advises not to rely on it, so little here does."""
    should_retry: bool | None = None
    """``Stripe-Should-Retry``, if the answer had it."""
    retry_after: float | None = None
    """``Retry-After`` in seconds, if the answer had it."""


class AuthenticationError(ApiError):
    """The API does not know the key (401)."""


class PermissionDenied(ApiError):
    """The key may not do this, or needs a ``Stripe-Context`` (403)."""

    context_missing: bool = False
    """Whether the answer suggests that only ``Stripe-Context`` is missing."""


class NotFound(ApiError):
    """No such report or report run for this key and account (404)."""

    unknown_path: bool = False
    """Whether the API does not know the path, for this version or this account."""


class ResultGone(NotFound):
    """The file of a succeeded report run no longer exists (404 or 410 from its host)."""


class InvalidRequest(ApiError):
    """The API does not accept what was sent (400, 415 and other 4xx)."""

    about: str | None = None
    """``interval_start`` or ``interval_end``, if the refusal names exactly one of them."""


class IdempotencyMismatch(ApiError):
    """The idempotency key was already used with other parameters (409)."""


class RateLimited(ApiError):
    """Too many requests, or an object is locked for a moment (429)."""

    transient = True


class CapacityExceeded(ApiError):
    """The key is at its limit of parallel report runs (429 ``report_run_rate_limit_exceeded``)."""

    transient = True


class ServerError(ApiError):
    """The API failed (5xx), or still handles a conflicting request (409, 400)."""

    transient = True

    @property
    def is_conflict(self) -> bool:
        """Whether another request conflicts, perhaps an earlier one under the same key."""
        return self.status is not None and self.status < HTTPStatus.INTERNAL_SERVER_ERROR


class UnexpectedAnswer(ReportRunError):
    """The answer is not one of this API; it may come from a proxy or gateway on the way."""

    transient = True
    status: int | None = None
    """HTTP status."""


class DataNotAvailable(ReportRunError):
    """The API does not hold all of the interval's data yet."""

    transient = True
    available_through: str | None = None
    """The instant up to which the API holds data, RFC 3339 in UTC."""


class DataWindowUnknown(ReportRunError):
    """The API does not say up to which instant a report has data, so a task cannot wait for it."""


class ReportRunFailed(ReportRunError):
    """A report run ended in ``failed``; the requests themselves succeeded."""

    error_code: str | None = None
    """``status_details.failed.error_code``, such as ``internal_error``."""
    error_message: str | None = None
    """``status_details.failed.error_message``."""


class ReportRunCanceled(ReportRunFailed):
    """A report run was canceled at Stripe, on purpose: no other one is created in its place."""


class DeadlinePassed(ReportRunError):
    """The wait reached its deadline; the report run, if there is one, continues at Stripe."""


class DownloadRefused(ReportRunError):
    """A result URL or a redirect points to a host that is not allowed."""

    host: str | None = None
    """The host that was refused; never the whole URL, which is a credential."""


class ResultCorrupt(ReportRunError):
    """A result file differs from what the API announced; nothing was published."""

    transient = True


class ResultEmpty(ReportRunError):
    """A result has no rows, and ``if_empty`` is ``"fail"``; nothing was published."""

    uri: str | None = None
    """The destination, without a connection id."""


class ConversionFailed(ReportRunError):
    """A result file cannot be converted to the requested format; nothing was published."""

    column: str | None = None
    """The column whose value does not fit."""
    row: int | None = None
    """The number of the row, from 1, not counting the header."""


class LandingExists(ReportRunError):
    """The destination already exists, and ``if_exists`` is ``"fail"``."""

    uri: str | None = None
    """The destination, without a connection id."""


class LandingFailed(ReportRunError):
    """The destination or the spool could not be written; nothing was published."""

    transient = True
    uri: str | None = None
    """The destination, without a connection id."""


class BadTriggerEvent(ReportRunError):
    """A task was resumed without an event, or with one that it cannot read."""


def to_json(error: ReportRunError) -> dict[str, Any]:
    """
    Turn an error into JSON values, to send it from the triggerer to a worker.

    :return: ``kind``, ``message`` and ``facts``.
    """
    return {"kind": type(error).__name__, "message": error.message, "facts": plain(error.facts)}


def from_json(data: Any) -> ReportRunError:
    """
    Rebuild the error that ``to_json`` turned into ``data``.

    A kind that this version does not know becomes a plain ``ReportRunError``, because the event may
    come from a newer version.

    :raises BadTriggerEvent: if ``data`` does not have that form.
    """
    match data:
        case {"kind": str(kind), "message": str(message), "facts": dict(facts)}:
            known = _kind(kind)
            good = {k: plain(v) for k, v in facts.items() if _is_fact(known, k, v)}
            return known(plain(message), **good)
        case _:
            raise BadTriggerEvent(
                "A trigger event contains an error that cannot be read. Clear the task to start it "
                f"again. The event is {shown(data)}"
            )


_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
}


def _is_fact(kind: type[ReportRunError], name: str, value: Any) -> bool:
    """Tell whether a class declares a fact with this name and the value's type."""
    declared = (vars(each).get("__annotations__", {}).get(name) for each in kind.__mro__)
    types = [each.partition(" ")[0] for each in declared if each]
    return bool(types) and isinstance(value, _TYPES[types[0]])


def _kind(name: str) -> type[ReportRunError]:
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, ReportRunError):
        return found
    return ReportRunError
