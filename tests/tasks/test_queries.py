"""The operators and the sensor of SQL queries, as task instances, on both query APIs."""

from __future__ import annotations

import inspect
import json
import re
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.sdk import DAG
from airflow.utils.state import TaskInstanceState
from support.cases import FAST, FAST_SENSOR, MODES, PLACES, STORES
from support.task_instances import dag, load_trigger, run_sensor, run_task
from support.versions import deserialize, serialize

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    InvalidInput,
    InvalidRequest,
    LandingExists,
    ReportRunFailed,
)
from airflow_provider_reportrun.operators.query_run import (
    CreateQueryRunOperator,
    DownloadQueryResultOperator,
    QueryRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Answer, Fault, LoseAnswer, Patch
from airflow_provider_reportrun.sensors.query_run import QueryRunSensor

SQL = "select 1 as a, 'x' as b"
CSV = b"a,b\n1,x\n"
PATHS = {"v2.reporting": "/v2/data/reporting/query_runs", "v2.data": "/v2/data/query_runs"}
ZIPPED = {"v2.reporting": {"compress_file": True}, "v2.data": {"compression": "zip"}}
RUNNING = Patch({"status": "running", "result": None})
IN_USE = Answer(
    status=409, body={"error": {"code": "idempotency_key_in_use", "message": "In progress."}}
)
NO_ROOM = Answer(
    status=429, body={"error": {"code": "query_run_rate_limit_exceeded", "message": "No room."}}
)
FAILS_LATER = "select json(description) from payouts"
"""SQL whose error shows only on the rows."""


@pytest.fixture(params=PATHS)
def api(request):
    """Each generation that has queries."""
    return request.param


@pytest.fixture
def make(api):
    """Make a task of a kind, on the generation."""

    def make(kind, dag_arguments=None, **arguments):
        defaults = {"task_id": "query", "api": api}
        if kind in {CreateQueryRunOperator, QueryRunToStorageOperator}:
            defaults |= {"sql": SQL, **FAST}
        with dag(**dag_arguments or {}):
            return kind(**defaults | arguments)

    return make


@pytest.fixture
def finished_run(make):
    """The id of a query run that another task created."""
    outcome = run_task(make(CreateQueryRunOperator, task_id="create"))
    assert outcome.state == "success", outcome.error
    return outcome.returned


def posts(sandbox):
    """The creates that arrived."""
    return [request for request in sandbox.requests if request.method == "POST"]


def gets(sandbox):
    """The polls that arrived."""
    return [request for request in sandbox.requests if request.method == "GET"]


def sql_sent(sandbox):
    """The SQL of the only create."""
    (request,) = posts(sandbox)
    body = json.loads(bytes(request.body))
    return body.get("sql") or body["query"]["sql"]


def failed_for_good(outcome, kind):
    """Check that a task failed without a retry, and return the message."""
    assert outcome.state == "failed"
    assert isinstance(outcome.error, kind)
    assert isinstance(outcome.error, AirflowFailException)
    return str(outcome.error)


# What the four do


@PLACES
def test_creates_a_query_run(sandbox, make, api, deferrable, capsys):
    """The create goes to the generation's path, and the id of the query run is returned."""
    sandbox.faults.add(Fault("get_run", RUNNING, times=2))
    outcome = run_task(
        make(CreateQueryRunOperator, wait_for_completion=True, deferrable=deferrable)
    )
    assert outcome.state == "success", outcome.error
    (run,) = sandbox.runs
    assert outcome.returned == run.id
    assert {PATHS[api]} == {request.path for request in posts(sandbox)}
    assert {PATHS[api]} == {request.path.removesuffix(f"/{run.id}") for request in sandbox.requests}
    assert sql_sent(sandbox) == SQL
    assert len(outcome.deferrals) == int(deferrable)
    link = outcome.xcom["_link_ReportRunLink"]
    assert link.endswith(f"/workbench/inspector?object={run.id}")


@PLACES
def test_lands_a_query_in_one_task(sandbox, make, api, tmp_path, deferrable, caplog, capsys):
    """The rows are landed, and the facts and the log name a query run."""
    sandbox.faults.add(Fault("get_run", RUNNING, times=2))
    path = tmp_path / "r.csv"
    task = make(QueryRunToStorageOperator, destination=str(path), deferrable=deferrable)
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert path.read_bytes() == CSV
    (run,) = sandbox.runs
    assert outcome.returned == path.as_uri()
    landing = outcome.xcom["landing"]
    assert (landing["report_run_id"], landing["query_run_id"]) == (run.id, run.id)
    assert landing["api"] == api
    assert landing["size"] == len(CSV)
    of_reports = ("report", "report_parameters", "interval_start", "interval_end")
    assert [landing[name] for name in of_reports] == [None] * 4
    told = caplog.text + capsys.readouterr().out
    assert f"Downloading the result of query run {run.id}" in told
    assert "report run" not in told.lower()


@pytest.mark.parametrize("mode", MODES)
def test_the_sensor_waits_for_a_query_run(sandbox, make, api, finished_run, mode):
    """Each mode waits, and returns the facts of the query run."""
    sandbox.faults.add(Fault("get_run", RUNNING, times=2))
    sensor = make(QueryRunSensor, query_run_id=finished_run, **MODES[mode] | FAST_SENSOR)
    outcome = run_sensor(sensor)
    assert outcome.state == "success", outcome.error
    found = outcome.returned
    assert found.pop("created")
    assert found == {
        "report_run_id": finished_run,
        "query_run_id": finished_run,
        "status": "succeeded",
        "report": None,
        "report_name": None,
        "report_parameters": None,
        "content_type": "csv",
        "size": len(CSV),
        "livemode": False,
    }
    assert {f"{PATHS[api]}/{finished_run}"} == {request.path for request in gets(sandbox)}


def test_the_sensor_fails_with_a_query_run(sandbox, make):
    """A failed query run fails the sensor at once, and names the task to clear."""
    sandbox.fail_next()
    run = run_task(make(CreateQueryRunOperator, task_id="create")).returned
    outcome = run_sensor(make(QueryRunSensor, query_run_id=run, retries=3, **FAST_SENSOR))
    message = failed_for_good(outcome, ReportRunFailed)
    assert message.startswith("Clear the task that created the query run")
    assert f"It was query run {run}" in message


def test_downloads_a_query_run(sandbox, make, finished_run, tmp_path):
    """The result of another task's query run is landed, as a file named after it in a folder."""
    outcome = run_task(
        make(DownloadQueryResultOperator, query_run_id=finished_run, destination=f"{tmp_path}/")
    )
    assert outcome.state == "success", outcome.error
    assert (tmp_path / f"{finished_run}.csv").read_bytes() == CSV
    assert outcome.xcom["landing"]["query_run_id"] == finished_run


def test_a_running_query_run_has_no_result(sandbox, make, finished_run, tmp_path):
    """The error says what to do first, and names the query run."""
    sandbox.faults.add(Fault("get_run", RUNNING, times=None))
    outcome = run_task(
        make(DownloadQueryResultOperator, query_run_id=finished_run, destination=f"{tmp_path}/")
    )
    assert f"Wait for query run {finished_run} with a sensor first" in str(outcome.error)


# The query


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_sql_is_a_template(sandbox, make, native):
    """Templates see the interval and the parameters of the DAG run, and the UI the result."""
    task = make(
        CreateQueryRunOperator,
        {"render_template_as_native_obj": native, "params": {"least": 5}},
        params={"currency": "usd"},
        sql="select '{{ data_interval_start | ds }}' as day, '{{ params.currency }}' as currency, "
        "{{ params.least }} as least",
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    wanted = "select '2026-10-26' as day, 'usd' as currency, 5 as least"
    assert sql_sent(sandbox) == wanted
    assert outcome.rendered["sql"] == wanted


@pytest.mark.parametrize("folder", ["next to the DAG", "searched"])
@pytest.mark.parametrize("kind", [CreateQueryRunOperator, QueryRunToStorageOperator])
def test_sql_may_be_a_file(sandbox, api, tmp_path, monkeypatch, kind, folder):
    """A ``.sql`` file is a template, next to the DAG file or in ``template_searchpath``."""
    file = "select '{{ ds }}' as day\n-- {{ params.what }}\n"
    (tmp_path / "week.sql").write_text(file)
    searched = {"template_searchpath": str(tmp_path)} if folder == "searched" else {}
    more = {"destination": f"{tmp_path}/r.csv"} if kind is QueryRunToStorageOperator else {}
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    with DAG("d", schedule=None, start_date=start, **searched) as made:
        task = kind(task_id="t", sql="week.sql", api=api, params={"what": "a week"}, **FAST | more)
    if not searched:
        made.fileloc = str(tmp_path / "dag.py")
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert sql_sent(sandbox).strip() == "select '2026-10-26' as day\n-- a week"


def test_a_missing_file_is_named(sandbox, make):
    """The error of a ``.sql`` file that does not exist names it; nothing is sent."""
    outcome = run_task(make(CreateQueryRunOperator, sql="absent.sql"))
    assert outcome.state != "success"
    assert "absent.sql" in str(outcome.error)
    assert sandbox.requests == []


@pytest.mark.parametrize("kind", [CreateQueryRunOperator, QueryRunToStorageOperator])
@pytest.mark.parametrize("sql", ["", "  \n", None, 7])
def test_an_empty_query_is_an_import_error(make, kind, sql):
    """A query that is known to be empty is refused by name when the DAG file is parsed."""
    more = {"destination": "/tmp/r.csv"} if kind is QueryRunToStorageOperator else {}  # noqa: S108
    with pytest.raises(InvalidInput, match=r"^sql must be the text of a query"):
        make(kind, sql=sql, **more)


@pytest.mark.parametrize("sql", ["{{ '' }}", "{{ None }}"])
def test_a_query_that_renders_to_nothing_is_refused(sandbox, make, sql):
    """In one try, by name, before any request."""
    outcome = run_task(make(CreateQueryRunOperator, sql=sql, retries=3))
    assert failed_for_good(outcome, InvalidInput).startswith("sql must be the text of a query")
    assert sandbox.requests == []


@PLACES
def test_wrong_sql_is_refused_once(sandbox, make, deferrable):
    """The API's message and position are in the error; one try, one create."""
    task = make(
        CreateQueryRunOperator,
        sql="select absent\nfrom payouts",
        retries=3,
        deferrable=deferrable,
        wait_for_completion=True,
    )
    message = failed_for_good(run_task(task), InvalidRequest)
    assert "line 1:8: Column 'absent' cannot be resolved" in message
    assert "query run" in message
    assert len(posts(sandbox)) == 1


@PLACES
def test_sql_that_fails_later_is_not_tried_again(sandbox, make, tmp_path, deferrable):
    """A query run that failed for its SQL shows the same, and no other one is created."""
    sandbox.faults.add(Fault("get_run", RUNNING))
    task = make(
        QueryRunToStorageOperator,
        sql=FAILS_LATER,
        destination=f"{tmp_path}/r.csv",
        retries=3,
        deferrable=deferrable,
    )
    message = failed_for_good(run_task(task), ReportRunFailed)
    assert "line 1:1: malformed JSON" in message
    assert "Correct the SQL" in message
    assert len(posts(sandbox)) == 1


# Which generation


V1_REFUSED = r"^api='v1' has no SQL queries: use api='v2.reporting' or 'v2.data'\.$"
OF_EACH = {
    CreateQueryRunOperator: {"sql": SQL},
    QueryRunToStorageOperator: {"sql": SQL, "destination": "/tmp/r.csv"},  # noqa: S108
    DownloadQueryResultOperator: {"query_run_id": "qrun_1", "destination": "/tmp/r.csv"},  # noqa: S108
    QueryRunSensor: {"query_run_id": "qrun_1"},
}


@pytest.mark.parametrize("kind", OF_EACH)
def test_v1_is_an_import_error(kind):
    """It has no queries, which is said when the DAG file is parsed, with those that have."""
    with dag(), pytest.raises(InvalidInput, match=V1_REFUSED):
        kind(task_id="t", api="v1", **OF_EACH[kind])


@pytest.mark.parametrize("kind", OF_EACH)
def test_an_unknown_generation_is_an_import_error(kind):
    """The error names all three words."""
    with dag(), pytest.raises(InvalidInput, match=r"v2\.reporting, v2\.data or v1, not 'v3'"):
        kind(task_id="t", api="v3", **OF_EACH[kind])


@pytest.mark.parametrize("of", ["connection", "template"])
@pytest.mark.parametrize("kind", OF_EACH)
def test_v1_is_refused_in_one_try(sandbox, monkeypatch, tmp_path, kind, of):
    """From the connection or a template too: before any request."""
    if of == "connection":
        monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json_for("v1"))
    with dag():
        api = "{{ 'v1' }}" if of == "template" else None
        task = kind(task_id="t", api=api, retries=3, **OF_EACH[kind])
    outcome = run_task(task)
    assert re.match(V1_REFUSED, failed_for_good(outcome, InvalidInput))
    assert sandbox.requests == []


@PLACES
def test_the_connection_chooses_too(sandbox, monkeypatch, api, deferrable):
    """Without an argument, the connection's generation has the queries; its triggers too."""
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json_for(api))
    sandbox.faults.add(Fault("get_run", RUNNING, times=2))
    with dag():
        task = CreateQueryRunOperator(
            task_id="t", sql=SQL, wait_for_completion=True, deferrable=deferrable, **FAST
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert {request.path.partition("/query_runs")[0] for request in sandbox.requests} == {
        PATHS[api].removesuffix("/query_runs")
    }


# One query run per task instance and clear


@PLACES
@pytest.mark.parametrize("fault", [LoseAnswer(), IN_USE, NO_ROOM], ids=["lost", "in use", "full"])
def test_trouble_makes_no_second_query_run(sandbox, make, deferrable, fault):
    """Lost answers, keys in use and a lack of room are repeated under the same key."""
    sandbox.faults.add(Fault("create", fault, times=2))
    outcome = run_task(
        make(CreateQueryRunOperator, deferrable=deferrable, wait_for_completion=True)
    )
    assert outcome.state == "success", outcome.error
    assert len({request.headers["idempotency-key"] for request in posts(sandbox)}) == 1
    assert len(posts(sandbox)) == 3
    assert len(sandbox.runs) == 1


@STORES
def test_a_retry_attaches_to_the_same_query_run(sandbox, make, keeps):
    """Whether or not Airflow keeps a store, a retry finds the query run of the first try."""
    store = {}
    first = run_task(make(CreateQueryRunOperator, retries=3), store=store)
    second = run_task(
        make(CreateQueryRunOperator, retries=3), try_number=2, store=store if keeps else {}
    )
    assert first.returned == second.returned == sandbox.runs[0].id
    assert len(sandbox.runs) == 1


@pytest.mark.parametrize(("on_clear", "runs"), [("new_run", 2), ("reuse", 1)])
def test_a_clear(sandbox, make, on_clear, runs, capsys):
    """A clear requests a new query run, or the same one again; the log says which."""
    first = run_task(make(CreateQueryRunOperator, retries=3, on_clear=on_clear))
    cleared = run_task(
        make(CreateQueryRunOperator, retries=3, on_clear=on_clear), try_number=2, max_tries=4
    )
    assert runs == len({first.returned, cleared.returned}) == len(sandbox.runs)
    said = "a new query run" if on_clear == "new_run" else "the same query run again"
    assert f"asks for {said}" in capsys.readouterr().out


def test_another_query_is_another_query_run(sandbox, make):
    """A retry after the DAG was changed does not take the old query's run."""
    run_task(make(CreateQueryRunOperator, retries=3))
    run_task(make(CreateQueryRunOperator, retries=3, sql="select 2 as a"), try_number=2)
    assert [run.sql for run in sandbox.runs] == [SQL, "select 2 as a"]


def test_mapped_queries_have_query_runs_of_their_own(sandbox, api):
    """Each map index has its own key, also for the same query."""
    with dag():
        mapped = CreateQueryRunOperator.partial(task_id="t", api=api).expand(sql=[SQL, SQL])
    ids = [
        run_task(mapped.unmap({"sql": SQL}), map_index=index).returned
        for _ in range(2)
        for index in range(2)
    ]
    assert ids[0] != ids[1]
    assert ids[:2] == ids[2:]


def test_an_own_key_shares_a_query_run(sandbox, make):
    """``idempotency_key`` replaces the task instance in the key."""
    one = run_task(make(CreateQueryRunOperator, task_id="one", idempotency_key="of-{{ ds }}"))
    two = run_task(make(CreateQueryRunOperator, task_id="two", idempotency_key="of-{{ ds }}"))
    assert one.returned == two.returned
    assert len(sandbox.runs) == 1


@PLACES
def test_the_try_after_a_failed_query_run_creates_a_new_one(sandbox, make, tmp_path, deferrable):
    """If a query run failed for another reason than its SQL, the next try creates another."""
    sandbox.fail_next()
    arguments = {"destination": f"{tmp_path}/r.csv", "deferrable": deferrable, "retries": 3}
    first = run_task(make(QueryRunToStorageOperator, **arguments))
    assert first.state == "up_for_retry"
    assert "A new query run may succeed" in str(first.error)
    second = run_task(make(QueryRunToStorageOperator, **arguments), try_number=2)
    assert second.state == "success", second.error
    assert len(sandbox.runs) == 2


# Results


def test_result_options_are_sent(sandbox, make, api, tmp_path):
    """A compressed result is unpacked if requested; a flag may be text from a template."""
    options = {name: f"{{{{ {value!r} }}}}" for name, value in ZIPPED[api].items()}
    outcome = run_task(
        make(
            QueryRunToStorageOperator,
            result_options=options,
            decompress=True,
            destination=f"{tmp_path}/r.csv",
        )
    )
    assert outcome.state == "success", outcome.error
    assert json.loads(bytes(posts(sandbox)[0].body))["result_options"] == ZIPPED[api]
    assert (tmp_path / "r.csv").read_bytes() == CSV
    assert outcome.xcom["landing"]["content_type"] == "zip"


@pytest.mark.parametrize("options", [{"compres_file": True}, {"compress_file": "perhaps"}, "zip"])
def test_wrong_result_options_are_refused(sandbox, make, options):
    """In one try, before any request."""
    outcome = run_task(make(CreateQueryRunOperator, result_options=options, retries=3))
    failed_for_good(outcome, InvalidInput)
    assert sandbox.requests == []


def test_lands_parquet(sandbox, make, tmp_path):
    """Columns have the types that the API announces for the query."""
    import pyarrow.parquet

    outcome = run_task(
        make(
            QueryRunToStorageOperator,
            destination=f"{tmp_path}/r.parquet",
            output_format="parquet",
        )
    )
    assert outcome.state == "success", outcome.error
    table = pyarrow.parquet.read_table(tmp_path / "r.parquet")
    assert table.to_pylist() == [{"a": 1, "b": "x"}]
    assert outcome.xcom["landing"]["rows"] == 1


@pytest.mark.parametrize("if_exists", ["skip", "fail"])
def test_an_existing_file_needs_no_query_run(sandbox, make, tmp_path, if_exists):
    """It is kept or refused before any request."""
    (tmp_path / "r.csv").write_bytes(b"old")
    outcome = run_task(
        make(
            QueryRunToStorageOperator,
            destination=f"{tmp_path}/r.csv",
            if_exists=if_exists,
            retries=3,
        )
    )
    if if_exists == "skip":
        assert outcome.state == "success", outcome.error
        assert outcome.xcom["landing"]["skipped"] is True
    else:
        failed_for_good(outcome, LandingExists)
    assert sandbox.requests == []
    assert (tmp_path / "r.csv").read_bytes() == b"old"


@pytest.mark.parametrize(("if_empty", "state"), [("skip", "skipped"), ("fail", "failed")])
def test_a_query_without_rows(sandbox, make, tmp_path, if_empty, state, capsys):
    """It is skipped or refused as a query run's."""
    outcome = run_task(
        make(
            QueryRunToStorageOperator,
            sql="select 1 as a where 1 = 0",
            if_empty=if_empty,
            destination=f"{tmp_path}/r.csv",
        )
    )
    assert outcome.state == state
    said = capsys.readouterr().out + str(outcome.error)
    assert "has no rows, and if_empty is" in said
    assert f"of query run {sandbox.runs[0].id}" in said
    assert list(tmp_path.iterdir()) == []


# What is left behind


@PLACES
def test_lineage_has_the_query(sandbox, make, tmp_path, deferrable):
    """OpenLineage has the rendered SQL, the query run and the file."""
    outcome = run_task(
        make(
            QueryRunToStorageOperator,
            sql="select '{{ ds }}' as day",
            destination=f"{tmp_path}/r.csv",
            deferrable=deferrable,
        )
    )
    state = TaskInstanceState(outcome.state)
    found = ExtractorManager().extract_metadata(
        SimpleNamespace(run_id="r"), outcome.task, state, SimpleNamespace()
    )
    assert found.job_facets["sql"].query == "select '2026-10-26' as day"
    assert found.run_facets["externalQuery"].externalQueryId == sandbox.runs[0].id
    assert [output.name for output in found.outputs] == [f"{tmp_path}/r.csv"]


@pytest.mark.parametrize("fault", [NO_ROOM, None], ids=["create", "wait"])
def test_rows_of_triggers(sandbox, make, api, fault):
    """They go through Airflow's serialiser, and hold what the query needs and no secret."""
    sandbox.faults.add(
        Fault("get_run", RUNNING, times=None) if fault is None else Fault("create", fault, times=9)
    )
    task = make(
        CreateQueryRunOperator,
        deferrable=True,
        wait_for_completion=True,
        result_options=ZIPPED[api],
        stripe_context="acct_1",
    )
    outcome = run_task(task, event_of=None)
    (deferral,) = outcome.deferrals
    path, row = load_trigger(deferral).serialize()
    assert row["api"] == f"{api}.query_runs"
    assert row["stripe_context"] == "acct_1"
    if fault is not None:
        assert (row["sql"], row["result_options"]) == (SQL, ZIPPED[api])
        assert row["report"] == ""
    else:
        assert row["report_run_id"] == sandbox.runs[0].id
    assert path == deferral.classpath
    assert deserialize(serialize(row)) == row
    assert sandbox.api_key not in json.dumps(row)


@PLACES
def test_nothing_tells_the_key_or_the_url(sandbox, make, tmp_path, caplog, capsys, deferrable):
    """Logs, XComs, rendered fields, events and trigger rows have neither."""
    caplog.set_level("DEBUG")
    sandbox.faults.add(Fault("get_run", RUNNING, times=2))
    outcome = run_task(
        make(QueryRunToStorageOperator, destination=f"{tmp_path}/r.csv", deferrable=deferrable)
    )
    assert outcome.state == "success", outcome.error
    told = repr(
        (outcome.xcom, outcome.rendered, outcome.events, outcome.deferrals, outcome.outlet_events)
    )
    told += caplog.text + capsys.readouterr().out
    assert sandbox.runs[0].id in told
    secrets = [sandbox.api_key, *sandbox.urls]
    assert len(secrets) > 1
    assert [secret for secret in secrets if secret in told] == []


@pytest.mark.parametrize("kind", [CreateQueryRunOperator, QueryRunSensor])
def test_a_killed_task_names_its_query_run(sandbox, make, kind, finished_run, capsys):
    """The log says that the query run goes on, because the API has no cancel."""
    more = {"query_run_id": finished_run} if kind is QueryRunSensor else {}
    outcome = run_task(make(kind, **more))
    outcome.task.on_kill()
    run_id = finished_run if kind is QueryRunSensor else outcome.returned
    assert f"Query run {run_id} goes on at Stripe" in capsys.readouterr().out


def test_only_the_query_is_new():
    """The query operators have the arguments of those of reports, except those of reports only."""
    from airflow_provider_reportrun.operators import report_run

    def names(kind):
        return set(inspect.signature(kind.__init__).parameters)

    of_reports = {
        "interval_start",
        "interval_end",
        "report",
        "report_parameters",
        "timezone",
        "validate",
        "wait_for_data",
    }
    pairs = {
        CreateQueryRunOperator: report_run.CreateReportRunOperator,
        QueryRunToStorageOperator: report_run.ReportRunToStorageOperator,
    }
    for kind, other in pairs.items():
        assert names(kind) - {"sql"} == names(other) - of_reports
    assert names(DownloadQueryResultOperator) - {"query_run_id"} == names(
        report_run.DownloadReportResultOperator
    ) - {"report_run_id"}
