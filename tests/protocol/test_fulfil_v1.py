"""The whole sequence where answers are saved: frozen replays, old errors, and the list of runs."""

from __future__ import annotations

import json
import random

import pytest
from protocol.script import NOW, World, answer, lost

from airflow_provider_reportrun.errors import (
    AuthenticationError,
    DataNotAvailable,
    InvalidInput,
    InvalidRequest,
    PermissionDenied,
    ReportRunFailed,
    ServerError,
    TransportError,
)
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.asking import Patience
from airflow_provider_reportrun.protocol.flows import LISTED_PAGES, Order, Plan
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.identity import key_after_failure
from airflow_provider_reportrun.protocol.requests import ReportRequest
from airflow_provider_reportrun.protocol.retry import Pace

V1 = named("v1")
DAY = 24 * 3600
START, END = "2026-10-26T00:00:00.000Z", "2026-11-02T00:00:00.000Z"
SECONDS = {"interval_start": 1792972800, "interval_end": 1793577600}
REQUEST = ReportRequest("balance.summary.1", {"interval_start": START, "interval_end": END})
WAITS = Plan(wait_for_completion=True)
KEYS = ["k"]
for _ in range(5):
    KEYS.append(key_after_failure(KEYS[-1], "error"))


def order(**arguments):
    """An order of a task that began a minute ago."""
    defaults = {"api": V1, "request": REQUEST, "idempotency_key": "k", "since": NOW - 60}
    return Order(**defaults | arguments)


def listed(run_id="frr_1", status="pending", **fields):
    """A run of the order, as the API writes it."""
    result = None
    if status == "succeeded":
        url = "https://files.stripe.com/v1/files/file_1/contents"
        result = {"type": "csv", "size": 5, "url": url, "expires_at": None}
    return {
        "id": run_id,
        "status": status,
        "report_type": "balance.summary.1",
        "parameters": SECONDS,
        "created": int(NOW),
        "result": result,
        "error": "An error." if status == "failed" else None,
    } | fields


def run(*arguments, replayed=False, **fields):
    """An answer with a run."""
    headers = {"Idempotent_Replayed": "true"} if replayed else {}
    return answer(200, listed(*arguments, **fields), **headers)


def page(*runs, has_more=False):
    """An answer with a page of runs."""
    return answer(200, {"data": list(runs), "has_more": has_more})


def error(status, message="Said so.", *, replayed=False, **headers):
    """An error, perhaps an old one."""
    body = {"error": {"type": "api_error" if status >= 500 else "invalid_request_error"}}
    body["error"]["message"] = message
    marked = {"Idempotent_Replayed": "true"} if replayed else {}
    return answer(status, body, **headers, **marked)


def not_yet(**arguments):
    """A refusal of an interval that ends after the data."""
    return error(
        400,
        "Data for the report type balance.summary.1 is only available through 2026-11-01 12:00:00 "
        "UTC; you requested `interval_end` = 2026-11-02 00:00:00 UTC.",
        **arguments,
    )


def definition(through=SECONDS["interval_end"]):
    """An answer of a report type whose data reach that far."""
    window = {"data_available_start": 0, "data_available_end": through}
    return answer(200, {"id": "balance.summary.1", "default_columns": ["a"], **window})


def fulfil(world, plan=WAITS, **arguments):
    """The conversation, with a pace of half a minute."""
    patience = arguments.pop("patience", {})
    patience = Patience(
        **{"deadline": NOW + 5 * DAY, "pace": Pace(longest_seconds=30.0)} | patience
    )
    return flows.fulfil(order(**arguments), plan, patience=patience, **world.here)


def sent(world):
    """What was sent: C for a create, D for a definition, L for a list, R for a run."""
    kinds = {"/report_types/": "D", "/report_runs?": "L", "/report_runs/": "R"}
    return "".join(
        "C"
        if request.method == "POST"
        else next(kind for text, kind in kinds.items() if text in request.path)
        for request in world.sent
    )


def keys(world):
    """The keys of the creates, as places in the chain of errors."""
    posts = [request for request in world.sent if request.method == "POST"]
    return [KEYS.index(request.headers["Idempotency-Key"]) for request in posts]


# Frozen replays


def test_a_first_try_creates_and_polls(world):
    """Nothing else is asked for."""
    assert world.carry_out(fulfil(world), run(), run(), run("frr_1", "succeeded")).is_finished
    assert sent(world) == "CRR"


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_lost_answer_is_asked_for_again_under_the_same_key(world, tries):
    """Where there is no answer, the key is the only way to the run."""
    looked_up = [run()] if tries > 1 else []
    script = [lost(), run(replayed=True), *looked_up, run("frr_1", "succeeded")]
    world.carry_out(fulfil(world, tries=tries), *script)
    assert keys(world) == [0, 0]


