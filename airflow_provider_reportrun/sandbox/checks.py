"""Checks of report parameters, as both generations of v2 write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from airflow_provider_reportrun.sandbox.catalog import (
    Parameter,
    ReportDefinition,
    Window,
    is_metadata,
)
from airflow_provider_reportrun.sandbox.problems import invalid_fields
from airflow_provider_reportrun.sandbox.state import Selection

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)")


def parse_timestamp(text: str) -> datetime | None:
    """
    Read an RFC 3339 instant in UTC, to the microsecond.

    :return: None for anything else, an offset other than zero included: it is not documented
        whether the API accepts those, so clients should not rely on it.
    """
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    try:
        moment = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return moment + timedelta(microseconds=int((found[2] or "").ljust(9, "0")) // 1000)


def check_parameters(definition: ReportDefinition, given: object, field: str) -> dict[str, Any]:
    """
    Check the parameters of a report.

    :param given: what the request has in their place.
    :param field: the name of that field.
    :return: the parameters, unchanged.
    :raises Problem: 400 ``invalid_fields``, which names the field or parameter that is wrong.
    """
    if given is None:
        raise invalid_fields(f"Missing required field `{field}`.")
    if not isinstance(given, dict):
        raise invalid_fields(f"`{field}` must be an object.")
    _check_values(definition, given)
    interval = interval_of(given)
    if interval is not None and "interval_start" in given and interval.start >= interval.end:
        raise invalid_fields("`interval_start` must be before `interval_end`.")
    return given


def check_fields(body: dict[str, Any], known: tuple[str, ...], within: str = "") -> None:
    """
    Refuse a field that the API does not know.

    :param within: the name of the object that has the fields, with a dot at its end.
    :raises Problem: 400 ``invalid_fields``.
    """
    for name in body:
        if name not in known:
            raise invalid_fields(f"Unknown field `{within}{name}`.")


def compress_file(options: object) -> bool:
    """
    Read ``result_options`` with ``compress_file``.

    :raises Problem: 400 ``invalid_fields``.
    """
    if not isinstance(options, dict):
        raise invalid_fields("`result_options` must be an object.")
    check_fields(options, ("compress_file",), "result_options.")
    wanted = options.get("compress_file")
    if wanted is not None and not isinstance(wanted, bool):
        raise invalid_fields("`result_options.compress_file` must be a boolean.")
    return bool(wanted)


def _check_values(definition: ReportDefinition, given: dict[str, Any]) -> None:
    known = {parameter.name: parameter for parameter in definition.parameters}
    for name, value in given.items():
        if name not in known:
            raise invalid_fields(f"`{name}` is not a parameter of the report {definition.id}.")
        _check_value(known[name], value)
    for parameter in definition.parameters:
        if parameter.required and parameter.name not in given:
            raise invalid_fields(
                f"Missing required parameter `{parameter.name}` of the report {definition.id}."
            )


def _check_value(parameter: Parameter, value: object) -> None:
    name = parameter.name
    if parameter.type == "array":
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise invalid_fields(f"`{name}` must be an array of strings.")
        if not value:
            raise invalid_fields(f"`{name}` must not be empty.")
        _check_allowed(parameter, value)
        return
    if not isinstance(value, str):
        raise invalid_fields(f"`{name}` must be a string.")
    if parameter.type == "enum":
        _check_allowed(parameter, [value])
    elif parameter.type == "timestamp" and parse_timestamp(value) is None:
        raise invalid_fields(
            f"`{name}` must be an RFC 3339 date & time value in UTC, "
            "for example: 2022-09-18T13:22:00Z."
        )
    elif name == "timezone":
        _check_timezone(value)


def _check_allowed(parameter: Parameter, values: list[str]) -> None:
    for value in values:
        if parameter.type == "array" and is_metadata(value):
            continue
        if value not in parameter.allowed_values:
            raise invalid_fields(
                f"`{parameter.name}` does not accept {value[:255]!r}. "
                f"Allowed values: {', '.join(parameter.allowed_values)}."
            )


def _check_timezone(value: str) -> None:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise invalid_fields(f"`timezone` names no time zone: {value[:255]}.") from None


def interval_of(report_parameters: dict[str, Any]) -> Window | None:
    """
    Read the interval from valid parameters.

    :return: an empty interval if there is only an end; None if there is no bound at all.
    """
    if "interval_end" not in report_parameters:
        return None
    end = parse_timestamp(report_parameters["interval_end"])
    start = parse_timestamp(report_parameters.get("interval_start", ""))
    if end is None:
        raise invalid_fields("`interval_end` must be a timestamp.")
    return Window(start or end, end)


def selection_of(definition: ReportDefinition, parameters: dict[str, Any]) -> Selection:
    """Return the rows that valid parameters ask for."""
    return Selection(
        view=definition.id,
        columns=definition.chosen_columns(parameters),
        interval=interval_of(parameters),
        payout=parameters.get("payout", ""),
        currency=parameters.get("currency"),
        category=parameters.get("reporting_category"),
        zone=parameters.get("timezone", "Etc/UTC"),
    )
