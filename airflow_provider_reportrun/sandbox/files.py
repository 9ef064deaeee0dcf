"""Result files: CSV or ZIP, made when first needed, kept in one private folder."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol
from zoneinfo import ZoneInfo

from airflow_provider_reportrun.sandbox.catalog import FIRST_DATA_AT, Column, Window
from airflow_provider_reportrun.sandbox.clock import EPOCH
from airflow_provider_reportrun.sandbox.data import (
    PAYOUT_DELAY,
    Query,
    Row,
    payout_of,
    rows_of,
    stamp,
)
from airflow_provider_reportrun.sandbox.sql import execute
from airflow_provider_reportrun.sandbox.state import Selection, Sql

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.state import Run, Settings

_BLOCK_ROWS = 512
_ROWS_AT_ONCE = 2_000
_SECOND = timedelta(seconds=1)
_ENOUGH = timedelta(days=60)
_LAST_DATA_AT = FIRST_DATA_AT + timedelta(days=365 * 30)
_ZIPPED_AT = (2020, 1, 1, 0, 0, 0)
"""A fixed date in every ZIP, so that the same request gives the same bytes."""

# Placeholders for instants and ids in a block of repeated rows: each is as long as its value,
# and needs no quotes.
_CREATED = "{created_instant__}"
_LOCAL = "{local_instant____}"
_AVAILABLE = "{available_instant}"
_NUMBER = "{number}"
_PLACEHOLDERS = {
    "created_utc": _CREATED,
    "effective_at_utc": _CREATED,
    "created": _LOCAL,
    "available_on_utc": _AVAILABLE,
    "automatic_payout_effective_at_utc": _AVAILABLE,
}


class Writable(Protocol):
    """A file on disk, or a member of a ZIP."""

    def write(self, data: bytes, /) -> int:
        """Append bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The content of one CSV."""

    report_id: str
    columns: tuple[Column, ...]
    query: Query | None = None
    """The rows of a report."""
    table: tuple[Row, ...] = ()
    """The rows of a query, which has no ``query`` of the ledger."""
    size: int | None
    """The number of bytes, header included; None for as many as its rows need."""

    def rows(self, query: Query | None = None) -> Iterator[Row]:
        """Return the rows, or those of another part of the ledger."""
        query = query or self.query
        return iter(self.table) if query is None else rows_of(self.report_id, query)


class ResultFiles:
    """
    The files of one sandbox.

    :param settings: size, seed and number of ZIP members.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._row_counts: dict[str, int | None] = {}

    def path_of(self, run: Run) -> Path:
        """Return the file of a run; the first call makes it."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="reportrun-sandbox-"))
            path = self._folder / self.digest(run)
            if not path.exists():
                unfinished = path.with_suffix(".part")
                with unfinished.open("wb") as out:
                    self._write(run, out)
                unfinished.replace(path)
            return path

    def digest(self, run: Run) -> str:
        """Return a digest of what a run's file is made from: equal for equal requests."""
        if run.content is not None:
            return hashlib.sha256(run.content.body).hexdigest()
        settings = self._settings
        recipe = [
            run.account,
            asdict(run.new.source),
            run.compress_file,
            [settings.seed, settings.size, settings.zip_members],
        ]
        return hashlib.sha256(json.dumps(recipe, default=str).encode()).hexdigest()

    def row_count(self, run: Run) -> int | None:
        """Return the number of rows in a run's file, headers excluded; None if unreadable."""
        path = self.path_of(run)
        with self._lock:
            if path.name not in self._row_counts:
                self._row_counts[path.name] = _count_rows(path, content_type_of(run))
            return self._row_counts[path.name]

    def columns(self, run: Run) -> tuple[Column, ...]:
        """Return the columns of a run's file."""
        if run.content is not None and run.content.columns is not None:
            return run.content.columns
        return plan_of(run, self._settings).columns

    def clear(self) -> None:
        """Remove every file and the folder."""
        with self._lock:
            self._row_counts.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder)
            self._folder = None

    def _write(self, run: Run, out: BinaryIO) -> None:
        plan = plan_of(run, self._settings)
        if run.content is not None:
            out.write(run.content.body)
        elif run.compress_file:
            write_zip(plan, out, self._settings.zip_members)
        else:
            write_csv(plan, out)


def content_type_of(run: Run) -> str:
    """Return ``result.file.content_type``."""
    if run.content is not None:
        return run.content.content_type
    return "zip" if run.compress_file else "csv"


def _count_rows(path: Path, content_type: str) -> int | None:
    if content_type != "zip":
        with path.open("rb") as file:
            return _count_records(file)
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(_count_records(archive.open(name)) for name in archive.namelist())
    except zipfile.BadZipFile:
        return None


def _count_records(file: IO[bytes]) -> int:
    """Count lines but the header; the rows made here have no line feed within a value."""
    return max(sum(1 for _ in file) - 1, 0)


def plan_of(run: Run, settings: Settings) -> Plan:
    """Return what the CSV of a run contains."""
    source = run.new.source
    if isinstance(source, Sql):
        table = execute(source, settings.seed, run.account)
        return Plan(report_id="query", columns=table.columns, table=table.rows, size=settings.size)
    account = source.account or run.account
    interval, currency = _subject(source, settings.seed, account, run.created)
    return Plan(
        report_id=source.view,
        columns=source.columns,
        query=Query(
            seed=settings.seed,
            account=account,
            interval=interval,
            currency=currency,
            category=source.category,
            zone=ZoneInfo(source.zone),
        ),
        size=settings.size,
    )


