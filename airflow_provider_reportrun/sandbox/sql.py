"""
Query runs: the ledger as tables, which SQLite queries in memory.

The dialect is SQLite's, apart from literals such as ``timestamp '2026-08-04 00:00:00'``; an error
has Sigma's form, ``line 1:8: ...``.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_provider_reportrun.sandbox.catalog import FIRST_DATA_AT, Column, ColumnType
from airflow_provider_reportrun.sandbox.data import (
    PAYOUT_DELAY,
    Entry,
    Row,
    activity_of,
    payouts_of,
    stamp,
)

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.state import Sql

DAYS_BY_DEFAULT = 30
"""How many days before the end of the data the tables have if the SQL names no date."""
_MOST_DAYS = 800
_MOST_SECONDS = 20.0
_STEPS = 100_000

_LITERAL = re.compile(r"\b(timestamp|date)(\s+)'([^']*)'", re.IGNORECASE)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d(\.\d+)?)?)?")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NEAR = re.compile(r'near "(?P<token>.*)": syntax error')
_MISSING = re.compile(r"no such (?P<what>column|table|function): (?P<token>.*)")
TABLES = {
    "balance_transactions": (
        "id created available_on currency amount fee net reporting_category source_id description"
    ),
    "payouts": "id created currency amount status type description",
}
"""The tables and their columns; amounts are in cents."""
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


class InvalidSql(Exception):
    """The SQL cannot be run; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Table:
    """The result of a query."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def check(text: str) -> None:
    """
    Check a query without running it.

    :raises InvalidSql: with the position of the error.
    """
    for literal in _LITERAL.finditer(text):
        if not _INSTANT.fullmatch(literal[3]):
            where = _position(text, literal.start())
            raise InvalidSql(f"{where}: '{literal[3]}' is not a valid {literal[1]} literal")
    with closing(_database(text, ())) as database:
        _run(database, text, prefix="EXPLAIN ")


@lru_cache(maxsize=16)
def execute(source: Sql, seed: int, account: str) -> Table:
    """
    Run a valid query.

    The tables have the days between the first and the last date in the SQL; to the end of the
    data if it names one date, and the last thirty days if it names none; 800 days at most.

    :raises InvalidSql: if it fails on these rows, or takes too long.
    """
    days = _days(source.text, source.today)
    tables = (
        ("balance_transactions", _transactions(seed, account, days, source.today)),
        ("payouts", _payouts(seed, account, days, source.today)),
    )
    with closing(_database(source.text, tables)) as database:
        cursor = _run(database, source.text)
        names = _unique([each[0] for each in cursor.description or ()])
        try:
            values = cursor.fetchall()
        except sqlite3.Error as error:
            raise InvalidSql(_explained(source.text, str(error))) from None
    columns = tuple(
        Column(name, _type_of([row[at] for row in values])) for at, name in enumerate(names)
    )
    rows = tuple(dict(zip(names, map(_text, row), strict=True)) for row in values)
    return Table(columns, rows)


def _run(database: sqlite3.Connection, text: str, prefix: str = "") -> sqlite3.Cursor:
    plain = _LITERAL.sub(lambda found: " " * len(found[1]) + found[2] + f"'{found[3]}'", text)
    try:
        return database.execute(prefix + plain)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        raise InvalidSql(_explained(text, str(error))) from None


def _database(
    text: str, tables: Iterable[tuple[str, Iterator[tuple[Any, ...]]]]
) -> sqlite3.Connection:
    # Results are made in worker threads, one at a time.
    database = sqlite3.connect(":memory:", check_same_thread=False)
    for name, columns in TABLES.items():
        database.execute(f"CREATE TABLE {name} ({', '.join(columns.split())})")
    for name, rows in tables:
        places = ", ".join("?" * len(TABLES[name].split()))
        if re.search(rf"\b{name}\b", text, re.IGNORECASE):
            database.executemany(f"INSERT INTO {name} VALUES ({places})", rows)  # noqa: S608
    database.commit()
    database.set_authorizer(_only_reading)
    database.set_progress_handler(_until(time.monotonic() + _MOST_SECONDS), _STEPS)
    return database


def _only_reading(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _until(end: float) -> Callable[[], int]:
    return lambda: int(time.monotonic() > end)


def _explained(text: str, error: str) -> str:
    """Write an error of SQLite with its position."""
    for pattern in (_NEAR, _MISSING):
        found = pattern.search(error)
        if found is not None:
            token = found["token"].rpartition(".")[2]
            at = re.search(rf"(?<!\w){re.escape(token)}(?!\w)", text)
            where = _position(text, at.start() if at else 0)
            if pattern is _NEAR:
                return f"{where}: mismatched input '{found['token']}'"
            return f"{where}: {found['what'].capitalize()} '{found['token']}' cannot be resolved"
    if "incomplete input" in error:
        return f"{_position(text, len(text))}: mismatched input '<EOF>'"
    return f"line 1:1: {error}"


def _position(text: str, at: int) -> str:
    line_start = text.rfind("\n", 0, at) + 1
    return f"line {text.count(chr(10), 0, at) + 1}:{at - line_start + 1}"


def _days(text: str, today: datetime) -> list[date]:
    named = sorted(found for found in map(_date, _DATE.findall(text)) if found is not None)
    last = today.date()
    first = named[0] if named else last - timedelta(days=DAYS_BY_DEFAULT)
    if len(named) > 1:
        last = min(last, named[-1])
    first = max(first, FIRST_DATA_AT.date(), last - timedelta(days=_MOST_DAYS))
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _transactions(
    seed: int, account: str, days: list[date], end: datetime
) -> Iterator[tuple[Any, ...]]:
    for day in days:
        for entry in activity_of(seed, account, day):
            if entry.created < end:
                yield (
                    entry.id,
                    _instant(entry.created),
                    _instant(datetime.combine(day + PAYOUT_DELAY, datetime.min.time())),
                    entry.currency,
                    entry.gross,
                    entry.fee,
                    entry.net,
                    entry.category,
                    entry.source_id,
                    entry.description,
                )


def _payouts(seed: int, account: str, days: list[date], end: datetime) -> Iterator[tuple[Any, ...]]:
    for day in days:
        for entry in payouts_of(seed, account, day):
            if entry.created < end:
                yield _payout(entry)


def _payout(entry: Entry) -> tuple[Any, ...]:
    created = _instant(entry.created)
    amount = -entry.gross
    return (entry.id, created, entry.currency, amount, "paid", "bank_account", entry.description)


def _instant(moment: datetime) -> str:
    return f"{stamp(moment)}.000"


def _unique(names: list[str]) -> list[str]:
    """Number the columns that have the same name, as result files do."""
    found: list[str] = []
    for name in names:
        number = sum(each.partition(" ")[0] == name for each in found)
        found.append(f"{name} {number + 1}" if number else name)
    return found


def _type_of(values: list[Any]) -> ColumnType:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return "bigint"
    if kinds and kinds <= {int, float}:
        return "double"
    if kinds == {str} and all(_STAMP.fullmatch(value) for value in values if value is not None):
        return "timestamp"
    return "varchar"


def _text(value: object) -> str:
    return "" if value is None else str(value)
