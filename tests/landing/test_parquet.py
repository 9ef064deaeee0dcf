"""Results that are converted to Parquet, read back with DuckDB and pyarrow."""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from datetime import date, datetime, timezone
from decimal import Decimal, localcontext

import duckdb
import pyarrow.parquet
import pytest
from airflow.sdk import Asset
from landing.sources import zipped
from support.cases import INTERVAL
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    ConversionFailed,
    InvalidInput,
    LandingFailed,
    ReportRunError,
    ReportRunFailed,
    ResultCorrupt,
)
from airflow_provider_reportrun.landing import header, parquet
from airflow_provider_reportrun.landing.archive import LocalFile
from airflow_provider_reportrun.landing.columns import ColumnTypes
from airflow_provider_reportrun.landing.spool import Spool
from airflow_provider_reportrun.operators.report_run import (
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.protocol.models import Column
from airflow_provider_reportrun.sandbox import Answer, Fault

CSV = b"id,net\ntxn_1,10.00\ntxn_2,-0.10\n"
COLUMNS = {"id": "varchar", "net": "double"}
LANDED = [{"name": "id", "type": "varchar"}, {"name": "net", "type": "decimal(38,18)"}]
NASTY = (
    "", " ", "a", "NULL", "null", "NA", "nan", "None", "-", "0", "007", "1e5", "true", "2026-01-01",
    'say "hi"', '""', "'", "a,b", "line\nbreak", "cr\r\nlf", "\ttab ", "zażółć 東京 🧾", "\u00a0",
    "\ufeffbom", "e\u0301", "\x01\x1f", "=1+1", "\\n", "x" * 3_000,
)  # fmt: skip
"""Texts that readers of CSV often misread."""


def read(path):
    """Return the rows of a file, read with two independent libraries."""
    rows = duckdb.read_parquet(str(path)).fetchall()
    other = pyarrow.parquet.read_table(path)
    assert rows == list(zip(*(column.to_pylist() for column in other.columns), strict=True))
    return rows


@pytest.fixture
def make(sandbox, hook):
    """Return a function that creates report runs with a CSV and announced columns."""

    def make(body, columns=COLUMNS, content_type="csv"):
        sandbox.deliver_next(body, content_type, columns)
        return hook.create_report_run("balance_summary", INTERVAL).id

    return make


@pytest.fixture
def convert(make, hook, folder, land):
    """Return a function that lands a CSV as a Parquet file and returns its rows."""

    def convert(body, columns, **options):
        run_id = make(body, columns)
        uri = folder.destination("r.parquet")
        landing = land(hook, run_id, uri, output_format="parquet", **options)
        assert set(folder.files()) == {"r.parquet"}
        rows = read(folder.folder / "r.parquet")
        assert landing.rows == len(rows)
        return rows

    return convert


@pytest.fixture
def refused(make, hook, folder, land):
    """Return a function that lands a CSV that cannot be converted, and returns the error."""

    def refused(body, columns, kind=ConversionFailed, **options):
        run_id = make(body, columns)
        with pytest.raises(kind, match="Nothing was published") as caught:
            land(hook, run_id, folder.destination("r.parquet"), output_format="parquet", **options)
        assert folder.files() == {}
        assert land.is_clean
        assert not caught.value.transient
        return caught.value

    return refused


# Values


def test_money_is_exact_and_text_is_text(convert):
    """An announced double is a decimal, because Stripe uses it for money."""
    assert convert(CSV, COLUMNS) == [("txn_1", Decimal("10.00")), ("txn_2", Decimal("-0.10"))]


@pytest.mark.parametrize("seed", range(12))
def test_every_text_comes_back_as_it_was(convert, seed, monkeypatch):
    """Any text is kept in blocks of any size; an empty value without quotes is null."""
    monkeypatch.setattr(parquet, "BLOCK_BYTES", (16_384, 1 << 20))
    rng = random.Random(seed)  # noqa: S311 - made-up texts
    width, count = rng.randint(1, 12), rng.choice([0, 1, 3, 400])
    rows = [[rng.choice((*NASTY, None)) for _ in range(width)] for _ in range(count)]
    names = [f"{name} {number}" for number, name in enumerate(rng.sample(NASTY, width))]
    end = rng.choice(["\n", "\r\n"])

    def written(value):
        if value is None:
            return ""
        bare = value and not set(value) & set(',"\r\n') and rng.random() < 0.5
        return value if bare else '"{}"'.format(value.replace('"', '""'))

    lines = [",".join(map(written, row)) + end for row in [names, *rows]]
    body = rng.choice(["", "\ufeff"]) + "".join(lines)
    body = body if rng.random() < 0.5 or (rows and rows[-1] == [None]) else body.removesuffix(end)
    announced = dict.fromkeys(names, "varchar")
    assert convert(body.encode(), announced) == [tuple(row) for row in rows]


@pytest.mark.parametrize("text", ["a\r\nb", "\r\n", "\r", "\n", 'say "hi"', '"'])
def test_a_text_at_the_edge_of_a_block(convert, text, monkeypatch):
    """A text is kept at whichever of its bytes a block ends."""
    monkeypatch.setattr(parquet, "BLOCK_BYTES", (64, 1 << 20))
    rows = [(f"{number:02}", text + "x" * (number % 7)) for number in range(100)]
    lines = [f'{number},"{value.replace(chr(34), 2 * chr(34))}"\r\n' for number, value in rows]
    body = "id,text\r\n" + "".join(lines)
    assert convert(body.encode(), {"id": "varchar", "text": "varchar"}) == rows


@pytest.mark.parametrize(
    ("expected", "text", "type_"),
    [
        (-9223372036854775808, "-9223372036854775808", "bigint"),
        (7, "007", "bigint"),
        (True, "true", "boolean"),
        (False, "FALSE", "boolean"),
        (Decimal("0.1"), "0.10", "double"),
        (
            Decimal("-12345678901234567890.123456789012345678"),
            "-12345678901234567890.123456789012345678",
            "double",
        ),
        (Decimal("0.30000000000000004"), "0.30000000000000004", "double"),
        (Decimal("0.00001"), "1E-5", "double"),
        (Decimal("0.1"), "0.10", "decimal"),
        (-9223372036854775808, "-9223372036854775808", "integer"),
        (date(2026, 10, 26), "2026-10-26", "date"),
        (datetime(2026, 10, 26), "2026-10-26 00:00:00", "datetime"),  # noqa: DTZ001
        (datetime(2026, 10, 26), "2026-10-26 00:00:00", "timestamp"),  # noqa: DTZ001
        (datetime(2026, 10, 26, 1, 2, 3, 456000), "2026-10-26T01:02:03.456", "timestamp"),  # noqa: DTZ001
        ("1", "1", "varchar"),
    ],
)
def test_announced_types(convert, expected, text, type_):
    """Values are exact; an empty one is null, except in quotes in a text column."""
    found = convert(f'v,n\n{text},1\n,2\n"",3\n'.encode(), {"v": type_, "n": "bigint"})
    empty = "" if type_ == "varchar" else None
    assert found == [(expected, 1), (None, 2), (empty, 3)]


@pytest.mark.parametrize(
    ("expected", "text", "type_"),
    [
        (Decimal("1.50"), "1.5", "decimal(9,2)"),
        (Decimal("1.5"), "1.5", "decimal"),
        (1.5, "1.5", "double"),
        (date(2026, 10, 26), "2026-10-26", "date"),
        (
            datetime(2026, 10, 25, 22, tzinfo=timezone.utc),
            "2026-10-26T00:00:00+02:00",
            "timestamptz",
        ),
        ("2026-10-26T00:00:00.123456789Z", "2026-10-26T00:00:00.123456789Z", "varchar"),
    ],
)
def test_types_that_are_asked_for(convert, expected, text, type_):
    """Requested types override the announced ones."""
    body = f"v\n{text}\n".encode()
    ((found,),) = convert(body, {"v": "bigint"}, column_types={"v": type_})
    assert found == expected
    assert isinstance(found, type(expected))


@pytest.mark.parametrize(
    ("kind", "text", "type_"),
    [
        ("a text of 9 characters", "surprise!", "bigint"),
        ("a number with a fraction, of 4 characters", "12.0", "bigint"),
        ("a whole number of 19 characters", "9223372036854775808", "bigint"),
        ("a text of 4 characters", "  57", "bigint"),
        ("a number with a fraction, of 21 characters", "0.1234567890123456789", "double"),
        ("a whole number of 21 characters", "123456789012345678901", "double"),
        ("not a finite number", "NaN", "double"),
        ("a number with an exponent, of 5 characters", "1e-19", "double"),
        ("a text of 8 characters", '"1,234.56"', "double"),
        ("a timestamp with an offset", "2026-10-26T00:00:00Z", "timestamp"),
        ("a timestamp without an offset, of 29", "2026-10-26 00:00:00.123456789", "timestamp"),
        ("a text of 5 characters", "maybe", "boolean"),
        ("3 bytes that are not UTF-8", "\udcff\udcfe\udcfd", "varchar"),
    ],
)
def test_a_value_that_does_not_fit(refused, kind, text, type_, monkeypatch):
    """The error names column, row and kind of the value, but not the value."""
    monkeypatch.setattr(parquet, "BLOCK_BYTES", (1024,))
    body = "n,v\n" + '"two\nlines",\n' * 500 + f"x,{text}\n" + "x,\n" * 99
    encoded = body.encode(errors="surrogateescape")
    error = refused(encoded, {"n": "varchar", "v": type_})
    assert (error.row, error.column) == (501, "v")
    assert f": row 501 has {kind}" in str(error)
    assert "of the CSV for r.parquet, not counting its header" in str(error)
    assert text.strip('"') not in str(error).replace("characters", "")


def made_up_number(rng):
    """Return a random number as text, with up to 90 digits and perhaps an exponent."""
    whole, fraction = (
        "".join(rng.choices("0123456789", k=rng.choice([0, 1, 2, rng.randint(3, 45)])))
        for _ in range(2)
    )
    point = "." if fraction or rng.random() < 0.1 else ""
    exponent = f"{rng.choice('eE')}{rng.randint(-45, 45)}" if rng.random() < 0.3 else ""
    zeros = "0" * rng.choice([0, 0, 0, 30])
    return f"{rng.choice(['', '-', '+'])}{zeros}{whole or '0'}{point}{fraction}{exponent}"


def as_decimal(folder, text, digits, scale):
    """Return a number after its conversion to a decimal; None if it is refused."""
    with Spool(folder, "o") as spool:
        path = spool.new_file()
        path.write_text(f"n\n{text}\n")
        file = LocalFile(name="r.parquet", path=path, size=path.stat().st_size, sha256="")
        types = ColumnTypes(wanted={"n": f"decimal({digits},{scale})"})
        try:
            landed = parquet.convert(file, spool, types).path
        except ConversionFailed:
            return None
        return pyarrow.parquet.read_table(landed).column(0)[0].as_py()


def fits(number, digits, scale):
    """Tell whether a decimal type can represent a number exactly."""
    with localcontext(prec=200):
        return abs(number) < 10 ** (digits - scale) and number % Decimal(10) ** -scale == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_number_lands_exactly_or_not_at_all(tmp_path, seed):
    """Hundreds of numbers land as they are written; the others are refused, and do not fit."""
    rng = random.Random(seed)  # noqa: S311 - made-up numbers
    landed, refused = 0, 0
    for _ in range(500):
        text, digits = made_up_number(rng), rng.choice([38, 38, rng.randint(1, 38)])
        scale = rng.choice([min(18, digits), rng.randint(0, digits)])
        number, found = Decimal(text), as_decimal(tmp_path, text, digits, scale)
        if found is not None:
            assert found == number
            landed += 1
            continue
        # pyarrow reads no number of more than 38 digits, and no zero with such an exponent.
        is_read = number and len(number.as_tuple().digits) <= 38
        assert not (is_read and fits(number, digits, scale)), text
        refused += 1
    assert landed > 50
    assert refused > 50


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("123456789012345678901234567890.12", "decimal"),
        ("1e30", "decimal"),
        ("8.043832966962e-32", "decimal(38,5)"),
        ("-0.1234567890123456789012345678901234567890", "decimal(38,38)"),
        ("1e400", "double"),
        ("-1.7976931348623159e308", "double"),
        ("0x1", "bigint"),
        ("0xFFFFFFFFFFFFFFFF", "bigint"),
    ],
)
def test_what_pyarrow_casts_to_another_number(refused, text, type_):
    """A number that does not fit its type is refused, not changed."""
    body = f"n\n0\n\n{text}\n0\n".encode()
    error = refused(body, {"n": "varchar"}, column_types={"n": type_})
    assert (error.row, error.column) == (3, "n")


