"""Outputs of mapped tasks as parameters, through ``dag.test()`` on a database of its own."""

from __future__ import annotations

import importlib.util
from datetime import datetime, timezone

import pytest

RUN_DAY = datetime(2026, 11, 2, tzinfo=timezone.utc)
SOURCE = """
from airflow.sdk import DAG, task
from airflow_provider_reportrun.operators.report_run import CreateReportRunOperator

with DAG("mapped_columns", schedule=None) as dag:

    @task
    def echo(name):
        return name

    @task
    def several(names):
        return names

    CreateReportRunOperator(
        task_id="create",
        report="balance_change_from_activity_itemized",
        report_parameters={
            "interval_start": "2026-10-26T00:00:00Z",
            "interval_end": "2026-11-02T00:00:00Z",
            "columns": COLUMNS,
        },
        interval_start=None,
        interval_end=None,
    )
"""


@pytest.mark.parametrize(
    ("columns", "sent"),
    [
        ('echo.expand(name=["gross", "net"])', ["gross", "net"]),
        ('echo.expand(name=["GROSS", "NET"]).map(lambda name: name.lower())', ["gross", "net"]),
        ('several(["gross"]).concat(several(["net", "fee"]))', ["gross", "net", "fee"]),
    ],
    ids=["mapped", "map", "concat"],
)
def test_an_output_is_a_list(airflow_db, sandbox, monkeypatch, tmp_path, columns, sent):
    """In the order of the task instances, whatever sequence Airflow hands over."""
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path))
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(tmp_path))
    path = tmp_path / "mapped_columns.py"
    path.write_text(SOURCE.replace("COLUMNS", columns), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("mapped_columns", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.dag.test(logical_date=RUN_DAY)
    assert run.state == "success"
    assert [each.report_parameters["columns"] for each in sandbox.runs] == [sent]


LANDS = """
from airflow.sdk import DAG
from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

with DAG("mapped_landings", schedule=None) as dag:
    ReportRunToStorageOperator.partial(
        task_id="land",
        interval_start="2026-10-26T00:00:00Z",
        interval_end="2026-11-02T00:00:00Z",
        ARGUMENTS
"""


@pytest.mark.parametrize(
    ("arguments", "is_warned_of"),
    [
        ('destination="FOLDER/{{ ds }}.csv").expand(report=REPORTS)', True),
        ('destination="FOLDER/{{ task.report }}.csv").expand(report=REPORTS)', False),
        ('destination="FOLDER/{{ ti.map_index }}.csv").expand(report=REPORTS)', False),
        ('destination="FOLDER/").expand(report=REPORTS)', False),
        ('report=REPORTS[0]).expand(destination=["FOLDER/a.csv", "FOLDER/b.csv"])', False),
    ],
    ids=["one file", "by a value", "by the index", "folder", "mapped"],
)
def test_instances_that_land_in_one_file_are_warned_of(
    airflow_db, sandbox, monkeypatch, tmp_path, capfd, caplog, arguments, is_warned_of
):
    """Only if it is certain: a folder names files by their report runs."""
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path))
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(tmp_path))
    arguments = arguments.replace("FOLDER", f"{tmp_path}/landed")
    arguments = arguments.replace("REPORTS", '["balance_summary", "payouts_itemized"]')
    path = tmp_path / "mapped_landings.py"
    path.write_text(LANDS.replace("ARGUMENTS", arguments), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("mapped_landings", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.dag.test(logical_date=RUN_DAY)
    assert run.state == "success"
    said = capfd.readouterr()
    log = said.out + said.err + caplog.text
    assert ("every instance of this mapped task writes" in log) == is_warned_of
