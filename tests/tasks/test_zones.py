"""Whose zone a date is meant in, for every kind of timetable that tells one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pendulum
import pytest
from airflow.sdk import Asset
from airflow.timetables.base import Timetable
from support.task_instances import dag, run_task

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.operators.report_run import CreateReportRunOperator
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor

try:
    from airflow.sdk import (
        AssetOrTimeSchedule,
        CronDataIntervalTimetable,
        CronTriggerTimetable,
        EventsTimetable,
        MultipleCronTriggerTimetable,
    )
except ImportError:  # before Airflow 3.2
    from airflow.timetables.assets import AssetOrTimeSchedule
    from airflow.timetables.events import EventsTimetable
    from airflow.timetables.interval import CronDataIntervalTimetable
    from airflow.timetables.trigger import CronTriggerTimetable, MultipleCronTriggerTimetable

NEW_YORK = "America/New_York"
WEEK = ("2026-10-26T04:00:00Z", "2026-11-02T05:00:00Z")
"""From one midnight in New York to another."""
MONDAYS = "0 0 * * 1"


class Custom(Timetable):
    """A timetable of a user, which tells nothing of zones."""


class CustomInZone(Custom):
    """One that does."""

    def __init__(self, zone):
        self.timezone = zone


def events(zone):
    """A timetable of single days."""
    return EventsTimetable([pendulum.datetime(2026, 11, 2, tz=zone)])


def from_core(zone):
    """The timetable that README and examples took before Airflow 3.2."""
    from airflow.timetables.interval import CronDataIntervalTimetable as OfCore

    return OfCore(MONDAYS, zone)


def with_assets(zone):
    """A timetable within another."""
    inner = CronTriggerTimetable(MONDAYS, timezone=zone)
    return AssetOrTimeSchedule(timetable=inner, assets=[Asset("a")])


def partitions(zone):
    """A timetable whose keys are written in its zone."""
    from airflow.sdk import CronPartitionTimetable

    return CronPartitionTimetable(MONDAYS, timezone=zone)


IN_A_ZONE = pytest.mark.parametrize(
    "make_schedule",
    [
        lambda zone: CronDataIntervalTimetable(MONDAYS, timezone=zone),
        from_core,
        lambda zone: CronTriggerTimetable(MONDAYS, timezone=zone),
        lambda zone: CronTriggerTimetable(MONDAYS, timezone=zone, interval=timedelta(days=7)),
        lambda zone: MultipleCronTriggerTimetable(MONDAYS, "0 12 * * *", timezone=zone),
        lambda zone: CronDataIntervalTimetable(MONDAYS, timezone=pendulum.timezone(zone)),
        events,
        with_assets,
        CustomInZone,
        pytest.param(partitions, marks=pytest.mark.needs("partitions")),
    ],
    ids=[
        "interval",
        "interval of the core",
        "trigger",
        "trigger with interval",
        "several",
        "zone",
        "events",
        "assets or time",
        "custom",
        "partitions",
    ],
)
START_DATES = pytest.mark.parametrize(
    "start_date",
    [
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        datetime(2026, 1, 1),  # noqa: DTZ001 - naive on purpose
        pendulum.datetime(2026, 1, 1, tz=NEW_YORK),
        None,
    ],
    ids=["utc", "naive", "new york", "none"],
)


def create(dag_arguments, **arguments):
    """An operator in a DAG of its own."""
    with dag(**dag_arguments):
        return CreateReportRunOperator(
            **{"task_id": "create", "report": "balance_summary"} | arguments
        )


DAYS = {
    "interval_start": "{{ data_interval_start | ds }}",
    "interval_end": "{{ data_interval_end | ds }}",
}


@IN_A_ZONE
@START_DATES
@pytest.mark.parametrize(
    "arguments",
    [DAYS, {"report_parameters": DAYS}, {"interval_start": datetime(2026, 10, 26).date()}],  # noqa: DTZ001
    ids=["arguments", "parameters", "date"],
)
def test_a_date_is_refused_in_a_schedule_that_is_not_in_utc(
    sandbox, make_schedule, start_date, arguments
):
    """It was formatted in UTC, or was not: whatever the DAG starts at, this is not certain."""
    task = create({"schedule": make_schedule(NEW_YORK), "start_date": start_date}, **arguments)
    outcome = run_task(task, interval=WEEK)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert "timezone=" in str(outcome.error)[:100]
    assert sandbox.runs == []


@IN_A_ZONE
@START_DATES
@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC"])
def test_a_date_is_utc_in_a_schedule_that_is(sandbox, make_schedule, start_date, zone):
    """Also where the DAG starts at midnight somewhere else."""
    task = create({"schedule": make_schedule(zone), "start_date": start_date}, **DAYS)
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    (run,) = sandbox.runs
    assert run.report_parameters == {
        "interval_start": "2026-10-26T00:00:00.000Z",
        "interval_end": "2026-11-02T00:00:00.000Z",
    }


@pytest.mark.parametrize(
    "schedule",
    [None, "@daily", MONDAYS, "@once", "@continuous", timedelta(days=7), [Asset("a")]],
    ids=repr,
)
@pytest.mark.parametrize(
    ("start_date", "is_sure"),
    [
        (datetime(2026, 1, 1, tzinfo=timezone.utc), True),
        (pendulum.datetime(2026, 1, 1, tz=NEW_YORK), False),
    ],
    ids=["utc", "new york"],
)
def test_without_a_zone_of_its_own_a_schedule_is_in_that_of_the_dag(
    sandbox, schedule, start_date, is_sure
):
    """Cron texts are read in it, and others have none."""
    limits = {"max_active_runs": 1} if schedule == "@continuous" else {}
    task = create({"schedule": schedule, "start_date": start_date, **limits}, **DAYS)
    outcome = run_task(task)
    assert (outcome.state == "success") is is_sure
    assert is_sure or isinstance(outcome.error, InvalidInput)


def test_a_schedule_that_does_not_tell_is_no_utc(sandbox):
    """A user's own timetable may be in any zone."""
    outcome = run_task(create({"schedule": Custom()}, **DAYS))
    assert isinstance(outcome.error, InvalidInput)
    outcome = run_task(create({"schedule": Custom()}, timezone="UTC", **DAYS))
    assert outcome.state == "success", outcome.error