def _subject(
    source: Selection, seed: int, account: str, created: datetime
) -> tuple[Window, str | None]:
    """Return the interval and currency of a selection, or those of its payout."""
    asked = source.interval
    if asked is not None:
        # A report without a window accepts any interval, but the ledger has limits.
        start = min(max(asked.start, FIRST_DATA_AT), _LAST_DATA_AT)
        end = max(min(asked.end, _LAST_DATA_AT), start)
        return Window(start, end), source.currency
    found = payout_of(seed, account, source.payout, created.date() + PAYOUT_DELAY)
    if found is None:
        return Window(FIRST_DATA_AT, FIRST_DATA_AT), None
    day, currency = found
    start = datetime.combine(day - PAYOUT_DELAY, time(), timezone.utc)
    return Window(start, start + timedelta(days=1)), currency


def write_zip(plan: Plan, out: BinaryIO, members: int) -> None:
    """
    Write a ZIP.

    :param members: how many CSVs; they divide the interval among them, in order.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, part in enumerate(_parts(plan, members), start=1):
            is_whole = members == 1 or plan.query is None
            name = plan.report_id if is_whole else f"{plan.report_id}_{number:03d}"
            entry = zipfile.ZipInfo(f"{name}.csv", _ZIPPED_AT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as member:
                write_csv(part, member)


def _parts(plan: Plan, members: int) -> Iterator[Plan]:
    if plan.query is None:
        yield plan
        return
    interval = plan.query.interval
    step = (interval.end - interval.start) / members
    for number in range(members):
        last = number == members - 1
        end = interval.end if last else interval.start + step * (number + 1)
        window = Window(interval.start + step * number, end)
        size = plan.size
        if size is not None:
            size = size // members + (size % members if last else 0)
        yield replace(plan, query=replace(plan.query, interval=window), size=size)


def write_csv(plan: Plan, out: Writable) -> None:
    """Write header and rows, UTF-8, lines ending in a line feed."""
    names = [column.name for column in plan.columns]
    header = _encoded([dict(zip(names, names, strict=True))], names)
    out.write(header)
    if plan.size is None:
        rows = plan.rows()
        while batch := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            out.write(_encoded(batch, names))
        return
    for piece in _filling(plan, names, plan.size - len(header)):
        out.write(piece)


def _encoded(rows: list[Row], names: list[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # No row has the metadata that a column in brackets asks for.
    writer.writerows([row.get(name, "") for name in names] for row in rows)
    return text.getvalue().encode()


def _filling(plan: Plan, names: list[str], room: int) -> Iterator[bytes]:
    """
    Fill exactly ``room`` bytes with rows, or fewer if not even one row fits.

    Rows repeat in blocks that differ in instant and ids, which makes gigabytes in seconds.
    """
    rows = _block_rows(plan)
    if not rows:
        return
    block = _encoded(rows, names)
    blocks = max(room, 0) // len(block)
    if blocks and room % len(block) < len(_encoded(rows[:1], names)):
        # The tail must have a row, because its last row takes the padding.
        blocks -= 1
    for number in range(blocks):
        yield _instance(block, plan.query, number, blocks)
    room -= blocks * len(block)
    tail: list[Row] = []
    for row in rows:
        length = len(_encoded([row], names))
        if length > room:
            break
        tail.append(row)
        room -= length
    if tail:
        tail[-1] = _padded(plan, tail[-1], room)
        yield _instance(_encoded(tail, names), plan.query, blocks, blocks)


def _padded(plan: Plan, row: Row, room: int) -> Row:
    texts = [column.name for column in plan.columns if column.type == "varchar"]
    if not texts:
        return row
    name = "description" if "description" in texts else texts[-1]
    return {**row, name: row.get(name, "") + "." * room}


def _block_rows(plan: Plan) -> list[Row]:
    wide = None
    if plan.query is not None:
        start = plan.query.interval.start
        # A short interval may have no row of its own, and some categories are rare.
        wide = replace(plan.query, interval=Window(start, start + _ENOUGH))
    natural = list(itertools.islice(plan.rows(wide), _BLOCK_ROWS))
    if wide is None:
        return natural
    rows = []
    for number, row in enumerate(itertools.islice(itertools.cycle(natural), _BLOCK_ROWS)):
        held = {name: _PLACEHOLDERS.get(name, value) for name, value in row.items()}
        for name in ("balance_transaction_id", "payout_id"):
            if name in held:
                held[name] = f"{row[name][:6]}{_NUMBER}{number:04d}"
        rows.append(held)
    return rows


def _instance(block: bytes, query: Query | None, number: int, blocks: int) -> bytes:
    if query is None:
        return block
    first = -((EPOCH - query.interval.start) // _SECOND)
    last = max(-((EPOCH - query.interval.end) // _SECOND) - 1, first)
    created = EPOCH + timedelta(seconds=first + (last - first) * number // max(blocks, 1))
    available = datetime(created.year, created.month, created.day) + PAYOUT_DELAY  # noqa: DTZ001
    values = {
        _CREATED: stamp(created),
        _LOCAL: stamp(created.astimezone(query.zone)),
        _AVAILABLE: stamp(available),
        _NUMBER: f"{number:0{len(_NUMBER)}d}",
    }
    for placeholder, value in values.items():
        block = block.replace(placeholder.encode(), value.encode())
    return block
