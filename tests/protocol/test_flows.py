"""The conversations, carried out by both drivers over scripted answers."""

from __future__ import annotations

import logging
from bisect import bisect_left
from datetime import datetime, timezone

import pytest
from protocol.script import NOW, World, answer, failed, lost, refusal, run

from airflow_provider_reportrun.errors import (
    AuthenticationError,
    CapacityExceeded,
    DataNotAvailable,
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ReportRunFailed,
    ServerError,
    TransportError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.protocol import asking, calls, flows
from airflow_provider_reportrun.protocol.asking import Patience
from airflow_provider_reportrun.protocol.flows import Order, Plan
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.identity import key_after_failure
from airflow_provider_reportrun.protocol.requests import ReportRequest
from airflow_provider_reportrun.protocol.retry import EARLY_AGES, Pace, RetryPolicy

DAY = 24 * 3600.0
TOLERANCE = asking.OUTAGE_TOLERANCE_SECONDS
API = named("v2.reporting")
CALL = calls.get_run(API, "reprun_1")
HTML = b"<html>Gateway</html>"
FULL = refusal(429, "report_run_rate_limit_exceeded")
BOTH = Plan(wait_for_completion=True)
BUSY = refusal(429, "rate_limit", Stripe_Rate_Limited_Reason="global-rate")
PERMANENT = [
    (AuthenticationError, refusal(401)),
    (PermissionDenied, refusal(403)),
    (NotFound, refusal(404, "not_found")),
    (InvalidRequest, refusal(400, "invalid_fields")),
    (TransportError, TransportError("The certificate.", transient=False)),
]
PERMANENT_IDS = [kind.__name__ for kind, _ in PERMANENT]


def patience(seconds=DAY, **arguments):
    """Patience that begins with the script."""
    return Patience(deadline=NOW + seconds, **arguments)


def even(seconds):
    """A pace that does not grow."""
    return Pace(shortest_seconds=seconds, longest_seconds=seconds)


def order(**arguments):
    """An order of one report run."""
    request = ReportRequest("balance_summary", arguments.pop("parameters", {"currency": "eur"}))
    return Order(**{"api": API, "request": request, "idempotency_key": "first"} | arguments)


def report(*, through):
    """A report whose data reach that far."""
    window = {"min": "2020-01-01T00:00:00.000Z", "max": through}
    interval_end = {"type": "timestamp", "required": True, "timestamp_details": window}
    return answer(200, {"id": "balance_summary", "parameters": {"interval_end": interval_end}})


def created(instant):
    """An instant of the script as the API writes it."""
    return datetime.fromtimestamp(instant, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# One request


def test_a_good_answer_needs_no_pause(world):
    """One request, one answer."""
    found = world.carry_out(asking.ask(CALL, **world.here), run("running"))
    assert found.id == "reprun_1"
    assert world.sent == [CALL.request]
    assert world.pauses == []


def test_what_fails_in_passing_is_repeated_word_for_word(world):
    """Every repetition is the same request, key and body included."""
    call = calls.create_run(API, ReportRequest("r", {}), "k")
    script = [lost(), refusal(503), BUSY, answer(502, HTML), run()]
    world.carry_out(asking.ask(call, **world.here), *script)
    assert world.sent == [call.request] * 5
    assert world.pauses == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (TransportError, lost()),
        (ServerError, refusal(500)),
        (RateLimited, BUSY),
        (UnexpectedAnswer, answer(200, HTML)),
        (InvalidRequest, refusal(400, Stripe_Should_Retry="true")),
    ],
    ids=["lost", "500", "429", "HTML", "should retry"],
)
@pytest.mark.parametrize("attempts", [1, 3, 5])
def test_repetitions_are_bounded(world, kind, said, attempts):
    """The last error comes out after so many requests, and nothing is waited for after it."""
    flow = asking.ask(CALL, policy=RetryPolicy(attempts=attempts), **world.here)
    with pytest.raises(kind):
        world.carry_out(flow, then=said)
    assert len(world.sent) == attempts
    assert len(world.pauses) == attempts - 1


def test_the_servers_hint_is_slept_for(world):
    """Retry-After takes the place of our own arithmetic."""
    flow = asking.ask(CALL, **world.here)
    world.carry_out(flow, refusal(429, Retry_After="3"), refusal(503, Retry_After="600"), run())
    assert world.pauses == [3.0, 8.0]


