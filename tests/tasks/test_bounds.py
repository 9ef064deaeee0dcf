"""Bounds of the interval that nobody gave and the report does not take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cases import END, FAST, NO_ROOM, PLACES, START, STORE, operations
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import InvalidInput, InvalidRequest, ServerError
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Answer, Fault

BY_PAYOUT, AT_END = "payout_reconciliation_by_id_itemized", "ending_balance_reconciliation_summary"
PAYOUT = {"payout": "po_1"}
ZERO_LENGTH = (END, END)
DOWN = Answer(status=500, headers={"Stripe-Should-Retry": "false"})
DENIED = Answer(status=403)
STORES = pytest.mark.parametrize(
    "store",
    [pytest.param(False, id="no store"), STORE],
)


def make(report=BY_PAYOUT, **arguments):
    """An operator in a DAG of its own."""
    defaults = {"task_id": "create", "report": report, "retries": 3}
    if report == BY_PAYOUT:
        defaults["report_parameters"] = PAYOUT
    with dag():
        return CreateReportRunOperator(**defaults | FAST | arguments)


def bodies(sandbox):
    """The creates that arrived: parameters and key."""
    return [
        (
            json.loads(bytes(request.body))["report_parameters"],
            request.headers["idempotency-key"],
        )
        for request in sandbox.requests
        if request.operation == "create"
    ]


@PLACES
@pytest.mark.parametrize("waits", [False, True], ids=["create only", "and wait"])
@pytest.mark.parametrize("interval", [(START, END), None, ZERO_LENGTH], ids=repr)
@pytest.mark.parametrize(
    ("report", "arguments", "left_out", "sent"),
    [
        (BY_PAYOUT, {}, "interval_start and interval_end", PAYOUT),
        (
            AT_END,
            {"interval_end": "2026-11-01T00:00:00Z"},
            "interval_start",
            {"interval_end": "2026-11-01T00:00:00.000Z"},
        ),
        (
            AT_END,
            {"report_parameters": {"interval_end": "2026-11-01T00:00:00Z"}},
            "interval_start",
            {"interval_end": "2026-11-01T00:00:00.000Z"},
        ),
    ],
    ids=["by payout", "argument", "parameter"],
)
def test_a_default_that_the_report_does_not_take_is_left_out(
    sandbox, capsys, report, arguments, left_out, sent, interval, waits, deferrable
):
    """It is said once, and needs no interval of the run; what is sent is shown."""
    task = make(report, wait_for_completion=waits, deferrable=deferrable, **arguments)
    outcome = run_task(task, interval=interval)
    assert outcome.state == "success", outcome.error
    (run,) = sandbox.runs
    assert run.report_parameters == sent
    assert operations(sandbox)[:2] == ["get_report", "create"]
    assert not outcome.rendered["interval_start"]
    assert (outcome.rendered["interval_end"] or None) == sent.get("interval_end")
    out = capsys.readouterr().out
    assert out.count(f"{report} does not take {left_out}, so") == 1


def test_an_end_is_sent_without_a_start(sandbox):
    """An ending balance gets the data interval's end."""
    outcome = run_task(make(AT_END))
    assert outcome.state == "success", outcome.error
    assert [run.report_parameters for run in sandbox.runs] == [{"interval_end": END}]
    assert outcome.rendered["interval_end"] == END


@pytest.mark.parametrize(
    "given",
    [
        {"interval_start": START},
        {"interval_start": "{{ data_interval_start }}"},
        {"report_parameters": PAYOUT | {"interval_start": START}},
    ],
    ids=["stamp", "template", "parameter"],
)
@pytest.mark.parametrize("validate", [True, False])
def test_a_bound_that_the_user_gave_is_never_dropped(sandbox, given, validate):
    """The API is asked for what the user asks for, and its refusal told."""
    outcome = run_task(make(validate=validate, **given))
    assert isinstance(outcome.error, InvalidRequest), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert all(sent["interval_start"] == START for sent, _ in bodies(sandbox))
    assert sandbox.runs == []


def test_none_gives_no_reason_to_say_anything(sandbox, capsys):
    """Who gave None left them out, and the log has nothing to tell."""
    outcome = run_task(make(interval_start=None, interval_end=None))
    assert outcome.state == "success", outcome.error
    assert "does not take" not in capsys.readouterr().out


