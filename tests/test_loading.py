"""
The guide to loading: what it loads is what has landed, once, whatever comes in between.

Its DuckDB and PostgreSQL run for real. The operators of the warehouses are made, and their SQL is
parsed and run as far as DuckDB can.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from landing.sources import RUN_ID, serving
from pyarrow import parquet
from test_docs import blocks

from airflow_provider_reportrun.landing.destination import Destination
from airflow_provider_reportrun.landing.land import land

pytestmark = pytest.mark.needs("loaders")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "loading.md"
OF_STORES = ("airflow.providers.databricks", "airflow.providers.google")
"""Providers that only ``make store-test`` installs."""
WAREHOUSES = ["snowflake", "redshift", "bigquery", "databricks"]
LIMIT = 60.0
"""The longest that a test waits, in seconds."""
CSV = (
    "ID,Net (USD),Created,Paid,Day,Note,Rate\n"
    'txn_1,10.10,2026-01-05 00:00:00,true,2026-01-05,"a ""quoted"", text",0.1\n'
    "txn_2,-0.30000000000000004,2026-01-06 01:02:03.000004,false,2026-01-06,,1e-9\n"
    'txn_3,12345678901234567890.123456789012345678,2026-01-11 23:59:59,,,"",\n'
    'txn_4,,,true,,"line\nbreak, \\N and \\t\\\\",2\n'
)
TYPES = {
    "Net (USD)": "decimal",
    "Created": "timestamp",
    "Paid": "boolean",
    "Day": "date",
    "Rate": "double",
}


def names_of(text_of=lambda text: text, *, everything=False):
    """Run the blocks of the page, in order; return the names that they leave."""
    names = {}
    for block in blocks(PAGE, "python"):
        if everything or not any(provider in block.text for provider in OF_STORES):
            exec(compile(text_of(block.text), block.where, "exec"), names)  # noqa: S102 - our own page
    return names


@pytest.fixture(scope="module")
def page():
    """What the page defines, without the stores' providers."""
    return names_of()


@pytest.fixture
def landed(tmp_path):
    """A function that lands a CSV as the page says, and returns the facts of its event."""

    def landed(name="a", body=CSV, start="2026-01-05", end="2026-01-12"):
        source = serving(body.encode())
        source.parameters = {
            "interval_start": f"{start}T00:00:00.000Z",
            "interval_end": f"{end}T00:00:00.000Z",
        }
        destination = Destination(
            uri=str(tmp_path / f"{name}.parquet"),
            output_format="parquet",
            column_names="snake",
            column_types=TYPES,
            owner="o",
        )
        return json.loads(json.dumps(land(destination, source, RUN_ID).as_json()))

    return landed


def rows_of(*files):
    """The rows of landed files, sorted; each as text, with the digits that count."""
    tables = [parquet.read_table(facts["uri"].removeprefix("file://")) for facts in files]
    return as_text(row for table in tables for row in zip(*table.to_pydict().values(), strict=True))


def as_text(rows):
    """Rows for a comparison, whatever the order, and how many zeros a decimal ends in."""
    return sorted(
        str([f"{v:f}".rstrip("0") if isinstance(v, Decimal) else v for v in row]) for row in rows
    )


# DuckDB


def in_duckdb(database):
    """The rows of the table, without their intervals."""
    with duckdb.connect(str(database), read_only=True) as connection:
        query = "SELECT * EXCLUDE (interval_start, interval_end) FROM activity"
        return as_text(connection.execute(query).fetchall())


def test_the_example_has_the_function_of_the_page():
    """It is one function in two places."""
    example = (ROOT / "example_dags" / "report_to_table.py").read_text(encoding="utf-8")
    (block,) = [each.text for each in blocks(PAGE, "python") if "def replace_interval" in each.text]
    assert block[block.index("def replace_interval") :].strip() in example


def test_duckdb(page, landed, tmp_path):
    """A second load of an interval, and another interval, count as they should."""
    database, first = tmp_path / "d.duckdb", landed()
    assert page["replace_interval"](first, str(database)) == 4
    assert in_duckdb(database) == rows_of(first)
    assert page["replace_interval"](first, str(database)) == 4
    assert in_duckdb(database) == rows_of(first)
    second = landed("b", start="2026-01-12", end="2026-01-19")
    page["replace_interval"](second, str(database))
    assert in_duckdb(database) == rows_of(first, second)
    again = landed("a", CSV.replace("10.10", "10.20"))
    page["replace_interval"](again, str(database))
    assert in_duckdb(database) == rows_of(again, second)
    empty = landed("a", CSV.partition("\n")[0] + "\n")
    assert page["replace_interval"](empty, str(database)) == 0
    assert in_duckdb(database) == rows_of(second)


