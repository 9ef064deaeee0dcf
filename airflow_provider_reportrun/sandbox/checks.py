"""Checks of create requests; each refusal names the wrong field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from airflow_provider_reportrun.sandbox.catalog import (
    CATALOG,
    Parameter,
    ReportDefinition,
    Window,
    is_metadata,
)
from airflow_provider_reportrun.sandbox.clock import in_words
from airflow_provider_reportrun.sandbox.problems import Problem, invalid_fields

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)")
_FIELDS = ("report", "report_parameters", "result_options")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A valid create request."""

    definition: ReportDefinition
    report_parameters: dict[str, Any]
    compress_file: bool


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


def check_new_run(body: dict[str, Any], window: Window) -> NewRun:
    """
    Validate the body of a create request.

    :param body: the parsed JSON object.
    :param window: the data that is available now.
    :raises Problem: 400 ``invalid_fields``, or 403 for an inaccessible report.
    """
    for name in body:
        if name not in _FIELDS:
            raise invalid_fields(f"Unknown field `{name}`.")
    definition = _definition(body.get("report"))
    parameters = body.get("report_parameters")
    if parameters is None:
        raise invalid_fields("Missing required field `report_parameters`.")
    if not isinstance(parameters, dict):
        raise invalid_fields("`report_parameters` must be an object.")
    _check_parameters(definition, parameters)
    _check_interval(definition, parameters, window)
    return NewRun(
        definition=definition,
        report_parameters=parameters,
        compress_file=_compress_file(body.get("result_options", {})),
    )


def accessible(report_id: str) -> ReportDefinition | None:
    """
    Look up a report.

    :return: None if there is no such report.
    :raises Problem: 403 if the caller may not use it.
    """
    definition = CATALOG.get(report_id)
    if definition is not None and not definition.accessible:
        raise Problem(
            403,
            "report_inaccessible",
            f"The report {report_id} is not available to your account.",
        )
    return definition


def _definition(report: object) -> ReportDefinition:
    if report is None:
        raise invalid_fields("Missing required field `report`.")
    if not isinstance(report, str):
        raise invalid_fields("`report` must be a string.")
    definition = accessible(report)
    if definition is None:
        raise invalid_fields(f"`report` names no report: {report[:255]}.")
    return definition


def _compress_file(options: object) -> bool:
    if not isinstance(options, dict):
        raise invalid_fields("`result_options` must be an object.")
    for name in options:
        if name != "compress_file":
            raise invalid_fields(f"Unknown field `result_options.{name}`.")
    wanted = options.get("compress_file")
    if wanted is not None and not isinstance(wanted, bool):
        raise invalid_fields("`result_options.compress_file` must be a boolean.")
    return bool(wanted)


def _check_parameters(definition: ReportDefinition, given: dict[str, Any]) -> None:
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


def _check_interval(definition: ReportDefinition, given: dict[str, Any], window: Window) -> None:
    interval = interval_of(given)
    if interval is None:
        return
    if "interval_start" in given and interval.start >= interval.end:
        raise invalid_fields("`interval_start` must be before `interval_end`.")
    if not any(parameter.windowed for parameter in definition.parameters):
        return
    about = f"Data for the report type {definition.id} is only available"
    if interval.start < window.start:
        raise invalid_fields(
            f"{about} starting at {in_words(window.start)}; "
            f"you requested `interval_start` = {in_words(interval.start)}."
        )
    if interval.end > window.end:
        raise invalid_fields(
            f"{about} through {in_words(window.end)}; "
            f"you requested `interval_end` = {in_words(interval.end)}."
        )
