"""What is checked before a report run is spent, as real task instances against the sandbox."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.cases import DAY_SECONDS, PLACES, operations
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    DataNotAvailable,
    InvalidInput,
    InvalidRequest,
    NotFound,
)
from airflow_provider_reportrun.hooks import report_run
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import CreateReportRunOperator
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.interval import format_instant
from airflow_provider_reportrun.sandbox import Answer, Fault


def make(**arguments):
    """An operator in a DAG of its own."""
    with dag():
        return CreateReportRunOperator(
            **{"task_id": "create", "report": "balance_summary"} | arguments
        )


# Parameters


@PLACES
def test_names_all_problems_at_once_and_sends_nothing(sandbox, deferrable):
    """One GET, one error for good, no POST."""
    task = make(
        report="all_fees_itemized",
        report_parameters={"currency": "yen", "timezone": ["Etc/UTC"]},
        interval_end=None,
        retries=3,
        deferrable=deferrable,
    )
    outcome = run_task(task)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    for problem in (
        "all_fees_itemized",
        "interval_end is required",
        "columns is required",
        "currency does not accept 'yen', only eur, gbp, usd",
    ):
        assert problem in str(outcome.error)
    assert operations(sandbox) == ["get_report"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"columns": ["gross", "colour"]}, "columns does not accept 'colour'"),
        ({"columns": "gross"}, "columns must be a list, not 'gross'"),
        ({"currency": "EUR"}, "currency does not accept 'EUR'"),
        ({"reporting_category": ["fee", "tip"]}, "reporting_category does not accept 'tip'"),
        (
            {"interval_start": "2019-12-31T00:00:00Z"},
            "only has data from 2020-01-01T00:00:00.000Z on",
        ),
    ],
)
def test_names_what_the_report_does_not_take(sandbox, parameters, words):
    """The parameter and what it takes are in the error, which is not retried."""
    report = "balance_change_from_activity_itemized"
    outcome = run_task(make(report=report, report_parameters=parameters, retries=3))
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert words in str(outcome.error)
    assert operations(sandbox) == ["get_report"]


@PLACES
def test_a_wrong_name_is_told_with_the_nearest_before_the_create(sandbox, deferrable):
    """Mistake and fix are in the first hundred characters, and no retry is burnt."""
    outcome = run_task(
        make(report_parameters={"currenzy": "eur"}, retries=3, deferrable=deferrable)
    )
    assert isinstance(outcome.error, InvalidInput)
    assert isinstance(outcome.error, AirflowFailException)
    told = "Did you mean 'currency'? There is no parameter 'currenzy'."
    assert str(outcome.error)[:100].startswith(told)
    assert operations(sandbox) == ["get_report"]


def test_a_wrong_name_without_a_near_one_is_told_with_all(sandbox):
    """The report's definition is whole."""
    outcome = run_task(make(report_parameters={"colour": "red"}))
    names = "interval_start, interval_end, currency, timezone"
    assert f"There is no parameter 'colour', only {names}." in str(outcome.error)
    assert operations(sandbox) == ["get_report"]


@PLACES
def test_a_wrong_report_is_told_with_the_nearest_before_the_create(sandbox, deferrable):
    """One more request, about the report that was probably meant, proves that this one is not."""
    outcome = run_task(make(report="balance_sumary", retries=3, deferrable=deferrable))
    assert isinstance(outcome.error, NotFound)
    assert isinstance(outcome.error, AirflowFailException)
    told = "Did you mean 'balance_summary'? There is no report 'balance_sumary'."
    assert str(outcome.error)[:100].startswith(told)
    assert outcome.error.request_id in str(outcome.error)
    assert operations(sandbox) == ["get_report", "get_report"]


@pytest.mark.parametrize("status", [403, 404])
def test_a_report_that_may_exist_is_left_to_the_api(sandbox, status):
    """If the other report cannot be read either, the first answer proves nothing."""
    answer = Answer(status=status, headers={"Stripe-Should-Retry": "false"})
    sandbox.faults.add(Fault("get_report", Answer(status=404)))
    sandbox.faults.add(Fault("get_report", answer, times=None))
    outcome = run_task(make(report="balance_sumary"))
    assert isinstance(outcome.error, InvalidRequest)
    assert operations(sandbox)[:3] == ["get_report", "get_report", "create"]


# Data


@PLACES
def test_data_that_are_not_there_yet_are_waited_for_by_airflow(sandbox, deferrable):
    """The error is retried, says how to wait, and names both instants; a later try succeeds."""
    sandbox.advance(-30 * DAY_SECONDS)
    task = make(retries=3, deferrable=deferrable)
    outcome = run_task(task)
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, DataNotAvailable)
    assert not isinstance(outcome.error, AirflowFailException)
    with ReportRunHook() as hook:
        through = hook.get_report("balance_summary").parameters["interval_end"].latest
    assert outcome.error.available_through == format_instant(through)
    for words in (format_instant(through), "2026-11-02", "wait_for_data=True", "ReportDataSensor"):
        assert words in str(outcome.error)
    assert sandbox.runs == []
    report_run.forget_answers()
    sandbox.advance(30 * DAY_SECONDS)
    assert run_task(task, try_number=2).state == "success"


