"""What clients of v1 send: forms, queries, versions and keys; and how v1 refuses them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zoneinfo import available_timezones

from airflow_provider_reportrun.sandbox.catalog import CURRENCIES
from airflow_provider_reportrun.sandbox.forms import BadForm, parse_form
from airflow_provider_reportrun.sandbox.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_reportrun.sandbox.generations.interface import Call

LONGEST_KEY = 255
"""Characters of an idempotency key."""

_FORM = "application/x-www-form-urlencoded"
_OLDEST_NAMED_VERSION = "2024-09-30"
_RELEASES = frozenset({"acacia", "basil", "clover", "dahlia", "endive", "preview"})
_VERSION = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.([a-z]+))?")
_INTEGER = re.compile(r"-?\d{1,15}")
_EXPANDABLE = ("result", "parameters", "data", "data.result", "data.parameters")
_SMALLEST_LIMIT, _USUAL_LIMIT, _LARGEST_LIMIT = 1, 10, 100


def read_form(call: Call) -> dict[str, Any]:
    """
    Read the form of a create request.

    :raises Problem: 400, if it is none.
    """
    media_type = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if call.body and media_type != _FORM:
        raise invalid(f"Invalid request (check that your POST content type is {_FORM}).")
    try:
        return parse_form(call.body.decode())
    except BadForm as error:
        raise invalid(str(error)) from None
    except UnicodeDecodeError:
        raise invalid("Invalid request: the body is not UTF-8.") from None


def read_query(request: Request, known: tuple[str, ...]) -> dict[str, Any]:
    """
    Read the query of a request.

    :param known: the parameters that the operation takes.
    :raises Problem: 400, for any other.
    """
    try:
        query = parse_form(request.url.query)
    except BadForm as error:
        raise invalid(str(error)) from None
    for name in query:
        if name not in known:
            raise unknown_parameter(name)
    _check_expand(query.get("expand", []))
    return query


def checked_form(form: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """
    Check what needs no knowledge of report types.

    :return: the report type and the parameters, with integers converted.
    :raises Problem: 400.
    """
    for name in form:
        if name not in ("report_type", "parameters", "expand"):
            raise unknown_parameter(name)
    _check_expand(form.get("expand", []))
    report_type = form.get("report_type")
    if report_type is None:
        raise missing("report_type")
    if not isinstance(report_type, str):
        raise invalid("Invalid string: report_type", "report_type")
    given = form.get("parameters", {})
    if not isinstance(given, dict):
        raise invalid("Invalid object: parameters", "parameters")
    return _not_empty(report_type, "report_type"), {
        name: _parameter(name, value) for name, value in given.items()
    }


def _not_empty(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {param}", param)
    if not value:
        raise Problem(
            400,
            "parameter_invalid_empty",
            f"You passed an empty string for '{param}'. Remove it or give it a value.",
            param=param,
        )
    return value


def _integer(value: Any, param: str) -> int:
    text = _not_empty(value, param)
    if not _INTEGER.fullmatch(text):
        raise Problem(
            400, "parameter_invalid_integer", f"Invalid integer: {text[:64]}", param=param
        )
    return int(text)


def _strings(value: Any, param: str) -> list[str]:
    if not isinstance(value, list):
        raise invalid(f"Invalid array: {param}", param)
    return [_not_empty(each, param) for each in value]


def _currency(value: Any, param: str) -> str:
    text = _not_empty(value, param)
    if text not in CURRENCIES:
        raise invalid(f"Invalid currency: {text[:64]}", param)
    return text


def _timezone(value: Any, param: str) -> str:
    text = _not_empty(value, param)
    if text not in available_timezones():
        raise invalid(f"Invalid {param}: must be an IANA time zone, not {text[:64]}", param)
    return text


_PARAMETERS: dict[str, Callable[[Any, str], Any]] = {
    "interval_start": _integer,
    "interval_end": _integer,
    "columns": _strings,
    "currency": _currency,
    "timezone": _timezone,
    "connected_account": _not_empty,
    "payout": _not_empty,
    "reporting_category": _not_empty,
}


def _parameter(name: str, value: Any) -> Any:
    """Check a value; a name that no type takes is refused later, with the type."""
    check = _PARAMETERS.get(name)
    return value if check is None else check(value, f"parameters[{name}]")


def _check_expand(value: Any) -> None:
    if not isinstance(value, list) or any(each not in _EXPANDABLE for each in value):
        raise invalid("This property cannot be expanded.", "expand")


def limit_of(value: Any) -> int:
    """
    Read how many items a page shall have.

    :raises Problem: 400, unless it is from 1 to 100.
    """
    if value is None:
        return _USUAL_LIMIT
    limit = _integer(value, "limit")
    if not _SMALLEST_LIMIT <= limit <= _LARGEST_LIMIT:
        raise Problem(
            400,
            "parameter_invalid_integer",
            f"`limit` must be from {_SMALLEST_LIMIT} to {_LARGEST_LIMIT}, not {limit}.",
            param="limit",
        )
    return limit


def created_filter(value: Any) -> Callable[[int], bool]:
    """
    Read ``created``, an instant or bounds of instants.

    :return: tells whether an instant is wanted; in seconds since the epoch.
    :raises Problem: 400, if something in it is unknown or no integer.
    """
    if value is None:
        return lambda _: True
    if not isinstance(value, dict):
        exact = _integer(value, "created")
        return lambda created: created == exact
    bounds = {name: _integer(each, f"created[{name}]") for name, each in value.items()}
    tests: dict[str, Callable[[int, int], bool]] = {
        "gt": lambda created, bound: created > bound,
        "gte": lambda created, bound: created >= bound,
        "lt": lambda created, bound: created < bound,
        "lte": lambda created, bound: created <= bound,
    }
    for name in bounds:
        if name not in tests:
            raise unknown_parameter(f"created[{name}]")
    return lambda created: all(tests[name](created, bound) for name, bound in bounds.items())


def is_version(version: str) -> bool:
    """Return whether there is such a version: a plain date until 2024, a named one after that."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return False
    day, release = found[1], found[2]
    return release in _RELEASES if release else day < _OLDEST_NAMED_VERSION


def idempotency_key(request: Request) -> str | None:
    """
    Read the idempotency key of a request.

    :raises Problem: 400, for a key that is empty or too long.
    """
    key: str | None = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise invalid(f"The idempotency key must have 1 to {LONGEST_KEY} characters.")
    return key


def invalid(message: str, param: str | None = None) -> Problem:
    """Return a refusal without a code."""
    return Problem(400, None, message, param=param)


def missing(param: str) -> Problem:
    """Return the refusal of a request without a parameter that it needs."""
    return Problem(400, "parameter_missing", f"Missing required param: {param}.", param=param)


def unknown_parameter(param: str) -> Problem:
    """Return the refusal of a parameter that is not taken."""
    message = f"Received unknown parameter: {param[:255]}"
    return Problem(400, "parameter_unknown", message, param=param[:255])


def no_such(noun: str, name: str, param: str | None = None) -> Problem:
    """
    Return the refusal of an unknown id.

    :param param: the parameter that has it; None for the path.
    """
    message = f"No such {noun}: '{name[:255]}'"
    return Problem(404, "resource_missing", message, param=param or "id")
