"""
Everything that can go wrong, as one tree that knows nothing of Airflow.

::

    ReportRunError
    ├── InvalidInput            an argument, a connection or an interval cannot be used
    ├── TransportError          no (whole) answer came back
    ├── ApiError                the API refused
    │   ├── AuthenticationError 401: the key
    │   ├── PermissionDenied    403: what the key may do, or Stripe-Context
    │   ├── NotFound            404: no such report or report run
    │   │   └── ResultGone      404, 410: the file of a report run is no longer there
    │   ├── InvalidRequest      400, 415 and other 4xx: what was sent
    │   ├── IdempotencyMismatch 409: the same key with other parameters
    │   ├── RateLimited         429: too many requests, or locked for a moment
    │   ├── CapacityExceeded    429: too many report runs at once for this key
    │   └── ServerError         5xx, and another request at work on the same thing (409, 400)
    ├── UnexpectedAnswer        something answered that does not speak this API
    ├── DataNotAvailable        the API does not hold the interval's data yet
    ├── DataWindowUnknown       the API does not say which data a report has
    ├── ReportRunFailed         the report run ended in ``failed``
    ├── DeadlinePassed          the time given for waiting is over
    ├── DownloadRefused         a result URL that must not be followed
    ├── ResultCorrupt           a result file is not what was announced
    ├── ResultEmpty             a result has no rows, and that was to be an error
    ├── ConversionFailed        a result file does not fit the format that was asked for
    ├── LandingExists           something stands at the destination already
    ├── LandingFailed           the destination could not be written
    └── BadTriggerEvent         a task was resumed with an event that cannot be understood

Each error says in ``transient`` whether asking again later could help.
How an error leaves a task (retried, failed for good, skipped) is decided in ``task/outcomes.py``.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from airflow_provider_reportrun.text import encodable, plain, shown


class ReportRunError(Exception):
    """
    Base of all errors of this package.

    :param message: what was tried, on which noun, what came back, what to do.
    :param facts: values for the attributes that the class declares; nothing else is taken.

    Every error survives pickling, and ``to_json``/``from_json``, with its facts.
    """

    transient: bool = False
    """Whether asking again later could help."""
    request_id: str | None = None
    """The ``Request-Id`` of the answer, which Stripe's support asks for."""
    report_run_id: str | None = None
    """The report run that this is about, where there is one."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(encodable(message))
        for name, value in facts.items():
            if name not in self.fact_names():
                raise TypeError(f"{type(self).__name__} has no fact {name!r}")
            setattr(self, name, encodable(value) if isinstance(value, str) else value)

    @classmethod
    def fact_names(cls) -> frozenset[str]:
        """Give the names of the attributes that the class and its bases declare."""
        declared = (vars(each).get("__annotations__", {}) for each in cls.__mro__)
        return frozenset(name for names in declared for name in names)

    @property
    def message(self) -> str:
        """The message without the request id."""
        return str(self.args[0])

    @property
    def facts(self) -> dict[str, Any]:
        """The attributes that differ from the class, as JSON values."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __str__(self) -> str:
        if self.request_id and self.request_id not in self.message:
            return f"{self.message} (Request-Id: {self.request_id})"
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self.message, self.facts)


def rebuild(kind: type[ReportRunError], message: str, facts: dict[str, Any]) -> ReportRunError:
    """Make an error again from its parts, as pickle does."""
    return kind(message, **facts)


class InvalidInput(ReportRunError):
    """An argument, a connection field or an interval cannot be used; nothing was sent."""


class TransportError(ReportRunError):
    """No whole answer came back: refused, timed out, cut off, or TLS failed."""

    transient = True


class ApiError(ReportRunError):
    """The API answered with an error."""

    status: int | None = None
    """HTTP status."""
    code: str | None = None
    """The API's own short code; Stripe says not to build on it, so little here does."""
    should_retry: bool | None = None
    """``Stripe-Should-Retry``, where the answer had it."""
    retry_after: float | None = None
    """``Retry-After`` in seconds, where the answer had it."""


class AuthenticationError(ApiError):
    """The API does not know the key (401)."""


class PermissionDenied(ApiError):
    """The key may not do this, or needs a ``Stripe-Context`` (403)."""

    context_missing: bool = False
    """Whether the answer reads as if only ``Stripe-Context`` were missing."""


class NotFound(ApiError):
    """No such report or report run for this key and account (404)."""

    unknown_path: bool = False
    """Whether the API knows no such path: for this version, or this account."""