@pytest.mark.parametrize(("kind", "said"), [*PERMANENT, (CapacityExceeded, FULL)])
def test_what_asking_again_does_not_help_comes_out_at_once(world, kind, said):
    """One request, and no pause."""
    with pytest.raises(kind):
        world.carry_out(asking.ask(CALL, **world.here), said)
    assert world.pauses == []


def test_an_error_names_its_request(world):
    """Whatever is wrong with an answer, Stripe's support can find it."""
    flow = asking.ask(CALL, policy=RetryPolicy(attempts=1), **world.here)
    with pytest.raises(UnexpectedAnswer) as raised:
        world.carry_out(flow, answer(200, {"no": "run"}, Request_Id="req_1"))
    assert raised.value.request_id == "req_1"
    assert "reprun_1" in str(raised.value)


# Waiting for the end


def test_asks_until_the_report_run_has_succeeded(world):
    """Running is asked about again, succeeded is returned."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    found = world.carry_out(flow, run(), run(), run("succeeded"))
    assert found.status == "succeeded"
    assert world.sent == [CALL.request] * 3


def test_a_failed_report_run_is_an_error(world):
    """Its code and message, and whether another could succeed, come with it."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    with pytest.raises(ReportRunFailed, match="internal_error: No luck") as raised:
        world.carry_out(flow, run(), failed())
    assert raised.value.facts == {
        "report_run_id": "reprun_1",
        "error_code": "internal_error",
        "error_message": "No luck.",
        "transient": True,
    }


def test_an_unknown_status_is_unfinished(world):
    """What the API may add later is waited out, until the deadline at most."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    assert world.carry_out(flow, run("queued"), run("paused"), run("succeeded")).is_finished
    bounded = flows.await_finished(API, "reprun_1", patience=patience(600), **world.here)
    with pytest.raises(DeadlinePassed):
        world.carry_out(bounded, then=run("queued"))


def test_each_status_is_told_once(world, caplog):
    """One line for each change of status, however often it is asked for."""
    caplog.set_level(logging.INFO, logger=flows.log.name)
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    world.carry_out(flow, run("queued"), run(), run(), run(), run("succeeded"))
    assert [record.getMessage() for record in caplog.records] == [
        "Report run reprun_1 is queued",
        "Report run reprun_1 is running",
        "Report run reprun_1 succeeded",
    ]


def test_pauses_grow_with_age_and_stay_in_bounds(world):
    """So much later at most is an end noticed, and no more requests are spent than that takes."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(7200), **world.here)
    with pytest.raises(DeadlinePassed):
        world.carry_out(flow, then=run(created=created(NOW)))
    ages = [at - NOW for at in world.asked_at]
    assert ages[:5] == pytest.approx([0.0, 2.1, 5.25, 12.6, 33.6])
    expected = [min(max(0.15 * age, 30), 300) for age in ages[4:-2]]
    assert expected == pytest.approx(world.pauses[4:-1])
    assert max(world.pauses) == 300
    assert len(world.pauses) < 45


@pytest.mark.parametrize(
    ("length", "noticed"), [(1, 2.1), (2, 2.1), (5, 5.25), (10, 12.6), (30, 33.6), (60, 63.6)]
)
def test_the_first_looks_at_a_new_run_come_soon(world, length, noticed):
    """A short run is noticed after seconds, not after a whole interval."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    world.carry_out(flow, then=world.run_of(length))
    assert world.now - NOW == pytest.approx(noticed, abs=0.1)


@pytest.mark.parametrize("age", [0.0, 0.5, 1.5, 5.0])
@pytest.mark.parametrize("jitter", [min, max, lambda *ends: sum(ends) / 2])
def test_the_first_looks_cost_three_requests_at_most(age, jitter):
    """However long the run takes, it costs three polls more than even pauses."""
    pace = Pace(shortest_seconds=30, longest_seconds=30)
    early, even_ones = [age], [age]
    while early[-1] < 600:
        early.append(early[-1] + pace.delay_of_run(early[-1], jitter)[0])
        even_ones.append(even_ones[-1] + pace.delay(even_ones[-1], jitter))
    for length in range(1, 600):
        assert bisect_left(early, length) <= bisect_left(even_ones, length) + len(EARLY_AGES)


def test_an_own_interval_that_is_shorter_wins(world):
    """Nobody who asks for a poll every second waits two."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(pace=even(1)), **world.here)
    world.carry_out(flow, *[run()] * 9, run("succeeded"))
    assert world.pauses == [1] * 9