def test_infinity_is_a_double(convert):
    """Infinity lands in a double if it is written so."""
    body = b"n\ninf\n-Infinity\n1e308\n"
    rows = convert(body, {"n": "double"}, column_types={"n": "double"})
    assert rows == [(math.inf,), (-math.inf,), (1e308,)]


@pytest.mark.parametrize(("values", "line"), [(1, "1"), (3, "1,2,3"), (1, '"a,b"')])
def test_ragged_rows(refused, values, line):
    """The error names a row with more or fewer values than the header, but does not show it."""
    body = "a,b\n" + "1,2\n" * 3 + f"{line}\n1,2\n"
    error = refused(body.encode(), {"a": "varchar", "b": "varchar"})
    assert error.row == 4
    assert f"{values} values for 2 columns" in str(error)


def test_empty_lines(convert):
    """An empty line is a row only if there is one column."""
    assert convert(b"a\n1\n\n2\n", {"a": "bigint"}) == [(1,), (None,), (2,)]
    assert convert(b"\na,b\n1,2\n\n3,4\n\n", {"a": "bigint"}) == [(1, "2"), (3, "4")]


def test_rows_longer_than_a_block(convert):
    """Long rows are read in larger blocks, up to a limit; a thousand columns are fine."""
    wide = {f"column_{number}": "varchar" for number in range(1_000)}
    row = ["v" * 2_000] * len(wide)
    body = f"{','.join(wide)}\n{','.join(row)}\n".encode()
    assert len(body) > parquet.BLOCK_BYTES[0]
    assert convert(body, wide) == [tuple(row)]