@pytest.mark.needs("partitions")
@pytest.mark.parametrize(("zone", "is_sure"), [("UTC", True), (NEW_YORK, False)])
def test_a_partition_key_is_in_the_zone_of_its_timetable(sandbox, zone, is_sure):
    """The key is a naive stamp there."""
    task = create(
        {"schedule": partitions(zone)},
        interval_start="{{ macros.ds_add(dag_run.partition_key[:10], -7) }}",
        interval_end="{{ dag_run.partition_key }}",
    )
    fields = {"partition_key": "2026-11-02T00:00:00"}
    outcome = run_task(task, interval=None, run_fields=fields)
    assert (outcome.state == "success") is is_sure, outcome.error
    assert is_sure or "timezone=" in str(outcome.error)[:100]


@IN_A_ZONE
@pytest.mark.parametrize(("zone", "is_sure"), [("UTC", True), (NEW_YORK, False)])
@pytest.mark.parametrize("deferrable", [False, True])
def test_the_data_sensor_reads_dates_alike(sandbox, make_schedule, zone, is_sure, deferrable):
    """It waits for the same instant that the create sends."""
    with dag(schedule=make_schedule(zone)):
        task = ReportDataSensor(
            task_id="wait",
            report="balance_summary",
            interval_end="{{ data_interval_end | ds }}",
            deferrable=deferrable,
        )
    outcome = run_task(task)
    assert (outcome.state == "success") is is_sure, outcome.error
    assert is_sure or isinstance(outcome.error, InvalidInput)


def test_a_timezone_that_is_given_goes_over_all(sandbox):
    """Dates are midnights there."""
    schedule = CronDataIntervalTimetable(MONDAYS, timezone="UTC")
    task = create({"schedule": schedule}, timezone=NEW_YORK, **DAYS)
    assert run_task(task).state == "success"
    assert sandbox.runs[0].report_parameters["interval_start"] == "2026-10-26T04:00:00.000Z"
