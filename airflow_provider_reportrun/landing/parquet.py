"""
Convert a verified CSV to a Parquet file in the spool, a block of rows at a time.

Values are first read as text and then cast to the types from ``columns.py``, so that an error can
name a value that does not fit. Nothing is trimmed, rounded or guessed. An empty value is null, as
in PostgreSQL's ``COPY`` and in DuckDB; in quotes it is an empty text.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from airflow_provider_reportrun.errors import ConversionFailed, InvalidInput
from airflow_provider_reportrun.landing.background import Background, Digest, ahead
from airflow_provider_reportrun.landing.columns import (
    MOST_DIGITS,
    TEXT,
    ColumnTypes,
    decimal_digits,
)
from airflow_provider_reportrun.landing.header import LEAVE_IT, LONGEST, read_header
from airflow_provider_reportrun.landing.names import landed_names
from airflow_provider_reportrun.landing.spool import open_staged

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing import ColumnNames
    from airflow_provider_reportrun.landing.archive import LocalFile
    from airflow_provider_reportrun.landing.spool import Spool
    from airflow_provider_reportrun.protocol.models import Column

log = logging.getLogger(__name__)

SUFFIX: Final = ".parquet"
BLOCK_BYTES: Final = (1 << 20, LONGEST)
"""
Size of a block of the CSV; the second is used if a row is longer than the first.

pyarrow reads more than thirty blocks ahead, so they determine memory use.
"""
_BYTES_PER_COLUMN: Final = 512
"""How much of a CSV is in a batch, for each of its columns: thousands fill more than one block."""
_GROUP_BYTES: Final = 32 << 20
"""Size of a row group in memory: larger ones are faster to read and need memory to write."""
_KINDS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), words)
    for pattern, words in (
        (r"", "an empty text"),
        (r"[+-]?\d+", "a whole number of {} characters"),
        (r"[+-]?(\d+\.\d*|\.\d+)", "a number with a fraction, of {} characters"),
        (r"[+-]?(\d+\.?\d*|\.\d+)e[+-]?\d+", "a number with an exponent, of {} characters"),
        (r"[+-]?(nan|inf|infinity)", "not a finite number"),
        (r"\d{4}-\d\d-\d\d[ t][\d:.]+ *(z|utc|[+-]\d\d(:?\d\d)?)", "a timestamp with an offset"),
        (r"\d{4}-\d\d-\d\d[ t][\d:.]+", "a timestamp without an offset, of {} characters"),
        (r"\d{4}-\d\d-\d\d", "a date"),
        (r".*", "a text of {} characters"),
    )
)
"""Pattern of a value: its description in errors, which must not show the value."""


_NUMBER: Final = re.compile(rb"[+-]?(\d*)(?:\.(\d*))?", re.ASCII)
_FLOAT: Final = re.compile(
    rb"[+-]?((\d+\.?\d*|\.\d+)e[+-]?\d+|nan|inf|infinity)", re.ASCII | re.IGNORECASE
)
_INFINITY: Final = r"(?i)^[+-]?inf(inity)?$"
_OFFSETS: Final = (
    (r"(\d) +([+-]\d\d(?::?\d\d)?)(?: +[A-Z]{3,4})?$", r"\1\2"),
    (r"(?i)(\d) *(?:Etc/UTC|UTC|GMT|Z)$", r"\1Z"),
)
"""Pattern of an offset that pyarrow does not read: how to write it instead."""


def check_available() -> None:
    """
    Check that pyarrow is installed, before a report run is created.

    :raises InvalidInput: if it is not; says how to install it.
    """
    if find_spec("pyarrow") is None:
        raise InvalidInput(
            "output_format='parquet' needs pyarrow, which is not installed: "
            "pip install 'airflow-provider-reportrun[parquet]'."
        )


def parquet_name(name: str) -> str:
    """Return the name of the Parquet file for a CSV."""
    path = PurePosixPath(name)
    stem = path.with_suffix("") if path.suffix.lower() == ".csv" else path
    return f"{stem}{SUFFIX}"


def convert(
    file: LocalFile, spool: Spool, types: ColumnTypes, names: ColumnNames | None = None
) -> LocalFile:
    """
    Convert a CSV to a Parquet file, and remove the CSV.

    :param file: UTF-8, with a header.
    :param names: how to rename the columns; None keeps their names.
    :return: another file of the spool with the same name, and its rows and columns.
    :raises ConversionFailed: if a value does not fit its type (names row and column), or columns
        would have the same name.
    :raises InvalidInput: if ``column_types`` names a column that the file does not have.
    :raises LandingFailed: if the spool cannot be written.
    """
    began = time.monotonic()
    header = read_header(file)
    columns = types.of(header.names)
    landed = _renamed(columns, names)
    for block_bytes in BLOCK_BYTES:
        target = spool.new_file()
        try:
            with open_staged(target) as out, Digest() as digest:
                source = _Csv(file, columns, landed, block_bytes, has_rows=header.has_rows)
                rows = _write(source, _Hashing(out, digest))
                sha256 = digest.hexdigest()
            break
        except _RowTooLong:
            target.unlink()
    else:
        raise ConversionFailed(
            f"{LEAVE_IT}: the CSV for {file.name} has a row of more than {BLOCK_BYTES[-1]} bytes, "
            "or is not CSV. Nothing was published."
        )
    file.path.unlink()
    size = target.stat().st_size
    log.info(
        "Converted %s: %d bytes of CSV to %d bytes of Parquet with %d rows, in %.1f s",
        file.name,
        file.size,
        size,
        rows,
        time.monotonic() - began,
    )
    return replace(file, path=target, size=size, sha256=sha256, rows=rows, columns=landed)


def _renamed(columns: tuple[Column, ...], names: ColumnNames | None) -> tuple[Column, ...]:
    new_names = landed_names([column.name for column in columns], names)
    return tuple(
        replace(column, name=name) for column, name in zip(columns, new_names, strict=True)
    )


class _RowTooLong(Exception):
    """A row is longer than a block."""


class _Blocks:
    """
    Wraps a file so that no block ends between a CR and its LF.

    After such a block, pyarrow (up to 26.0 at least) mistakes the LF for the end of a line and
    drops it, even within a quoted value.
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
        """Do nothing: the code that opened the file closes it."""


