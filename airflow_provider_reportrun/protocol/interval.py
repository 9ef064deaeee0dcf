"""
Instants, intervals and parameter values, in the form that the API accepts.

An interval is half-open, ``[start, end)``, like Airflow's data interval. Instants are sent in UTC
with milliseconds, ``2025-08-18T00:00:00.000Z``, as in all of Stripe's samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

import pendulum

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.text import shown

INTERVAL_START = "interval_start"
INTERVAL_END = "interval_end"
WAIT_FOR_DATA = (
    "interval_end is after the report's data: wait with wait_for_data=True or a ReportDataSensor."
)

_LAST_MINUTE = (23, 59)
_MOST_SHOWN = 40
"""Characters of a wrong value, so that the fix after it is seen."""
_STAMP = (
    r"(?a)\d{4}-\d{2}-\d{2}"
    r"(?P<time>[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(?P<offset> ?Z|[+-]\d{2}(:?\d{2})?)?)?"
)


def format_instant(instant: datetime) -> str:
    """
    Format an instant as the API accepts it.

    :param instant: aware, in any zone.
    :return: RFC 3339 in UTC, truncated to milliseconds.
    """
    utc = pendulum.instance(instant).in_timezone("UTC")
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def last_midnight(instant: datetime) -> datetime:
    """
    Return the end of the last whole UTC day that ends at or before an instant.

    :param instant: aware, UTC.
    """
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)


def parse_instant(value: Any, *, argument: str, zone: tzinfo | None) -> datetime:
    """
    Parse a user's value for an instant.

    :param value: an aware datetime or an ISO 8601 string with an offset. If ``zone`` is known, also
        a date or a timestamp without an offset.
    :param argument: the argument's name, for the error.
    :param zone: the zone of dates and timestamps without an offset; None refuses them.
    :return: aware, UTC, truncated to milliseconds.
    :raises InvalidInput: if the value is not such an instant; names the argument.
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
                f"{argument} is {value} without an offset: pass timezone=..., or a timestamp with "
                'an offset, such as "{{ data_interval_start }}". The DAG\'s timetable is not known '
                "to be in UTC, so the value is ambiguous ({{ ds }} is formatted in UTC and would "
                "shift the day)."
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
    """Convert an aware instant to UTC, truncated to milliseconds."""
    try:
        utc = pendulum.instance(value).in_timezone("UTC")
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{argument} must be in the years 1 to 9999 in UTC; it is {given!r}."
        ) from None
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _parse_text(text: str, argument: str) -> date | datetime:
    form = re.fullmatch(_STAMP, text)
    try:
        parsed = pendulum.parse(text, exact=True, tz=pendulum.UTC) if form else None
    except (ValueError, OverflowError):
        parsed = None
    if form is None or not isinstance(parsed, date):
        raise InvalidInput(
            f"{argument} must be an ISO 8601 date or timestamp such as '2025-08-18T00:00:00Z', "
            f"not {text!r}."
        )
    if isinstance(parsed, datetime) and not form["offset"]:
        return parsed.replace(tzinfo=None)
    return parsed


def check_order(start: datetime, end: datetime) -> None:
    """
    Refuse an empty interval.

    :raises InvalidInput: if ``start`` is not before ``end``; names both, and the usual cause.
    """
    if start < end:
        return
    what = "has no length" if start == end else "ends before it starts"
    raise InvalidInput(
        "interval_end must be after interval_start: pass other bounds, or use "
        f"CronDataIntervalTimetable. The interval [{format_instant(start)}, {format_instant(end)}) "
        f"{what}. Since Airflow 3, a plain cron schedule gives runs a zero-length interval, also "
        "manual runs."
    )