# PostgreSQL


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory):
    """A server, as the Airflow connection ``finance``; its URL."""
    from local_airflow.folder import free_port
    from local_airflow.postgresql import PostgreSQL

    server = PostgreSQL(
        tmp_path_factory.mktemp("postgresql") / "data",
        port=free_port(),
        password="s3cret",  # noqa: S106 - opens nothing
        settings={"client_connection_check_interval": "100ms"},
    )
    server.prepare()
    process = subprocess.Popen(server.command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)  # noqa: S603 - ours
    try:
        wait_for(server.is_ready)
        url = server.url.replace("postgresql+psycopg2", "postgresql")
        os.environ["AIRFLOW_CONN_FINANCE"] = url
        yield url
    finally:
        os.environ.pop("AIRFLOW_CONN_FINANCE", None)
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT)


def wait_for(condition):
    """Wait until something is true."""
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until, condition
        time.sleep(0.05)


@pytest.fixture
def query(postgresql):
    """A function that runs a query; there is no table before."""
    import psycopg

    with psycopg.connect(postgresql, autocommit=True) as connection:
        cursor = connection.cursor()

        def query(sql):
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

        query("drop table if exists activity")
        yield query


def in_postgresql(query):
    """The rows of the table, without their intervals."""
    return as_text(row[:-2] for row in query("select * from activity"))


def test_postgresql(page, landed, query):
    """Money, texts and empty values are those of the file, after each load."""
    first = landed()
    page["copy_into_postgresql"](first, "finance")
    assert in_postgresql(query) == rows_of(first)
    page["copy_into_postgresql"](first, "finance")
    assert in_postgresql(query) == rows_of(first)
    assert query("select distinct interval_start::text, interval_end::text from activity") == [
        ("2026-01-05 00:00:00", "2026-01-12 00:00:00")
    ]
    ((net,),) = query("select sum(net_usd) from activity")
    assert net == Decimal("12345678901234567899.923456789012345638")
    types = query(
        "select data_type from information_schema.columns"
        " where table_name = 'activity' order by ordinal_position"
    )
    stamp = "timestamp without time zone"
    expected = ["character varying", "numeric", stamp, "boolean", "date", "character varying"]
    assert [row[0] for row in types] == [*expected, "double precision", stamp, stamp]
    second = landed("b", start="2026-01-12", end="2026-01-19")
    page["copy_into_postgresql"](second, "finance")
    assert in_postgresql(query) == rows_of(first, second)
    again = landed("a", CSV.replace("10.10", "10.20"))
    page["copy_into_postgresql"](again, "finance")
    assert in_postgresql(query) == rows_of(again, second)


def test_a_new_column_is_an_error(page, landed, query):
    """And the table stays as it was."""
    import psycopg

    first = landed()
    page["copy_into_postgresql"](first, "finance")
    more = landed("b", CSV.replace("ID,", "New,", 1))
    with pytest.raises(psycopg.errors.UndefinedColumn, match="new"):
        page["copy_into_postgresql"](more, "finance")
    assert in_postgresql(query) == rows_of(first)


KILLED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_loading import names_of
names_of()["copy_into_postgresql"](json.loads(sys.argv[2]), "finance")
"""


def test_a_load_that_is_killed(page, landed, query, tmp_path):
    """After the old rows are deleted and before all new ones are in, nothing has changed."""
    first = landed()
    before = rows_of(first)
    page["copy_into_postgresql"](first, "finance")
    query(
        "create or replace function slow() returns trigger language plpgsql as"
        " $$ begin if new.id = 'txn_3' then perform pg_sleep(60); end if; return new; end $$"
    )
    query("create trigger slow before insert on activity for each row execute function slow()")
    again = landed("a", CSV.replace("10.10", "10.20"))
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), json.dumps(again)]
    loads = "select pid from pg_stat_activity where wait_event = 'PgSleep'"
    with subprocess.Popen(command) as process:  # noqa: S603 - ours
        try:
            wait_for(lambda: query(loads) or process.poll() is not None)
            assert process.poll() is None, "the load ended before it could be killed"
        finally:
            process.kill()
    wait_for(lambda: not query(loads))
    assert in_postgresql(query) == before != rows_of(again)
    query("drop trigger slow on activity")
    page["copy_into_postgresql"](again, "finance")
    assert in_postgresql(query) == rows_of(again)


# Warehouses


def statements(names, warehouse, facts):
    """The SQL that a warehouse would get, as its operator would hold it."""
    found = names[f"for_{warehouse}"](facts)
    return found["query"]["query"].split(";\n") if warehouse == "bigquery" else found


def names_with(warehouse, page):
    """What the page defines, with the warehouse's provider if it is installed for stores only."""
    return page if warehouse in {"snowflake", "redshift"} else names_of(everything=True)