class _Csv:
    """
    The rows of a CSV, typed, in batches.

    :param columns: with their names in the file.
    :param landed: the same columns with the names that they land under.
    """

    def __init__(
        self,
        file: LocalFile,
        columns: tuple[Column, ...],
        landed: tuple[Column, ...],
        block_bytes: int,
        *,
        has_rows: bool,
    ) -> None:
        import pyarrow as pa

        self._file = file
        self._columns = columns
        self._block_bytes = block_bytes
        self._has_rows = has_rows
        self.schema = pa.schema([(each.name, _arrow_type(each.type)) for each in landed])

    def batches(self) -> Iterator[Any]:
        """
        Yield the rows as ``pyarrow.RecordBatch``.

        :raises ConversionFailed: if a value does not fit its type; names row and column.
        """
        import pyarrow as pa

        first_row = 1
        for raw in ahead(self._gathered()) if self._has_rows else ():
            arrays = [
                self._typed(values, column, first_row)
                for values, column in zip(raw.columns, self._columns, strict=True)
            ]
            yield pa.record_batch(arrays, schema=self.schema)
            first_row += raw.num_rows

    def _gathered(self) -> Generator[Any, None, None]:
        """
        Yield the rows as bytes, in batches that are large enough.

        A block of a file with thousands of columns has few rows, and each value of a batch of few
        rows costs much more time and memory.
        """
        blocks = 1 + len(self._columns) * _BYTES_PER_COLUMN // self._block_bytes
        with closing(self._raw()) as raw:
            while batches := list(islice(raw, blocks)):
                yield _combined(batches)

    def _raw(self) -> Generator[Any, None, None]:
        """Yield the rows as bytes, with None for empty values without quotes."""
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
                        # An empty line is a row only if there is one column.
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
                        f"{LEAVE_IT}: the header of the CSV for {self._file.name} is ambiguous. "
                        "Nothing was published."
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


def _combined(batches: list[Any]) -> Any:
    import pyarrow as pa

    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


