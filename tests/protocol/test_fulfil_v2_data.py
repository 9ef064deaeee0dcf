"""What v2.data adds to the sequence: only finished runs say how far their data reach."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from msgspec.structs import replace
from protocol.script import NOW, World, answer, failed, lost, refusal, run

from airflow_provider_reportrun.errors import (
    DeadlinePassed,
    InvalidInput,
    InvalidRequest,
    NotFound,
    ReportRunCanceled,
    ReportRunFailed,
    ServerError,
)
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.asking import Patience
from airflow_provider_reportrun.protocol.flows import Order, Plan
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.identity import key_after_failure
from airflow_provider_reportrun.protocol.interval import format_instant
from airflow_provider_reportrun.protocol.models import read_instant
from airflow_provider_reportrun.protocol.requests import ReportRequest
from airflow_provider_reportrun.protocol.retry import Pace

API = named("v2.data")
HOUR = 3600.0
END = "2027-01-15T00:00:00.000Z"
EARLIER, LATER = "2027-01-14T12:00:00.000Z", "2027-01-15T12:00:00.000Z"
REPORT = {"id": "report_1", "name": "balance.summary", "parameters": {}}
DEFINED = answer(200, {"data": [REPORT]})
DOWN = refusal(503, Stripe_Should_Retry="false")
IN_USE = refusal(409, "idempotency_conflict")
FULL = refusal(429, "report_run_rate_limit_exceeded")
WAITS = Plan(wait_for_data=True)
"""Of an operator that only creates, and waits for the data."""
BOTH = Plan(wait_for_data=True, wait_for_completion=True)
SECOND = key_after_failure("k", "rrun_1")
THIRD = key_after_failure(SECOND, "rrun_2")


def order(**arguments):
    """An order whose interval ends at the midnight before."""
    request = ReportRequest(
        "name:balance.summary", arguments.pop("parameters", {"interval_end": END})
    )
    return Order(**{"api": API, "request": request, "idempotency_key": "k"} | arguments)


def fulfil(world, plan=BOTH, **arguments):
    """The conversation, with a day of patience."""
    patience = Patience(deadline=NOW + 24 * HOUR, pace=Pace(longest_seconds=30.0))
    asked = arguments.pop("order", order())
    return flows.fulfil(asked, plan, **{"patience": patience} | world.here | arguments)


def at(seconds):
    """An instant of the scripted world, as the API writes it."""
    return format_instant(datetime.fromtimestamp(NOW + seconds, tz=timezone.utc))


def fresh(number=1, created=0.0):
    """A succeeded run whose data are complete."""
    return run("succeeded", f"rrun_{number}", refreshed_at=LATER, created=at(created))


def stale(number=1, created=0.0):
    """A succeeded run whose data end before the interval does."""
    return run("succeeded", f"rrun_{number}", refreshed_at=EARLIER, created=at(created))


def creates(world):
    """The keys and bodies of the creates, in order."""
    posts = [each for each in world.sent if each.method == "POST"]
    return [(each.headers["Idempotency-Key"], each.body) for each in posts]


def keys(world):
    """The keys of the creates, in order."""
    return [key for key, _ in creates(world)]


@pytest.mark.parametrize("plan", [WAITS, BOTH], ids=["creates", "completes"])
def test_a_fresh_run_is_the_one(world, plan):
    """Also an operator that only creates has to see it finished."""
    found = world.carry_out(
        fulfil(world, plan), run(run_id="rrun_1"), run(run_id="rrun_1"), fresh()
    )
    assert found.refreshed_at == read_instant(LATER)
    assert keys(world) == ["k"]


@pytest.mark.parametrize("refreshed_at", [END, None])
def test_data_that_reach_the_end_exactly_or_say_nothing(world, caplog, refreshed_at):
    """The interval ends before its end; a run that says nothing is taken with a warning."""
    said = run("succeeded", "rrun_1", refreshed_at=refreshed_at)
    assert world.carry_out(fulfil(world), said).id == "rrun_1"
    warned = "rrun_1 does not say how far its data reach" in caplog.text
    assert warned is (refreshed_at is None)


@pytest.mark.parametrize("plan", [WAITS, BOTH], ids=["creates", "completes"])
def test_a_stale_run_is_followed_by_another(world, plan):
    """Two hours later, with the same body and the next key of the chain, and told at once."""
    seen = []
    flow = fulfil(world, plan, on_created=lambda each: seen.append(each.id))
    script = [run(run_id="rrun_1"), stale(), stale(), run(run_id="rrun_2"), fresh(2)]
    assert world.carry_out(flow, *script).id == "rrun_2"
    assert keys(world) == ["k", "k", SECOND]
    assert len({body for _, body in creates(world)}) == 1
    assert seen == ["rrun_1", "rrun_2"]
    assert world.asked_at[3] - NOW == pytest.approx(2 * HOUR)


def test_it_goes_on_until_the_data_are_there(world):
    """Each run is given two hours, however many it takes."""
    script = [stale(), stale(2, 2 * HOUR), fresh(3, 4 * HOUR)]
    assert world.carry_out(fulfil(world), *script).id == "rrun_3"
    assert keys(world) == ["k", SECOND, THIRD]
    assert world.now - NOW == pytest.approx(4 * HOUR)


def test_a_run_that_nobody_waits_for_is_as_it_is(world):
    """Without wait_for_data its data are the user's concern."""
    plan = Plan(wait_for_completion=True)
    assert world.carry_out(fulfil(world, plan), stale()).id == "rrun_1"
    assert keys(world) == ["k"]


