"""A run of an earlier request, found in the list."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial

import pytest
from protocol.script import answer, refusal

from airflow_provider_reportrun.errors import ServerError
from airflow_provider_reportrun.protocol.asking import ask
from airflow_provider_reportrun.protocol.earlier import MOST_PAGES, find_earlier
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.requests import ReportRequest

V1 = named("v1")
REQUEST = ReportRequest("balance.summary.1", {"currency": "eur"})
SINCE = datetime(2026, 11, 2, tzinfo=timezone.utc)


def run(run_id, status="pending", **fields):
    """A run as the API lists it, of the same request if nothing else is said."""
    same = {"report_type": "balance.summary.1", "parameters": {"currency": "eur"}}
    return {"id": run_id, "status": status, "created": 1793577600} | same | fields


def page(*runs, has_more=False):
    """An answer with a page of runs."""
    return answer(200, {"data": list(runs), "has_more": has_more})


def search(world, api=V1, **more):
    """The search of a script."""
    asked = partial(ask, environment=world.environment)
    return find_earlier(api, REQUEST, since=SINCE, ask=asked, **more)


OTHERS = [
    run("frr_1", parameters={"currency": "usd"}),
    run("frr_2", report_type="payouts.itemized.5"),
    run("frr_3", "failed"),
    run("frr_4", "canceled"),
]


def test_finds_the_run_of_the_same_request(world):
    """Among others, and not a failed one."""
    found = world.carry_out(search(world), page(*OTHERS, run("frr_5"), run("frr_6")))
    assert (found.id, found.status) == ("frr_5", "running")
    (request,) = world.sent
    assert request.path == ("/v1/reporting/report_runs?limit=100&created%5Bgte%5D=1793577600")


def test_a_succeeded_run_is_taken_first(world):
    """And the newest of them, which the list has first."""
    runs = [run("frr_5"), run("frr_6", "succeeded"), run("frr_7", "succeeded")]
    assert world.carry_out(search(world), page(*runs)).id == "frr_6"


def test_a_run_whose_file_is_gone_is_not_taken(world):
    """Another one may be, and be it one that is still running."""
    runs = page(run("frr_5", "succeeded"), run("frr_6"))
    assert world.carry_out(search(world, gone=frozenset({"frr_5"})), runs).id == "frr_6"


def test_goes_on_to_the_next_page(world):
    """As long as there is one; after the last run of the page before."""
    found = world.carry_out(search(world), page(*OTHERS, has_more=True), page(run("frr_5")))
    assert found.id == "frr_5"
    assert world.sent[1].path.endswith("&starting_after=frr_4")
    assert world.carry_out(search(world), page(*OTHERS, has_more=True), page()) is None


def test_a_list_without_end_is_left(world):
    """A page that leads to itself would hold a task for ever."""
    assert world.carry_out(search(world), then=page(*OTHERS, has_more=True)) is None
    assert len(world.sent) == MOST_PAGES


def test_an_answer_may_fail(world):
    """As its caller wants it repeated; the last error comes out."""
    assert world.carry_out(search(world), refusal(503), page(run("frr_5"))).id == "frr_5"
    with pytest.raises(ServerError):
        world.carry_out(search(world), then=refusal(503))


def test_where_there_is_no_list_nothing_is_asked(world):
    """The key alone finds the run there."""
    assert world.carry_out(search(world, named("v2.reporting"))) is None
    assert world.sent == []