def test_lost_answers_end_a_try_and_not_the_next(world):
    """Five times in a row; the next try has the same key."""
    with pytest.raises(TransportError):
        world.carry_out(fulfil(world, Plan(rides_out_outages=False)), *[lost()] * 5)
    world.carry_out(fulfil(world, tries=2), run(replayed=True), run("frr_1", "succeeded"))
    assert keys(world) == [0] * 6


def test_a_replay_is_looked_up(world):
    """It says pending for ever."""
    script = [run(replayed=True), run("frr_1", "succeeded")]
    assert world.carry_out(fulfil(world, tries=2), *script).is_finished
    assert sent(world) == "CR"
    assert world.pauses == []


def test_a_replayed_run_that_failed_leads_to_the_next_key(world):
    """In the next try only, and to one run more for each."""
    failed = run("frr_1", "failed")
    with pytest.raises(ReportRunFailed):
        world.carry_out(fulfil(world), run(), failed)
    script = [run(replayed=True), failed, run("frr_2"), run("frr_2"), run("frr_2", "succeeded")]
    assert world.carry_out(fulfil(world, tries=2), *script).id == "frr_2"
    assert sent(world) == "CR" + "CRCRR"
    assert world.sent[4].headers["Idempotency-Key"] == key_after_failure("k", "frr_1")


def test_a_create_alone_returns_what_the_key_belongs_to(world):
    """Whoever does not wait returns the id of the run of the first try."""
    assert world.carry_out(fulfil(world, Plan(), tries=3), run(replayed=True)).id == "frr_1"
    assert sent(world) == "C"


def test_a_key_in_use_is_waited_for(world):
    """It is no error of the key: no list and no other key."""
    in_use = answer(
        409,
        {"error": {"type": "idempotency_error", "code": "idempotency_key_in_use", "message": "x"}},
        Stripe_Should_Retry="true",
    )
    script = [*[in_use] * 12, run(replayed=True), run("frr_1", "succeeded")]
    world.carry_out(fulfil(world), *script)
    assert keys(world) == [0] * 13
    assert "L" not in sent(world)


def test_a_limit_of_requests_is_waited_for_under_the_same_key(world):
    """The API does not keep it."""
    full = error(429, "Too many report runs are in progress.")
    world.carry_out(fulfil(world), *[full] * 7, run("frr_1", "succeeded"))
    assert keys(world) == [0] * 8
    assert "L" not in sent(world)


# Errors of the server


def test_a_run_behind_an_error_is_found_in_the_list(world):
    """On any of its pages, with the zone that the API may add."""
    zoned = listed("frr_3", parameters=SECONDS | {"timezone": "Etc/UTC"})
    others = [listed("frr_1", report_type="payouts.itemized.5"), listed("frr_2", "failed")]
    script = [error(500), page(*others, has_more=True), page(zoned), run("frr_3", "succeeded")]
    assert world.carry_out(fulfil(world), *script).id == "frr_3"
    assert sent(world) == "CLLR"
    assert f"created%5Bgte%5D={int(NOW) - 60}" in world.sent[1].path
    assert "starting_after=frr_2" in world.sent[2].path


def test_an_old_error_leads_to_another_key(world):
    """After the list; the first key is asked again first, because the API may not have kept it."""
    old = error(500, replayed=True)
    script = [error(500), page(), old, page(), run("frr_1", "succeeded")]
    world.carry_out(fulfil(world), *script)
    assert sent(world) == "CLCLC"
    assert keys(world) == [0, 0, 1]
    assert len(world.pauses) == 1


def test_an_error_that_is_not_kept_leaves_the_key(world):
    """An error of a gateway: any later try finds the run under the first key."""
    script = [error(503), page(), run("frr_1", "succeeded")]
    world.carry_out(fulfil(world), *script)
    assert keys(world) == [0, 0]


@pytest.mark.parametrize("marks", [True, False], ids=["marked", "not marked"])
def test_an_error_without_a_run_does_not_stick(world, marks):
    """Neither in the same try nor in later ones, whether the API says that it is an old one."""
    old = error(500, replayed=marks)
    script = [error(500), page(), old, page(), run("frr_1"), run("frr_1", "succeeded")]
    world.carry_out(fulfil(world), *script)
    assert keys(world) == [0, 0, 1]
    world.sent.clear()
    before = [] if marks else [old, page()]
    script = [*before, old, page(), run("frr_1", replayed=True), run("frr_1", "succeeded")]
    world.carry_out(fulfil(world, tries=2), *script)
    assert keys(world) == [*[0 for _ in before[1:]], 0, 1]


def test_a_run_behind_an_old_error_is_found_in_the_list(world):
    """By the next try too."""
    script = [error(500, replayed=True), page(listed("frr_7")), run("frr_7", "succeeded")]
    assert world.carry_out(fulfil(world, tries=2), *script).id == "frr_7"
    assert keys(world) == [0]