def test_a_row_that_is_too_long(refused, monkeypatch):
    """The error names the limit."""
    monkeypatch.setattr(parquet, "BLOCK_BYTES", (100, 1000))
    assert "1000 bytes" in str(refused(b"a,b\n1," + b"x" * 5_000 + b"\n3,4\n", {"a": "varchar"}))


# Columns


@pytest.mark.parametrize("body", [b"id,net\n", b"id,net", b"id,net\r\n\r\n", b"\xef\xbb\xbfid,net"])
def test_a_header_alone(convert, folder, body):
    """A header alone becomes a file without rows, with typed columns."""
    assert convert(body, COLUMNS) == []
    described = duckdb.sql(f"DESCRIBE FROM '{folder.folder}/r.parquet'").fetchall()
    assert [row[:2] for row in described] == [("id", "VARCHAR"), ("net", "DECIMAL(38,18)")]


@pytest.mark.parametrize("body", [b"", b"\n", b"\xef\xbb\xbf"])
def test_nothing_at_all(convert, body):
    """A result without bytes becomes a file without rows if columns are announced."""
    assert convert(body, COLUMNS) == []


def test_nothing_at_all_and_no_columns_told(refused):
    """A result without bytes and without announced columns is refused."""
    assert "Leave output_format out" in str(refused(b"", {}))


