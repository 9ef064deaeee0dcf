"""Templates that render to nothing, runs without an interval, and ends that were meant to count."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pendulum
import pytest
from airflow.sdk import task as task_decorator
from airflow.timetables.base import Timetable
from support.cases import END, NATIVE, PLACES, START
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor

try:
    from airflow.sdk import CronDataIntervalTimetable, CronTriggerTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable
    from airflow.timetables.trigger import CronTriggerTimetable

MONDAYS = "0 0 * * 1"
NOTHING = [
    "{{ none }}",
    "{{ params.missing }}",
    "{{ ' ' }}",
    "{{ '' }}",
    "{% if false %}x{% endif %}",
]
TEMPLATES = pytest.mark.parametrize("template", NOTHING)


def make(kind, dag_arguments=None, **arguments):
    """A task of a kind, in a DAG of its own."""
    defaults = {
        CreateReportRunOperator: {"report": "balance_summary"},
        ReportRunToStorageOperator: {"report": "balance_summary", "destination": "/tmp/x.csv"},  # noqa: S108
        DownloadReportResultOperator: {"report_run_id": "reprun_1", "destination": "/tmp/x.csv"},  # noqa: S108
        ReportRunSensor: {"report_run_id": "reprun_1"},
        ReportDataSensor: {"report": "balance_summary"},
    }[kind]
    with dag(**{"params": {"missing": None}} | (dag_arguments or {})):
        return kind(task_id="t", retries=3, **defaults | arguments)


# Templates that render to nothing


@TEMPLATES
@NATIVE
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (CreateReportRunOperator, "report"),
        (CreateReportRunOperator, "reportrun_conn_id"),
        (CreateReportRunOperator, "interval_start"),
        (CreateReportRunOperator, "interval_end"),
        (ReportRunToStorageOperator, "destination"),
        (ReportRunToStorageOperator, "report"),
        (DownloadReportResultOperator, "report_run_id"),
        (DownloadReportResultOperator, "destination"),
        (DownloadReportResultOperator, "reportrun_conn_id"),
        (ReportRunSensor, "report_run_id"),
        (ReportRunSensor, "reportrun_conn_id"),
        (ReportDataSensor, "report"),
        (ReportDataSensor, "interval_end"),
    ],
)
def test_what_is_needed_is_refused_by_name(sandbox, kind, name, template, native):
    """For good, with the fix in sight, and before any request."""
    task = make(kind, {"render_template_as_native_obj": native}, **{name: template})
    outcome = run_task(task)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert str(outcome.error).startswith(name)
    assert "template" in str(outcome.error)[:130]
    assert sandbox.requests == []


@NATIVE
def test_an_output_that_is_none_is_refused_by_name(sandbox, native):
    """A task that returns nothing is no report run."""
    with dag(render_template_as_native_obj=native):

        @task_decorator
        def nothing():
            return None

        task = ReportRunSensor(task_id="t", report_run_id=nothing())
    outcome = run_task(task, xcom={"return_value": None})
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert str(outcome.error).startswith("report_run_id")


@TEMPLATES
@NATIVE
def test_what_may_be_left_out_counts_as_left_out(sandbox, tmp_path, template, native):
    """No header, no connection and no folder are called "None"."""
    task = make(
        ReportRunToStorageOperator,
        {"render_template_as_native_obj": native},
        destination=str(tmp_path / "x.csv"),
        stripe_context=template,
        storage_conn_id=template,
        spool_dir=template,
        timezone=template,
        result_options=template,
        report_parameters=template,
        marker=template,
        idempotency_key=template,
        poll_interval=0.05,
        max_poll_interval=0.1,
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert all("stripe-context" not in request.headers for request in sandbox.requests)


@TEMPLATES
@pytest.mark.parametrize("kind", [ReportRunSensor, ReportDataSensor])
def test_sensors_send_no_context_of_none(sandbox, kind, template):
    """The account is the key's own."""
    run_id = (
        ReportRunHook()
        .create_report_run("balance_summary", {"interval_start": START, "interval_end": END})
        .id
    )
    sandbox.advance(10)
    more = {"report_run_id": run_id} if kind is ReportRunSensor else {}
    outcome = run_task(make(kind, stripe_context=template, **more))
    assert outcome.state == "success", outcome.error
    assert all("stripe-context" not in request.headers for request in sandbox.requests)