class ResultGone(NotFound):
    """The file of a report run that succeeded is no longer there (404, 410 of its host)."""


class InvalidRequest(ApiError):
    """The API does not take what was sent (400, 415 and other 4xx)."""

    about: str | None = None
    """``interval_start`` or ``interval_end``, where the refusal names that one of the two."""


class IdempotencyMismatch(ApiError):
    """The idempotency key was used before with other parameters (409)."""


class RateLimited(ApiError):
    """Too many requests, or a lock held for a moment (429)."""

    transient = True


class CapacityExceeded(ApiError):
    """The key has as many report runs going as it may (429 ``report_run_rate_limit_exceeded``)."""

    transient = True


class ServerError(ApiError):
    """The API failed (5xx), or is still at work on the same thing (409, 400)."""

    transient = True

    @property
    def is_conflict(self) -> bool:
        """Whether another request is at work, perhaps an earlier one under the same key."""
        return self.status is not None and self.status < HTTPStatus.INTERNAL_SERVER_ERROR


class UnexpectedAnswer(ReportRunError):
    """Something answered that does not speak this API, such as a proxy or gateway on the way."""

    transient = True
    status: int | None = None
    """HTTP status."""


class DataNotAvailable(ReportRunError):
    """The API does not hold all of the interval's data yet."""

    transient = True
    available_through: str | None = None
    """The instant up to which it holds data, RFC 3339 in UTC."""


class DataWindowUnknown(ReportRunError):
    """The API does not say up to which instant a report has data, so that cannot be waited for."""


class ReportRunFailed(ReportRunError):
    """A report run ended in ``failed``; the HTTP side was fine."""

    error_code: str | None = None
    """``status_details.failed.error_code``, such as ``internal_error``."""
    error_message: str | None = None
    """``status_details.failed.error_message``."""


class DeadlinePassed(ReportRunError):
    """The time given for waiting is over; the report run, if there is one, goes on at Stripe."""


class DownloadRefused(ReportRunError):
    """A result URL, or a redirect, points where the download must not go."""

    host: str | None = None
    """The host that was refused; never the whole URL, which is a credential."""


class ResultCorrupt(ReportRunError):
    """A result file is not what the API announced; nothing was published."""

    transient = True


class ResultEmpty(ReportRunError):
    """A result has no rows, and ``if_empty`` is ``"fail"``; nothing was published."""

    uri: str | None = None
    """The destination, without a connection id."""


class ConversionFailed(ReportRunError):
    """A result file cannot be converted as it was asked for; nothing was published."""

    column: str | None = None
    """The column whose value does not fit."""
    row: int | None = None
    """The number of the row, from 1, not counting the header."""


class LandingExists(ReportRunError):
    """Something stands at the destination, and ``if_exists`` is ``"fail"``."""

    uri: str | None = None
    """The destination, without a connection id."""


class LandingFailed(ReportRunError):
    """The destination or the spool could not be written; nothing was published."""

    transient = True
    uri: str | None = None
    """The destination, without a connection id."""


class BadTriggerEvent(ReportRunError):
    """A task was resumed with no event, or with one that it cannot understand."""


def to_json(error: ReportRunError) -> dict[str, Any]:
    """
    Turn an error into JSON values, to cross from the triggerer to a worker.

    :return: ``kind``, ``message`` and ``facts``.
    """
    return {"kind": type(error).__name__, "message": error.message, "facts": plain(error.facts)}


def from_json(data: Any) -> ReportRunError:
    """
    Make the error again from what ``to_json`` returned.

    A kind that this version does not know becomes a plain ``ReportRunError``: the row may come from
    a newer version.

    :raises BadTriggerEvent: when ``data`` is not of that form.
    """
    match data:
        case {"kind": str(kind), "message": str(message), "facts": dict(facts)}:
            known = _kind(kind)
            good = {k: plain(v) for k, v in facts.items() if _is_fact(known, k, v)}
            return known(plain(message), **good)
        case _:
            raise BadTriggerEvent(
                f"A trigger event carries an error that cannot be read: {shown(data)}"
            )


_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
}


def _is_fact(kind: type[ReportRunError], name: str, value: Any) -> bool:
    """Tell whether a class declares a fact of such a name and type."""
    declared = (vars(each).get("__annotations__", {}).get(name) for each in kind.__mro__)
    types = [each.partition(" ")[0] for each in declared if each]
    return bool(types) and isinstance(value, _TYPES[types[0]])


def _kind(name: str) -> type[ReportRunError]:
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, ReportRunError):
        return found
    return ReportRunError