def test_columns_of_which_nothing_is_known_are_text(convert, caplog):
    """The log names columns without a known type, and announced columns that are missing."""
    body = b"a,b,c\n1,2,3\n"
    assert convert(body, {"b": "bigint", "c": "geometry", "z": "bigint"}) == [("1", 2, "3")]
    assert "The columns ['a', 'c'] land as text" in caplog.text
    assert "does not have: ['z']" in caplog.text


def test_a_version_that_tells_no_columns(convert, sandbox):
    """If the API announces no columns, all are text except those in column_types."""
    refusal = {"error": {"code": "invalid_fields", "message": "Unknown: include"}}
    sandbox.faults.add(
        Fault("get_run", Answer(status=400, body=refusal), times=None, match="include")
    )
    found = convert(CSV, COLUMNS, column_types={"net": "decimal(9,2)"})
    assert found == [("txn_1", Decimal("10.00")), ("txn_2", Decimal("-0.10"))]


def test_two_columns_of_one_name(refused):
    """The error names the repeated column."""
    assert "name 'a', which" in str(refused(b"a,b,a\n1,2,3\n", {"a": "bigint"}))


def test_a_header_that_is_no_text(refused):
    """A header that is not UTF-8 is refused."""
    assert "not CSV in UTF-8" in str(refused(b"a,\xff\n1,2\n", {"a": "bigint"}))
    assert "not CSV in UTF-8" in str(refused(b"a" * 200_000, {"a": "bigint"}))


def test_a_type_for_a_column_that_is_not_there(refused):
    """The error names both the requested and the existing columns."""
    error = refused(CSV, COLUMNS, InvalidInput, column_types={"gross": "decimal"})
    assert "['gross']" in str(error)
    assert "['id', 'net']" in str(error)


# Files


def test_members_of_a_zip(make, hook, store, land, folder):
    """Each member is converted, and its name ends in .parquet."""
    body = zipped({"a.csv": CSV, "x/B.CSV": b"id,net\n", "c": CSV})
    uri = store.destination("out/")
    run_id = make(body, content_type="zip")
    landing = land(hook, run_id, uri, decompress=True, output_format="parquet", marker="_SUCCESS")
    names = ["out/a.parquet", "out/x/B.parquet", "out/c.parquet"]
    files = store.files()
    assert set(files) == {*names, "out/_SUCCESS"}
    rows = []
    for name in names:
        folder.put("copy", files[name])
        rows.append(len(read(folder.folder / "copy")))
    assert rows == [2, 0, 2]
    assert [member.rows for member in landing.members] == rows
    facts = landing.as_json()
    assert (facts["rows"], facts["columns"], facts["content_type"]) == (4, LANDED, "zip")
    assert facts["received"]["size"] == len(body)
    assert land.is_clean


@pytest.mark.parametrize("names", [("a.csv", "a"), ("a.csv", "a.parquet/x.csv")])
def test_members_that_would_get_one_name(make, hook, folder, land, names):
    """Nothing is published."""
    run_id = make(zipped(dict.fromkeys(names, CSV)), content_type="zip")
    with pytest.raises(ResultCorrupt, match=r"a\.parquet"):
        land(hook, run_id, folder.destination(""), decompress=True, output_format="parquet")
    assert folder.files() == {}


