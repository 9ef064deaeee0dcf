"""Templates that cannot be rendered: an error like any other, in one try."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRuntimeError
from support.task_instances import make_task, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.operators.query_run import CreateQueryRunOperator
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor

REPORT = {"report": "balance_summary"}
BOUNDS = {"interval_start": "2026-10-26T00:00:00Z", "interval_end": "2026-11-02T00:00:00Z"}
DAY = "/r/{{ data_interval_start | ds }}.csv"


def refused(kind, **arguments):
    """The message of a task that fails in one try without a data interval."""
    fields = arguments.pop("run_fields", {})
    task = make_task(kind, retries=2, **arguments)
    outcome = run_task(task, interval=None, run_fields=fields)
    assert outcome.state == "failed"
    assert isinstance(outcome.error, InvalidInput)
    assert isinstance(outcome.error, AirflowFailException)
    return str(outcome.error)


@pytest.mark.parametrize(
    ("name", "needs", "kind", "arguments"),
    [
        (
            "destination",
            "data_interval_start",
            ReportRunToStorageOperator,
            {**REPORT, **BOUNDS, "destination": DAY},
        ),
        (
            "destination",
            "data_interval_start",
            DownloadReportResultOperator,
            {"report_run_id": "rr_1", "destination": DAY},
        ),
        (
            "report_parameters",
            "ds",
            CreateReportRunOperator,
            {**REPORT, **BOUNDS, "report_parameters": {"columns": ["a", "{{ ds }}"]}},
        ),
        ("interval_end", "ts", CreateReportRunOperator, {**REPORT, "interval_end": "{{ ts }}"}),
        ("sql", "ds", CreateQueryRunOperator, {"sql": "select '{{ ds }}'", "api": "v2.data"}),
        ("report_run_id", "logical_date", ReportRunSensor, {"report_run_id": "{{ logical_date }}"}),
        ("interval_end", "ds", ReportDataSensor, {**REPORT, "interval_end": "{{ ds }}"}),
    ],
)
def test_a_template_that_needs_an_interval(sandbox, name, needs, kind, arguments):
    """Names the argument, what is missing and the fix; nothing is sent."""
    message = refused(kind, **arguments)
    words = f"{name} needs {needs}: the run has no data interval. Use CronDataIntervalTimetable"
    assert message.startswith(words)
    assert sandbox.requests == []


def test_a_run_by_an_asset(sandbox):
    """Has no interval, whatever the timetable."""
    arguments = {
        **REPORT,
        **BOUNDS,
        "destination": DAY,
        "run_fields": {"run_type": "asset_triggered"},
    }
    message = refused(ReportRunToStorageOperator, **arguments)
    assert "leave data_interval_start out of the template" in message[:100]


@pytest.mark.parametrize(
    ("words", "template"),
    [
        ("Correct the template of destination: 'weak' is undefined. It is", "/r/{{ weak }}"),
        ("Correct the template of destination: unexpected '}'. It is", "/r/{{ ds }"),
        ("Correct the template of destination: 'None' has no attribute 'day'", "{{ none.day }}"),
        ("There is no file x.sql: create it beside the DAG file, or set", "{% include 'x.sql' %}"),
    ],
)
def test_a_wrong_template(sandbox, words, template):
    """Is wrong in each try, so there is one."""
    arguments = {**REPORT, **BOUNDS, "destination": template}
    assert refused(ReportRunToStorageOperator, **arguments).startswith(words)
    assert sandbox.requests == []


def test_a_missing_sql_file(sandbox):
    """Names the file and where to put it."""
    message = refused(CreateQueryRunOperator, sql="weekly.sql", api="v2.data")
    assert message.startswith("There is no file weekly.sql: create it beside the DAG file, or ")
    assert "template_searchpath" in message[:100]
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("kind", "fixed", "mapped"),
    [
        (ReportRunToStorageOperator, {"destination": DAY, **BOUNDS}, "report"),
        (ReportRunSensor, {"api": "{{ ds }}"}, "report_run_id"),
    ],
)
def test_a_mapped_task(sandbox, kind, fixed, mapped):
    """Airflow renders it in another way; it has the defaults of its base, such as no inlets."""
    with DAG("d", schedule=None):
        task = kind.partial(task_id="t", retries=2, **fixed).expand(**{mapped: ["x"]})
    assert (task.inlets, task.outlets) == ([], [])
    outcome = run_task(task, map_index=0, interval=None)
    assert outcome.state == "failed"
    assert "the run has no data interval" in str(outcome.error)


def test_an_outage_while_rendering_is_retried(sandbox, monkeypatch):
    """It is no mistake in the template."""

    def fail(*_, **__):
        raise AirflowRuntimeError.__new__(AirflowRuntimeError)

    template = "{{ fail() }}"
    with DAG("d", schedule=None, user_defined_macros={"fail": fail}):
        task = CreateReportRunOperator(task_id="t", retries=1, report=template)
    outcome = run_task(task)
    assert outcome.state == "up_for_retry"


def test_a_rendered_template_stays(sandbox, tmp_path):
    """With an interval, nothing is different."""
    task = make_task(
        ReportRunToStorageOperator,
        **REPORT,
        destination=f"{tmp_path}/{{{{ data_interval_start | ds }}}}.csv",
    )
    assert run_task(task).state == "success"
    assert (tmp_path / "2026-10-26.csv").exists()