class _Hashing:
    """Wraps a file that is only appended to, and hashes what is written."""

    def __init__(self, file: BinaryIO, digest: Digest) -> None:
        self._file = file
        self._digest = digest
        self.closed = False

    def write(self, data: Any) -> int:
        block = bytes(data)
        self._digest.update(block)
        return self._file.write(block)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Do nothing: the code that opened the file closes it."""


def _write(source: _Csv, out: _Hashing) -> int:
    """
    Write a Parquet file, each row group while the next one is read.

    :return: the number of its rows.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows, group_bytes, group = 0, 0, []
    with (
        parquet.ParquetWriter(out, source.schema, compression="zstd") as writer,
        Background("parquet", 1) as writing,
    ):
        for batch in source.batches():
            rows += batch.num_rows
            group_bytes += batch.nbytes
            group.append(batch)
            if group_bytes >= _GROUP_BYTES:
                writing.call(writer.write_table, pa.Table.from_batches(group))
                group_bytes, group = 0, []
        if group:
            writing.call(writer.write_table, pa.Table.from_batches(group))
        writing.finish()
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
    Cast values that are UTF-8 text.

    :raises pyarrow.ArrowInvalid: if one does not fit.
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
        # pyarrow does not read offsets in words or after a blank.
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

    if _are_short(texts, min(scale + 1, MOST_DIGITS - scale)):
        return
    short = rf"^[+-]?[0-9]{{0,{MOST_DIGITS - scale}}}(\.[0-9]{{0,{scale}}})?$"
    others = texts.filter(compute.invert(compute.match_substring_regex(texts, short)))
    if not all(_fits(text, scale) for text in others.to_pylist()):
        raise pa.ArrowInvalid("more digits than the decimal has")


def _are_short(texts: Any, most: int) -> bool:
    """Tell quickly whether no text has more than ``most`` characters or could have an exponent."""
    from pyarrow import compute

    if (compute.max(compute.binary_length(texts)).as_py() or 0) > most:
        return False
    data = bytes(texts.buffers()[2] or b"")  # of all texts; a slice may share it with others
    return b"e" not in data and b"E" not in data


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
        raise pa.ArrowInvalid("a number that does not fit the type")


def _first_misfit(values: Any, type_: Any) -> int:
    """Return the index of the first value that cannot be cast, found by bisection."""
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
        LEAVE_IT
        if column.type == TEXT
        else f"Pass a type that fits, column_types={{{column.name!r}: {_keeping(value)!r}}}"
    )
    return ConversionFailed(
        f"{advice}: row {row} has {_kind(value)} in the column {column.name!r}, which does not fit "
        f"the type {column.type}. The row is of the CSV for {name}, not counting its header. "
        "Nothing was published.",
        column=column.name,
        row=row,
    )


def _keeping(value: bytes) -> str:
    """Return the narrowest type that a value fits without a change; text fits any."""
    import pyarrow as pa

    for type_ in ("bigint", *_decimals(value), "date", "timestamptz", "timestamp", "boolean"):
        try:
            _cast(pa.array([value], pa.binary()), _arrow_type(type_))
        except pa.ArrowInvalid:
            continue
        return type_
    return TEXT


def _decimals(value: bytes) -> list[str]:
    """Return the decimal type that a number fits, or double for one with an exponent, if any."""
    if _FLOAT.fullmatch(value):
        return ["double"]
    number = _NUMBER.fullmatch(value)
    if number is None:
        return []
    whole, fraction = len(number[1].lstrip(b"0")), len(number[2] or b"")
    return [f"decimal(38,{fraction})"] if whole + fraction <= MOST_DIGITS else []


def _kind(value: bytes) -> str:
    """Describe a value without showing it."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"{len(value)} bytes that are not UTF-8"
    return next(words.format(len(text)) for kind, words in _KINDS if kind.fullmatch(text))


def _ragged(name: str, row: Any) -> ConversionFailed:
    number = row.number - 1
    return ConversionFailed(
        f"{LEAVE_IT}: row {number} has {row.actual_columns} values for {row.expected_columns} "
        f"columns. The row is of the CSV for {name}, not counting its header. Nothing was "
        "published.",
        row=number,
    )