def test_the_first_looks_do_not_begin_again_after_an_error(world):
    """What cannot be seen is not known to be new."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    world.carry_out(flow, lost(), lost(), run(created=created(NOW - 40)), run("succeeded"))
    assert world.pauses == [0.5, 30, 30]


def test_the_age_is_that_of_the_report_run(world):
    """A wait that begins late, as after a restart, does not begin with short pauses again."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    world.carry_out(flow, run(created=created(NOW - 1000)), run("succeeded"))
    assert world.pauses == pytest.approx([150])


def test_a_report_run_from_the_future_is_new(world):
    """Clocks differ; the age is never negative."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    world.carry_out(flow, run(created=created(NOW + 5000)), run("succeeded"))
    assert world.pauses == pytest.approx([2.1])


def test_the_deadline_is_looked_at_once_more(world):
    """The last pause ends at the deadline, and what is found there counts."""
    arguments = {"patience": patience(70, pace=even(30)), "environment": world.environment}
    found = world.carry_out(
        flows.await_finished(API, "reprun_1", **arguments), *[run()] * 6, run("succeeded")
    )
    assert found.is_finished
    assert world.pauses == pytest.approx([2.1, 3.15, 7.35, 21.0, 30.0, 6.4])


def test_a_wait_ends_at_its_deadline(world):
    """The error says how long it took, and that the report run goes on without us."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(70, pace=even(30)), **world.here)
    with pytest.raises(DeadlinePassed, match="report run reprun_1 to finish, 70 s") as raised:
        world.carry_out(flow, then=run())
    assert world.now == NOW + 70
    assert raised.value.report_run_id == "reprun_1"
    assert "goes on at Stripe" in str(raised.value)


@pytest.mark.parametrize("said", [run(), refusal(503, Stripe_Should_Retry="false")])
def test_a_wait_that_comes_too_late_looks_once(world, said):
    """A triggerer that was down past the deadline asks once, and does not sleep."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(-5), **world.here)
    with pytest.raises(DeadlinePassed):
        world.carry_out(flow, said)
    assert world.pauses == []


def test_outages_within_the_tolerance_are_let_pass(world):
    """What counts is the time since the last good answer, so two outages do not add up."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(pace=even(300)), **world.here)
    down = [lost(), refusal(502), answer(200, HTML), BUSY]
    found = world.carry_out(flow, *down, run(), *down, run("succeeded"))
    assert found.is_finished
    assert world.now - NOW > TOLERANCE


