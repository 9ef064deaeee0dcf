"""What a definition says of parameters, and the wait for data over scripted answers."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone

import pytest
from protocol.script import NOW, answer, lost, refusal

from airflow_provider_reportrun.errors import (
    DataNotAvailable,
    DataWindowUnknown,
    DeadlinePassed,
    InvalidInput,
    NotFound,
    ServerError,
)
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.checks import (
    available_through,
    check_parameters,
    is_covered,
    not_available,
)
from airflow_provider_reportrun.protocol.flows import Patience
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.generations.v2_reporting import read_report
from airflow_provider_reportrun.protocol.retry import Pace

FIRST = datetime(2020, 1, 1, tzinfo=timezone.utc)
THROUGH = datetime(2026, 11, 2, tzinfo=timezone.utc)
MILLISECOND = timedelta(milliseconds=1)
START, END = "2026-10-26T00:00:00.000Z", "2026-11-02T00:00:00.000Z"
GOOD = {"interval_start": START, "interval_end": END}


def parameter(kind, *, required=False, **details):
    """A parameter as the API describes it, details that do not apply being null."""
    empty = {"array_details": None, "enum_details": None, "timestamp_details": None}
    return empty | {"type": kind, "required": required, "description": "D."} | details


def stamp(instant):
    """An instant as the API writes it."""
    return instant.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def described(through=THROUGH, **parameters):
    """A report as the API describes it."""
    window = {"min": stamp(FIRST), "max": stamp(through)} if through else None
    defaults = {
        name: parameter("timestamp", required=True, timestamp_details=window)
        for name in ("interval_start", "interval_end")
    }
    return {"id": "some_report", "name": "Some report", "parameters": defaults | parameters}


def report(*arguments, **parameters):
    """A report."""
    return read_report(described(*arguments, **parameters))


CURRENCY = parameter("enum", enum_details={"allowed_values": ["eur", "usd"]})
COLUMNS = parameter(
    "array",
    required=True,
    array_details={"element_type": "enum", "enum_details": {"allowed_values": ["gross", "net"]}},
)


# How far the data reach


@pytest.mark.parametrize(
    ("end", "covered"),
    [(THROUGH - MILLISECOND, True), (THROUGH, True), (THROUGH + MILLISECOND, False)],
    ids=["before", "at the end", "after"],
)
def test_an_interval_may_end_where_the_data_end(end, covered):
    """Both are half-open, so their ends may be the same instant."""
    assert is_covered(report(), end) is covered


def test_instants_are_compared_and_not_clocks():
    """An end in another zone is the same instant."""
    paris = timezone(timedelta(hours=1))
    assert is_covered(report(), datetime(2026, 11, 2, 1, tzinfo=paris))
    assert not is_covered(report(), datetime(2026, 11, 2, 1, 1, tzinfo=paris))


@pytest.mark.parametrize(
    "unknown",
    [
        described(None),
        {"id": "some_report", "parameters": None},
        {"id": "some_report", "parameters": {"interval_end": None}},
        {"id": "some_report", "parameters": {"interval_end": parameter("timestamp")}},
        described(interval_end=parameter("timestamp", timestamp_details={"max": None})),
        described(interval_end=parameter("timestamp", timestamp_details={"max": "soon"})),
    ],
)
def test_a_report_that_names_no_end_cannot_be_waited_for(unknown):
    """The error names the report, and asking again does not help."""
    with pytest.raises(DataWindowUnknown, match="some_report") as raised:
        available_through(read_report(unknown))
    assert not raised.value.transient


def test_an_interval_past_the_data_may_be_there_later():
    """The error is transient, holds both instants, and says how to wait."""
    error = not_available(report(), THROUGH + timedelta(days=7))
    assert isinstance(error, DataNotAvailable)
    assert error.transient
    assert error.available_through == END
    for words in (END, "2026-11-09T00:00:00.000Z", "wait_for_data=True", "ReportDataSensor"):
        assert words in error.message


# Parameters


@pytest.mark.parametrize(
    ("parameters", "given"),
    [
        ({}, GOOD),
        ({"currency": CURRENCY}, GOOD),
        ({"currency": CURRENCY}, GOOD | {"currency": "eur"}),
        ({"columns": COLUMNS}, GOOD | {"columns": ["net", "gross"]}),
        ({"zone": parameter("string")}, GOOD | {"zone": "Etc/UTC"}),
        ({"zone": parameter("something_new")}, GOOD | {"zone": "Etc/UTC"}),
        ({}, GOOD | {"interval_start": stamp(FIRST)}),
        ({}, GOOD | {"interval_end": "2036-11-02T00:00:00.000Z"}),
    ],
)
def test_what_the_report_takes_passes(parameters, given):
    """So does an end that is only too early."""
    check_parameters(report(**parameters), given)


def test_a_definition_without_parameters_checks_nothing():
    """It may be a part of the definition only."""
    check_parameters(read_report({"id": "some_report"}), GOOD | {"anything": "x"})


@pytest.mark.parametrize(
    ("parameters", "given", "words"),
    [
        ({}, {"interval_end": END}, "interval_start is required"),
        ({"columns": COLUMNS}, GOOD, "columns is required"),
        ({"currency": CURRENCY}, GOOD | {"currency": "yen"}, "currency does not accept 'yen'"),
        ({"currency": CURRENCY}, GOOD | {"currency": "yen"}, "only eur, usd"),
        (
            {"currency": CURRENCY},
            GOOD | {"currenzy": "eur"},
            "Did you mean 'currency'? There is no parameter 'currenzy'.",
        ),
        (
            {"currency": CURRENCY},
            GOOD | {"CURRENCY": "eur"},
            "Did you mean 'currency'? There is no parameter 'CURRENCY'.",
        ),
        ({}, GOOD | {"x": "y"}, "There is no parameter 'x', only interval_start, interval_end."),
        ({"columns": COLUMNS}, GOOD | {"columns": ["net", "x", "y"]}, "not accept 'x', 'y', only"),
        ({"columns": COLUMNS}, GOOD | {"columns": "net"}, "columns must be a list, not 'net'"),
        (
            {"paid_at": parameter("timestamp")},
            GOOD | {"paid_at": "yesterday"},
            "paid_at must be an instant",
        ),
        (
            {"paid_at": parameter("timestamp")},
            GOOD | {"paid_at": [START]},
            "paid_at must be an instant",
        ),
        (
            {},
            GOOD | {"interval_start": "2019-12-31T23:59:59.999Z"},
            "59.999Z, but the report only has data from 2020-01-01T00:00:00.000Z on",
        ),
    ],
)
def test_what_the_report_does_not_take_is_named(parameters, given, words):
    """The report, the parameter and the fix are named, and asking again does not help."""
    with pytest.raises(InvalidInput) as raised:
        check_parameters(report(**parameters), given)
    assert words in raised.value.message
    assert "some_report" in raised.value.message
    assert not raised.value.transient


def test_everything_is_named_at_once():
    """One error for all that is wrong."""
    given = {"interval_start": "2019-01-01T00:00:00.000Z", "currency": "yen"}
    with pytest.raises(InvalidInput) as raised:
        check_parameters(report(currency=CURRENCY, columns=COLUMNS), given)
    for name in ("interval_start is 2019", "interval_end is required", "columns is", "'yen'"):
        assert name in raised.value.message


def test_a_long_list_of_values_is_cut():
    """Reports take hundreds of columns; an error names some."""
    many = parameter("enum", enum_details={"allowed_values": [f"v{n}" for n in range(500)]})
    with pytest.raises(InvalidInput) as raised:
        check_parameters(report(many=many), GOOD | {"many": "x"})
    assert "v19, ..." in raised.value.message
    assert "v20" not in raised.value.message


# The wait for data


def wait(world, seconds=24 * 3600.0, **arguments):
    """The wait of a script."""
    return flows.await_data(
        named("v2.reporting"),
        "some_report",
        THROUGH,
        patience=Patience(deadline=NOW + seconds, shares_polls=True, **arguments),
        **world.here,
    )


def holds(through):
    """An answer of a report with data up to an instant."""
    return answer(200, described(through))


TOO_EARLY = holds(THROUGH - timedelta(hours=12))


def test_asks_until_the_data_reach_far_enough(world):
    """The report is returned as it is then."""
    found = world.carry_out(wait(world), TOO_EARLY, TOO_EARLY, holds(THROUGH))
    assert available_through(found) == THROUGH
    assert {request.path for request in world.sent} == {"/v2/reporting/reports/some_report"}
    assert world.pauses[:1] == [30.0]


def test_each_end_of_the_data_is_told_once(world, caplog):
    """One line for each change, however often it is asked for."""
    caplog.set_level(logging.INFO, logger=flows.log.name)
    earlier = holds(THROUGH - timedelta(hours=24))
    world.carry_out(wait(world), earlier, earlier, TOO_EARLY, TOO_EARLY, holds(THROUGH))
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == [
        "2026-11-01T00:00:00.000Z",
        "2026-11-01T12:00:00.000Z",
    ]


def test_the_wait_for_data_has_a_deadline(world):
    """The last look at the deadline counts; the error names report and instant."""
    pace = Pace(shortest_seconds=30.0, longest_seconds=30.0)
    with pytest.raises(DeadlinePassed, match=f"data of some_report to reach {END}, 100 s"):
        world.carry_out(wait(world, 100, pace=pace), then=TOO_EARLY)
    assert world.now == NOW + 100
    world.now = NOW
    world.carry_out(wait(world, 100, pace=pace), *[TOO_EARLY] * 4, holds(THROUGH))


def test_a_wait_that_comes_too_late_looks_once(world):
    """What is there already is found also after the deadline."""
    world.carry_out(wait(world, -5), holds(THROUGH))
    with pytest.raises(DeadlinePassed):
        world.carry_out(wait(world, -5), TOO_EARLY)
    assert world.pauses == []


def test_outages_within_the_tolerance_are_let_pass(world):
    """An answer that the data are not there yet is a good one."""
    down = [lost(), refusal(502), lost(), refusal(503)]
    world.carry_out(wait(world), *down, TOO_EARLY, *down, holds(THROUGH))
    with pytest.raises(ServerError):
        world.carry_out(wait(world), TOO_EARLY, then=refusal(503))


@pytest.mark.parametrize(
    ("kind", "said"), [(NotFound, refusal(404)), (DataWindowUnknown, answer(200, described(None)))]
)
def test_what_stays_is_not_waited_for(world, kind, said):
    """Permanent errors come out at once."""
    with pytest.raises(kind):
        world.carry_out(wait(world), TOO_EARLY, said)
    assert len(world.sent) == 2


def test_an_answer_is_shared_while_it_is_fresh(world):
    """
    For a good part of the pause before it, and never for all of it.

    Pauses grow and are jittered, so waits that began together drift apart: freshness grows along,
    or ten waits would ask ten times as often as one. A wait never hears its own last answer again.
    """
    world.carry_out(wait(world), *[TOO_EARLY] * 60, holds(THROUGH))
    assert max(world.pauses) == 300.0
    asked_at = world.asked_at[1:]
    for pause, request, at in zip(world.pauses, world.sent[1:], asked_at, strict=True):
        assert pause / 3 <= at - NOW - request.fresh_since < pause