def missed_midnight(value: Any, *, zone: tzinfo | None, from_second: int = 0) -> datetime | None:
    """
    Return the midnight that an end just misses, because it was probably meant as inclusive.

    Intervals are half-open, so an end at 23:59:59 loses the last second of the day.

    :param value: the value of ``interval_end``.
    :param zone: the zone of dates and timestamps without an offset. Midnights of the value's own
        zone and of UTC are checked too.
    :param from_second: the first second of the day's last minute that counts; 59 accepts an end at
        23:59:00 as intended.
    :return: aware, in the zone whose day it is; None for any other end.
    """
    try:
        instant = parse_instant(value, argument=INTERVAL_END, zone=zone)
        given = _parse_text(value.strip(), INTERVAL_END) if isinstance(value, str) else value
    except InvalidInput:
        return None
    for one in (getattr(given, "tzinfo", None), zone, pendulum.UTC):
        local = instant.astimezone(one) if one is not None else None
        if local and (local.hour, local.minute) == _LAST_MINUTE and local.second >= from_second:
            return datetime.combine(local.date() + timedelta(days=1), time.min, tzinfo=one)
    return None


def half_open(value: Any, midnight: datetime) -> str:
    """Describe what an end just before midnight leaves out, and what to pass instead."""
    sent = format_instant(midnight)
    local = "" if not midnight.utcoffset() else f", which is {midnight.isoformat()}"
    return (
        f"interval_end is {value}, and intervals are half-open, so the report omits the rest of "
        f"that day. To include the whole day, pass {sent}{local}."
    )


def json_value(value: Any, *, argument: str, zone: tzinfo | None) -> str | list[str]:
    """
    Convert the value of a report parameter to the form that the API accepts.

    :param value: a string, a sequence of strings (such as the output of a mapped task), a date or a
        datetime.
    :raises InvalidInput: for anything else; names the argument and the fix.

    Source: Stripe OpenAPI, ``v2.reporting.report_run``, ``report_parameters``.
    """
    match value:
        case str():
            return _text(value, argument)
        case date():
            return format_instant(parse_instant(value, argument=argument, zone=zone))
        case bytes() | bytearray() | memoryview():
            raise _not_taken(value, argument, value)
        case Sequence():
            items = list(value)
            for item in items:
                if not isinstance(item, str):
                    raise _not_taken(value if isinstance(value, tuple) else items, argument, item)
            return [_text(item, argument) for item in items]
        case _:
            raise _not_taken(value, argument, value)


def _text(value: str, argument: str) -> str:
    if value.strip() == "None":
        raise InvalidInput(
            f"{argument} is 'None', because its template rendered to nothing. Check the template, "
            "or leave the parameter out."
        )
    return value


def _not_taken(value: Any, argument: str, culprit: Any) -> InvalidInput:
    """Return the error for a value that the API does not accept, or that contains such an item."""
    match culprit:
        case bool() | int() | float():
            text = str(culprit).lower() if isinstance(culprit, bool) else str(culprit)
            fix = f"Write text: '{text}', or in native rendering \"'{{{{ ... }}}}'\"."
        case None:
            fix = "Leave it out, or check its template."
        case AbstractSet() | Iterator() if culprit is value:
            fix = "Make it a list with a fixed order."
        case _:
            fix = "Write it as text."
    return InvalidInput(
        f"{argument} is {shown(value, _MOST_SHOWN)} ({type(value).__name__}). {fix} The API "
        "accepts only strings, lists of strings and timestamps."
    )


def report_parameters(
    given: Any, *, start: Any, end: Any, zone: tzinfo | None
) -> dict[str, str | list[str]]:
    """
    Build the parameters of a report run.

    :param given: the task's ``report_parameters``; its bounds override ``start`` and ``end``.
    :param start: first instant, in any form that ``parse_instant`` accepts; None sends none.
    :param end: the instant after the last, in the same forms.
    :param zone: the zone of dates and timestamps without an offset; None refuses them.
    :raises InvalidInput: if a value cannot be used; names it.
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
    if instants.keys() == {INTERVAL_START, INTERVAL_END}:
        check_order(instants[INTERVAL_START], instants[INTERVAL_END])
    return {
        name: format_instant(instants[name])
        if name in instants
        else json_value(value, argument=f"report_parameters[{name!r}]", zone=zone)
        for name, value in values.items()
    }