@TEMPLATES
def test_a_key_of_nothing_is_shared_by_nobody(sandbox, template):
    """The task instance stands in the key then."""
    for name in ("one", "two"):
        with dag(params={"missing": None}):
            task = CreateReportRunOperator(
                task_id=name, report="balance_summary", idempotency_key=template
            )
        assert run_task(task).state == "success"
    assert len(sandbox.runs) == 2


@pytest.mark.parametrize("conn_id", [None, "", " ", "None"], ids=repr)
def test_the_hook_needs_a_connection(conn_id):
    """And says so where it is made."""
    with pytest.raises(InvalidInput, match=r"^reportrun_conn_id is "):
        ReportRunHook(conn_id)


def test_the_hook_reads_nothing_alike(sandbox):
    """A context of none is none; a key or an id of none is refused."""
    interval = {"interval_start": START, "interval_end": END}
    hook = ReportRunHook(stripe_context="None")
    assert hook.effective_context is None
    with pytest.raises(InvalidInput, match=r"^idempotency_key must be"):
        hook.create_report_run("balance_summary", interval, idempotency_key="None")
    with pytest.raises(InvalidInput, match=r"^report_run_id must be"):
        hook.get_report_run("None")
    with pytest.raises(InvalidInput, match=r"^report must be"):
        hook.get_report("None")
    with pytest.raises(InvalidInput, match=r"^report_parameters\['currency'\] is 'None'"):
        hook.create_report_run("balance_summary", interval | {"currency": "None"})
    assert sandbox.requests == []


@pytest.mark.parametrize("value", ["{{ none }}", ["usd", "{{ none }}"]], ids=["text", "item"])
def test_a_parameter_of_nothing_is_refused_by_name(sandbox, value):
    """The API is not asked for a currency called None."""
    outcome = run_task(make(CreateReportRunOperator, report_parameters={"currency": value}))
    assert isinstance(outcome.error, InvalidInput)
    assert str(outcome.error).startswith("report_parameters['currency'] is 'None', because its")
    assert sandbox.requests == []


# Runs without an interval


class Custom(Timetable):
    """A user's own timetable."""


@pytest.mark.parametrize("kind", [CreateReportRunOperator, ReportDataSensor])
@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (CronDataIntervalTimetable(MONDAYS, timezone="UTC"), "--logical-date"),
        (
            CronTriggerTimetable(MONDAYS, timezone="UTC", interval=timedelta(days=7)),
            "--logical-date",
        ),
        (CronTriggerTimetable(MONDAYS, timezone="UTC"), "CronDataIntervalTimetable"),
        (MONDAYS, "CronDataIntervalTimetable"),
        (None, "CronDataIntervalTimetable"),
        (timedelta(days=7), "CronDataIntervalTimetable"),
        (Custom(), "CronDataIntervalTimetable"),
    ],
    ids=["interval", "trigger with interval", "trigger", "cron", "none", "delta", "custom"],
)
def test_a_run_by_hand_is_told_how_to_get_an_interval(sandbox, kind, schedule, words):
    """By a logical date where the timetable makes an interval of it, else by a timetable."""
    outcome = run_task(
        make(kind, {"schedule": schedule}), interval=None, run_fields={"logical_date": None}
    )
    assert isinstance(outcome.error, InvalidInput), outcome.error
    message = str(outcome.error)
    assert words in message[:100]
    assert "--logical-date" in message
    assert ("CronDataIntervalTimetable" in message) is (words != "--logical-date")


@pytest.mark.parametrize("kind", [CreateReportRunOperator, ReportDataSensor])
def test_a_run_by_an_asset_is_not_told_of_logical_dates(sandbox, kind):
    """It can have none."""
    schedule = CronDataIntervalTimetable(MONDAYS, timezone="UTC")
    fields = {"logical_date": None, "run_type": "asset_triggered"}
    outcome = run_task(make(kind, {"schedule": schedule}), interval=None, run_fields=fields)
    assert isinstance(outcome.error, InvalidInput)
    assert "interval_end" in str(outcome.error)[:100]
    assert "--logical-date" not in str(outcome.error)


@TEMPLATES
@pytest.mark.parametrize("interval", [(START, END), None], ids=["interval", "none"])
@pytest.mark.parametrize("kind", [CreateReportRunOperator, ReportDataSensor])
def test_ones_own_template_is_told_from_a_run_without_an_interval(
    sandbox, kind, template, interval
):
    """The template is the mistake, whatever the run has."""
    task = make(kind, interval_end=template)
    outcome = run_task(task, interval=interval)
    assert isinstance(outcome.error, InvalidInput)
    assert str(outcome.error).startswith("interval_end is empty: its template rendered to nothing")
    assert "no data interval" not in str(outcome.error)
    assert "CronDataIntervalTimetable" not in str(outcome.error)


