"""Tasks that end in the triggerer: what they return, and what cannot end there."""

from __future__ import annotations

import pytest
from airflow.sdk import Asset, BaseSensorOperator
from support.cases import INTERVAL, STILL_RUNNING
from support.task_instances import dag, end_in_triggerer, make_task, run_task

from airflow_provider_reportrun import _compat
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.links.report_run import ReportRunLink
from airflow_provider_reportrun.operators.query_run import CreateQueryRunOperator
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Answer, Fault
from airflow_provider_reportrun.sensors.query_run import QueryRunSensor
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor

ENDING = {"deferrable": True, "end_from_trigger": True}
PACE = {"poll_interval": 0.02, "max_poll_interval": 0.05}
NO_ROOM = Answer(status=429, body={"error": {"code": "report_run_rate_limit_exceeded"}})
LINK = ReportRunLink().xcom_key
SUCCESS = "success"
FAR_WEEK = ("2999-12-02T00:00:00+00:00", "2999-12-09T00:00:00+00:00")

pytestmark = pytest.mark.needs("end_from_trigger")


def deferral_of(task, **arguments):
    """The deferral of a task that has to wait."""
    (deferral,) = run_task(task, event_of=None, **arguments).deferrals
    return deferral


def a_run(make=ReportRunHook.create_report_run):
    """A run to wait for."""
    with ReportRunHook() as hook:
        return make(hook, "balance_summary", INTERVAL)


@pytest.mark.parametrize("arguments", [{}, {"do_xcom_push": False}], ids=["returns", "silent"])
def test_a_sensor_returns_what_it_returns_on_a_worker(sandbox, arguments):
    """The same values, pushed by the trigger before the task ends, unless none shall be pushed."""
    run = a_run()
    on_worker = run_task(make_task(ReportRunSensor, report_run_id=run.id, deferrable=True))
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=2))
    sensor = make_task(
        ReportRunSensor, report_run_id=run.id, poke_interval=0.02, **ENDING, **arguments
    )
    event, xcom = end_in_triggerer(sensor, deferral_of(sensor))
    assert event.task_instance_state == SUCCESS
    assert xcom == ({} if arguments else {"return_value": on_worker.returned})
    assert event.xcoms is None, "Airflow would store those as text"


def test_a_sensor_for_data_returns_what_it_returns_on_a_worker(sandbox):
    """The instant up to which there are data."""
    sensor = make_task(ReportDataSensor, report="balance_summary", poke_interval=0.02, **ENDING)
    deferral = deferral_of(sensor, interval=FAR_WEEK)
    sandbox.advance(366 * 86400 * 1000)
    event, xcom = end_in_triggerer(sensor, deferral)
    on_worker = run_task(make_task(ReportDataSensor, report="balance_summary"))
    assert event.task_instance_state == SUCCESS
    assert xcom == {"return_value": on_worker.returned}


@pytest.mark.parametrize("waits_for", ["room", "report"])
@pytest.mark.parametrize("kind", [CreateReportRunOperator, CreateQueryRunOperator])
def test_a_create_returns_its_run(sandbox, kind, waits_for):
    """The id, also if the trigger created the run; then the link to it is the trigger's too."""
    for_room = waits_for == "room"
    operation, answer = ("create", NO_ROOM) if for_room else ("get_run", STILL_RUNNING)
    sandbox.faults.add(Fault(operation, answer, times=1))
    what = {"sql": "select 1"} if kind is CreateQueryRunOperator else {"report": "balance_summary"}
    task = make_task(kind, wait_for_completion=True, **what, **PACE, **ENDING)
    event, xcom = end_in_triggerer(task, deferral_of(task))
    (run,) = sandbox.runs
    assert event.task_instance_state == SUCCESS
    assert xcom.pop("return_value") == run.id
    assert list(xcom) == ([LINK] if for_room else [])
    assert run.id in xcom.get(LINK, run.id)


def test_a_query_sensor_returns_its_run(sandbox):
    """With the id under both names."""
    task = make_task(CreateQueryRunOperator, sql="select 1")
    run_id = run_task(task).returned
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=1))
    sensor = make_task(QueryRunSensor, query_run_id=run_id, poke_interval=0.02, **ENDING)
    _, xcom = end_in_triggerer(sensor, deferral_of(sensor))
    assert xcom["return_value"]["query_run_id"] == run_id