def test_members_of_other_columns(make, hook, folder, land):
    """If members have different columns, none are reported."""
    run_id = make(zipped({"a.csv": CSV, "b.csv": b"net\n1\n"}), content_type="zip")
    landing = land(hook, run_id, folder.destination(""), decompress=True, output_format="parquet")
    assert (landing.rows, landing.columns) == (3, None)


def test_one_bad_member_lands_none(make, hook, folder, land):
    """All members are converted before the first is published."""
    run_id = make(zipped({"a.csv": CSV, "b.csv": b"id,net\nx,y\n"}), content_type="zip")
    with pytest.raises(ConversionFailed, match=r"b\.parquet"):
        land(hook, run_id, folder.destination(""), decompress=True, output_format="parquet")
    assert folder.files() == {}
    assert land.is_clean


def test_a_folder_names_the_file(make, hook, folder, land):
    """In a folder, the file is named after the report run and ends in .parquet."""
    run_id = make(CSV)
    landing = land(hook, run_id, folder.destination(""), output_format="parquet")
    assert set(folder.files()) == {f"{run_id}.parquet"}
    assert landing.returned.endswith(f"/{run_id}.parquet")


def test_a_full_disk(make, hook, folder, land, small_files):
    """A full disk raises LandingFailed and leaves no file."""
    body = ",".join(f"c{number}" for number in range(300)).encode()  # its Parquet is much larger
    run_id = make(body, {})
    with small_files(10_000), pytest.raises(LandingFailed, match="space"):
        land(hook, run_id, folder.destination("r.parquet"), output_format="parquet")
    assert folder.files() == {}
    land(hook, run_id, folder.destination("r.parquet"), output_format="parquet")
    assert len(folder.files()["r.parquet"]) > 10_000


def wide_rows():
    """Return the header and the rows of a file with 3,000 columns, 2.6 MB."""
    names = [f"c{number}" for number in range(3_000)]
    rows = [[str(row * 7 + column) for column in range(3_000)] for row in range(200)]
    return names, rows


def test_a_wide_file(make, hook, folder, land, caplog, monkeypatch):
    """A file with thousands of columns has all its values, and its names do not fill the log."""
    monkeypatch.setattr(parquet, "BLOCK_BYTES", (1 << 16, 1 << 18))
    names, rows = wide_rows()
    body = "\n".join(",".join(row) for row in [names, *rows]).encode()
    assert len(body) > 2 * parquet.BLOCK_BYTES[-1]
    types = dict.fromkeys(names[::2], "bigint")
    options = {"output_format": "parquet", "column_types": types}
    land(hook, make(body, {}), folder.destination("r.parquet"), **options)
    table = pyarrow.parquet.read_table(folder.folder / "r.parquet")
    kinds = [int if number % 2 == 0 else str for number in range(3_000)]
    expected = [[kind(value) for kind, value in zip(kinds, row, strict=True)] for row in rows]
    assert list(map(list, zip(*(c.to_pylist() for c in table.columns), strict=True))) == expected
    assert all(len(message) < 2_000 for message in caplog.messages)


def test_a_misfit_in_a_wide_file(refused, monkeypatch):
    """The row is counted from the beginning of the file, not of the block."""
    monkeypatch.setattr(parquet, "BLOCK_BYTES", (1 << 16, 1 << 18))
    names, rows = wide_rows()
    rows[170][2_999] = "x"
    body = "\n".join(",".join(row) for row in [names, *rows]).encode()
    assert refused(body, {}, column_types={"c2999": "bigint"}).row == 171


@pytest.mark.parametrize("repeated", [1, 1_000, 3_000])
def test_values_that_repeat_for_a_while(convert, repeated, monkeypatch):
    """Values are cast exactly, whether they repeat in the whole file, in its first part or not."""
    monkeypatch.setattr(parquet, "BLOCK_BYTES", (1 << 10, 1 << 20))
    texts = [f"{number % 7 if number < repeated else number}.25" for number in range(3_000)]
    texts[::50] = [""] * 60
    rows = [(number, Decimal(text) if text else None) for number, text in enumerate(texts)]
    body = "n,net\n" + "".join(f"{number},{text}\n" for number, text in enumerate(texts))
    assert convert(body.encode(), {"n": "bigint", "net": "double"}) == rows


