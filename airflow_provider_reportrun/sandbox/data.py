"""
The rows of reports: each report is a view of one made-up ledger.

The same seed, account and day always give the same entries, so two adjacent intervals add up to
the interval that spans both.
The activity of a day is paid out two days later, at midnight UTC.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

from airflow_provider_reportrun.sandbox.catalog import CURRENCIES, FIRST_DATA_AT, Window

Row: TypeAlias = dict[str, str]

PAYOUT_DELAY = timedelta(days=2)
_DAY = timedelta(days=1)
_FEWEST_A_DAY, _MOST_A_DAY = 40, 120
_KINDS = (["charge"] * 90) + (["refund"] * 7) + (["fee"] * 2) + ["dispute"]
_PREFIXES = {"charge": "ch", "refund": "re", "fee": "fee", "dispute": "dp"}
_SIGNS = {"charge": 1, "refund": -1, "fee": -1, "dispute": -1}
_ARTICLES = (
    "Subscription creation",
    "Subscription update, Gold plan",
    'Order "Summer sale", 2 items',
    "Café Zürich, gift card",
    "Żółta łódź, bilet",
    "お茶セット",
    "Invoice",
    "Donation",
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Entry:
    """One balance transaction; amounts in cents."""

    id: str
    created: datetime
    currency: str
    gross: int
    fee: int
    category: str
    source_id: str
    description: str

    @property
    def net(self) -> int:
        """The change of the balance."""
        return self.gross - self.fee


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The rows of the ledger that a report asks for."""

    seed: int
    account: str
    interval: Window
    currency: str | None = None
    category: str | None = None
    zone: ZoneInfo


def seeded(*parts: object) -> random.Random:
    """Return a random generator that is the same for the same parts, on every machine."""
    return random.Random(":".join(map(str, parts)))  # noqa: S311  (made-up data, no secrets)


@lru_cache(maxsize=64)
def activity_of(seed: int, account: str, day: date) -> tuple[Entry, ...]:
    """Return the balance transactions of one UTC day, in order."""
    rng = seeded(seed, account, day)
    count = rng.randint(_FEWEST_A_DAY, _MOST_A_DAY)
    midnight = datetime.combine(day, time(), timezone.utc)
    return tuple(
        _entry(rng, midnight + timedelta(seconds=second))
        for second in sorted(rng.randrange(86_400) for _ in range(count))
    )


def _entry(rng: random.Random, created: datetime) -> Entry:
    kind = rng.choice(_KINDS)
    amount = rng.randint(300, 25_000)
    token = "".join(rng.choices(_LETTERS, k=16))
    return Entry(
        id=f"txn_{token}",
        created=created,
        currency=rng.choice(CURRENCIES),
        gross=_SIGNS[kind] * amount,
        fee=30 + amount * 29 // 1000 if kind == "charge" else 0,
        category=kind,
        source_id=f"{_PREFIXES[kind]}_{token[::-1]}",
        description=f"{rng.choice(_ARTICLES)} {rng.randint(1000, 999_999)}",
    )


def payouts_of(seed: int, account: str, day: date) -> tuple[Entry, ...]:
    """Return the payouts of one UTC day, one for each currency."""
    sums: Counter[str] = Counter()
    for entry in activity_of(seed, account, day - PAYOUT_DELAY):
        sums[entry.currency] += entry.net
    created = datetime.combine(day, time(), timezone.utc)
    return tuple(
        Entry(
            id=payout_id(seed, account, day, currency),
            created=created,
            currency=currency,
            gross=-sums[currency],
            fee=0,
            category="payout",
            source_id=payout_id(seed, account, day, currency),
            description="STRIPE PAYOUT",
        )
        for currency in CURRENCIES
    )


def payout_id(seed: int, account: str, day: date, currency: str) -> str:
    """Return the id of the payout of a day and currency."""
    return "po_" + "".join(seeded(seed, account, day, currency).choices(_LETTERS, k=16))


@lru_cache(maxsize=64)
def payout_of(seed: int, account: str, payout: str, through: date) -> tuple[date, str] | None:
    """
    Find a payout by its id, from the latest day back.

    :param through: the latest day.
    :return: its day and currency, or None.
    """
    day = through
    while day >= FIRST_DATA_AT.date():
        for currency in CURRENCIES:
            if payout_id(seed, account, day, currency) == payout:
                return day, currency
        day -= _DAY
    return None


def _entries(
    query: Query, of_day: Callable[[int, str, date], tuple[Entry, ...]]
) -> Iterator[Entry]:
    interval = query.interval
    day = interval.start.date()
    while day <= interval.end.date():
        for entry in of_day(query.seed, query.account, day):
            if interval.start <= entry.created < interval.end and _wanted(query, entry):
                yield entry
        day += _DAY


def _wanted(query: Query, entry: Entry) -> bool:
    return query.currency in (None, entry.currency) and query.category in (None, entry.category)


def rows_of(report_id: str, query: Query) -> Iterator[Row]:
    """Return the rows of a report with every column, ordered by ``created_utc``."""
    made = _VIEWS.get(report_id)
    if made is not None:
        return made(query)
    return (_activity_row(query, entry) for entry in _entries(query, activity_of))


def _unpaid(query: Query) -> Query:
    end = query.interval.end
    midnight = datetime.combine(_first_unpaid(end), time(), timezone.utc)
    return replace(query, interval=Window(max(query.interval.start, midnight), end))


def _first_unpaid(at: datetime) -> date:
    # The payout of a midnight has not happened just before it.
    return at.date() - (_DAY if at.time() != time() else PAYOUT_DELAY)