@pytest.mark.parametrize("kind", [CreateReportRunOperator, ReportRunSensor])
def test_a_failed_run_resumes_the_task(sandbox, kind):
    """Only a worker decides what a failure means: retries, ``soft_fail``, messages."""
    sandbox.fail_next(1)
    sandbox.faults.add(Fault("create", STILL_RUNNING, times=1))
    if kind is ReportRunSensor:
        sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=1))
        arguments = {"report_run_id": a_run().id, "poke_interval": 0.02}
    else:
        arguments = {"report": "balance_summary", "wait_for_completion": True, **PACE}
    task = make_task(kind, **arguments, **ENDING)
    event, xcom = end_in_triggerer(task, deferral_of(task))
    assert event.payload["outcome"] == "error"
    assert xcom == {}


def test_a_value_that_cannot_be_pushed_resumes_the_task(sandbox, monkeypatch):
    """A custom XCom backend may fail; then a worker returns the value, or fails as ever."""
    from airflow.sdk.execution_time import xcom as backend

    class Broken(backend.XCom):
        @staticmethod
        def serialize_value(*_, **__):
            raise RuntimeError("The store is full.")

    monkeypatch.setattr(backend, "XCom", Broken)
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=1))
    sensor = make_task(ReportRunSensor, report_run_id=a_run().id, poke_interval=0.02, **ENDING)
    event, _ = end_in_triggerer(sensor, deferral_of(sensor))
    assert event.payload["outcome"] == "done"


def test_without_a_triggerer_the_task_resumes(sandbox):
    """``dag.test()`` knows no task that ends in a trigger."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=1))
    sensor = make_task(ReportRunSensor, report_run_id=a_run().id, poke_interval=0.02, **ENDING)
    outcome = run_task(sensor)
    assert outcome.state == SUCCESS
    assert outcome.returned["status"] == "succeeded"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"outlets": [Asset("a")]}, "outlets"),
        ({"on_success_callback": print}, "on_success_callback"),
        ({"multiple_outputs": True}, "multiple_outputs"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "what"),
    [(ReportRunSensor, {"report_run_id": "r"}), (CreateReportRunOperator, {"report": "r"})],
)
def test_what_would_be_lost_is_refused(kind, what, arguments, word):
    """When the DAG file is parsed."""
    with pytest.raises(InvalidInput, match=f"Remove end_from_trigger or .*{word}"):
        make_task(kind, **what, **arguments, **ENDING)


def test_outlets_that_are_added_later_are_not_lost(sandbox):
    """Such a task resumes on a worker."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=1))
    sensor = make_task(ReportRunSensor, report_run_id=a_run().id, poke_interval=0.02, **ENDING)
    sensor.outlets.append(Asset("a"))
    event, _ = end_in_triggerer(sensor, deferral_of(sensor))
    assert event.payload["outcome"] == "done"


def test_a_task_that_others_are_mapped_over_resumes(sandbox):
    """Only a worker records how many there will be."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=1))
    with dag():
        sensor = ReportRunSensor(
            task_id="t", report_run_id=a_run().id, poke_interval=0.02, **ENDING
        )
        BaseSensorOperator.partial(task_id="mapped").expand(doc=sensor.output)
    event, _ = end_in_triggerer(sensor, deferral_of(sensor))
    assert event.payload["outcome"] == "done"


def test_one_task_does_not_end_in_the_triggerer():
    """It has a file to land."""
    with pytest.raises(TypeError, match="end_from_trigger"):
        make_task(ReportRunToStorageOperator, report="r", destination="/x/y", **ENDING)


def test_older_airflows_refuse_it(monkeypatch):
    """When the DAG file is parsed, with the version that is needed."""
    from airflow.sdk.bases.xcom import BaseXCom

    monkeypatch.delattr(BaseXCom, "aset")
    assert not _compat.pushes_from_triggers()
    with pytest.raises(InvalidInput, match=r"^Remove end_from_trigger: it needs Airflow 3\.3"):
        make_task(ReportRunSensor, report_run_id="r", **ENDING)
