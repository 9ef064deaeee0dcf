"""Whole DAGs, the examples first, through ``dag.test()`` on a database of their own."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from decimal import Decimal
from pathlib import Path

import duckdb
import pendulum
import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.mappedoperator import MappedOperator
from sqlalchemy import select
from support.dag_authors import run_tests
from support.versions import TESTS_KNOW_ASSETS

from airflow_provider_reportrun.sandbox import Fault, LoseAnswer, Patch

EXAMPLES = Path(__file__).parents[1] / "example_dags"
RUN_DAY = pendulum.datetime(2026, 11, 2)
WEEK = "2026-10-26"


@pytest.fixture
def landing(monkeypatch, tmp_path):
    """The folder that the examples land in, empty."""
    monkeypatch.setenv("REPORTRUN_LANDING", str(tmp_path))
    return tmp_path


def imported(name):
    """Import an example anew, with the environment as it is, and let it look often."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for task in (task for dag in dags_of(module) for task in dag.tasks):
        for span in ("poke_interval", "poll_interval"):
            if hasattr(task, span):
                setattr(task, span, 0.1)
            elif span in getattr(task, "partial_kwargs", {}):
                task.partial_kwargs[span] = 0.1
    return module


def dags_of(module):
    """The DAGs of a module, as Airflow finds them."""
    return [value for value in vars(module).values() if isinstance(value, DAG)]


def example(name):
    """The only DAG of an example, to be tested."""
    (dag,) = dags_of(imported(name))
    if not TESTS_KNOW_ASSETS:
        for task in dag.tasks:
            is_mapped = isinstance(task, MappedOperator)
            (task.partial_kwargs if is_mapped else vars(task))["outlets"] = []
    return dag


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


@pytest.fixture
def database(monkeypatch, tmp_path_factory):
    """The file of the database that the example loads into; it does not exist yet."""
    path = tmp_path_factory.mktemp("database") / "finance.duckdb"
    monkeypatch.setenv("REPORTRUN_DUCKDB", str(path))
    return path


def table_and_files(database, landing):
    """The rows of the table without their intervals, and those of the files, both sorted."""
    with duckdb.connect(str(database), read_only=True) as connection:
        query = "SELECT * EXCLUDE (interval_start, interval_end) FROM activity ORDER BY ALL"
        table = connection.execute(query).fetchall()
    files = duckdb.sql(f"FROM read_parquet('{landing}/activity/*.parquet') ORDER BY ALL")
    return table, files.fetchall()