def test_an_outage_that_lasts_ends_the_wait(world):
    """The last error comes out, so many seconds after the last good answer."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(pace=even(60)), **world.here)
    with pytest.raises(ServerError):
        world.carry_out(flow, *[run(created=created(NOW - 60))] * 4, then=refusal(503))
    last_good = NOW + 3 * 60
    assert TOLERANCE <= world.now - last_good < TOLERANCE + 122


def test_the_tolerance_may_be_another(world):
    """Nothing is tolerated where nothing shall be."""
    flow = flows.await_finished(
        API, "reprun_1", patience=patience(outage_tolerance_seconds=0.0), **world.here
    )
    with pytest.raises(ServerError):
        world.carry_out(flow, run(), then=refusal(503))
    assert len(world.sent) == 3


def test_one_bad_answer_after_a_long_pause_is_no_outage(world):
    """Pauses beyond the tolerance are not held against the API."""
    flow = flows.await_finished(
        API, "reprun_1", patience=patience(pace=even(2 * TOLERANCE)), **world.here
    )
    found = world.carry_out(flow, run(), lost(), lost(), run("succeeded"))
    assert found.is_finished


@pytest.mark.parametrize(("kind", "said"), PERMANENT, ids=PERMANENT_IDS)
def test_a_wait_does_not_outwait_what_stays(world, kind, said):
    """Permanent errors come out at once, however patient the wait."""
    flow = flows.await_finished(API, "reprun_1", patience=patience(), **world.here)
    with pytest.raises(kind):
        world.carry_out(flow, run(), said)
    assert world.pauses == pytest.approx([2.1])


# Creating


def test_an_order_is_one_post(world):
    """The report run is returned as it is, running or not."""
    found = world.carry_out(flows.create(order(), patience=patience(), **world.here), run())
    (request,) = world.sent
    assert (found.id, found.status) == ("reprun_1", "running")
    assert (request.method, request.path) == ("POST", "/v2/reporting/report_runs")
    assert request.headers == {"Idempotency-Key": "first"}
    assert request.body.content == (
        b'{"report":"balance_summary","report_parameters":{"currency":"eur"}}'
    )


@pytest.mark.parametrize("said", [FULL, BUSY], ids=["capacity", "limiter"])
def test_waits_for_room_as_long_as_it_takes(world, said):
    """A refusal is an answer, not an outage; each repetition is the same create."""
    flow = flows.create(order(), patience=patience(pace=even(600)), **world.here)
    repeats = 5 if said is BUSY else 1
    found = world.carry_out(flow, *[said] * (10 * repeats), run())
    assert found.id == "reprun_1"
    assert set(world.keys) == {"first"}
    assert world.now - NOW > TOLERANCE


def test_the_wait_for_room_has_a_deadline(world):
    """There is no report run yet that could go on."""
    flow = flows.create(order(), patience=patience(100, pace=even(30)), **world.here)
    with pytest.raises(DeadlinePassed, match="room for one more report run") as raised:
        world.carry_out(flow, then=FULL)
    assert world.now == NOW + 100
    assert raised.value.report_run_id is None
    assert "goes on" not in str(raised.value)


def test_an_outage_while_creating_is_tolerated_as_long(world):
    """Answers that were lost are asked for again under the same key, within the tolerance."""
    flow = flows.create(order(), patience=patience(pace=even(300)), **world.here)
    assert world.carry_out(flow, *[lost()] * 10, FULL, *[lost()] * 10, run()).id == "reprun_1"
    assert set(world.keys) == {"first"}
    lasting = flows.create(order(), patience=patience(pace=even(300)), **world.here)
    with pytest.raises(TransportError):
        world.carry_out(lasting, then=lost())


@pytest.mark.parametrize(("kind", "said"), PERMANENT, ids=PERMANENT_IDS)
def test_a_create_that_is_refused_for_good_is_not_repeated(world, kind, said):
    """Permanent errors come out at once, in the middle of a wait for room too."""
    flow = flows.create(order(), patience=patience(), **world.here)
    with pytest.raises(kind):
        world.carry_out(flow, FULL, said)
    assert world.pauses == [30]


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        (report(through="2025-08-20T00:00:00.000Z"), DataNotAvailable),
        (report(through="2025-08-25T00:00:00.000Z"), InvalidRequest),
        (refusal(403), InvalidRequest),
        (answer(200, HTML), InvalidRequest),
        (answer(200, {"id": "balance_summary"}), InvalidRequest),
    ],
    ids=["not there yet", "there", "forbidden", "a gateway", "no window"],
)
def test_a_refused_create_tells_whether_its_data_will_come(world, definition, kind):
    """What passes by itself is transient; what cannot be looked up is the refusal itself."""
    wanted = order(parameters={"interval_end": "2025-08-25T00:00:00.000Z"})
    looked = [definition] * (2 if definition.body == HTML else 1)
    with pytest.raises(kind) as caught:
        world.carry_out(
            flows.create(wanted, patience=patience(), **world.here),
            refusal(400, "invalid_fields"),
            *looked,
        )
    assert caught.value.transient is (kind is DataNotAvailable)


@pytest.mark.parametrize("last", [run(run_id="reprun_3"), run("succeeded", "reprun_3")])
@pytest.mark.parametrize("error_code", ["internal_error", "something_new", None])
def test_a_failed_report_run_leads_to_the_next_key(world, last, error_code):
    """Each key of the chain is made of the one before and the report run that failed under it."""
    script = [failed("reprun_1", error_code), failed("reprun_2", error_code), last]
    found = world.carry_out(
        flows.create(order(tries=5), patience=patience(), **world.here), *script
    )
    second = key_after_failure("first", "reprun_1")
    assert found.id == "reprun_3"
    assert world.keys == ["first", second, key_after_failure(second, "reprun_2")]


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_the_chain_is_as_long_as_allowed(world, allowed):
    """The last report run is returned as it is, failed or not."""
    script = [failed(f"reprun_{number}") for number in range(1, allowed + 1)]
    flow = flows.create(order(tries=allowed), patience=patience(), **world.here)
    found = world.carry_out(flow, *script)
    assert (found.id, found.status) == (f"reprun_{allowed}", "failed")
    assert len(set(world.keys)) == allowed


def test_a_failure_that_stays_is_not_walked_past(world):
    """A file that is too large is so under any key."""
    too_large = failed(error_code="file_size_above_limit")
    found = world.carry_out(
        flows.create(order(tries=5), patience=patience(), **world.here), too_large
    )
    assert found.error_code == "file_size_above_limit"
    assert world.keys == ["first"]


def test_later_keys_wait_for_room_too(world):
    """A chain is walked under one deadline, with patience at each of its keys."""
    flow = flows.create(order(tries=2), patience=patience(), **world.here)
    found = world.carry_out(flow, FULL, failed(), FULL, FULL, run(run_id="reprun_2"))
    assert found.id == "reprun_2"
    assert len(world.pauses) == 3


# Both


def test_creates_and_waits(world):
    """One POST, then GETs until it has succeeded; the caller is told the id in between."""
    told = []
    flow = flows.fulfil(order(), BOTH, patience=patience(), on_created=told.append, **world.here)
    found = world.carry_out(flow, FULL, run(), run(), run("succeeded"))
    assert found.status == "succeeded"
    assert [request.method for request in world.sent] == ["POST", "POST", "GET", "GET"]
    assert [(each.id, each.status) for each in told] == [("reprun_1", "running")]


def test_what_is_finished_already_is_not_asked_for_again(world):
    """A repeat of the key gives the report run as it is now."""
    told = []
    flow = flows.fulfil(order(), BOTH, patience=patience(), on_created=told.append, **world.here)
    assert world.carry_out(flow, run("succeeded")).is_finished
    assert [each.id for each in told] == ["reprun_1"]


@pytest.mark.parametrize("script", [[failed()], [run(), failed()]], ids=["at once", "later"])
def test_a_report_run_that_fails_ends_it(world, script):
    """The chain is for the next try: this one does not create a second report run."""
    told = []
    flow = flows.fulfil(order(), BOTH, patience=patience(), on_created=told.append, **world.here)
    with pytest.raises(ReportRunFailed):
        world.carry_out(flow, *script)
    assert [request.method for request in world.sent].count("POST") == 1
    assert len(told) == 1


def test_there_is_one_deadline_for_both(world):
    """What the wait for room took is not there for the report run any more."""
    flow = flows.fulfil(order(), BOTH, patience=patience(600, pace=even(60)), **world.here)
    with pytest.raises(DeadlinePassed, match="report run reprun_1") as raised:
        world.carry_out(flow, *[FULL] * 8, then=run())
    assert raised.value.report_run_id == "reprun_1"
    assert world.now == NOW + 600


# What is measured


def measured(world, name):
    """What was measured under a name, as tags and times."""
    return [(dict(m.tags), m.seconds) for m in world.metrics if m.name == name]


def test_a_wait_is_measured_from_its_first_look_to_its_end(world):
    """With each look, and for how long it went on; what is repeated at once is one look."""
    world.carry_out(
        flows.await_finished(API, "reprun_1", patience=patience(), **world.here),
        run("running"),
        lost(),
        lost(),
        run("succeeded"),
    )
    looks = [tags["outcome"] for tags, _ in measured(world, "polls")]
    assert looks == ["not_yet", "error", "done"]
    assert measured(world, "report_wait") == [
        ({"report": "balance_summary", "outcome": "done"}, world.now - NOW)
    ]


def test_a_wait_that_ends_in_an_error_is_measured_by_its_name(world):
    """With the report, where it was heard of."""
    with pytest.raises(ReportRunFailed):
        world.carry_out(
            flows.await_finished(API, "reprun_1", patience=patience(), **world.here),
            failed(),
        )
    ((tags, _),) = measured(world, "report_wait")
    assert tags == {"report": "balance_summary", "outcome": "ReportRunFailed"}


@pytest.mark.parametrize(
    ("age", "name"), [(0, "creates"), (2, "creates"), (3, "attaches"), (-3600, "creates")]
)
def test_a_report_run_that_was_there_before_is_not_counted_as_created(world, age, name):
    """But one that is younger than clocks may differ is, and one from a clock ahead of ours."""
    created = datetime.fromtimestamp(NOW - age, timezone.utc)
    stamp = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.carry_out(flows.create(order(), patience=patience(), **world.here), run(created=stamp))
    assert [m.name for m in world.metrics if m.name in {"creates", "attaches"}] == [name]


@pytest.mark.parametrize(
    ("said", "reason"), [(FULL, "capacity"), (BUSY, "rate")], ids=["capacity", "rate"]
)
def test_a_refused_create_is_counted_by_its_reason(world, said, reason):
    """Once for each time that it was put off, whatever was repeated within seconds."""
    refusals = [said] * (1 if reason == "capacity" else asking.SINGLE_REQUEST.attempts)
    world.carry_out(flows.create(order(), patience=patience(), **world.here), *refusals, run())
    assert measured(world, "creates_refused") == [
        ({"report": "balance_summary", "reason": reason}, None)
    ]
    ((_, seconds),) = measured(world, "capacity_wait")
    assert seconds == world.now - NOW > 0


# A clock that takes steps

HOUR = 3600.0
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])


def even_waits(world):
    """Waits of each kind, whose pace shows how old each takes what it waits for to be."""
    growing = patience(pace=Pace(shortest_seconds=10, longest_seconds=300))
    data = flows.await_data(
        API,
        "r",
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        patience=growing,
        **world.here,
    )
    return {
        "report run": flows.await_finished(API, "reprun_1", patience=growing, **world.here),
        "data": data,
        "room": flows.create(order(), patience=growing, **world.here),
        "both": flows.fulfil(order(), BOTH, patience=growing, **world.here),
    }


@STEPS
@pytest.mark.parametrize("kind", ["report run", "data", "room", "both"])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_step_of_the_clock_ends_no_tolerance_early(world, kind, at, step):
    """Nor late: an outage is as long as it lasts, and so are the pauses in it."""
    straight = World(driver=world.driver)
    for each, steps in ((straight, {}), (world, {at: step})):
        each.steps = steps
        with pytest.raises(TransportError):
            each.carry_out(even_waits(each)[kind], then=lost())
        assert TOLERANCE <= each.now - NOW < TOLERANCE + 300
    assert world.off_by == step
    assert world.pauses == straight.pauses


@STEPS
@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_step_of_the_clock_moves_no_look(world, at, step):
    """The age of a report run is counted from when it was made, by the clock of the first look."""
    straight = World(driver=world.driver)
    for each, steps in ((straight, {}), (world, {at: step})):
        each.steps = steps
        said = [run(created=created(NOW - 600))] * 20
        each.carry_out(even_waits(each)["report run"], *said, run("succeeded"))
    assert world.pauses == straight.pauses
    assert world.pauses[0] > 10, "it is ten minutes old"
    assert measured(world, "report_wait") == measured(straight, "report_wait")


@STEPS
def test_a_deadline_is_the_clock_s(world, step):
    """A step moves what is left of the wait, and not how long it is told to have taken."""
    world.steps = {1: step}
    flow = flows.await_finished(
        API, "reprun_1", patience=patience(2 * HOUR, pace=even(30)), **world.here
    )
    lasts = 2 * HOUR - step
    with pytest.raises(DeadlinePassed, match=f"to finish, {lasts:.0f} s in all"):
        world.carry_out(flow, then=run())
    assert world.now == NOW + lasts
    ((_, seconds),) = measured(world, "report_wait")
    assert seconds == lasts


@STEPS
def test_a_step_of_the_clock_is_not_told_as_a_wait_for_room(world, step):
    """What went into the create is counted; a new report run is not taken for one of before."""
    world.steps = {1: step}
    flow = flows.fulfil(order(), BOTH, patience=patience(2 * HOUR, pace=even(30)), **world.here)
    with pytest.raises(DeadlinePassed, match="Before that, the create took 30 s"):
        world.carry_out(flow, FULL, then=run(created=created(NOW + 30)))
    assert [m.name for m in world.metrics if m.name in {"creates", "attaches"}] == ["creates"]