def test_without_an_end_there_is_nothing_to_wait_for(world):
    """A report by payout takes no interval; whoever only creates has done so."""
    world.carry_out(fulfil(world, WAITS, order=order(parameters={})), run())
    assert keys(world) == ["k"]


# Drivers that begin again


@pytest.mark.parametrize("known", [None, "rrun_1", "rrun_2"])
def test_whoever_begins_again_finds_the_fresh_run(world, known):
    """A later try, or a trigger that was killed; no run is made and nothing is waited for."""
    plan = replace(BOTH, known_run_id=known)
    old, new = stale(created=-3 * HOUR), fresh(2, -HOUR)
    script = {None: [old, new], "rrun_1": [old, old, new], "rrun_2": [new]}[known]
    assert world.carry_out(fulfil(world, plan), *script).id == "rrun_2"
    assert keys(world) == ([] if known == "rrun_2" else ["k", SECOND])
    assert world.pauses == []


def test_whoever_begins_again_waits_for_the_rest(world):
    """The two hours count from the run that was too early."""
    old = stale(created=-HOUR)
    world.carry_out(fulfil(world), old, fresh(2))
    assert world.pauses == [pytest.approx(HOUR)]


def test_a_clock_that_is_ahead_makes_no_longer_pause(world):
    """The API's and the worker's differ."""
    world.carry_out(fulfil(world), stale(created=5 * HOUR), fresh(2))
    assert max(world.pauses) == pytest.approx(2 * HOUR)


def test_a_failed_run_takes_the_next_key_in_the_next_try(world):
    """Also for an operator that only creates: after a stale run, and before a fresh one."""
    old, lost_one = stale(created=-3 * HOUR), failed("rrun_2")
    with pytest.raises(ReportRunFailed):
        world.carry_out(fulfil(world, WAITS), old, lost_one)
    world.sent.clear()
    flow = fulfil(world, WAITS, order=order(tries=2))
    assert world.carry_out(flow, old, lost_one, fresh(3)).id == "rrun_3"
    assert keys(world) == ["k", SECOND, THIRD]


def test_a_stale_run_uses_up_no_try(world):
    """The chain goes on although one run is allowed."""
    flow = fulfil(world, order=order(tries=1))
    assert world.carry_out(flow, stale(created=-3 * HOUR), fresh(2)).id == "rrun_2"


def test_a_lost_file_of_a_fresh_run_is_made_anew(world):
    """After the stale one."""
    asked = order(gone=frozenset({"rrun_2"}), tries=2)
    old = stale(created=-5 * HOUR)
    flow = fulfil(world, order=asked)
    assert world.carry_out(flow, old, fresh(2, -2 * HOUR), fresh(3)).id == "rrun_3"


