"""Columns that land under names that warehouses take."""

from __future__ import annotations

import csv
import hashlib
import io
import random
import re

import duckdb
import pytest
from landing.sources import RUN_ID, serving, zipped
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import ConversionFailed, InvalidInput
from airflow_provider_reportrun.landing import header
from airflow_provider_reportrun.landing.names import LONGEST, landed_names, snake
from airflow_provider_reportrun.operators.query_run import QueryRunToStorageOperator
from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

SNAKE = {"column_names": "snake"}
ROWS = b'1,"a\r\n""b""",\xff\xfe\r\n\r\n2,\n'
"""Whatever follows a header, with bytes that are not UTF-8."""
ACCEPTED = re.compile(r"[a-z_][a-z0-9_]*")
NOT_ACCEPTED = re.compile(r"_(table|file|partition)_.*|.*__.*")
"""Prefixes that BigQuery reserves; two underscores begin some of them."""


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("created_utc", "created_utc"),
        ("metadata[order id]", "metadata_order_id"),
        ("payment_metadata[Order-ID]", "payment_metadata_order_id"),
        ("Card Brand", "card_brand"),
        ("cardBrand", "card_brand"),
        ("CardBrand", "card_brand"),
        ("HTTPStatusCode", "http_status_code"),
        ("customerID", "customer_id"),
        ("USD", "usd"),
        ("line1Address", "line1_address"),
        ("  Net (€)  ", "net"),
        ("a.b-c/d%e", "a_b_c_d_e"),
        ("a__b", "a_b"),
        ("_table_x", "table_x"),
        ("3ds_result", "_3ds_result"),
        ("2", "_2"),
        ("naïve Café", "naive_cafe"),
        ("cafe\u0301", "cafe"),
        ("Straße", "strasse"),
        ("Zażółć", "zazolc"),
        ("ÆRØ", "aero"),
        ("\uff21\uff22", "ab"),
        ("metadata[東京]", "metadata_u6771_u4eac"),
        ("が", "u304c"),
        ("か", "u304b"),
        ("\ufeffid", "id"),
        ("line\nbreak", "line_break"),
        ('say "hi", you', "say_hi_you"),
        ("", ""),
        (" %[] 🧾", ""),
    ],
)
def test_snake_case(name, expected):
    """Each name has one form, which is its own form."""
    assert snake(name) == expected
    assert snake(expected) == expected


def test_long_names_stay_apart():
    """A long name is cut off at 63 characters, the limit of PostgreSQL, and keeps a hash."""
    name = "metadata[" + "x" * 100
    assert snake("a" * 63) == "a" * 63
    assert len(snake(name)) == LONGEST == 63
    assert snake(name + "1") != snake(name + "2")
    assert snake(snake(name)) == snake(name)
    assert landed_names([name + "1", name + "2"], "snake")[0].startswith("metadata_xxx")


@pytest.mark.parametrize("seed", range(4))
def test_any_name_is_accepted(seed):
    """Whatever a name contains, it becomes one that all warehouses take without quotes."""
    rng = random.Random(seed)  # noqa: S311 - made-up names
    for _ in range(500):
        pool = [range(0x20, 0x7F), range(0x80, 0x250), range(0xA0, 0xD800), range(0xE000, 0x11000)]
        name = "".join(chr(rng.choice(rng.choice(pool))) for _ in range(rng.randint(0, 90)))
        (landed,) = landed_names([name], "snake")
        assert ACCEPTED.fullmatch(landed), name
        assert not NOT_ACCEPTED.fullmatch(landed), name
        assert len(landed) <= LONGEST
        assert landed_names([landed], "snake") == [landed]


def test_a_name_of_which_nothing_remains_is_a_position():
    """There is nothing else to name it after."""
    assert landed_names(["", "a", "%"], "snake") == ["column_1", "a", "column_3"]


def test_names_are_kept_by_default():
    """None is no style."""
    names = ["Card Brand", "card_brand", ""]
    assert landed_names(names, None) == names


# CSV