@pytest.mark.parametrize(
    "text",
    ["9" * 20, "9" * 21, "1e30", "1E30", f".{'1' * 18}", f".{'1' * 19}", "1" * 18 + ".5", "-1e-19"],
)
def test_money_at_the_limits(make, hook, folder, land, text):
    """Money lands exactly, or not at all, whether it is short enough to be sure at once or not."""
    run_id = make(f"net\n1\n{text}\n".encode(), {"net": "double"})
    with localcontext(prec=60):
        number = Decimal(text)
        fits = abs(number) < 10**20 and number == number.quantize(Decimal("1e-18"))
    try:
        land(hook, run_id, folder.destination("r.parquet"), output_format="parquet")
    except ConversionFailed:
        assert not fits
    else:
        assert fits
        assert read(folder.folder / "r.parquet")[1] == (number,)


# What is refused before anything is spent


@pytest.mark.parametrize(
    ("named", "options"),
    [
        (r"output_format must be one of parquet, csv\.gz, not 'orc'", {"output_format": "orc"}),
        (r"output_format must be one of parquet, csv\.gz, not ''", {"output_format": ""}),
        (r"End it in \.parquet", {"name": "r.csv", "output_format": "parquet"}),
        (r"End it in \.parquet", {"name": "r.ZIP", "output_format": "parquet"}),
        (r"add output_format='parquet'", {"column_types": {"a": "date"}}),
        (
            r"add output_format='parquet'",
            {"column_types": {"a": "date"}, "output_format": "csv.gz", "name": "r.csv.gz"},
        ),
        (r"column_types must be a mapping", {"column_types": ["a"]}),
        (r"'a' in column_types must be one of", {"column_types": {"a": "money"}}),
        (r"'a' in column_types must be one of", {"column_types": {"a": "decimal(39,2)"}}),
        (r"'a' in column_types must be one of", {"column_types": {"a": "decimal(2,3)"}}),
        (r"'a' in column_types must be one of", {"column_types": {"a": None}}),
    ],
)
def test_what_cannot_be_meant(land, folder, named, options):
    """The error names the argument and its possible values."""
    name = options.pop("name", "r.parquet")
    with pytest.raises(InvalidInput, match=named):
        land.to(folder.destination(name), **options)


def sha256(body):
    """Return the hash in hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()


def download_task(report_run_id, destination, **arguments):
    """Return a task that lands a report run as Parquet."""
    with dag():
        return DownloadReportResultOperator(
            task_id="land",
            report_run_id=report_run_id,
            destination=destination,
            output_format="parquet",
            **arguments,
        )


def single_task(destination, **arguments):
    """Return a task that creates, waits and lands."""
    with dag():
        return ReportRunToStorageOperator(
            task_id="land",
            report="balance_summary",
            destination=destination,
            output_format="parquet",
            deferrable=False,
            poll_interval=0.05,
            **arguments,
        )


def test_the_tasks_tell_what_they_landed(folder, make, sandbox):
    """Size and hash are those of the Parquet file; what Stripe sent and announced is added."""
    asset = Asset("weekly", uri="x-report://weekly")
    task = download_task(make(CSV), folder.destination("{{ ds }}.parquet"), outlets=[asset])
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    ((name, body),) = folder.files().items()
    facts = outcome.xcom["landing"]
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {
        "uri": folder.uri(name),
        "size": len(body),
        "sha256": sha256(body),
        "content_type": "csv",
        "report_run_id": sandbox.runs[0].id,
        "report": "balance_summary",
        "report_parameters": {
            "interval_start": "2026-10-26T00:00:00.000Z",
            "interval_end": "2026-11-02T00:00:00.000Z",
        },
        "stripe_context": None,
        "livemode": False,
        "api": "v2.reporting",
        "interval_start": "2026-10-26T00:00:00.000Z",
        "interval_end": "2026-11-02T00:00:00.000Z",
        "members": [],
        "rows": 2,
        "columns": LANDED,
        "received": {"size": len(CSV), "sha256": sha256(CSV)},
        "skipped": False,
    }
    assert [event["extra"] for event in outcome.outlet_events] == [facts]


def test_a_made_up_report_in_one_task(folder, sandbox):
    """The sandbox's rows fit the types that it announces."""
    task = single_task(
        folder.destination("r.parquet"), column_types={"net_amount": "decimal(18,2)"}
    )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    rows = read(folder.folder / "r.parquet")
    assert {type(row[2]) for row in rows} == {Decimal}
    assert outcome.xcom["landing"]["rows"] == len(rows)
    assert outcome.xcom["landing"]["report_run_id"] == sandbox.runs[0].id


@pytest.mark.parametrize("flag", [True, "true"], ids=repr)
def test_a_zip_that_would_be_kept(folder, flag):
    """If a ZIP is requested, the DAG file does not import."""
    with pytest.raises(InvalidInput, match="Add decompress=True, because output_format"):
        single_task(folder.destination("r.parquet"), result_options={"compress_file": flag})