# What goes wrong


@pytest.mark.parametrize(("message", "words"), [("M", " Stripe says: M."), (None, "")])
def test_a_canceled_run_is_final(world, message, words):
    """In this try and in each later one, whatever it may use up."""
    details = {"canceled_at": at(0), "message": message}
    canceled = run("canceled", "rrun_1", status_details=details)
    for asked in (order(), order(tries=3)):
        world.sent.clear()
        with pytest.raises(ReportRunCanceled, match=f"for a new one.{words} It was report run"):
            world.carry_out(fulfil(world, order=asked), canceled)
        assert keys(world) == ["k"]


def test_the_deadline_ends_the_wait_for_fresh_data(world):
    """The error says up to when the data were needed, and up to when they reach."""
    patience = Patience(deadline=NOW + 3 * HOUR)
    script = [stale(), stale(2, 2 * HOUR)]
    with pytest.raises(DeadlinePassed) as caught:
        world.carry_out(fulfil(world, patience=patience), *script)
    assert "the data of name:balance.summary to reach 2027-01-15T00:00:00" in str(caught.value)
    assert "those of report run rrun_2 reach 2027-01-14T12:00:00" in str(caught.value)
    assert world.now - NOW == pytest.approx(3 * HOUR)
    assert keys(world) == ["k", SECOND]


def test_after_the_deadline_nothing_is_made(world):
    """A later try sees that the run it has is stale."""
    patience = Patience(deadline=NOW - 1)
    with pytest.raises(DeadlinePassed):
        world.carry_out(fulfil(world, patience=patience), stale(created=-9 * HOUR))
    assert keys(world) == ["k"]


def test_a_worker_rides_out_an_outage_once_it_has_waited_for_the_data(world):
    """It has held its slot for hours, and a retry would begin again."""
    plan = replace(BOTH, rides_out_outages=False)
    with pytest.raises(ServerError):
        world.carry_out(fulfil(world, plan), DOWN)
    running = run(run_id="rrun_1")
    script = [running, stale(), stale(), *[DOWN] * 5, lost(), fresh(2)]
    assert world.carry_out(fulfil(world, plan), *script).id == "rrun_2"


def test_a_key_in_use_and_lack_of_room_are_waited_for(world):
    """By the second create as by the first."""
    script = [IN_USE, FULL, stale(created=-3 * HOUR), IN_USE, FULL, fresh(2)]
    assert world.carry_out(fulfil(world), *script).id == "rrun_2"
    assert keys(world) == ["k"] * 3 + [SECOND] * 3


# Names and definitions


def test_a_name_of_several_reports_is_refused_before_the_create(world):
    """The API might take either."""
    several = answer(200, {"data": [REPORT, REPORT | {"id": "report_2"}]})
    with pytest.raises(InvalidInput, match="use one of the ids report_1, report_2"):
        world.carry_out(fulfil(world, Plan(validate=True)), several)
    assert keys(world) == []


def test_a_name_of_no_report_is_refused_by_the_api(world):
    """If the list is empty too, it proves nothing."""
    unknown = refusal(400, "invalid_fields")
    script = [answer(200, {"data": []})] * 2 + [unknown] + [answer(200, {"data": []})] * 2
    with pytest.raises((InvalidRequest, NotFound)):
        world.carry_out(fulfil(world, Plan(validate=True)), *script)


def test_a_definition_is_compared_and_says_nothing_about_data(world):
    """One request, whatever the plan."""
    plan = replace(BOTH, validate=True)
    assert world.carry_out(fulfil(world, plan), DEFINED, fresh()).id == "rrun_1"
    assert len(world.sent) == 2


def test_data_alone_cannot_be_waited_for():
    """Nothing is asked."""
    world = World("blocking")
    flow = flows.await_data(
        API, "r", read_instant(END), patience=Patience(deadline=NOW * 2), **world.here
    )
    with pytest.raises(InvalidInput, match=r"^Use wait_for_data=True of the operator"):
        world.carry_out(flow)
    assert world.sent == []
