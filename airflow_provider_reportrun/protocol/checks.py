"""Compare parameters with a report's definition, before a report run is spent on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_reportrun.errors import DataNotAvailable, DataWindowUnknown, InvalidInput
from airflow_provider_reportrun.protocol.finding import near, unknown
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    WAIT_FOR_DATA,
    format_instant,
)
from airflow_provider_reportrun.protocol.models import Report, ReportParameter, read_instant
from airflow_provider_reportrun.text import sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

_MOST_VALUES_NAMED = 20


def available_through(report: Report) -> datetime:
    """
    Return the latest instant at which an interval of the report may end now.

    :param report: just fetched; an old copy describes the past.
    :return: UTC.
    :raises DataWindowUnknown: if the report does not name that instant.

    Source: Stripe OpenAPI, ``v2.reporting.report``, ``parameters.*.timestamp_details.max``.
    """
    parameter = report.parameters.get(INTERVAL_END)
    if parameter is None or parameter.latest is None:
        raise DataWindowUnknown(
            "Use wait_for_data=True of an operator: the report does not say up to when it has data."
            f" The definition of {report.id} has no timestamp_details.max for interval_end."
        )
    return parameter.latest


def is_covered(report: Report, interval_end: datetime) -> bool:
    """
    Tell whether the API already holds every record of an interval.

    The API refuses an interval that ends after its data. So a task waits for this, and not for a
    time of day.

    :param report: just fetched; an old copy describes the past.
    :param interval_end: aware; the instant after the last of the interval.
    :raises DataWindowUnknown: if the report does not name its latest instant.
    """
    return interval_end <= available_through(report)


def not_available(report: Report, interval_end: datetime) -> DataNotAvailable:
    """Return the error for an interval that ends after the data."""
    through = format_instant(available_through(report))
    return DataNotAvailable(
        f"{WAIT_FOR_DATA} The report {report.id} has data up to {through}, and interval_end is "
        f"{format_instant(interval_end)}.",
        available_through=through,
    )


def check_parameters(report: Report, parameters: Mapping[str, str | list[str]]) -> None:
    """
    Check parameters against the report's definition.

    Names that are not known are left to the API if definitions do not list all parameters, unless
    one is like a known one. So are the bounds of the interval, which no other name is meant by.

    :param parameters: as sent.
    :raises InvalidInput: if any parameter is wrong; names all problems at once.
    """
    problems = [
        f"{name} is required: pass it in report_parameters"
        for name, parameter in report.parameters.items()
        if parameter.required and name not in parameters
    ]
    for name, value in parameters.items():
        if name in report.parameters:
            problems += _problems(name, value, report.parameters[name])
        else:
            problems += _unknown(name, report)
    if problems:
        raise InvalidInput(
            f"{sentence('; '.join(problems))} The report is {report.id}. Nothing was sent; "
            "validate=False leaves the checks to the API."
        )


def _unknown(name: str, report: Report) -> Iterator[str]:
    """Name the nearest parameters to one that the report does not take, if that is certain."""
    if not report.parameters or name in {INTERVAL_START, INTERVAL_END}:
        return
    names = list(report.parameters)
    if report.undefined is None:
        yield unknown("parameter", name, names).removesuffix(".")
    elif name not in report.undefined:
        known = [*names, *sorted(report.undefined.difference(names))]
        if near(name, known):
            yield unknown("parameter", name, known).removesuffix(".")


def _problems(name: str, value: str | list[str], parameter: ReportParameter) -> Iterator[str]:
    if parameter.allowed_values is not None:
        given = [value] if isinstance(value, str) else value
        wrong = [item for item in given if not _is_allowed(item, parameter.allowed_values)]
        if wrong:
            allowed = ", ".join(parameter.allowed_values[:_MOST_VALUES_NAMED])
            more = ", ..." if len(parameter.allowed_values) > _MOST_VALUES_NAMED else ""
            yield f"{name} does not accept {', '.join(map(repr, wrong))}, only {allowed}{more}"
    if parameter.type == "array" and isinstance(value, str):
        yield f"{name} must be a list, not {value!r}"
    if parameter.type == "timestamp":
        yield from _instant_problems(name, value, parameter)


def _is_allowed(item: str, allowed: tuple[str, ...]) -> bool:
    """
    Tell whether an item may be sent. Items with brackets always may: only the API knows them.

    Metadata columns are such items, ``payment_metadata[order_id]``; no definition lists their keys.
    """
    return item in allowed or ("[" in item and item.endswith("]"))


def _instant_problems(
    name: str, value: str | list[str], parameter: ReportParameter
) -> Iterator[str]:
    instant = read_instant(value)
    if instant is None:
        yield f"{name} must be an instant such as 2025-08-18T00:00:00.000Z, not {value!r}"
    elif parameter.earliest is not None and instant < parameter.earliest:
        yield (
            f"{name} is {format_instant(instant)}, but the report only has data from "
            f"{format_instant(parameter.earliest)} on"
        )
