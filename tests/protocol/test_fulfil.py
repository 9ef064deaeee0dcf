"""The whole sequence: attach, or check and create, and each of the waits in its place."""

from __future__ import annotations

from collections import deque

import pytest
from protocol.script import NOW, answer, failed, lost, refusal, run

from airflow_provider_reportrun.errors import (
    AuthenticationError,
    DataNotAvailable,
    DeadlinePassed,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ReportRunFailed,
    ServerError,
)
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.asking import Environment, Patience
from airflow_provider_reportrun.protocol.drivers import WouldWait, drive
from airflow_provider_reportrun.protocol.flows import Definition, Order, Plan
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.messages import AwaitRoom, Sleep, WaitBegins
from airflow_provider_reportrun.protocol.requests import ReportRequest
from airflow_provider_reportrun.protocol.retry import Pace

API = named("v2.reporting")
END = "2026-11-02T00:00:00.000Z"
FULL = refusal(429, "report_run_rate_limit_exceeded")
NOT_YET = answer(
    400,
    {
        "error": {
            "message": "Data is only available through 2026-11-01 12:00:00 UTC; you requested"
            " `interval_end` = 2026-11-02 00:00:00 UTC."
        }
    },
)
DOWN = refusal(503, Stripe_Should_Retry="false")
ALL = Plan(validate=True, wait_for_data=True, wait_for_completion=True)
WAITS = [
    pytest.param(Plan(), id="create"),
    pytest.param(Plan(validate=True), id="validate"),
    pytest.param(Plan(wait_for_data=True), id="data"),
    pytest.param(ALL, id="all"),
]


def order(**arguments):
    """An order whose interval ends on 2 November."""
    request = ReportRequest("r", arguments.pop("parameters", {"interval_end": END}))
    return Order(**{"api": API, "request": request, "idempotency_key": "k"} | arguments)


def definition(through="2026-12-01T00:00:00.000Z"):
    """An answer of a report whose data reach that far; None does not say."""
    window = None if through is None else {"min": "2020-01-01T00:00:00.000Z", "max": through}
    end = {"type": "timestamp", "required": True, "timestamp_details": window}
    return answer(200, {"id": "r", "parameters": {"interval_end": end}})


LATE = definition("2026-11-01T00:00:00.000Z")


def fulfil(world, plan, **arguments):
    """The conversation, with a pace of half a minute."""
    patience = Patience(deadline=NOW + 86400, pace=Pace(longest_seconds=30.0))
    asked = arguments.pop("order", order())
    return flows.fulfil(asked, plan, **{"patience": patience} | world.here | arguments)


def sent(world):
    """What was sent, in order: C for a create, D for a definition, R for a report run."""
    return "".join(
        "C" if request.method == "POST" else "D" if "/reports/" in request.path else "R"
        for request in world.sent
    )


class Worker:
    """Drives as the worker of a deferrable task does: it leaves at the first wait."""

    def __init__(self):
        self.here = {"environment": Environment(jitter=lambda _, most: most)}
        self.sent = []
        self.created = []

    def drive(self, flow, *script):
        """Return the step that the worker leaves at, or what the conversation returns."""
        answers = deque(script)

        def send(request):
            self.sent.append(request)
            said = answers.popleft()
            if isinstance(said, Exception):
                raise said
            return said

        def pause(step):
            if isinstance(step, Sleep | AwaitRoom | WaitBegins):
                raise WouldWait(step)

        try:
            return drive(flow, send=send, pause=pause, measure=lambda _: None)
        except WouldWait as leaves:
            return leaves.step
        finally:
            assert not answers


# One sequence


@pytest.mark.parametrize(
    ("plan", "requests"),
    [(Plan(), "C"), (Plan(validate=True), "DC"), (Plan(wait_for_data=True), "DC"), (ALL, "DCR")],
    ids=["create", "validate", "data", "all"],
)
def test_each_plan_sends_what_it_needs(world, plan, requests):
    """Nothing is asked for that no step of the plan needs."""
    answers = {"D": definition(), "C": run(), "R": run("succeeded")}
    found = world.carry_out(fulfil(world, plan), *(answers[each] for each in requests))
    assert found.id == "reprun_1"
    assert sent(world) == requests
    assert world.pauses == []