@pytest.mark.parametrize(
    ("before", "written", "names", "end"),
    [
        (b"", b"Card Brand,metadata[order id]", b"card_brand,metadata_order_id", b"\n"),
        (b"", b'"Card Brand","metadata[""a"", b]"', b"card_brand,metadata_a_b", b"\r\n"),
        (b"\xef\xbb\xbf", b"ID,Net", b"id,net", b"\r\n"),
        (b"\xef\xbb\xbf\r\n\n", b"ID,Net", b"id,net", b"\n"),
        (b"", b'"Order\r\nID\nof",a', b"order_id_of,a", b"\n"),
        (b"", b"ID,Net", b"id,net", b"\r"),
        (b"", "Größe,東".encode(), b"grosse,u6771", b"\n"),
        (b"", b"ID", b"id", b"\n"),
        (b"", b',""', b"column_1,column_2", b"\n"),
    ],
)
@pytest.mark.parametrize("rows", [ROWS, b"", b"\n", b"x" * (3 << 20)], ids=len)
def test_only_the_header_changes(land, folder, before, written, names, end, rows):
    """All other bytes are copied, and the facts are those of the landed file."""
    body = before + written + end + rows
    landing = land(serving(body), RUN_ID, folder.destination("r.csv"), **SNAKE)
    landed = before + names + end + rows
    assert folder.files() == {"r.csv": landed}
    facts = landing.as_json()
    assert (facts["size"], facts["sha256"]) == (len(landed), hashlib.sha256(landed).hexdigest())
    assert facts["received"] == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert not {"rows", "columns"} & set(facts)


@pytest.mark.parametrize("body", [b"", b"\n", b"\xef\xbb\xbf", b"\r\n\r\n"])
def test_without_a_header_nothing_changes(land, folder, body):
    """There is nothing to rename."""
    land(serving(body), RUN_ID, folder.destination("r.csv"), **SNAKE)
    assert folder.files() == {"r.csv": body}


def test_a_header_without_a_line_end(land, folder):
    """None is added."""
    land(serving(b"ID,Card Brand"), RUN_ID, folder.destination("r.csv"), **SNAKE)
    assert folder.files() == {"r.csv": b"id,card_brand"}


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_read_as_before(land, folder, seed):
    """Another reader finds the same rows under the new names."""
    rng = random.Random(seed)  # noqa: S311 - made-up texts
    names = [
        f"{rng.choice('aÄ[ €')} {number}{rng.choice(['', ',', chr(34)])}" for number in range(9)
    ]
    rows = [["".join(rng.choices('a,"\n\r é', k=5)) for _ in names] for _ in range(50)]
    text = io.StringIO()
    csv.writer(text).writerows([names, *rows])
    land(serving(text.getvalue().encode()), RUN_ID, folder.destination("r.csv"), **SNAKE)
    found = list(csv.reader(io.StringIO(folder.files()["r.csv"].decode(), newline="")))
    assert found == [landed_names(names, "snake"), *rows]


@pytest.mark.parametrize("options", [{}, {"output_format": "csv.gz"}, {"output_format": "parquet"}])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"Card Brand,id,card_brand", "'Card Brand' and 'card_brand' would both be 'card_brand'"),
        (b"a[b],A B,a-b", "'a[b]' and 'A B' and 'a-b' would both be 'a_b'"),
        (b"column_2,", "'column_2' and '' would both be 'column_2'"),
    ],
)
def test_columns_that_would_be_one(land, folder, options, line, words):
    """The error names them, and an existing file is kept."""
    folder.put("r", b"old")
    with pytest.raises(ConversionFailed, match="Leave column_names out") as caught:
        land(serving(line + b"\n1,2,3\n"), RUN_ID, folder.destination("r"), **SNAKE, **options)
    assert f"columns: {words}. Nothing was published." in str(caught.value)
    assert not caught.value.transient
    assert folder.files() == {"r": b"old"}
    assert land.is_clean


@pytest.mark.parametrize(
    "body", [b"<html>no</html>\n", b'{"error": 1}\n', b"a;b\n", b"\xff\xfea,b\n", b"x" * 200_000]
)
def test_what_is_not_csv(land, folder, body):
    """A first line that is no header is not rewritten."""
    with pytest.raises(ConversionFailed, match="Nothing was published"):
        land(serving(body), RUN_ID, folder.destination("r.csv"), **SNAKE)
    assert folder.files() == {}


def test_a_header_without_end(land, folder, monkeypatch):
    """No more of a file is read as a header than a header may have."""
    monkeypatch.setattr(header, "LONGEST", 10_000)
    with pytest.raises(ConversionFailed, match="more than 10000 characters"):
        land(serving(b'"' + b"x\n" * 6_000), RUN_ID, folder.destination("r.csv"), **SNAKE)


# Parquet


