"""
Make a Parquet file of a verified CSV, a block of rows at a time, in the spool.

All values are read as text first and then cast to the types of ``columns.py``, so that one which
does not fit can be found and named. Nothing is trimmed, rounded or guessed. What is empty is null
where it is not quoted, as PostgreSQL's ``COPY`` and DuckDB have it, and an empty text where it is.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO

from airflow_provider_reportrun.errors import ConversionFailed, InvalidInput
from airflow_provider_reportrun.landing.columns import (
    MOST_DIGITS,
    TEXT,
    ColumnTypes,
    decimal_digits,
)
from airflow_provider_reportrun.landing.spool import open_staged

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.archive import LocalFile
    from airflow_provider_reportrun.landing.spool import Spool
    from airflow_provider_reportrun.protocol.models import Column

log = logging.getLogger(__name__)

SUFFIX: Final = ".parquet"
BLOCK_BYTES: Final = (1 << 20, 8 << 20)
"""
Of the CSV, read at once; the second for results with a row that is longer than the first.

pyarrow reads more than thirty of them ahead, so they weigh on memory.
"""
_GROUP_BYTES: Final = 32 << 20
"""Of a row group, in memory: larger ones are quicker to read and cost memory to write."""
_CHUNK_BYTES: Final = 1 << 20
_LEAVE_IT: Final = "leave output_format out to land the result as it is."
_KINDS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), words)
    for pattern, words in (
        (r"", "an empty text"),
        (r"[+-]?\d+", "a whole number of {} characters"),
        (r"[+-]?(\d+\.\d*|\.\d+)", "a number with a fraction, of {} characters"),
        (r"[+-]?(\d+\.?\d*|\.\d+)e[+-]?\d+", "a number with an exponent, of {} characters"),
        (r"[+-]?(nan|inf|infinity)", "no finite number"),
        (r"\d{4}-\d\d-\d\d[ t][\d:.]+ *(z|utc|[+-]\d\d(:?\d\d)?)", "a timestamp with an offset"),
        (r"\d{4}-\d\d-\d\d[ t][\d:.]+", "a timestamp without an offset, of {} characters"),
        (r"\d{4}-\d\d-\d\d", "a date"),
        (r".*", "a text of {} characters"),
    )
)
"""What a value is like, which an error may say, in place of the value, which it may not."""


_NUMBER: Final = re.compile(rb"[+-]?(\d*)(?:\.(\d*))?", re.ASCII)
_FLOAT: Final = re.compile(
    rb"[+-]?((\d+\.?\d*|\.\d+)e[+-]?\d+|nan|inf|infinity)", re.ASCII | re.IGNORECASE
)
_INFINITY: Final = r"(?i)^[+-]?inf(inity)?$"
_OFFSETS: Final = (
    (r"(\d) +([+-]\d\d(?::?\d\d)?)(?: +[A-Z]{3,4})?$", r"\1\2"),
    (r"(?i)(\d) *(?:Etc/UTC|UTC|GMT|Z)$", r"\1Z"),
)
"""Ways to write an offset, and how pyarrow reads it."""


def check_available() -> None:
    """
    Refuse to go on without pyarrow, before a report run is spent.

    :raises InvalidInput: says how to install it.
    """
    if find_spec("pyarrow") is None:
        raise InvalidInput(
            "output_format='parquet' needs pyarrow, which is not installed here: "
            "pip install 'airflow-provider-reportrun[parquet]'."
        )


def parquet_name(name: str) -> str:
    """Name the Parquet file that a CSV becomes."""
    path = PurePosixPath(name)
    stem = path.with_suffix("") if path.suffix.lower() == ".csv" else path
    return f"{stem}{SUFFIX}"


def convert(file: LocalFile, spool: Spool, types: ColumnTypes) -> LocalFile:
    """
    Make a Parquet file of a CSV, and take the CSV away.

    :param file: UTF-8, with a header; it keeps its name.
    :return: another file of the spool, with its rows and columns.
    :raises ConversionFailed: names the row and column of what does not fit.
    :raises InvalidInput: when a type was asked for of a column that is not there.
    :raises LandingFailed: when the spool cannot be written.
    """
    began = time.monotonic()
    names, has_rows = _header(file)
    columns = types.of(names)
    for block_bytes in BLOCK_BYTES:
        target = spool.new_file()
        try:
            with open_staged(target) as out:
                rows = _write(_Csv(file, columns, block_bytes, has_rows=has_rows), out)
            break
        except _RowTooLong:
            target.unlink()
    else:
        raise ConversionFailed(
            f"The CSV for {file.name} has a row of more than {BLOCK_BYTES[-1]} bytes, or is no "
            f"CSV. Nothing was published; {_LEAVE_IT}"
        )
    file.path.unlink()
    size = target.stat().st_size
    log.info(
        "Converted %s: of %d bytes of CSV came %d bytes of Parquet with %d rows, in %.1f s",
        file.name,
        file.size,
        size,
        rows,
        time.monotonic() - began,
    )
    return replace(file, path=target, size=size, sha256=_sha256(target), rows=rows, columns=columns)


class _RowTooLong(Exception):
    """A row is longer than the blocks that are read."""


def _header(file: LocalFile) -> tuple[list[str] | None, bool]:
    """
    Read the header of a CSV.

    :return: the names, None for a file without a header, and whether anything follows them.
    """
    with file.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        try:
            names = next((row for row in csv.reader(_lines(text, file)) if row), None)
        except csv.Error:
            names = ["\udcff"]
        has_rows = bool(text.read(1))
    if names is not None and any(not _is_unicode(name) for name in names):
        raise ConversionFailed(
            f"The header of the CSV for {file.name} is no CSV in UTF-8. Nothing was published; "
            f"{_LEAVE_IT}"
        )
    return names, has_rows


def _lines(text: TextIO, file: LocalFile) -> Iterator[str]:
    """
    Read the lines that a header may take, and never a whole file of one line.

    :raises ConversionFailed: when they are longer than a block.
    """
    left = BLOCK_BYTES[-1]
    while line := text.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise ConversionFailed(
                f"The header of the CSV for {file.name} has more than {BLOCK_BYTES[-1]} "
                f"characters, or it is no CSV. Nothing was published; {_LEAVE_IT}"
            )
        yield line


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)


class _Blocks:
    """
    A file of which no block that is read ends between a CR and its LF.

    After such a block pyarrow (up to 26.0 at least) takes the LF for the rest of a line's end and
    drops it, though it stands in a quoted value.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held = b""

    @property
    def closed(self) -> bool:
        return self._file.closed

    def read(self, size: int) -> bytes:
        block = self._held + self._file.read(size - len(self._held))
        self._held = b"\r" if len(block) > 1 and block.endswith(b"\r") else b""
        return block.removesuffix(self._held)

    def close(self) -> None:
        """Leave it to who opened it."""