def test_all_waits_come_in_their_order(world):
    """Data, then room, then the report; each is polled until it is there."""
    script = [LATE, LATE, LATE, definition(), FULL, FULL, run(), run(), run("succeeded")]
    seen = []
    flow = fulfil(world, ALL, on_created=lambda each: seen.append((each.id, each.status)))
    assert world.carry_out(flow, *script).is_finished
    assert sent(world) == "DDDDCCCRR"
    assert seen == [("reprun_1", "running")]


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_what_is_finished_already_is_not_polled(world, status):
    """A repeat of the key returns the report run as it is now."""
    said = run("succeeded") if status == "succeeded" else failed()
    plan = Plan(wait_for_completion=True)
    if status == "failed":
        with pytest.raises(ReportRunFailed):
            world.carry_out(fulfil(world, plan), said)
    else:
        assert world.carry_out(fulfil(world, plan), said).is_finished
    assert sent(world) == "C"


def test_a_plan_without_waits_returns_a_failed_report_run(world):
    """Whoever waits for it tells of the failure."""
    assert world.carry_out(fulfil(world, Plan()), failed()).status == "failed"


# A report run of an earlier try


def test_a_known_report_run_is_attached_to(world):
    """By a GET, without a create and without a check."""
    plan = Plan(validate=True, wait_for_completion=True, known_run_id="reprun_1")
    seen = []
    flow = fulfil(world, plan, on_created=lambda each: seen.append(each.id))
    assert world.carry_out(flow, run(), run("succeeded")).is_finished
    assert sent(world) == "RR"
    assert seen == ["reprun_1"]
    assert [each.name for each in world.metrics].count("attaches") == 1


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        (refusal(404, "not_found"), order()),
        (failed(), order()),
        (run("succeeded"), order(gone=frozenset({"reprun_1"}))),
    ],
    ids=["not found", "failed", "gone"],
)
def test_a_known_report_run_that_is_lost_is_created_anew(world, known, asked):
    """Under the same chain of keys."""
    plan = Plan(wait_for_completion=True, known_run_id="reprun_1")
    world.carry_out(fulfil(world, plan, order=asked), known, run("succeeded", "reprun_2"))
    assert sent(world) == "RC"


def test_a_failed_report_run_is_attached_to_if_nobody_waits(world):
    """A task that only creates returns the id that it returned before."""
    plan = Plan(known_run_id="reprun_1")
    assert world.carry_out(fulfil(world, plan), failed()).status == "failed"
    assert sent(world) == "R"


# The check


@pytest.mark.parametrize("plan", [Plan(validate=True), ALL], ids=["validate", "all"])
def test_wrong_parameters_end_it_before_a_create(world, plan):
    """All problems are named at once."""
    wrong = order(parameters={"interval_end": ["no", "instant"]})
    with pytest.raises(InvalidInput, match="interval_end must be an instant"):
        world.carry_out(fulfil(world, plan, order=wrong), definition())
    assert sent(world) == "D"


def test_missing_data_end_it_if_nobody_waits(world):
    """After a second look only if the first was at an older copy."""
    world.now += 1
    with pytest.raises(DataNotAvailable):
        world.carry_out(fulfil(world, Plan(validate=True)), LATE, LATE)
    first, second = world.sent
    assert first.fresh_since < 0 < second.fresh_since == world.now - NOW


def test_a_definition_that_is_known_is_not_asked_for(world):
    """Whoever has looked it up passes it on."""
    report = world.carry_out(flows.define(API, "r", **world.here), definition()).report
    world.sent.clear()
    plan = Plan(validate=True, definition=Definition(world.now - NOW, report=report))
    world.carry_out(fulfil(world, plan), run())
    assert sent(world) == "C"


UNREADABLE = {
    "403": ([refusal(403)], PermissionDenied),
    "404": ([refusal(404, "not_found")], NotFound),
    "no window": ([definition(None)], None),
    "503": ([DOWN], ServerError),
}


@pytest.mark.parametrize("plan", WAITS[1:])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_definition_that_cannot_be_read_stops_nothing(world, plan, kind):
    """The create is tried without it, whoever carries the conversation out."""
    said, _ = UNREADABLE[kind]
    looks = said * (
        3 if kind == "503" and plan == ALL else 2 if kind == "503" and plan.wait_for_data else 1
    )
    script = [*looks, run(), *([run("succeeded")] if plan.wait_for_completion else [])]
    world.carry_out(fulfil(world, plan), *script)
    assert sent(world).replace("D", "") == "C" + "R" * plan.wait_for_completion