def test_an_old_copy_does_not_hide_new_data(sandbox):
    """A retry within five minutes in the same process sees the data that came meanwhile."""
    sandbox.advance(-30 * DAY_SECONDS)
    task = make(retries=3)
    assert isinstance(run_task(task).error, DataNotAvailable)
    sandbox.advance(30 * DAY_SECONDS)
    outcome = run_task(task, try_number=2)
    assert outcome.state == "success", outcome.error


def test_a_report_without_a_window_is_not_asked_for_one(sandbox):
    """Its other parameters are checked all the same."""
    columns = {"columns": ["fee"]}
    task = make(report="all_fees_itemized", report_parameters=columns)
    assert run_task(task).state == "success"


# The definition


@PLACES
@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_a_definition_that_cannot_be_had_stops_nothing(sandbox, deferrable, status, caplog):
    """A key without the right, an unknown report and an outage are logged, no more."""
    answer = Answer(status=status, headers={"Stripe-Should-Retry": "false"})
    sandbox.faults.add(Fault("get_report", answer, times=None))
    outcome = run_task(make(deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    assert operations(sandbox) == ["get_report", "create"]
    (said,) = [r for r in caplog.records if "without the definition" in r.getMessage()]
    assert said.levelname == "WARNING"
    assert "balance_summary" in said.getMessage()


def test_a_page_of_a_proxy_is_no_definition(sandbox):
    """What is not the API speaking stops nothing either."""
    page = Answer(status=200, body="<html>", content_type="text/html")
    sandbox.faults.add(Fault("get_report", page, times=None))
    assert run_task(make()).state == "success"


def test_a_wrong_key_is_told_at_once(sandbox):
    """401 is about the key, and the POST would say the same."""
    sandbox.faults.add(Fault("get_report", Answer(status=401), times=None))
    outcome = run_task(make(retries=3))
    assert isinstance(outcome.error, AuthenticationError)
    assert isinstance(outcome.error, AirflowFailException)
    assert operations(sandbox) == ["get_report"]


def test_a_definition_is_kept_for_five_minutes(sandbox, monkeypatch):
    """Two tasks share one GET, and a third one that comes later asks anew."""
    for name in ("one", "two"):
        assert run_task(make(task_id=name)).state == "success"
    assert operations(sandbox) == ["get_report", "create", "create"]
    monkeypatch.setattr(flows, "DEFINITION_SECONDS", 0.0)
    assert run_task(make(task_id="three")).state == "success"
    assert operations(sandbox)[3:] == ["get_report", "create"]


def test_a_definition_is_kept_for_its_report_account_and_key(sandbox, monkeypatch):
    """Whoever asks about another one asks for its definition."""
    other = sandbox.connection_uri.replace(sandbox.api_key, sandbox.keyring.second.value)
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", other)
    for arguments in (
        {},
        {"report": "payouts_itemized"},
        {"stripe_context": "acct_2"},
        {"reportrun_conn_id": "other"},
    ):
        assert run_task(make(**arguments)).state == "success"
    assert operations(sandbox) == ["get_report", "create"] * 4


def test_a_refusal_is_not_kept(sandbox):
    """A key that is given the right is used with it by the next task."""
    sandbox.faults.add(Fault("get_report", Answer(status=403)))
    for name in ("one", "two", "three"):
        assert run_task(make(task_id=name)).state == "success"
    assert operations(sandbox) == ["get_report", "create", "get_report", "create", "create"]


@PLACES
def test_no_checks_where_none_are_wanted(sandbox, deferrable):
    """validate=False sends no GET and leaves the checks to the API."""
    task = make(validate=False, deferrable=deferrable)
    assert run_task(task).state == "success"
    assert operations(sandbox) == ["create"]
    wrong = make(validate=False, report_parameters={"currency": "yen"}, retries=3)
    assert isinstance(run_task(wrong).error, InvalidRequest)


@PLACES
def test_unchecked_data_that_are_not_there_yet_are_waited_for_by_retries(sandbox, deferrable):
    """The API's refusal looks final, but its words say that the data will come."""
    through = ReportRunHook().get_report("balance_summary").parameters["interval_end"].latest
    sandbox.reset()
    end = format_instant(through + timedelta(days=1))
    task = make(validate=False, interval_end=end, retries=3, deferrable=deferrable)
    outcome = run_task(task)
    assert isinstance(outcome.error, DataNotAvailable)
    assert not isinstance(outcome.error, AirflowFailException)
    assert outcome.error.available_through == format_instant(through)
    assert operations(sandbox) == ["create"]
    sandbox.advance(DAY_SECONDS)
    assert run_task(task).state == "success"
