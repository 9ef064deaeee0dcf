"""
Convert a verified CSV to a Parquet file in the spool, a block of rows at a time.

Values are first read as text and then cast to the types from ``columns.py``, so that an error can
name a value that does not fit. Nothing is trimmed, rounded or guessed. An empty value is null, as
in PostgreSQL's ``COPY`` and in DuckDB; in quotes it is an empty text.
"""

from __future__ import annotations

import logging
import mmap
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
Size of a block of the CSV; the second is used for a wide file, and if a row is longer than the
first.
"""
_BLOCKS: Final = 4
"""How many blocks are cast at once, if they are of the first size."""
_WIDE: Final = 1_000
"""
How many columns make a file wide.

A small block of such a file has few rows, and each column of a block costs time and memory,
however few rows it has. So does a dictionary, which saves nothing in so few rows.
"""
_READ_AHEAD: Final = 40
"""More blocks than pyarrow (up to 26.0 at least) reads ahead: about 32."""
_REPETITIVE: Final = 4
"""How often a value must occur on average, so that it is faster to cast distinct values."""
_GROUP_BYTES: Final = 24 << 20
"""Size of a row group in memory: larger ones are faster to read and need memory to write."""
_WRITE_BYTES: Final = 1 << 20
"""How much is written and hashed at once: a page of a wide file has only some hundred bytes."""
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


_CR: Final = ord("\r")
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
    for block_bytes in BLOCK_BYTES if len(columns) < _WIDE else BLOCK_BYTES[-1:]:
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
    A CSV mapped into memory, in blocks none of which ends between a CR and its LF.

    After such a block, pyarrow (up to 26.0 at least) mistakes the LF for the end of a line and
    drops it, even within a quoted value. A mapped block needs no memory until it is parsed, so it
    does not matter how far pyarrow reads ahead. Nobody else writes a file of the spool, so it does
    not become shorter while it is mapped.
    """

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._map = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        self._view = memoryview(self._map)
        self._at = 0
        self._kept_from = 0

    def read(self, size: int) -> memoryview:
        """Return the next bytes, ``size`` at most."""
        end = min(self._at + size, len(self._view))
        if end - self._at > 1 and self._map[end - 1] == _CR:
            end -= 1
        block = self._view[self._at : end]
        self._at = end
        return block

    def release(self, size: int) -> None:
        """
        Release the memory of parsed blocks; what is still used is mapped again.

        :param size: of a block.
        """
        end = self._at
        self._map.madvise(mmap.MADV_DONTNEED, self._kept_from, end - self._kept_from)
        kept = max(end - _READ_AHEAD * size, 0)
        self._kept_from = kept - kept % mmap.PAGESIZE

    def close(self) -> None:
        """Do nothing: the last block that is no longer used closes the file."""


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
        self._repetitive = {number for number, each in enumerate(landed) if each.type != TEXT}
        """Positions of columns whose values repeat, as far as is known."""

    def tables(self) -> Iterator[Any]:
        """
        Yield the rows as ``pyarrow.Table``.

        :raises ConversionFailed: if a value does not fit its type; names row and column.
        """
        import pyarrow as pa

        first_row = 1
        for raw in ahead(self._gathered()) if self._has_rows else ():
            arrays = [
                self._typed(values, number, first_row) for number, values in enumerate(raw.columns)
            ]
            yield pa.table(arrays, schema=self.schema)
            first_row += raw.num_rows

    def _gathered(self) -> Generator[Any, None, None]:
        """Yield the rows as bytes, in tables of some blocks each."""
        import pyarrow as pa

        blocks = _BLOCKS if self._block_bytes < BLOCK_BYTES[-1] else 1
        with closing(self._raw()) as raw:
            while batches := list(islice(raw, blocks)):
                yield pa.Table.from_batches(batches)

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
            with self._file.path.open("rb") as file:
                blocks = _Blocks(file)
            with (
                arrow_csv.open_csv(
                    blocks,
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
                for batch in reader:
                    yield batch
                    blocks.release(self._block_bytes)
        except pa.ArrowInvalid:
            if not ragged:
                raise _RowTooLong from None
        else:
            return
        raise _ragged(self._file.name, ragged[0])

    def _typed(self, values: Any, number: int, first_row: int) -> Any:
        import pyarrow as pa

        type_ = self.schema.field(number).type
        try:
            if number not in self._repetitive:
                return _cast(values, type_)
            cast, repetitive = _cast_distinct(values, type_)
        except pa.ArrowInvalid:
            at = _first_misfit(values, type_)
            column = self._columns[number]
            raise _misfit(self._file.name, column, first_row + at, values[at].as_py()) from None
        if not repetitive:
            self._repetitive.remove(number)
        return cast


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
        pa.BufferedOutputStream(pa.PythonFile(out, mode="w"), _WRITE_BYTES) as sink,
        parquet.ParquetWriter(
            sink, source.schema, compression="zstd", use_dictionary=len(source.schema) < _WIDE
        ) as writer,
        Background("parquet", 1) as writing,
    ):
        for table in source.tables():
            rows += table.num_rows
            group_bytes += table.nbytes
            group.append(table)
            if group_bytes >= _GROUP_BYTES:
                writing.call(writer.write_table, pa.concat_tables(group))
                group_bytes, group = 0, []
        if group:
            writing.call(writer.write_table, pa.concat_tables(group))
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


def _cast_distinct(values: Any, type_: Any) -> tuple[Any, bool]:
    """
    Cast values, each distinct one once.

    :return: as ``_cast``, and whether so few values are distinct that this is faster.
    :raises pyarrow.ArrowInvalid: if one does not fit.
    """
    import pyarrow as pa

    encoded = values.dictionary_encode()
    distinct = encoded.chunk(0).dictionary
    cast = _cast(distinct, type_)
    chunks = [cast.take(chunk.indices) for chunk in encoded.chunks]
    return pa.chunked_array(chunks, type_), len(distinct) * _REPETITIVE < len(values)


def _cast(values: Any, type_: Any) -> Any:
    """
    Cast values that are UTF-8 text; an empty one is null, unless it is cast to text.

    :raises pyarrow.ArrowInvalid: if one does not fit.
    """
    import pyarrow as pa
    from pyarrow import compute

    texts = values.cast(pa.string())
    if type_ == pa.string():
        return texts
    if compute.min(compute.binary_length(texts)).as_py() == 0:
        texts = compute.if_else(compute.equal(texts, ""), None, texts)
    return _cast_texts(texts, type_)


def _cast_texts(texts: Any, type_: Any) -> Any:
    import pyarrow as pa
    from pyarrow import compute

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
    import pyarrow as pa
    from pyarrow import compute

    if (compute.max(compute.binary_length(texts)).as_py() or 0) > most:
        return False
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    for chunk in chunks:
        data = bytes(chunk.buffers()[2] or b"")  # of all texts; a slice may share it with others
        if b"e" in data or b"E" in data:
            return False
    return True


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