@pytest.mark.parametrize("kind", UNREADABLE)
def test_without_a_definition_the_create_is_repeated_until_there_are_data(world, kind):
    """The API refuses it until then; each repetition has the same key."""
    said, _ = UNREADABLE[kind]
    looks = said * (2 if kind == "503" else 1)
    plan = Plan(wait_for_data=True)
    script = [*looks, NOT_YET, *looks, NOT_YET, *looks, run()]
    assert world.carry_out(fulfil(world, plan), *script).id == "reprun_1"
    creates = [each for each in world.sent if each.method == "POST"]
    assert {each.headers["Idempotency-Key"] for each in creates} == {"k"}
    assert len(creates) == 3


@pytest.mark.parametrize("plan", WAITS[1:])
def test_a_refused_key_ends_it(world, plan):
    """The create would be refused too."""
    with pytest.raises(AuthenticationError):
        world.carry_out(fulfil(world, plan), refusal(401))


# Outages of the create


def test_a_triggerer_rides_out_an_outage_and_a_worker_does_not(world):
    """Airflow's retries do that for a worker, without a slot being held."""
    with pytest.raises(ServerError):
        world.carry_out(fulfil(world, Plan(rides_out_outages=False)), then=refusal(503))
    assert world.now - NOW < 60
    world.carry_out(fulfil(world, Plan()), *[DOWN] * 10, run())


def test_after_a_wait_for_data_a_worker_rides_out_an_outage_too(world):
    """It has held its slot for long, and a retry would begin again."""
    plan = Plan(wait_for_data=True, rides_out_outages=False)
    script = [definition(), NOT_YET, definition(), *[DOWN] * 5, run()]
    assert world.carry_out(fulfil(world, plan), *script).id == "reprun_1"


# Deadlines


def test_there_is_one_deadline_for_all_waits(world):
    """The error names what was waited for, and how long the create took."""
    patience = Patience(deadline=NOW + 600, pace=Pace(longest_seconds=30.0))
    flow = fulfil(world, ALL, patience=patience)
    with pytest.raises(DeadlinePassed, match=r"reprun_1.*the create took 150 s") as caught:
        world.carry_out(flow, *[LATE] * 4, definition(), *[FULL] * 2, then=run())
    assert caught.value.report_run_id == "reprun_1"
    assert world.now == NOW + 600


@pytest.mark.parametrize("plan", WAITS)
def test_a_try_after_the_deadline_creates_once(world, plan):
    """A report run that is there is found by its key."""
    patience = Patience(deadline=NOW - 5)
    script = {"C": run("succeeded"), "D": definition()}
    needed = "C" if plan == Plan() else "DC"
    world.carry_out(fulfil(world, plan, patience=patience), *(script[each] for each in needed))
    with pytest.raises(DeadlinePassed):
        world.carry_out(fulfil(world, Plan(), patience=patience), FULL)
    assert world.pauses == []


# A worker that does not wait


@pytest.mark.parametrize(
    ("plan", "script", "step", "is_created"),
    [
        (Plan(), [FULL], AwaitRoom, False),
        (Plan(wait_for_data=True), [LATE], Sleep, False),
        (ALL, [LATE], WaitBegins, False),
        (ALL, [DOWN], WaitBegins, False),
        (ALL, [refusal(403), NOT_YET], Sleep, False),
        (ALL, [definition(), run()], WaitBegins, True),
        (Plan(wait_for_completion=True, known_run_id="reprun_1"), [run()], WaitBegins, True),
    ],
)
def test_a_worker_leaves_at_the_first_wait(plan, script, step, is_created):
    """What it has created is known by then."""
    worker = Worker()
    flow = fulfil(worker, plan, on_created=worker.created.append)
    assert isinstance(worker.drive(flow, *script), step)
    assert bool(worker.created) is is_created


def test_a_worker_sleeps_between_the_repetitions_of_one_request():
    """Seconds are cheaper than a deferral."""
    worker = Worker()
    found = worker.drive(fulfil(worker, Plan()), lost(), refusal(503), run())
    assert found.id == "reprun_1"


def test_a_conversation_goes_on_where_its_driver_left():
    """A poke of a sensor is the conversation up to its next pause."""
    worker = Worker()
    flow = flows.await_finished(API, "reprun_1", patience=Patience(deadline=NOW * 2), **worker.here)
    assert isinstance(worker.drive(flow, run()), Sleep)
    assert isinstance(worker.drive(flow, DOWN), Sleep)
    assert worker.drive(flow, run("succeeded")).is_finished
