"""The trigger that waits for data: in an event loop against the sandbox, and its frozen rows."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import timedelta
from pathlib import Path

import pendulum
import pytest
from airflow.models.trigger import Trigger
from support.cases import DAY_SECONDS, FAST, Advance
from support.task_instances import first_event
from support.versions import import_string

from airflow_provider_reportrun.errors import (
    DataWindowUnknown,
    DeadlinePassed,
    NotFound,
    PermissionDenied,
    ServerError,
    from_json,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.interval import format_instant
from airflow_provider_reportrun.sandbox import Answer, Fault
from airflow_provider_reportrun.triggers.report_run import (
    CreateReportRunTrigger,
    ReportDataTrigger,
)

ROWS = Path(__file__).parents[1] / "data" / "trigger_rows"
DOWN = Answer(status=503, headers={"Stripe-Should-Retry": "false"})


@pytest.fixture
def tomorrow(sandbox, monkeypatch):
    """An instant a day after the data, and a connection that does not hold requests back."""
    extra = ', "extra": {"max_requests_per_second": 1000}}'
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json.replace("}", extra)
    )
    now = ReportRunHook().get_report("balance_summary").parameters["interval_end"].latest
    sandbox.reset()
    return format_instant(now + timedelta(days=1))


def waiting(interval_end, **arguments):
    """A trigger that waits for data."""
    defaults = {
        "report": "balance_summary",
        "interval_end": interval_end,
        "reportrun_conn_id": "reportrun_default",
        "deadline": time.time() + 20,
        "outage_tolerance": 5.0,
    }
    return ReportDataTrigger(**defaults | FAST | arguments)


def polls(sandbox):
    """How often the definition was asked for."""
    return len([request for request in sandbox.requests if request.operation == "get_report"])


async def all_of(triggers):
    """The events of triggers that run in one loop."""

    async def event(trigger):
        return (await anext(trigger.run())).payload

    return await asyncio.gather(*[event(trigger) for trigger in triggers])


# Rows


def test_survives_being_stored_and_loaded():
    """A trigger made again from its row is the same trigger."""
    trigger = waiting("2026-11-02T00:00:00.000Z")
    row = Trigger.from_object(trigger)
    again = import_string(row.classpath)(**row.kwargs)
    assert trigger.serialize() == again.serialize()
    assert vars(trigger) == vars(again)


def test_there_is_a_frozen_row():
    """Of the release that brought the trigger."""
    rows = [json.loads(row.read_text()) for row in ROWS.glob("*/*.json")]
    assert ReportDataTrigger.__name__ in {row["classpath"].rpartition(".")[2] for row in rows}


def test_rows_of_before_do_not_wait_for_data():
    """A create that was stored without the argument keeps its meaning."""
    row = json.loads((ROWS / "0.1.0" / "create_report_run.json").read_text())
    assert "wait_for_data" not in row["kwargs"]
    assert CreateReportRunTrigger(**row["kwargs"]).wait_for_data is False


# Waiting


def test_fires_when_the_data_reach_far_enough(sandbox, tomorrow):
    """The last poll sees the new end; the event holds no report run."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=3))
    event = first_event(waiting(tomorrow))
    assert event == {
        "outcome": "done",
        "report_run_id": None,
        "status": None,
        "message": f"The data of balance_summary reach {tomorrow}",
        "error": None,
    }
    assert polls(sandbox) == 4


def test_data_that_are_there_need_no_pause(sandbox):
    """The first answer will do, also after the deadline."""
    end = "2026-11-02T00:00:00.000Z"
    assert first_event(waiting(end, deadline=time.time() - 1))["outcome"] == "done"
    assert polls(sandbox) == 1


def test_the_end_of_the_data_is_covered(sandbox, tomorrow):
    """Intervals are half-open: they may end where the data end, and a millisecond later not."""
    sandbox.advance(DAY_SECONDS)
    assert first_event(waiting(tomorrow))["outcome"] == "done"
    later = format_instant(pendulum.parse(tomorrow) + timedelta(days=1, milliseconds=1))
    event = first_event(waiting(later, deadline=time.time() + 0.1))
    assert isinstance(from_json(event["error"]), DeadlinePassed)


def test_the_deadline_says_what_was_waited_for(sandbox, tomorrow):
    """The report and the instant are named, and no report run, for there is none."""
    event = first_event(waiting(tomorrow, deadline=time.time() + 0.3))
    error = from_json(event["error"])
    assert isinstance(error, DeadlinePassed)
    assert f"the data of balance_summary to reach {tomorrow}" in error.message
    assert "goes on" not in error.message
    assert event["report_run_id"] is None