def test_a_failed_run_behind_an_old_error_leads_to_another_key(world):
    """The list has it, and it is none."""
    script = [
        error(500, replayed=True),
        page(listed("frr_7", "failed")),
        run("frr_8"),
        run("frr_8"),
        run("frr_8", "succeeded"),
    ]
    assert world.carry_out(fulfil(world, tries=2), *script).id == "frr_8"
    assert keys(world) == [0, 1]


def test_a_run_whose_file_is_gone_is_not_found_again(world):
    """Neither behind an error nor after the key is forgotten."""
    behind = [error(500, replayed=True)]
    for before, since in ((behind, NOW - 60), ([], NOW - 2 * DAY)):
        here = {"gone": frozenset({"frr_7"}), "tries": 2, "since": since}
        script = [*before, page(listed("frr_7", "succeeded")), run("frr_8"), run("frr_8")]
        flow = fulfil(world, **here)
        assert world.carry_out(flow, *script, run("frr_8", "succeeded")).id == "frr_8"


def test_without_the_list_the_key_is_not_left(world):
    """There may be a run behind the error."""
    script = [error(500), error(500), error(500), run("frr_1", "succeeded")]
    world.carry_out(fulfil(world), *script)
    assert sent(world) == "CLLC"
    assert keys(world) == [0, 0]


def test_an_old_error_of_any_kind_leads_to_another_key(world):
    """Also one that is about permissions by then."""
    script = [error(403, replayed=True), page(), run("frr_1"), run("frr_1", "succeeded")]
    world.carry_out(fulfil(world, tries=2), *script)
    assert keys(world) == [0, 1]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, PermissionDenied)], ids=str
)
def test_a_refused_key_ends_it(world, status, kind):
    """At once."""
    with pytest.raises(kind):
        world.carry_out(fulfil(world), error(status))
    assert sent(world) == "C"


# Refusals


def test_a_refusal_ends_a_try(world):
    """After one create; the definition says whether only the data are missing."""
    with pytest.raises(InvalidRequest):
        world.carry_out(fulfil(world), error(400), page(), definition())
    assert sent(world) == "CLD"


@pytest.mark.parametrize("marks", [True, False], ids=["marked", "not marked"])
def test_a_refusal_does_not_stick(world, marks):
    """Each later try passes those of the tries before."""
    script = []
    for tries in (1, 2, 3):
        world.sent.clear()
        old = [not_yet(replayed=marks), page()] * (tries - 1)
        if marks:
            old = [*old[:2], *[not_yet(replayed=True)] * (tries - 2)]
        with pytest.raises(DataNotAvailable):
            world.carry_out(fulfil(world, tries=tries), *old, not_yet(), page())
        assert keys(world) == [*range(tries)]
    script = [not_yet(replayed=True), page(), *[not_yet(replayed=True)] * 2]
    world.sent.clear()
    world.carry_out(fulfil(world, tries=4), *script, run(), run("frr_1", "succeeded"))
    assert keys(world) == [0, 1, 2, 3]


ALL = Plan(validate=True, wait_for_data=True, wait_for_completion=True)


@pytest.mark.parametrize("marks", [True, False], ids=["marked", "not marked"])
def test_a_wait_for_data_does_not_stick(world, marks):
    """The definition may be ahead of the data; each create that is refused uses up a key."""
    old = [not_yet(replayed=marks), page()]
    script = [
        *[definition(), not_yet(), page()],
        *[definition(), *old, not_yet(), page()],
        *[definition(), *old, not_yet(replayed=marks), *([] if marks else [page()])],
    ]
    if marks:  # the first key was left for good
        script[-3:] = [not_yet(replayed=True), page()]
    world.carry_out(fulfil(world, ALL), *script, run(), run("frr_1", "succeeded"))
    assert keys(world) == ([0, 0, 1, 1, 2] if marks else [0, 0, 1, 0, 1, 2])


def test_a_refusal_that_is_not_kept_leaves_the_key(world):
    """Whatever is tried besides, the run belongs to the first key."""
    polls = [[definition(), *[not_yet(), page()] * (number + 1)] for number in range(4)]
    script = [said for poll in polls for said in poll]
    world.carry_out(fulfil(world, ALL), *script, definition(), run("frr_1", "succeeded"))
    assert keys(world)[-1] == 0


# The list comes first


def test_after_a_day_the_list_comes_first(world):
    """The key is forgotten by then, and would create another run."""
    flow = fulfil(world, tries=2, since=NOW - DAY - 1)
    assert world.carry_out(flow, page(listed("frr_1", "succeeded"))).id == "frr_1"
    assert sent(world) == "L"