def test_parquet_has_the_new_names(land, folder):
    """Types are those of the report's columns, and XCom has the names that landed."""
    landing = land(
        serving(b"Net (USD),metadata[order id]\n1.50,x\n"),
        RUN_ID,
        folder.destination("r.parquet"),
        output_format="parquet",
        column_types={"Net (USD)": "decimal(18,2)"},
        **SNAKE,
    )
    found = duckdb.read_parquet(str(folder.folder / "r.parquet"))
    assert found.columns == ["net_usd", "metadata_order_id"]
    assert list(map(str, found.types)) == ["DECIMAL(18,2)", "VARCHAR"]
    assert landing.as_json()["columns"] == [
        {"name": "net_usd", "type": "decimal(18,2)"},
        {"name": "metadata_order_id", "type": "varchar"},
    ]


def test_an_error_of_a_value_names_the_column_of_the_report(land, folder):
    """So ``column_types`` can be copied from it."""
    with pytest.raises(ConversionFailed, match=r"column_types=\{'Net \(USD\)': 'varchar'\}"):
        land(
            serving(b"Net (USD)\nx\n"),
            RUN_ID,
            folder.destination("r.parquet"),
            output_format="parquet",
            column_types={"Net (USD)": "decimal"},
            **SNAKE,
        )


# ZIPs


def test_all_members_of_a_zip_are_renamed(land, folder):
    """Each has a header of its own."""
    body = zipped({"a.csv": b"Card Brand\n1\n", "b/c.csv": b"Net (USD)\n2\n", "d.csv": b""})
    landing = land(serving(body, "zip"), RUN_ID, folder.destination(""), decompress=True, **SNAKE)
    files = {"a.csv": b"card_brand\n1\n", "b/c.csv": b"net_usd\n2\n", "d.csv": b""}
    assert folder.files() == files
    assert [(member.name, member.size) for member in landing.members] == [
        (name, len(content)) for name, content in files.items()
    ]


def test_no_member_lands_if_one_collides(land, folder):
    """All are renamed before the first is published."""
    body = zipped({"a.csv": b"A\n", "b.csv": b"B b,b-B\n"})
    with pytest.raises(ConversionFailed, match="'b_b'"):
        land(serving(body, "zip"), RUN_ID, folder.destination(""), decompress=True, **SNAKE)
    assert folder.files() == {}


@pytest.mark.parametrize("name", ["r.csv", "r", ""])
def test_a_zip_that_stays_one(land, folder, name):
    """It is refused before the download."""
    source = serving(zipped({"a.csv": b"A\n"}), "zip")
    with pytest.raises(InvalidInput, match="column_names is 'snake', and the result is a ZIP"):
        land(source, RUN_ID, folder.destination(name), **SNAKE)
    assert source.asked == []


def test_a_destination_that_is_a_zip(land, folder):
    """It is refused before anything is requested."""
    with pytest.raises(InvalidInput, match=r"End it in \.csv"):
        land.to(folder.destination("r.zip"), **SNAKE)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ReportRunToStorageOperator, {"report": "r", "result_options": {"compress_file": True}}),
        (QueryRunToStorageOperator, {"sql": "s", "result_options": {"compression": "zip"}}),
    ],
)
def test_a_zip_that_is_requested_is_an_error_of_import(kind, arguments):
    """So the mistake shows before a run fails."""
    with dag(), pytest.raises(InvalidInput) as caught:
        kind(task_id="t", destination="/nowhere/", column_names="snake", **arguments)
    assert "Add decompress=True, because column_names" in str(caught.value)[:100]
    with dag():
        kind(task_id="t", destination="/nowhere/", column_names="{{ none }}", **arguments)
        kind(
            task_id="u", destination="/nowhere/", column_names="snake", decompress=True, **arguments
        )


# Tasks


def test_a_task_renames(sandbox, folder):
    """A template may choose the style."""
    sandbox.deliver_next(b"Card Brand\nvisa\n")
    with dag(params={"style": "snake"}):
        task = ReportRunToStorageOperator(
            task_id="t",
            report="balance_summary",
            destination=folder.destination("r.csv"),
            column_names="{{ params.style }}",
            wait_for_data=False,
            deferrable=False,
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert folder.files() == {"r.csv": b"card_brand\nvisa\n"}
    assert outcome.rendered["column_names"] == "snake"


def test_a_collision_is_not_retried(sandbox, folder):
    """It would be the same the next time."""
    sandbox.deliver_next(b"A b,a_b\n")
    with dag():
        task = ReportRunToStorageOperator(
            task_id="t",
            report="balance_summary",
            destination=folder.destination("r.csv"),
            column_names="snake",
            wait_for_data=False,
            deferrable=False,
            retries=3,
        )
    outcome = run_task(task)
    assert isinstance(outcome.error, AirflowFailException)
    assert "'A b' and 'a_b'" in str(outcome.error)