class _Csv:
    """The rows of a CSV, typed, in batches."""

    def __init__(
        self, file: LocalFile, columns: tuple[Column, ...], block_bytes: int, *, has_rows: bool
    ) -> None:
        import pyarrow as pa

        self._file = file
        self._columns = columns
        self._block_bytes = block_bytes
        self._has_rows = has_rows
        self.schema = pa.schema([(each.name, _arrow_type(each.type)) for each in columns])

    def batches(self) -> Iterator[Any]:
        """
        Give the rows, as ``pyarrow.RecordBatch``.

        :raises ConversionFailed: names the row and column of what does not fit.
        """
        import pyarrow as pa

        first_row = 1
        for raw in self._raw() if self._has_rows else ():
            arrays = [
                self._typed(values, column, first_row)
                for values, column in zip(raw.columns, self._columns, strict=True)
            ]
            yield pa.record_batch(arrays, schema=self.schema)
            first_row += raw.num_rows

    def _raw(self) -> Iterator[Any]:
        """Give the rows as bytes, with None for what is empty and not quoted."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        names = [column.name for column in self._columns]
        ragged: list[Any] = []

        def note(row: Any) -> str:
            ragged.append(row)
            return "error"

        try:
            with (
                self._file.path.open("rb") as file,
                arrow_csv.open_csv(
                    _Blocks(file),
                    read_options=arrow_csv.ReadOptions(
                        use_threads=False, block_size=self._block_bytes
                    ),
                    parse_options=arrow_csv.ParseOptions(
                        newlines_in_values=True,
                        # A line with nothing on it is a row where there is one column only.
                        ignore_empty_lines=len(names) > 1,
                        invalid_row_handler=note,
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.binary()),
                        check_utf8=False,
                        null_values=[""],
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=False,
                    ),
                ) as reader,
            ):
                if reader.schema.names != names:
                    raise ConversionFailed(
                        f"The header of the CSV for {self._file.name} can be read in more than "
                        f"one way. Nothing was published; {_LEAVE_IT}"
                    )
                yield from reader
        except pa.ArrowInvalid:
            if not ragged:
                raise _RowTooLong from None
        else:
            return
        raise _ragged(self._file.name, ragged[0])

    def _typed(self, values: Any, column: Column, first_row: int) -> Any:
        import pyarrow as pa
        from pyarrow import compute

        type_ = _arrow_type(column.type)
        if column.type != TEXT and compute.min(compute.binary_length(values)).as_py() == 0:
            values = compute.if_else(compute.equal(values, b""), None, values)
        try:
            return _cast(values, type_)
        except pa.ArrowInvalid:
            at = _first_misfit(values, type_)
        raise _misfit(self._file.name, column, first_row + at, values[at].as_py())


def _write(source: _Csv, out: BinaryIO) -> int:
    """
    Write a Parquet file.

    :return: how many rows it has.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows, group_bytes, group = 0, 0, []
    with parquet.ParquetWriter(out, source.schema, compression="zstd") as writer:
        for batch in source.batches():
            rows += batch.num_rows
            group_bytes += batch.nbytes
            group.append(batch)
            if group_bytes >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group))
                group_bytes, group = 0, []
        if group:
            writer.write_table(pa.Table.from_batches(group))
    return rows