# Ends that were meant to count


@pytest.mark.parametrize(
    ("arguments", "sent", "midnight"),
    [
        ({"interval_end": "2026-11-01T23:59:59Z"}, "2026-11-01T23:59:59.000Z", END),
        ({"interval_end": "2026-11-01T23:59:59.999Z"}, "2026-11-01T23:59:59.999Z", END),
        ({"interval_end": "2026-11-01 23:59:59.999999+00:00"}, "2026-11-01T23:59:59.999Z", END),
        ({"interval_end": "2026-11-01T23:59Z"}, "2026-11-01T23:59:00.000Z", END),
        (
            {"interval_end": "{{ data_interval_end | ds }}T23:59:59"},
            "2026-11-02T23:59:59.000Z",
            "2026-11-03T00:00:00.000Z",
        ),
        (
            {"interval_end": datetime(2026, 10, 31, 23, 59, 59, tzinfo=timezone.utc)},
            "2026-10-31T23:59:59.000Z",
            "2026-11-01T00:00:00.000Z",
        ),
        (
            {"interval_end": pendulum.datetime(2026, 10, 31, 23, 59, 59, tz="America/New_York")},
            "2026-11-01T03:59:59.000Z",
            "2026-11-01T04:00:00.000Z, which is 2026-11-01T00:00:00-04:00",
        ),
        (
            {"interval_end": "2026-10-31T23:59:59", "timezone": "Europe/Paris"},
            "2026-10-31T22:59:59.000Z",
            "2026-10-31T23:00:00.000Z, which is 2026-11-01T00:00:00+01:00",
        ),
        (
            {"interval_end": "2026-10-31T22:59:59Z", "timezone": "Europe/Paris"},
            "2026-10-31T22:59:59.000Z",
            "2026-10-31T23:00:00.000Z, which is 2026-11-01T00:00:00+01:00",
        ),
        (
            {"report_parameters": {"interval_end": "2026-11-01T23:59:59Z"}},
            "2026-11-01T23:59:59.000Z",
            END,
        ),
    ],
)
@PLACES
def test_an_end_in_the_last_minute_is_warned_of(
    sandbox, capsys, arguments, sent, midnight, deferrable
):
    """The next midnight is named, and what was given is sent."""
    sandbox.advance(3 * 24 * 3600)
    outcome = run_task(make(CreateReportRunOperator, deferrable=deferrable, **arguments))
    assert outcome.state == "success", outcome.error
    assert sandbox.runs[0].report_parameters["interval_end"] == sent
    said = [line for line in capsys.readouterr().out.splitlines() if "half-open" in line]
    assert len(said) == 1
    assert "warning" in said[0].lower()
    assert f"interval_end is {sent}" in said[0]
    assert f"pass {midnight}." in said[0]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"interval_end": "2026-11-01T23:58:59Z"},
        {"interval_end": "2026-11-01T22:59:59Z"},
        {"interval_end": "2026-11-01"},
        {"interval_start": "2026-10-25T23:59:59Z"},
    ],
)
def test_other_ends_are_not(sandbox, capsys, arguments):
    """Nor is a start, which belongs to its interval."""
    assert run_task(make(CreateReportRunOperator, **arguments)).state == "success"
    assert "half-open" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("end", "is_warned"), [("2026-11-01T23:59:00Z", False), ("2026-11-01T23:59:59Z", True)]
)
def test_a_timetable_may_end_at_a_minute_to_midnight(sandbox, capsys, end, is_warned):
    """Its intervals touch; only a last second is a mistake of a timetable too."""
    task = make(CreateReportRunOperator)
    assert run_task(task, interval=("2026-10-31T23:59:00Z", end)).state == "success"
    assert ("half-open" in capsys.readouterr().out) is is_warned


def test_the_hook_warns_too(sandbox, caplog):
    """Whoever calls it from a task of their own reads the same."""
    ReportRunHook().create_report_run(
        "balance_summary", {"interval_start": START, "interval_end": "2026-11-01T23:59:59Z"}
    )
    assert f"pass {END}." in caplog.text
