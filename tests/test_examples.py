"""Whole DAGs, the examples first, through ``dag.test()`` on a database of their own."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from pathlib import Path

import pendulum
import pytest
from sqlalchemy import select
from support.dag_authors import run_tests

from airflow_provider_reportrun.sandbox import Fault, LoseAnswer, Patch

EXAMPLES = Path(__file__).parents[1] / "example_dags"
RUN_DAY = pendulum.datetime(2026, 11, 2)
WEEK = "2026-10-26"


@pytest.fixture
def landing(monkeypatch, tmp_path):
    """The folder that the examples land in, empty."""
    monkeypatch.setenv("REPORTRUN_LANDING", str(tmp_path))
    return tmp_path


def example(name):
    """Import an example anew, with the environment as it is."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for task in module.dag.tasks:
        for span in ("poke_interval", "poll_interval"):
            if hasattr(task, span):
                setattr(task, span, 0.1)
            elif span in getattr(task, "partial_kwargs", {}):
                task.partial_kwargs[span] = 0.1
    return module.dag


def xcom(run, task_id, key="return_value", map_index=-1):
    """What a task of a run has pushed."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        value = session.scalar(
            select(XComModel.value).where(
                XComModel.run_id == run.run_id,
                XComModel.task_id == task_id,
                XComModel.key == key,
                XComModel.map_index == map_index,
            )
        )
    return XComModel.deserialize_value(type("Row", (), {"value": value}))


def rows(path):
    """The rows of a landed CSV."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("api", "report"),
    [
        ("v2.reporting", "balance_change_from_activity_itemized"),
        ("v2.data", "name:balance_change_from_activity.itemized"),
        ("v1", "balance_change_from_activity.itemized.3"),
    ],
)
def test_weekly_report(airflow_db, sandbox, landing, monkeypatch, api, report):
    """Create, wait and land end in the verified file of the week, on every generation."""
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json_for(api))
    dag = example("weekly_report")
    dag.get_task("create").report = report
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None}), times=2))
    run = dag.test(logical_date=RUN_DAY)
    assert run.state == "success"
    (report_run,) = sandbox.runs
    assert report_run.generation == api
    file = landing / f"activity_{WEEK}.csv"
    assert [file] == list(landing.iterdir())
    told = xcom(run, "land", "landing")
    assert told["uri"] == xcom(run, "land") == file.as_uri()
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert told["size"] == file.stat().st_size
    assert told["report_run_id"] == report_run.id == xcom(run, "create")
    assert told["api"] == api
    assert told["interval_start"] == f"{WEEK}T00:00:00.000Z"
    assert told["interval_end"] == "2026-11-02T00:00:00.000Z"
    stamps = [row["created_utc" if api != "v1" else "created"] for row in rows(file)]
    assert len(stamps) > 7
    assert f"{WEEK} 00:00:00" <= min(stamps)
    assert max(stamps) < "2026-11-02 00:00:00"


def test_weekly_report_single_task(airflow_db, sandbox, landing):
    """One task does it all, and spends nothing on a week that is there already."""
    dag = example("weekly_report_single_task")
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None}), times=2))
    run = dag.test(logical_date=RUN_DAY)
    assert run.state == "success"
    assert xcom(run, "report") == (landing / f"payouts_{WEEK}.csv").as_uri()
    again = dag.test(logical_date=RUN_DAY)
    assert again.state == "success"
    assert xcom(again, "report", "landing")["skipped"] is True
    assert len(sandbox.runs) == 1


@pytest.mark.parametrize("api", ["v2.reporting", "v2.data"])
def test_weekly_query(airflow_db, sandbox, landing, monkeypatch, api):
    """One task runs the week's query and lands its rows; it runs none for a week that is there."""
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json_for(api))
    dag = example("weekly_query")
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None}), times=2))
    run = dag.test(logical_date=RUN_DAY.add(hours=12))
    assert run.state == "success"
    (query_run,) = sandbox.runs
    assert f"created >= timestamp '{WEEK} 00:00:00'" in query_run.sql
    assert "created < timestamp '2026-11-02 00:00:00'" in query_run.sql
    file = landing / "queries" / f"{WEEK}.csv"
    assert xcom(run, "query") == file.as_uri()
    assert {"currency", "net"} < set(rows(file)[0])
    assert sum(int(row["transactions"]) for row in rows(file)) > 7
    assert dag.test(logical_date=RUN_DAY.add(hours=12)).state == "success"
    assert len(sandbox.runs) == 1


def test_mapped_reports(airflow_db, sandbox, landing):
    """Each report is a mapped task instance with a report run and a file of its own."""
    run = example("mapped_reports").test(logical_date=RUN_DAY)
    assert run.state == "success"
    reports = [each.report for each in sandbox.runs]
    assert len(reports) == len(set(reports)) == 3
    landed = sorted(path.name for path in (landing / WEEK).iterdir())
    assert landed == sorted(f"{report}.csv" for report in reports)
    reports_by_id = {each.id: each.report for each in sandbox.runs}
    for index in range(3):  # in whatever order the mapped task instances ran
        report = reports_by_id[xcom(run, "create", map_index=index)]
        file = landing / WEEK / f"{report}.csv"
        assert xcom(run, "land", map_index=index) == [file.as_uri()]


def test_retries_find_the_same_report_run(airflow_db, sandbox, landing):
    """Lost answers and a server that is down for a try leave one report run and one file."""
    dag = example("weekly_report")
    for task in dag.tasks:
        task.retry_delay = pendulum.duration(seconds=0)
    sandbox.faults.add(Fault("create", LoseAnswer(), times=6))
    run = dag.test(logical_date=RUN_DAY)
    assert run.state == "success"
    assert len(sandbox.runs) == 1
    assert run.get_task_instance("create").try_number == 2
    assert len(list(landing.iterdir())) == 1


def test_the_examples_own_tests_pass(tmp_path):
    """With nothing but the package and pytest, as a DAG author runs them."""
    assert "2 passed" in run_tests(EXAMPLES / "tests", tmp_path)
