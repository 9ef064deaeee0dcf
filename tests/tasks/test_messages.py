"""What tasks ask of Airflow's API server: each request takes as long as one to Stripe, or more."""

from __future__ import annotations

import pytest
from support.cases import FAST, FAST_SENSOR, INTERVAL, STILL_RUNNING
from support.task_instances import make_task, run_task

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.links.report_run import ReportRunLink
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Fault
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor

REPORT = {"report": "balance_summary"}
LINK = f"POST {ReportRunLink().xcom_key}"
RETURNED = "POST return_value"
RECORDED = "PUT report_run"
RENDERED = "PUT rtif"
STARTED, ENDED = "PATCH run", "PATCH state"

pytestmark = pytest.mark.needs("task_state_store")


def asked(kind, **arguments):
    """What a task asks for, in order; a task that waits in the triggerer is resumed."""
    outcome = run_task(make_task(kind, **arguments), store={})
    assert outcome.state == "success", outcome.error
    return outcome.asked


def report_run_id():
    """The id of a report run."""
    with ReportRunHook() as hook:
        return hook.create_report_run("balance_summary", INTERVAL).id


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_create(sandbox, deferrable):
    """Records its key before the create, and the report run after it; each thing is sent once."""
    expected = [STARTED, RENDERED, RECORDED, RECORDED, RETURNED, ENDED, LINK]
    assert expected == asked(CreateReportRunOperator, deferrable=deferrable, **REPORT, **FAST)


def test_a_sensor(sandbox):
    """A sensor that was deferred has its link."""
    run_id = report_run_id()
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    before = [STARTED, RENDERED, ENDED, LINK]
    after = [STARTED, RENDERED, RETURNED, ENDED]
    sensor = {"report_run_id": run_id, "deferrable": True, **FAST_SENSOR}
    assert before + after == asked(ReportRunSensor, **sensor)


def test_a_download(sandbox, tmp_path):
    """Has its link while it downloads."""
    arguments = {"report_run_id": report_run_id(), "destination": str(tmp_path / "r.csv")}
    expected = [STARTED, RENDERED, LINK, "POST landing", RETURNED, ENDED]
    assert expected == asked(DownloadReportResultOperator, **arguments)


def test_all_in_one_task(sandbox, tmp_path):
    """A task that waits has its link; after the wait it reads its record, and writes none."""
    sandbox.faults.add(Fault("create", STILL_RUNNING))
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    before = [STARTED, RENDERED, RECORDED, RECORDED, ENDED, LINK]
    after = [STARTED, RENDERED, "GET report_run", "POST landing", RETURNED, ENDED, RENDERED]
    arguments = {"destination": str(tmp_path / "r.csv"), **REPORT, **FAST}
    assert before + after == asked(ReportRunToStorageOperator, **arguments)


def test_a_bound_that_changes(sandbox):
    """A bound of the user's is rendered once as it is written, and once as it is sent."""
    arguments = {"interval_end": "2026-11-01T01:00:00+01:00", **REPORT, **FAST}
    assert asked(CreateReportRunOperator, **arguments).count(RENDERED) == 2


def test_a_retry(sandbox):
    """Reads the record of the first try."""
    store = {}
    task = make_task(CreateReportRunOperator, retries=1, **REPORT, **FAST)
    run_task(task, store=store)
    outcome = run_task(task, store=store, try_number=2)
    assert outcome.asked == [STARTED, RENDERED, "GET report_run", RETURNED, ENDED, LINK]
