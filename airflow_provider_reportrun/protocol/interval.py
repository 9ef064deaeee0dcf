"""
Instants, intervals and parameter values, as the API takes them.

An interval is half-open, ``[start, end)``, as Airflow's data interval is. Instants are sent in UTC
with milliseconds, ``2025-08-18T00:00:00.000Z``, the form of all of Stripe's samples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, tzinfo
from typing import Any

import pendulum

from airflow_provider_reportrun.errors import InvalidInput

INTERVAL_START = "interval_start"
INTERVAL_END = "interval_end"

_STAMP = re.compile(
    r"\d{4}-\d{2}-\d{2}"
    r"(?P<time>[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(?P<offset> ?Z|[+-]\d{2}(:?\d{2})?)?)?",
    re.ASCII,
)


def format_instant(instant: datetime) -> str:
    """
    Write an instant as the API takes it.

    :param instant: aware, any zone.
    :return: RFC 3339 in UTC with milliseconds; what is finer is cut off.
    """
    utc = pendulum.instance(instant).in_timezone("UTC")
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def last_midnight(instant: datetime) -> datetime:
    """
    Give the end of the last whole day (UTC) before an instant, or at it.

    :param instant: aware, UTC.
    """
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)


def parse_instant(value: Any, *, argument: str, zone: tzinfo | None) -> datetime:
    """
    Read what a user gave for an instant.

    :param value: an aware datetime, an ISO 8601 string with an offset, or, where ``zone`` is known,
        a date or a stamp without an offset.
    :param argument: where the value came from, for the error.
    :param zone: the zone that dates and naive stamps are meant in; None refuses them.
    :return: aware, UTC.
    :raises InvalidInput: names the argument.
    """
    given = value
    if isinstance(value, str):
        value = _parse_text(value.strip(), argument)
    match value:
        case datetime(tzinfo=tzinfo()):
            return _as_sent(value, argument, given)
        case date() if zone is not None:
            return _as_sent(_midnight_or_time(value, zone), argument, given)
        case date():
            raise InvalidInput(
                f"{argument} is {value} without an offset from UTC, and the DAG's timezone is not "
                "UTC: it could mean two instants. Pass timezone=..., or a stamp with an offset, "
                'such as "{{ data_interval_start }}" ({{ ds }} is formatted in UTC and would shift '
                "the day)."
            )
        case _:
            raise InvalidInput(
                f"{argument} must be a datetime, a date or an ISO 8601 string, not {value!r}."
            )


def _midnight_or_time(value: date, zone: tzinfo) -> datetime:
    clock = value.time() if isinstance(value, datetime) else time.min
    day = date(value.year, value.month, value.day)
    return datetime.combine(day, clock, tzinfo=zone)


def _as_sent(value: datetime, argument: str, given: Any) -> datetime:
    """Turn an aware instant into UTC, without what is finer than a millisecond."""
    try:
        utc = pendulum.instance(value).in_timezone("UTC")
    except (ValueError, OverflowError):
        raise InvalidInput(f"{argument} is {given!r}, which no calendar has in UTC.") from None
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _parse_text(text: str, argument: str) -> date | datetime:
    form = _STAMP.fullmatch(text)
    try:
        parsed = pendulum.parse(text, exact=True, tz=pendulum.UTC) if form else None
    except (ValueError, OverflowError):
        parsed = None
    if form is None or not isinstance(parsed, date):
        raise InvalidInput(
            f"{argument} is {text!r}, which is no ISO 8601 date or stamp, such as "
            "'2025-08-18' or '2025-08-18T00:00:00Z'."
        )
    if isinstance(parsed, datetime) and not form["offset"]:
        return parsed.replace(tzinfo=None)
    return parsed


def check_order(start: datetime, end: datetime) -> None:
    """
    Refuse an interval that holds nothing.

    :raises InvalidInput: names both ends, and what usually leads there.
    """
    if start < end:
        return
    what = "has no length" if start == end else "ends before it starts"
    raise InvalidInput(
        f"The interval [{format_instant(start)}, {format_instant(end)}) {what}. "
        "A plain cron schedule gives runs without a length since Airflow 3, and runs that were "
        "triggered by hand have none either: schedule the DAG with CronDataIntervalTimetable, or "
        "pass interval_start and interval_end."
    )


def json_value(value: Any, *, argument: str, zone: tzinfo | None) -> str | list[str]:
    """
    Turn the value of a report parameter into what the API takes.

    :param value: a string, a list of strings, a date or a datetime.
    :raises InvalidInput: for anything else; names the argument and the fix.

    Source: Stripe OpenAPI, ``v2.reporting.report_run``, ``report_parameters``.
    """
    match value:
        case str():
            return value
        case date():
            return format_instant(parse_instant(value, argument=argument, zone=zone))
        case list() | tuple() if all(isinstance(item, str) for item in value):
            return list(value)
        case _:
            raise InvalidInput(
                f"{argument} is {value!r} ({type(value).__name__}). The API takes strings, lists "
                "of strings and timestamps: write numbers and booleans as strings."
            )


def report_parameters(
    given: Any, *, start: Any, end: Any, zone: tzinfo | None
) -> dict[str, str | list[str]]:
    """
    Put together the parameters of a report run.

    :param given: the task's ``report_parameters``; what it names wins over ``start`` and ``end``.
    :param start: first instant, in any form of ``parse_instant``, or None to send none.
    :param end: instant after the last, likewise.
    :param zone: the zone of dates and naive stamps; None refuses them.
    :raises InvalidInput: names what cannot be used.
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidInput(
            f"report_parameters must be a mapping of names to values, not {given!r}."
        )
    values: dict[str, Any] = dict(given)
    for name, default in ((INTERVAL_START, start), (INTERVAL_END, end)):
        if default is not None:
            values.setdefault(name, default)
    instants = {
        name: parse_instant(values[name], argument=name, zone=zone)
        for name in (INTERVAL_START, INTERVAL_END)
        if name in values
    }
    if len(instants) == 2:  # noqa: PLR2004
        check_order(instants[INTERVAL_START], instants[INTERVAL_END])
    return {
        name: format_instant(instants[name])
        if name in instants
        else json_value(value, argument=f"report_parameters[{name!r}]", zone=zone)
        for name, value in values.items()
    }