def test_after_a_day_without_a_run_the_key_creates_one(world):
    """A failed one is none."""
    flow = fulfil(world, tries=2, since=NOW - DAY - 1)
    script = [page(listed("frr_1", "failed")), run("frr_2"), run("frr_2", "succeeded")]
    assert world.carry_out(flow, *script).id == "frr_2"
    assert sent(world) == "LCR"


@pytest.mark.parametrize(
    "arguments",
    [{"since": NOW - DAY + 1}, {"since": NOW - DAY - 1, "reattach": False}, {"since": None}],
    ids=["within a day", "first try", "not known"],
)
def test_before_that_the_key_comes_first(world, arguments):
    """It is exact, and the list is not."""
    world.carry_out(fulfil(world, Plan(), **arguments), run())
    assert sent(world) == "C"


# What cannot be sent


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (REQUEST._replace(parameters={"interval_end": "2026-11-02T00:00:00.500Z"}), "interval_end"),
        (REQUEST._replace(options={"compress_file": True}), "result_options"),
    ],
    ids=["fraction", "options"],
)
def test_what_it_cannot_do_is_refused_by_name(world, request_, name):
    """Before any request."""
    with pytest.raises(InvalidInput, match=name):
        world.carry_out(fulfil(world, request=request_))
    assert world.sent == []


# Polls


def test_a_run_that_is_not_on_the_listed_pages_is_polled_by_itself(world):
    """Waits of a triggerer share the newest pages."""
    pages = [page(listed(f"frr_other{n}"), has_more=True) for n in range(LISTED_PAGES)]
    shares = {"patience": {"shares_polls": True}}
    script = [run(), *pages, run(), page(listed("frr_1", "succeeded"))]
    assert world.carry_out(fulfil(world, **shares), *script).is_finished
    assert sent(world) == "C" + "L" * LISTED_PAGES + "RL"
    assert all(request.fresh_since < float("inf") for request in world.sent if "?" in request.path)


# Any faults in any order


class Api(World):
    """
    An API that keeps what it answered first, and a story of what happens to new creates.

    :param marks: whether it marks what it repeats.
    """

    def begin(self, rng, *, marks):
        """Forget all."""
        self.rng, self.marks = rng, marks
        self.kept, self.runs, self.was_down = {}, [], set()

    def _send(self, request):
        self.sent.append(request)
        self.now += 0.1
        if request.method == "POST":
            return self._create(request.headers["Idempotency-Key"])
        if "?" in request.path:
            return page(*reversed(self.runs))
        (found,) = [each for each in self.runs if each["id"] == request.path.rpartition("/")[2]]
        if found["status"] == "pending" and self.now - found["created"] > 20:
            found |= listed(found["id"], self.rng.choice(["failed", "succeeded", "pending"]))
        return answer(200, found)

    def _create(self, key):
        if key in self.kept:
            said = self.kept[key]
            return answer(*said, **({"Idempotent_Replayed": "true"} if self.marks else {}))
        what = self.rng.choice(["run", "lost", "cut", "500", "500 and run", "400", "503"])
        if what == "503" and key in self.was_down:
            what = "run"  # an outage that ends between two keys cannot be told from an old error
        if what == "503":
            self.was_down.add(key)
        if "run" in what or what == "lost":
            self.runs.append(listed(f"frr_{len(self.runs)}", created=int(self.now)))
        if what in {"cut", "503"}:
            if what == "cut":
                raise lost()
            return error(503)
        said = {"5": error(500), "4": not_yet()}.get(what[0])
        self.kept[key] = (
            (200, dict(self.runs[-1])) if said is None else (said.status, json.loads(said.body))
        )
        if what == "lost":
            raise lost()
        return answer(*self.kept[key])

    @property
    def alive(self):
        """The runs that did not fail."""
        return [each["id"] for each in self.runs if each["status"] != "failed"]


@pytest.mark.parametrize("marks", [True, False], ids=["marked", "not marked"])
@pytest.mark.parametrize("driver", ["blocking", "awaiting"])
def test_whatever_happens_there_is_one_run(driver, marks):
    """In each try at most one more, as long as the one before failed; no error stays for ever."""
    for seed in range(150):
        api = Api(driver=driver)
        api.begin(random.Random(seed), marks=marks)  # noqa: S311 - no secret
        found = None
        for tries in range(1, 40):
            before = len(api.runs)
            try:
                found = api.carry_out(fulfil(api, tries=tries)).id
            except (TransportError, ServerError, DataNotAvailable, ReportRunFailed):
                found = None
            assert len(api.alive) <= 1, seed
            assert len(api.runs) - before <= 1, seed
            if found:
                break
        assert [found] == api.alive, seed
        posts = len(api.kept)
        assert api.carry_out(fulfil(api, tries=tries + 1)).id == found, seed
        assert len(api.kept) == posts, seed