def _activity_row(query: Query, entry: Entry) -> Row:
    available = datetime.combine(entry.created.date(), time()) + PAYOUT_DELAY
    return {
        "balance_transaction_id": entry.id,
        "created_utc": stamp(entry.created),
        "created": stamp(entry.created.astimezone(query.zone)),
        "available_on_utc": stamp(available),
        "currency": entry.currency,
        "gross": money(entry.gross),
        "fee": money(entry.fee),
        "net": money(entry.net),
        "reporting_category": entry.category,
        "source_id": entry.source_id,
        "description": entry.description,
    }


def _reconciled_row(query: Query, entry: Entry) -> Row:
    row = _activity_row(query, entry)
    paid_on = entry.created.date() + PAYOUT_DELAY
    row["automatic_payout_id"] = payout_id(query.seed, query.account, paid_on, entry.currency)
    row["automatic_payout_effective_at_utc"] = row["available_on_utc"]
    return row


def _payout_row(query: Query, entry: Entry) -> Row:
    return {
        "payout_id": entry.id,
        "balance_transaction_id": f"txn_{entry.id[3:]}",
        "effective_at_utc": stamp(entry.created),
        "effective_at": stamp(entry.created.astimezone(query.zone)),
        "created_utc": stamp(entry.created),
        "created": stamp(entry.created.astimezone(query.zone)),
        "currency": entry.currency,
        "gross": money(entry.gross),
        "fee": money(entry.fee),
        "net": money(entry.net),
        "reporting_category": entry.category,
        "payout_status": "paid",
        "payout_type": "bank_account",
        "description": entry.description,
    }


def _summary(query: Query) -> Iterator[Row]:
    activity: Counter[str] = Counter()
    payouts: Counter[str] = Counter()
    for entry in _entries(query, activity_of):
        activity[entry.currency] += entry.net
    for entry in _entries(query, payouts_of):
        payouts[entry.currency] += entry.net
    for currency in CURRENCIES if query.currency is None else (query.currency,):
        starting = _balance(query, currency)
        lines = (
            ("starting_balance", "Starting balance", starting),
            ("activity", "Balance change from activity", activity[currency]),
            ("payouts", "Payouts", payouts[currency]),
            ("ending_balance", "Ending balance", starting + activity[currency] + payouts[currency]),
        )
        for category, description, cents in lines:
            yield {
                "category": category,
                "description": description,
                "net_amount": money(cents),
                "currency": currency,
            }


def _ending(query: Query) -> Iterator[Row]:
    for currency in CURRENCIES if query.currency is None else (query.currency,):
        yield {
            "category": "ending_balance",
            "description": "Ending balance",
            "net_amount": money(_balance(query, currency)),
            "currency": currency,
        }


def _balance(query: Query, currency: str) -> int:
    """Return the sum that is not paid out just before the interval starts."""
    at = query.interval.start
    first = _first_unpaid(at)
    days = (first + _DAY * number for number in range(3))
    entries = (entry for day in days for entry in activity_of(query.seed, query.account, day))
    return sum(each.net for each in entries if each.created < at and each.currency == currency)


def _payouts(query: Query) -> Iterator[Row]:
    return (_payout_row(query, entry) for entry in _entries(query, payouts_of))


def _reconciled(query: Query) -> Iterator[Row]:
    return (_reconciled_row(query, entry) for entry in _entries(query, activity_of))


def _unpaid_items(query: Query) -> Iterator[Row]:
    query = _unpaid(query)
    return (_activity_row(query, entry) for entry in _entries(query, activity_of))


def _charged(query: Query) -> Iterator[Entry]:
    return (entry for entry in _entries(query, activity_of) if entry.fee)


def _fees(query: Query) -> Iterator[Row]:
    return (_activity_row(query, entry) for entry in _charged(query))


def _all_fees(query: Query) -> Iterator[Row]:
    for entry in _charged(query):
        created = stamp(entry.created.astimezone(query.zone))
        yield {
            "balance_transaction_id": entry.id,
            "balance_transaction_created": created,
            "fee_transaction_id": f"fee_{entry.id}",
            "incurred_at": created,
            "amount": money(entry.fee),
            "tax": money(0),
            "currency": entry.currency,
            "product": "payments",
            "fee_description": "Card payments",
        }


def _by_category(entries: Iterable[Entry]) -> Iterator[Row]:
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.category, entry.currency), []).append(entry)
    for (category, currency), group in sorted(groups.items()):
        yield {
            "reporting_category": category,
            "currency": currency,
            "count": str(len(group)),
            "gross": money(sum(each.gross for each in group)),
            "fee": money(sum(each.fee for each in group)),
            "net": money(sum(each.net for each in group)),
        }


_VIEWS: dict[str, Callable[[Query], Iterator[Row]]] = {
    "all_fees": _all_fees,
    "all_fees_itemized": _fees,
    "balance_change_from_activity_summary": lambda query: _by_category(
        _entries(query, activity_of)
    ),
    "balance_summary": _summary,
    "ending_balance_by_category": lambda query: _by_category(_entries(_unpaid(query), activity_of)),
    "ending_balance_reconciliation_itemized": _unpaid_items,
    "ending_balance_reconciliation_summary": _ending,
    "nothing": lambda _: iter(()),
    "payout_reconciliation_by_id_itemized": _reconciled,
    "payout_reconciliation_itemized": _reconciled,
    "payouts_itemized": _payouts,
}
"""The rows of each report that is not the list of all activity."""


def stamp(moment: datetime) -> str:
    """Format an instant as result files do, in 19 characters."""
    return moment.replace(tzinfo=None, microsecond=0).isoformat(" ")


def money(cents: int) -> str:
    """Format an amount in major units: ``-12.05``."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"
