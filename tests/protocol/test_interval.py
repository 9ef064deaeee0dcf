"""What users may give for an interval and for parameters, and what is made of it."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from zoneinfo import ZoneInfo

import pendulum
import pytest

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.interval import (
    check_order,
    format_instant,
    json_value,
    parse_instant,
    report_parameters,
)

UTC = timezone.utc
PARIS = ZoneInfo("Europe/Paris")
NEW_YORK = pendulum.timezone("America/New_York")
START, END = "2025-08-18T00:00:00.000Z", "2025-08-25T00:00:00.000Z"


def parsed(value, zone=None):
    """Parse and write an instant as the API is sent it."""
    return format_instant(parse_instant(value, argument="interval_start", zone=zone))


@pytest.mark.parametrize("zone", [None, UTC, PARIS], ids=repr)
@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (START, datetime(2025, 8, 18, tzinfo=UTC)),
        (START, datetime(2025, 8, 18, 2, tzinfo=PARIS)),
        (START, datetime(2025, 8, 17, 20, tzinfo=timezone(timedelta(hours=-4)))),
        (START, pendulum.datetime(2025, 8, 18)),
        (START, pendulum.datetime(2025, 8, 18, 2, tz="Europe/Paris")),
        (START, "2025-08-18T00:00:00Z"),
        (START, "2025-08-18T00:00:00.000Z"),
        (START, "2025-08-18T00:00Z"),
        (START, "2025-08-18 00:00:00+00:00"),
        (START, "  2025-08-18T00:00:00+00:00\n"),
        (START, "2025-08-18T02:00:00+02:00"),
        (START, "2025-08-18T02:00:00+0200"),
        (START, "2025-08-18T02:00:00+02"),
        (START, "2025-08-17T18:30:00-05:30"),
        ("2025-08-18T00:00:00.123Z", "2025-08-18T00:00:00.123999Z"),
        ("2025-08-18T00:00:00.123Z", "2025-08-18T00:00:00.123456789Z"),
        ("2025-08-18T00:00:00.500Z", "2025-08-18T00:00:00,5Z"),
        ("2025-08-18T00:00:00.001Z", datetime(2025, 8, 18, 0, 0, 0, 1999, tzinfo=UTC)),
    ],
    ids=repr,
)
def test_an_instant_with_an_offset_means_itself(expected, value, zone):
    """Whatever the zone of the DAG, an offset decides; finer than a millisecond is cut off."""
    assert expected == parsed(value, zone)


@pytest.mark.parametrize(
    "value",
    [
        date(2025, 8, 18),
        pendulum.date(2025, 8, 18),
        datetime(2025, 8, 18),  # noqa: DTZ001 - naive on purpose
        pendulum.naive(2025, 8, 18),
        "2025-08-18",
        "2025-08-18T00:00",
        "2025-08-18T00:00:00",
        "2025-08-18 00:00:00",
        "2025-08-18T00:00:00.000",
    ],
    ids=lambda value: f"{type(value).__module__}-{value}",
)
@pytest.mark.parametrize(
    ("expected", "zone"),
    [
        (START, UTC),
        (START, pendulum.UTC),
        ("2025-08-17T22:00:00.000Z", PARIS),
        ("2025-08-17T22:00:00.000Z", pendulum.timezone("Europe/Paris")),
        ("2025-08-18T04:00:00.000Z", NEW_YORK),
        ("2025-08-17T20:00:00.000Z", timezone(timedelta(hours=4))),
    ],
    ids=repr,
)
def test_what_has_no_offset_is_meant_in_the_zone(expected, zone, value):
    """Dates and naive stamps of every form are local to the zone that was given."""
    assert expected == parsed(value, zone)


@pytest.mark.parametrize(
    "value",
    [date(2025, 8, 18), datetime(2025, 8, 18), "2025-08-18", "2025-08-18 00:00:00"],  # noqa: DTZ001
    ids=repr,
)
def test_what_has_no_offset_is_refused_without_a_zone(value):
    """It could mean two instants, so the error names the argument and both ways out."""
    with pytest.raises(InvalidInput) as refused:
        parsed(value)
    assert str(refused.value).startswith("interval_start is 2025-08-18")
    assert "timezone=" in str(refused.value)
    assert "data_interval_start" in str(refused.value)


@pytest.mark.parametrize(
    ("hours", "day"),
    [(23, "2026-03-29"), (25, "2026-10-25"), (24, "2026-07-01"), (24, "2026-01-15")],
)
def test_a_day_is_as_long_as_it_is_where_it_is(hours, day):
    """Days of Europe/Paris have 23 to 25 hours; both of their ends are midnights there."""
    first = date.fromisoformat(day)
    start = parse_instant(day, argument="interval_start", zone=PARIS)
    end = parse_instant(first + timedelta(days=1), argument="interval_end", zone=PARIS)
    assert timedelta(hours=hours) == end - start
    assert [each.astimezone(PARIS).hour for each in (start, end)] == [0, 0]


@pytest.mark.parametrize("form", [str, lambda stamp: stamp], ids=["text", "datetime"])
@pytest.mark.parametrize(
    ("expected", "stamp"),
    [
        ({"2026-03-29T00:30:00.000Z", "2026-03-29T01:30:00.000Z"}, datetime(2026, 3, 29, 2, 30)),  # noqa: DTZ001
        ({"2026-10-25T00:30:00.000Z", "2026-10-25T01:30:00.000Z"}, datetime(2026, 10, 25, 2, 30)),  # noqa: DTZ001
    ],
    ids=["never", "twice"],
)
def test_local_times_that_never_come_or_come_twice_are_taken(expected, stamp, form):
    """Around a change of the clock a local time is one of the two that it may be, no error."""
    assert parsed(form(stamp), PARIS) in expected


@pytest.mark.parametrize("zone", [None, UTC], ids=repr)
@pytest.mark.parametrize(
    "value",
    [
        "now",
        "12:00",
        "2026",
        "2026-08",
        "",
        "   ",
        "None",
        "{{ ds }}",
        "{{ data_interval_start }}",
        "2026-02-30",
        "2026-13-01",
        "2026-8-1",
        "20260801",
        "2026-W30",
        "2026-213",
        "2026-08-01/2026-08-08",
        "P1D",
        "2026-08-01T00",
        "2026-08-01T24:00:00Z",
        "2026-08-01T00:00:00Z[UTC]",
        "2026-08-01T00:00:00 Europe/Paris",
        "2026-08-01T00:00:00+25:00",
        "2026-08-01T00:00:00-99:99",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
        "1755475200",
        "٢٠٢٦-08-01",
        None,
        5,
        1.5,
        True,
        b"2026-08-01",
        time_of_day(12),
        timedelta(days=1),
        ["2026-08-01"],
        {},
    ],
    ids=repr,
)
def test_what_is_no_instant_is_refused(value, zone):
    """Nothing is guessed: the error names the argument and shows the value."""
    with pytest.raises(InvalidInput, match=r"^interval_start ") as refused:
        parsed(value, zone)
    shown = value.strip() if isinstance(value, str) else value
    assert repr(shown) in str(refused.value)


@pytest.mark.parametrize(
    ("what", "start", "end"),
    [
        ("has no length", "2025-08-18", "2025-08-18"),
        ("ends before it starts", "2025-08-25", "2025-08-18"),
    ],
)
def test_an_interval_that_holds_nothing_is_refused(what, start, end):
    """The error shows the interval, and the timetable that gives runs an interval."""
    with pytest.raises(InvalidInput) as refused:
        report_parameters({}, start=start, end=end, zone=UTC)
    assert f"[{start}T00:00:00.000Z, {end}T00:00:00.000Z) {what}" in str(refused.value)
    assert "CronDataIntervalTimetable" in str(refused.value)


def test_the_shortest_interval_is_one():
    """What starts before it ends is an interval, across zones too."""
    start = datetime(2025, 8, 18, 2, tzinfo=PARIS)
    check_order(start, datetime(2025, 8, 18, 0, 0, 0, 1000, tzinfo=UTC))
    with pytest.raises(InvalidInput, match="has no length"):
        check_order(start, datetime(2025, 8, 18, tzinfo=UTC))


def test_an_interval_that_has_no_length_as_it_is_sent_is_refused():
    """Two ends within one millisecond are one instant to the API."""
    with pytest.raises(InvalidInput, match="has no length"):
        report_parameters(
            {}, start="2025-08-18T00:00:00.0001Z", end="2025-08-18T00:00:00.0009Z", zone=None
        )


def test_the_interval_goes_into_the_parameters():
    """Both ends are sent under the API's names, beside what the task gives."""
    assert report_parameters({"currency": "eur"}, start=START, end=END, zone=None) == {
        "currency": "eur",
        "interval_start": START,
        "interval_end": END,
    }