def _arrow_type(type_: str) -> Any:
    import pyarrow as pa

    if digits := decimal_digits(type_):
        return pa.decimal128(*digits)
    return {
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "double": pa.float64(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        TEXT: pa.string(),
    }[type_]


def _cast(values: Any, type_: Any) -> Any:
    """
    Cast values, all of which are UTF-8.

    :raises pyarrow.ArrowInvalid: when one does not fit.
    """
    import pyarrow as pa
    from pyarrow import compute

    texts = values.cast(pa.string())
    if pa.types.is_decimal(type_):
        _check_digits(texts, type_.scale)
    elif type_ == pa.int64():
        _refuse_any(compute.starts_with(texts, "0x", ignore_case=True))
    if type_ != pa.timestamp("us", tz="UTC"):
        cast = texts.cast(type_)
        if type_ == pa.float64():
            _check_range(texts, cast)
        return cast
    try:
        return texts.cast(type_)
    except pa.ArrowInvalid:
        # A stamp may name its zone in words, or after a blank, which pyarrow does not read.
        for pattern, offset in _OFFSETS:
            texts = compute.replace_substring_regex(texts, pattern, offset)
        return texts.cast(type_)


def _check_digits(texts: Any, scale: int) -> None:
    """
    Refuse numbers with more digits than a decimal has, before or after the point.

    pyarrow (up to 26.0 at least) casts some of them to other numbers without an error.

    :param scale: digits after the point.
    :raises pyarrow.ArrowInvalid: if there is one.
    """
    import pyarrow as pa
    from pyarrow import compute

    short = rf"^[+-]?[0-9]{{0,{MOST_DIGITS - scale}}}(\.[0-9]{{0,{scale}}})?$"
    others = texts.filter(compute.invert(compute.match_substring_regex(texts, short)))
    if not all(_fits(text, scale) for text in others.to_pylist()):
        raise pa.ArrowInvalid("more digits than the decimal has")


def _fits(text: str, scale: int) -> bool:
    """Tell whether a number can be written with ``scale`` digits after the point, and 38 in all."""
    try:
        _, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation:
        return False
    if not isinstance(exponent, int):  # NaN or Infinity
        return False
    shift = exponent + scale
    if shift < 0 and any(digits[shift:]):
        return False
    return not any(digits) or len(digits) + max(shift, 0) <= MOST_DIGITS


def _check_range(texts: Any, floats: Any) -> None:
    """
    Refuse numbers that are too large for a float, which pyarrow casts to infinity.

    :raises pyarrow.ArrowInvalid: if there is one.
    """
    from pyarrow import compute

    infinite = texts.filter(compute.is_inf(floats))
    _refuse_any(compute.invert(compute.match_substring_regex(infinite, _INFINITY)))


def _refuse_any(refused: Any) -> None:
    import pyarrow as pa
    from pyarrow import compute

    if compute.any(refused).as_py():
        raise pa.ArrowInvalid("a number that the type does not hold")


def _first_misfit(values: Any, type_: Any) -> int:
    """Find the first value that cannot be cast, halving the rows in which it must be."""
    import pyarrow as pa

    first, end = 0, len(values)
    while end - first > 1:
        middle = (first + end) // 2
        try:
            _cast(values[first:middle], type_)
            first = middle
        except pa.ArrowInvalid:
            end = middle
    return first


def _misfit(name: str, column: Column, row: int, value: bytes) -> ConversionFailed:
    advice = (
        _LEAVE_IT
        if column.type == TEXT
        else "give the column a type that keeps it, such as "
        f"column_types={{{column.name!r}: {_keeping(value)!r}}}."
    )
    return ConversionFailed(
        f"Row {row} of the CSV for {name}, not counting its header, has {_kind(value)} in the "
        f"column {column.name!r}, which does not fit the type {column.type}. Nothing was "
        f"published; {advice}",
        column=column.name,
        row=row,
    )


def _keeping(value: bytes) -> str:
    """Name the narrowest type that keeps a value as it is; text keeps any."""
    import pyarrow as pa

    for type_ in ("bigint", *_decimals(value), "date", "timestamptz", "timestamp", "boolean"):
        try:
            _cast(pa.array([value], pa.binary()), _arrow_type(type_))
        except pa.ArrowInvalid:
            continue
        return type_
    return TEXT


def _decimals(value: bytes) -> list[str]:
    """Name the type with room for a number; a double for those that no decimal may hold."""
    if _FLOAT.fullmatch(value):
        return ["double"]
    number = _NUMBER.fullmatch(value)
    if number is None:
        return []
    whole, fraction = len(number[1].lstrip(b"0")), len(number[2] or b"")
    return [f"decimal(38,{fraction})"] if whole + fraction <= MOST_DIGITS else []


def _kind(value: bytes) -> str:
    """Say what a value is like, and not what it is."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"{len(value)} bytes that are no UTF-8"
    return next(words.format(len(text)) for kind, words in _KINDS if kind.fullmatch(text))


def _ragged(name: str, row: Any) -> ConversionFailed:
    number = row.number - 1
    return ConversionFailed(
        f"Row {number} of the CSV for {name}, not counting its header, has {row.actual_columns} "
        f"values for {row.expected_columns} columns. Nothing was published; {_LEAVE_IT}",
        row=number,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