STORES = {"bigquery": pytest.mark.stores, "databricks": pytest.mark.stores}
EACH = [pytest.param(name, marks=STORES.get(name, ())) for name in WAREHOUSES]


@pytest.mark.parametrize("warehouse", EACH)
def test_the_operator_of_a_warehouse(page, landed, warehouse):
    """It is made with the arguments of the page, for each file that has landed."""
    names = names_with(warehouse, page)
    mapped = names["to_table"].get_task(f"load_into_{warehouse}")
    argument = "configuration" if warehouse == "bigquery" else "sql"
    value = names[f"for_{warehouse}"](landed())
    assert getattr(mapped.unmap({argument: value}), argument) == value
    assert mapped.upstream_task_ids == {"landed"}
    assert mapped.max_active_tis_per_dag == 1


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("conn_id=", "con_id="),
        ("workgroup_name=", "work_group="),
        pytest.param("gcp_conn_id=", "google_conn_id=", marks=pytest.mark.stores),
        pytest.param("sql_endpoint_name=", "endpoint=", marks=pytest.mark.stores),
    ],
)
def test_an_argument_that_does_not_exist_is_caught(argument, wrong, request):
    """So the page cannot name one."""
    everything = bool(request.node.get_closest_marker("stores"))
    with pytest.raises(TypeError, match=wrong.strip("=")):
        names_of(
            lambda text: text.replace(f"        {argument}", f"        {wrong}"),
            everything=everything,
        )


@pytest.mark.parametrize("warehouse", EACH)
def test_the_sql_of_a_warehouse(page, landed, warehouse):
    """It parses in the dialect of the warehouse, and deletes before it inserts."""
    import sqlglot

    found = statements(names_with(warehouse, page), warehouse, landed())
    if warehouse == "bigquery":  # the only statement that the parser does not know
        assert found.pop(0).startswith("load data overwrite temp table staged from files")
    kinds = [
        type(parsed).__name__
        for statement in found
        for parsed in sqlglot.parse(statement, dialect=warehouse)
    ]
    assert (
        kinds
        == {
            "snowflake": ["Create", "Create", "Copy", "Transaction", "Delete", "Insert", "Commit"],
            "redshift": ["Create", "Create", "Copy", "Delete", "Insert"],
            "bigquery": ["Create", "Transaction", "Delete", "Insert", "Commit"],
            "databricks": ["Create", "Insert"],
        }[warehouse]
    )


@pytest.mark.parametrize("warehouse", [each for each in EACH if each.values != ("databricks",)])
def test_the_sql_of_a_warehouse_replaces_an_interval(page, landed, warehouse):
    """In DuckDB, with its own way to read the file, the table has the rows of the files, once."""
    import sqlglot

    names = names_with(warehouse, page)
    first, second = landed(), landed("b", start="2026-01-12", end="2026-01-19")
    again = landed("c", CSV.replace("10.10", "10.20"))
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA finance")
        for facts in (first, second, first, again):
            connection.execute("DROP TABLE IF EXISTS staged")
            for statement in statements(names, warehouse, facts):
                if statement.startswith(("copy", "load data")):
                    created = connection.sql("SHOW TABLES").fetchall()
                    how = (
                        "INSERT INTO staged" if ("staged",) in created else "CREATE TABLE staged AS"
                    )
                    connection.execute(f"{how} FROM read_parquet('{facts['uri']}')")
                else:
                    (sql,) = sqlglot.transpile(statement, read=warehouse, write="duckdb")
                    connection.execute(sql)
        table = "finance.activity" if warehouse == "bigquery" else "activity"
        rows = connection.sql(f"SELECT * EXCLUDE (interval_start, interval_end) FROM {table}")  # noqa: S608 - ours
        assert as_text(rows.fetchall()) == rows_of(again, second)