def test_parameters_win_over_the_interval():
    """What report_parameters itself names is sent, normalised in the same way."""
    sent = report_parameters(
        {"interval_start": date(2025, 8, 20)}, start="2025-08-18", end="2025-08-25", zone=PARIS
    )
    assert sent == {
        "interval_start": "2025-08-19T22:00:00.000Z",
        "interval_end": "2025-08-24T22:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("expected", "start", "end"),
    [
        ({}, None, None),
        ({"interval_start": START}, START, None),
        ({"interval_end": END}, None, END),
    ],
)
def test_an_end_that_is_none_is_not_sent(expected, start, end):
    """Without an end, none is sent, and there is no order to check."""
    assert expected == report_parameters({}, start=start, end=end, zone=None)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("eur", "eur"),
        ("", ""),
        ("2025-08-18", "2025-08-18"),
        (["a", "b"], ["a", "b"]),
        (["a", "b"], ("a", "b")),
        ([], []),
        (START, datetime(2025, 8, 18, tzinfo=UTC)),
        (START, date(2025, 8, 18)),
    ],
    ids=repr,
)
def test_values_that_the_api_takes(expected, value):
    """Strings stay as they are, whatever they look like; lists are lists; instants are written."""
    assert {"x": expected} == report_parameters({"x": value}, start=None, end=None, zone=UTC)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 5),
        ("float", 1.5),
        ("bool", True),
        ("NoneType", None),
        ("dict", {"a": "b"}),
        ("list", ["a", 1]),
        ("list", [date(2025, 8, 18)]),
        ("list", [["a"]]),
        ("tuple", ("a", None)),
        ("set", {"a"}),
        ("bytes", b"a"),
        ("timedelta", timedelta(days=1)),
    ],
    ids=repr,
)
def test_values_that_the_api_does_not_take_are_named(kind, value):
    """The error names the parameter, the value and its type."""
    with pytest.raises(InvalidInput) as refused:
        report_parameters({"x": value}, start=None, end=None, zone=UTC)
    assert f"report_parameters['x'] is {value!r} ({kind})" in str(refused.value)