def test_each_new_end_is_told_once(sandbox, tomorrow, caplog):
    """One line in the log for each end of the data that is not far enough, whatever is asked."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=4))
    caplog.set_level(logging.INFO, logger=flows.log.name)
    first_event(waiting(tomorrow))
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if line.startswith("Waiting for the data of")]) == 1


def test_rides_out_an_outage(sandbox, tomorrow):
    """Errors within the tolerance are let pass."""
    sandbox.faults.add(Fault("get_report", DOWN, times=4))
    sandbox.faults.add(Fault("get_report", Advance(sandbox)))
    assert first_event(waiting(tomorrow))["outcome"] == "done"


def test_an_outage_that_lasts_ends_the_wait(sandbox, tomorrow):
    """Without one good answer for the tolerated time, the error is told, typed."""
    sandbox.faults.add(Fault("get_report", DOWN, times=None))
    event = first_event(waiting(tomorrow, outage_tolerance=0.1))
    assert isinstance(from_json(event["error"]), ServerError)


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        ("all_fees_itemized", DataWindowUnknown),
        ("no_such_report", NotFound),
        ("connected_account_payouts_itemized", PermissionDenied),
    ],
)
def test_what_cannot_be_waited_for_ends_at_once(sandbox, tomorrow, report, kind):
    """A report without a window, an unknown one and one out of reach: one request, typed."""
    event = first_event(waiting(tomorrow, report=report))
    assert isinstance(from_json(event["error"]), kind)
    assert report in event["message"]
    assert polls(sandbox) == 1


# Sharing


def test_waits_for_one_report_share_one_request_per_poll(sandbox, tomorrow):
    """Ten waits ask no more often than one, and all of them see the answer."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=4))
    pace = {"poll_interval": 0.2, "max_poll_interval": 0.2}
    events = asyncio.run(all_of([waiting(tomorrow, **pace) for _ in range(10)]))
    assert {event["outcome"] for event in events} == {"done"}
    assert polls(sandbox) == 5


@pytest.mark.parametrize(
    "other",
    [{"report": "payouts_itemized"}, {"stripe_context": "acct_2"}],
    ids=["report", "account"],
)
def test_other_reports_and_accounts_are_asked_for_themselves(sandbox, other):
    """What one account holds says nothing of another."""
    end = "2026-11-02T00:00:00.000Z"
    events = asyncio.run(all_of([waiting(end), waiting(end, **other)]))
    assert {event["outcome"] for event in events} == {"done"}
    assert polls(sandbox) == 2


def test_an_error_is_not_kept_for_others(sandbox):
    """Whoever asks after a refusal asks anew."""
    sandbox.faults.add(Fault("get_report", Answer(status=404)))
    end = "2026-11-02T00:00:00.000Z"

    async def one_after_the_other():
        pace = {"poll_interval": 60.0}
        return [*(await all_of([waiting(end, **pace)])), *(await all_of([waiting(end, **pace)]))]

    refused, done = asyncio.run(one_after_the_other())
    assert isinstance(from_json(refused["error"]), NotFound)
    assert done["outcome"] == "done"


def test_whoever_asks_for_all_may_be_cancelled(sandbox):
    """The answer that is under way still reaches the others."""
    from airflow_provider_reportrun.sandbox import Hold

    held = sandbox.faults.add(Fault("get_report", Hold(seconds=10)))
    end = "2026-11-02T00:00:00.000Z"

    async def main():
        first, second = (asyncio.create_task(all_of([waiting(end)])) for _ in range(2))
        await asyncio.to_thread(held.reached.wait, 10)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        held.release()
        return first.cancelled(), await second

    is_cancelled, (event,) = asyncio.run(main())
    assert is_cancelled
    assert event["outcome"] == "done"
    assert polls(sandbox) == 1


# Before a create


def creating(interval_end, **arguments):
    """A trigger that waits for data, creates and waits for the report."""
    defaults = {
        "report": "balance_summary",
        "report_parameters": {
            "interval_start": "2026-10-26T00:00:00.000Z",
            "interval_end": interval_end,
        },
        "idempotency_key": "k" * 64,
        "wait_for_completion": True,
        "wait_for_data": True,
        "reportrun_conn_id": "reportrun_default",
        "deadline": time.time() + 20,
    }
    return CreateReportRunTrigger(**defaults | FAST | arguments)


def test_a_create_waits_for_its_data_first(sandbox, tomorrow):
    """Data, create and report, in one trigger: the POST comes after the last look at the data."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox), after=2))
    event = first_event(creating(tomorrow))
    assert event["report_run_id"] == sandbox.runs[0].id
    assert [request.operation for request in sandbox.requests] == [
        *["get_report"] * 3,
        "create",
        "get_run",
    ]


def test_data_and_report_have_one_deadline(sandbox, tomorrow):
    """Nothing is created where the time went into waiting for the data."""
    event = first_event(creating(tomorrow, deadline=time.time() + 0.3))
    error = from_json(event["error"])
    assert isinstance(error, DeadlinePassed)
    assert "the data of balance_summary" in error.message
    assert sandbox.runs == []


def test_waits_for_data_do_not_stand_in_the_line(sandbox, tomorrow):
    """A create whose data are there is not kept back by one whose are not."""

    async def main():
        waits = asyncio.create_task(all_of([creating(tomorrow)]))
        await asyncio.sleep(0.2)
        there = creating("2026-11-02T00:00:00.000Z", idempotency_key="other")
        (event,) = await asyncio.wait_for(all_of([there]), 10)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        return event

    assert asyncio.run(main())["outcome"] == "done"
    assert len(sandbox.runs) == 1
