"""Query runs: what SQL returns, and how it fails."""

from __future__ import annotations

import csv
import io
import zipfile

import pytest
from sandbox.clients import V2DataClient, V2DataQueriesClient, V2ReportingQueriesClient

from airflow_provider_reportrun.sandbox import Sandbox

OF_THE_WEEK = """
select {columns} from {table}
where created >= timestamp '2025-08-18 00:00:00' and created < timestamp '2025-08-25 00:00:00'
order by created
"""


def of_the_week(table, columns):
    """Return SQL about one week."""
    return OF_THE_WEEK.format(table=table, columns=columns)


@pytest.fixture(params=[V2DataQueriesClient, V2ReportingQueriesClient])
def client(request, sandbox):
    """Return a client of each query API in turn."""
    return request.param(sandbox)


def rows(content):
    """Read a CSV."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_rows_are_those_of_reports(client, sandbox):
    """A query sees the transactions that the reports are about, in cents."""
    found = rows(client.content(of_the_week("balance_transactions", "id, net")))
    report = rows(V2DataClient(sandbox).content("balance_change_from_activity.itemized"))
    assert [row["id"] for row in found] == [row["balance_transaction_id"] for row in report]
    assert int(found[0]["net"]) == round(float(report[0]["net"]) * 100)


def test_types(client, sandbox):
    """Columns have the types of their values; the older API tells them on request."""
    sql = of_the_week("balance_transactions", "id, created, amount, amount / 3.0 as third")
    run = client.finished(sql)
    if isinstance(client, V2DataQueriesClient):
        columns = run["result"]["file"]["columns"]
    else:
        assert "schema" not in run["result"]["file"]
        path = f"{client.runs}/{run['id']}?include[0]=result.file.schema"
        columns = client.get(path).json()["result"]["file"]["schema"]
    assert [each["name"] for each in columns] == ["id", "created", "amount", "third"]
    assert [each["type"] for each in columns] == [
        "varchar",
        "timestamp",
        "bigint",
        "decimal" if isinstance(client, V2DataQueriesClient) else "double",
    ]
    first = rows(client.content_of(client.url_of(run)))[0]
    assert len(first["created"]) == len("2025-08-18 00:00:00.000")


def test_payouts(client):
    """Payouts have a table of their own."""
    (found,) = rows(client.content(of_the_week("payouts", "count(*) as n, 'a b'")))
    assert found["n"] == "21"


def test_without_dates(client):
    """Without a date in the SQL the tables have the last thirty days."""
    sql = "select count(distinct substr(created, 1, 10)) as days from balance_transactions;"
    (found,) = rows(client.content(sql))
    assert 30 <= int(found["days"]) <= 31


def test_no_rows(client):
    """A query may find nothing."""
    assert client.content("select id from payouts where amount > 1e12") == b"id\n"


def test_equal_names(client):
    """Columns of the same name are numbered."""
    assert client.content("select 1 as a, 2 as a, null as a") == b"a,a 2,a 3\n1,2,\n"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "line 1:1: mismatched input 'selec'"),
        ("select absent\nfrom payouts", "line 1:8: Column 'absent' cannot be resolved"),
        ("select 1\nfrom  absent", "line 2:7: Table 'absent' cannot be resolved"),
        ("select absent(1)", "line 1:8: Function 'absent' cannot be resolved"),
        ("select id from payouts where", "line 1:29: mismatched input '<EOF>'"),
        ("select p.absent from payouts p", "line 1:10: Column 'p.absent' cannot be resolved"),
        (
            "select timestamp '2025-08-18T00:00:00Z'",
            "line 1:8: '2025-08-18T00:00:00Z' is not a valid timestamp literal",
        ),
        ("select 1; select 2", "line 1:1: "),
        ("drop table payouts", "line 1:1: "),
        ("insert into payouts values (1)", "line 1:1: "),
        ("attach 'x' as y", "line 1:1: "),
        ("pragma user_version", "line 1:1: "),
        ("explain select 1", "line 1:1: mismatched input 'explain'"),
        ("-- nothing", "line 1:11: mismatched input '<EOF>'"),
        ("select '\0'", "line 1:1: "),
    ],
)
def test_invalid_sql(client, sandbox, sql, message):
    """Invalid SQL is refused with what is wrong and where."""
    refused = client.create(sql, key="k")
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "query_run_invalid_sql"
    assert error["message"].startswith(message)
    assert sandbox.runs == []
    assert client.create("select 1", key="k").status_code == 200


def test_sql_that_fails_when_it_runs(client, sandbox):
    """Some SQL fails only on the rows: then the run fails."""
    run = client.finished("select json(description) from payouts")
    assert run["status"] == sandbox.runs[0].status == "failed"
    code, message = client.failure_of(run)
    assert code == "query_run_invalid_sql"
    assert message.startswith("line 1:1: malformed JSON")


def test_failure_by_plan(client, sandbox):
    """A run may be told to fail for its SQL."""
    sandbox.fail_next(error_code="query_run_invalid_sql", message="line 3:4: No.")
    assert client.failure_of(client.finished()) == ("query_run_invalid_sql", "line 3:4: No.")


@pytest.mark.parametrize("sql", [None, "", "  ", 7])
def test_no_sql(client, sql):
    """SQL is required, as text."""
    refused = client.create(sql)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_fields"
    assert "sql" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "live"},
        {"dataset": None},
        {"format": "zip"},
        {"query": "select 1"},
        {"query": {"sql": "select 1", "limit": 1}},
        {"name": "a query"},
        {"parameters": {}},
    ],
)
def test_refused_bodies(sandbox, changes):
    """The body of /v2/data/query_runs is checked field by field."""
    refused = V2DataQueriesClient(sandbox).create(**changes)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_fields"


def test_refused_body_of_the_older_api(sandbox):
    """The body of /v2/data/reporting/query_runs takes no other field."""
    refused = V2ReportingQueriesClient(sandbox).create(format="csv")
    assert "`format`" in refused.json()["error"]["message"]


def test_limit_code(client, sandbox):
    """A 429 for queries has its own code, and no type."""
    sandbox.limit(0)
    error = client.create().json()["error"]
    assert error["code"] == "query_run_rate_limit_exceeded"
    assert "type" not in error


def test_zip(client, sandbox):
    """A compressed result is a ZIP of one CSV, however many members reports have."""
    spelling = (
        {"compression": "zip"}
        if isinstance(client, V2DataQueriesClient)
        else {"compress_file": True}
    )
    with Sandbox(zip_members=3, run_seconds=0) as other:
        content = type(client)(other).content(result_options=spelling)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["query.csv"]
        assert archive.read("query.csv") == client.content()


def test_size_without_rows(client):
    """A size cannot be met without any row."""
    with Sandbox(size=5_000, run_seconds=0) as other:
        assert type(client)(other).content("select id from payouts where 1 = 0") == b"id\n"


def test_fresh(sandbox):
    """A query of /v2/data tells how fresh its data was."""
    client = V2DataQueriesClient(sandbox)
    assert client.create().json()["refreshed_at"] is None
    assert client.finished()["refreshed_at"].endswith(":00:00.000Z")