def test_a_date_among_the_parameters_needs_a_zone():
    """A date is an instant, so the same rule holds for it as for the interval's ends."""
    with pytest.raises(InvalidInput, match=r"^report_parameters\['paid_at'\] is 2025-08-18 "):
        json_value(date(2025, 8, 18), argument="report_parameters['paid_at']", zone=None)


@pytest.mark.parametrize("given", [None, "x", 5, ["a"], {1: "a"}, {None: "a"}], ids=repr)
def test_parameters_must_be_a_mapping_of_names(given):
    """Anything else is refused by the argument's name."""
    with pytest.raises(InvalidInput, match=r"^report_parameters must be a mapping"):
        report_parameters(given, start=None, end=None, zone=UTC)


@pytest.mark.parametrize("name", ["interval_start", "interval_end"])
@pytest.mark.parametrize("value", [None, "", 5, "soon"], ids=repr)
def test_an_end_among_the_parameters_is_read_as_one(name, value):
    """The API's own names always hold instants."""
    with pytest.raises(InvalidInput, match=rf"^{name} "):
        report_parameters({name: value}, start=None, end=None, zone=UTC)


def test_the_given_parameters_are_left_alone():
    """The mapping of the task is not changed, for it may be a DAG's."""
    given = {"columns": ("a",)}
    report_parameters(given, start=START, end=END, zone=None)
    assert given == {"columns": ("a",)}