def test_a_zip_that_a_template_requests(folder, sandbox):
    """The task fails before any request."""
    options = {"compress_file": "{{ true }}"}
    outcome = run_task(single_task(folder.destination("r.parquet"), result_options=options))
    assert isinstance(outcome.error, InvalidInput)
    assert isinstance(outcome.error, AirflowFailException)
    assert "decompress=True" in str(outcome.error)
    assert sandbox.requests == []


def test_a_zip_that_comes_unasked(folder, make, downloads):
    """A result that cannot be converted is not downloaded."""
    run_id = make(zipped({"a.csv": CSV}), content_type="zip")
    outcome = run_task(download_task(run_id, folder.destination("r.parquet")))
    assert "decompress=True" in str(outcome.error)
    outcome = run_task(download_task(make(CSV, content_type="xlsx"), folder.destination("")))
    assert "'xlsx'" in str(outcome.error)
    assert downloads() == []


def test_a_failed_report_run_is_told_as_such(folder, sandbox, make):
    """A failed report run raises its own error."""
    sandbox.fail_next(1, "internal_error")
    outcome = run_task(download_task(make(CSV), folder.destination("r.parquet")))
    assert isinstance(outcome.error, ReportRunFailed)


def test_without_pyarrow_no_report_run_is_spent(folder, sandbox, monkeypatch):
    """Without pyarrow, the error says how to install it, before any request."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    outcome = run_task(single_task(folder.destination("r.parquet")))
    assert isinstance(outcome.error, InvalidInput)
    assert "pip install 'airflow-provider-reportrun[parquet]'" in str(outcome.error)
    assert sandbox.requests == []


# Files that are something else


ERROR_PAGES = {
    "semicolons": b"id;net\ntxn_1;10.00\n",
    "tabs": b"id\tnet\ntxn_1\t10.00\n",
    "xml": b"<?xml version='1.0'?>\n<Error><Code>SlowDown</Code></Error>",
    "xml on one line": b"<Error><Code>SlowDown</Code></Error>",
    "html with commas": b"<html lang=en, class=x>\n<p>Sign in, please</p></html>\n",
    "json": b'{"error": {"code": "x", "message": "y"}}',
    "json over lines": b'{\n  "error": "x"\n}\n',
    "a list": b'[{"id": 1, "net": 2}]\n',
}


@pytest.mark.parametrize("columns", [COLUMNS, None], ids=["announced", "nothing announced"])
@pytest.mark.parametrize("body", ERROR_PAGES.values(), ids=ERROR_PAGES)
def test_what_is_no_such_csv_replaces_nothing(make, hook, folder, land, body, columns):
    """A file without any announced column, or that looks like another format, is refused."""
    uri = folder.destination("r.parquet")
    land(hook, make(CSV), uri, output_format="parquet")
    good = folder.files()
    with pytest.raises(ConversionFailed, match="Nothing was published") as caught:
        land(hook, make(body, columns), uri, output_format="parquet")
    assert folder.files() == good
    assert not caught.value.transient


def test_a_csv_of_other_columns_is_refused(refused):
    """A file without any announced column is refused."""
    error = refused(b"a,b\n1,2\n", COLUMNS)
    assert "none of the 2 columns that the API announced" in str(error)
    assert isinstance(refused(b"a,b\n1,2\n", COLUMNS, column_types={"c": "date"}), ConversionFailed)


def test_column_types_vouch_for_a_file(convert):
    """If column_types names a column of the file, the file is accepted."""
    assert convert(b"a,b\n1,2\n", COLUMNS, column_types={"a": "bigint"}) == [(1, "2")]
    assert convert(b"a;b\n1;2\n", None, column_types={"a;b": "varchar"}) == [("1;2",)]


@pytest.mark.parametrize("header", ["ID,NET", " id , net", "Id,Net ", "\ufeff\ufeffid,net"])
def test_announced_columns_in_another_spelling(convert, header):
    """Announced types apply to columns that differ only in case and blanks."""
    body = header.encode() + b"\ntxn_1,10.00\n"
    assert convert(body, COLUMNS) == [("txn_1", Decimal("10.00"))]


@pytest.mark.parametrize("body", [b"id\ntxn_1\n", b"id,more\ntxn_1,x\n"])
def test_some_of_the_announced_columns_are_enough(convert, body, caplog):
    """The log names announced columns that are missing."""
    assert convert(body, COLUMNS)[0][0] == "txn_1"
    assert "columns that the result does not have: ['net']" in caplog.text


def test_a_header_without_end_is_refused(refused, monkeypatch):
    """No more of a header is read than a row may have."""
    monkeypatch.setattr(header, "LONGEST", 10_000)
    monkeypatch.setattr(parquet, "BLOCK_BYTES", (1_000, 10_000))
    refused(b"x" * 1_000_000, None)
    refused(b'"' + b"x\n" * 500_000, None)
    refused(b"a," * 500_000, None)
    refused(b"id,net\n" + b"x" * 1_000_000, COLUMNS)


@pytest.mark.parametrize(
    ("type_", "value", "advice"),
    [
        ("timestamp", "2026-01-01 00:00:00Z", "timestamptz"),
        ("timestamp", "2026-01-01T00:00:00+02:00", "timestamptz"),
        ("timestamp", "2026-01-01 00:00:00.000 UTC", "timestamptz"),
        ("timestamp", "2026-01-01 00:00:00 -05", "timestamptz"),
        ("timestamptz", "2026-01-01 00:00:00", "timestamp"),
        ("timestamp", "soon", "varchar"),
        ("date", "2026-01-01 10:00:00", "timestamp"),
        ("bigint", "1e5", "double"),
        ("bigint", "-1.5E-7", "double"),
        ("double", "nan", "double"),
        ("double", "0.1234567890123456789", "decimal(38,19)"),
        ("double", "123456789012345678901.5", "decimal(38,1)"),
        ("double", "1" * 30 + "." + "1" * 20, "varchar"),
        ("bigint", "10.25", "decimal(38,2)"),
        ("bigint", "0x1", "varchar"),
        ("double", "1e400", "varchar"),
        ("bigint", "12345678901234567890", "decimal(38,0)"),
        ("bigint", "2026-01-01", "date"),
        ("boolean", "2", "bigint"),
        ("double", "1,5", "varchar"),
    ],
)
def test_advice_names_the_type_that_keeps_the_value(make, hook, land, folder, type_, value, advice):
    """The suggested type is accepted, and fits the value."""
    run_id = make(f'id,x\n1,"{value}"\n'.encode(), {"id": "bigint", "x": "varchar"})
    to = {"output_format": "parquet", "column_types": {"x": type_}}
    if type_ == "double":
        to["column_types"] = {"x": "decimal"}
    uri = folder.destination("r.parquet")
    with pytest.raises(ConversionFailed) as caught:
        land(hook, run_id, uri, **to)
    assert f"column_types={{'x': '{advice}'}}" in str(caught.value)
    assert value not in str(caught.value)
    land(hook, run_id, uri, output_format="parquet", column_types={"x": advice})
    assert folder.files()


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-01-01 02:00:00 UTC", "2026-01-01 02:00:00.000 UTC", "2026-01-01T02:00:00.000 utc",
        "2026-01-01 02:00:00 GMT", "2026-01-01 02:00:00 Etc/UTC", "2026-01-01 02:00:00UTC",
        "2026-01-01 02:00:00 Z", "2026-01-01 04:00:00 +0200", "2026-01-01 04:00:00 +02:00",
        "2026-01-01 02:00:00 +0000 UTC", "2025-12-31 21:00:00 -05", "2025-12-31T21:00:00-05",
    ],
)  # fmt: skip
def test_offsets_in_words(convert, stamp):
    """UTC is an offset, and so is an offset after a blank."""
    body = f"at\n{stamp}\n2026-01-01T02:00:00Z\n".encode()
    rows = convert(body, {"at": "timestamp"}, column_types={"at": "timestamptz"})
    assert {row[0].astimezone(timezone.utc) for row in rows} == {
        datetime(2026, 1, 1, 2, tzinfo=timezone.utc)
    }


# pyarrow cannot tell of a ragged row that is no UTF-8, and says so to nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_csv_holds(tmp_path, seed):
    """Hundreds of CSVs with changed bytes are converted, or raise an error of this package."""
    rng = random.Random(seed)  # noqa: S311 - made-up damage
    rows = b'1,2.50,2026-01-01 00:00:00\n"2",,"2026-01-02 00:00:00"\n'
    good = b"id,net,at\n" + 2 * rows
    types = ColumnTypes(
        announced=[Column("id", "bigint"), Column("net", "double"), Column("at", "timestamp")]
    )
    converted = 0
    for _ in range(400):
        body = bytearray(good)
        for _ in range(rng.randint(0, 3)):
            at = rng.randrange(len(body))
            body[at : at + rng.randint(0, 2)] = rng.choice(
                [b"\0", b"\xff", b'"', b",", b"\r", b"\n", b";", b"\xef\xbb\xbf", b"9" * 40]
            )
        with Spool(tmp_path, "o") as spool:
            path = spool.new_file()
            path.write_bytes(body)
            file = LocalFile(name="r.parquet", path=path, size=len(body), sha256="")
            try:
                converted += parquet.convert(file, spool, types).rows >= 0
            except ReportRunError:
                continue
    assert converted