def stored_events(asset):
    """The events of an asset so far, in the order of their intervals."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = select(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        events = list(session.scalars(query.where(AssetModel.name == asset)))
        return sorted(events, key=lambda event: event.extra["interval_start"])


@pytest.fixture
def triggered_by(monkeypatch):
    """A function that lets events start the next DAG run, as the scheduler does."""
    from airflow.models import dagrun
    from airflow.models.asset import AssetEvent

    def triggered_by(events):
        def create(**arguments):
            run = real(**arguments)
            session = arguments["session"]
            run.consumed_asset_events += [session.get(AssetEvent, event.id) for event in events]
            session.commit()
            return run

        monkeypatch.setattr(dagrun, "get_or_create_dagrun", create)

    real = dagrun.get_or_create_dagrun
    return triggered_by


@pytest.mark.needs("timetables in airflow.sdk")
def test_report_to_table(airflow_db, sandbox, landing, database, triggered_by):
    """
    Three weeks that landed are loaded by one run, and a week that lands again counts once.

    The last of them has arrived after the events that the run was started for.
    """
    module = imported("report_to_table")
    for number in range(3):
        assert module.to_parquet.test(logical_date=RUN_DAY.add(weeks=number)).state == "success"
    triggered_by(stored_events("stripe_activity")[:2])
    run = module.to_table.test(run_after=RUN_DAY.add(weeks=1, hours=1))
    assert run.state == "success"
    loads = sorted(run.get_task_instances(), key=lambda ti: ti.map_index)
    weeks = [ti.rendered_map_index[:10] for ti in loads if ti.task_id == "load"]
    assert weeks == [WEEK, "2026-11-02", "2026-11-09"]
    table, files = table_and_files(database, landing)
    assert table == files
    assert len(table) == sum(xcom(run, "load", map_index=index) for index in range(3)) > 21
    assert all(isinstance(value, Decimal) for value in table[0][5:8])
    assert [line[:15] for line in xcom(run, "totals")[:1]] == [f"{WEEK} eur:"]

    before = len(stored_events("stripe_activity"))
    assert module.to_parquet.test(logical_date=RUN_DAY).state == "success"
    again = stored_events("stripe_activity")
    assert len(again) == before + 1
    triggered_by(again)  # the first week twice
    run = module.to_table.test(run_after=RUN_DAY.add(weeks=1, hours=2))
    assert run.state == "success"
    assert table_and_files(database, landing) == (table, files)


def test_a_load_that_fails_half_way_changes_nothing(landing, database):
    """The rows of before remain, all of them, and the next load replaces them."""
    module = imported("report_to_table")
    path = landing / "a.parquet"
    interval = {"interval_start": "2026-01-05T00:00:00.000Z"}
    interval["interval_end"] = "2026-01-12T00:00:00.000Z"
    facts = {"uri": path.as_uri(), **interval}

    def write(net):
        rows = f"SELECT i AS id, ({net})::DECIMAL(38,18) AS net FROM range(300_000) t(i)"  # noqa: S608 - ours
        duckdb.sql(f"COPY ({rows}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")

    def sums():
        with duckdb.connect(str(database), read_only=True) as connection:
            return connection.sql("SELECT count(*), sum(net) FROM activity").fetchall()

    write("0.1")
    assert module.replace_interval(facts, str(database)) == 300_000
    assert sums() == [(300_000, 30_000)]
    write("0.2 + i")
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"\xff" * 100_000 + whole[middle + 100_000 :])
    with pytest.raises(duckdb.Error):
        module.replace_interval(facts, str(database))
    assert sums() == [(300_000, 30_000)]
    path.write_bytes(whole)
    other = {**facts, "interval_start": interval["interval_end"]}
    assert module.replace_interval(other, str(database)) == 300_000
    assert module.replace_interval(facts, str(database)) == 300_000
    assert sums() == [(600_000, 2 * (60_000 + 300_000 * 299_999 // 2))]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_tells_what_it_is(path, landing):
    """Each DAG has a text, mapped tasks name their instances, and what lands updates an asset."""
    for dag in dags_of(imported(path.stem)):
        assert dag.doc_md.strip()
        assert any(outlets_of(task) for task in dag.tasks)
        for task in dag.tasks:
            if isinstance(task, MappedOperator):
                assert task.partial_kwargs.get("map_index_template"), task.task_id
            if "destination" in task.template_fields:
                assert outlets_of(task), task.task_id


def outlets_of(task):
    """The outlets of a task, mapped or not."""
    return getattr(task, "partial_kwargs", {}).get("outlets") or task.outlets


def test_each_asset_of_the_examples_has_one_writer(landing):
    """Otherwise nobody could tell of which file an event is."""
    modules = [imported(path.stem) for path in sorted(EXAMPLES.glob("*.py"))]
    names = [
        outlet.name
        for module in modules
        for dag in dags_of(module)
        for task in dag.tasks
        for outlet in outlets_of(task)
    ]
    assert len(names) == len(set(names)) == 7


def test_mapped_reports(airflow_db, sandbox, landing):
    """Each report is a mapped task instance with a report run and a file of its own."""
    run = example("mapped_reports").test(logical_date=RUN_DAY)
    assert run.state == "success"
    reports = [each.report for each in sandbox.runs]
    assert len(reports) == len(set(reports)) == 3
    landed = sorted(path.name for path in (landing / WEEK).iterdir())
    assert landed == sorted(f"{report}.csv" for report in reports)
    reports_by_id = {each.id: each.report for each in sandbox.runs}
    assert {ti.rendered_map_index for ti in run.get_task_instances()} == set(reports)
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