@PLACES
def test_unchecked_the_refusal_decides(sandbox, deferrable):
    """validate=False reads the definition after a refusal alone, and then leaves the bounds out."""
    outcome = run_task(make(validate=False, deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    assert [sent for sent, _ in bodies(sandbox)] == [
        PAYOUT | {"interval_start": START, "interval_end": END},
        PAYOUT,
    ]
    assert len(sandbox.runs) == 1


def test_unchecked_the_refusal_decides_after_a_wait_for_room_too(sandbox):
    """What the triggerer is refused, the worker corrects."""
    sandbox.faults.add(Fault("create", NO_ROOM))
    outcome = run_task(make(validate=False, deferrable=True, wait_for_completion=True))
    assert outcome.state == "success", outcome.error
    assert [run.report_parameters for run in sandbox.runs] == [PAYOUT]


@PLACES
def test_a_denied_definition_sends_the_interval_as_before(sandbox, deferrable):
    """A key that may not read definitions creates the reports that take an interval."""
    sandbox.faults.add(Fault("get_report", DENIED, times=None))
    outcome = run_task(make("balance_summary", deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    assert [run.report_parameters for run in sandbox.runs] == [
        {"interval_start": START, "interval_end": END}
    ]


@STORES
@PLACES
def test_an_outage_of_the_definition_makes_no_second_report_run(sandbox, store, deferrable):
    """Whatever a try can read, the body that can create something has one key."""
    kept = {} if store else None
    task = make(deferrable=deferrable)
    assert run_task(task, store=kept).state == "success"
    from airflow_provider_reportrun.hooks.report_run import forget_answers

    forget_answers()
    sandbox.faults.add(Fault("get_report", DOWN, times=None))
    second = run_task(make(deferrable=deferrable), store=kept, try_number=2)
    if store:
        assert second.returned == sandbox.runs[0].id
    else:
        assert isinstance(second.error, ServerError)
        assert not isinstance(second.error, AirflowFailException)
        sandbox.faults.clear()
        third = run_task(make(deferrable=deferrable), try_number=3)
        assert third.returned == sandbox.runs[0].id
    assert len(sandbox.runs) == 1


@PLACES
@pytest.mark.parametrize("waits", [False, True], ids=["create only", "wait for data"])
def test_a_passing_outage_of_the_definition_is_ridden_out(sandbox, deferrable, waits):
    """The look that fails is made again before the task fails."""
    sandbox.faults.add(Fault("get_report", DOWN, times=1))
    outcome = run_task(make(deferrable=deferrable, wait_for_data=waits))
    assert outcome.state == "success", outcome.error
    assert [run.report_parameters for run in sandbox.runs] == [PAYOUT]


def test_without_definition_and_interval_a_retry_decides(sandbox):
    """Nothing can be sent, and the definition may come back."""
    sandbox.faults.add(Fault("get_report", DOWN, times=None))
    outcome = run_task(make(), interval=None)
    assert isinstance(outcome.error, ServerError)
    assert not isinstance(outcome.error, AirflowFailException)


def test_the_key_is_that_of_the_body_that_was_sent(sandbox):
    """Leaving a bound out and giving None for it ask for the same report run."""
    first = run_task(make())
    second = run_task(make(interval_start=None, interval_end=None))
    assert first.returned == second.returned
    assert len({key for _, key in bodies(sandbox)}) == 1


@PLACES
def test_a_report_by_payout_lands_in_one_task(sandbox, tmp_path: Path, deferrable):
    """The one-task operator needs no arguments about the interval either."""
    with dag():
        task = ReportRunToStorageOperator(
            task_id="land",
            report=BY_PAYOUT,
            report_parameters=PAYOUT,
            destination=str(tmp_path / "p.csv"),
            deferrable=deferrable,
            **FAST,
        )
    outcome = run_task(task, interval=None)
    assert outcome.state == "success", outcome.error
    assert (tmp_path / "p.csv").read_text().startswith("automatic_payout_id,")
    assert outcome.xcom["landing"]["interval_start"] is None


@pytest.mark.parametrize("interval", [None, ZERO_LENGTH], ids=repr)
def test_a_run_without_an_interval_and_a_task_without_parameters_ask_for_nothing(sandbox, interval):
    """No report runs without both, so nothing is sent, not even for the definition."""
    outcome = run_task(make(AT_END), interval=interval)
    assert isinstance(outcome.error, InvalidInput)
    assert "CronDataIntervalTimetable" in str(outcome.error)
    assert operations(sandbox) == []
