"""Write the tables of docs/find-your-report.md from tests/data/v1_report_types.json."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "find-your-report.md"
DATA = ROOT / "tests" / "data" / "v1_report_types.json"
MARK = "<!-- {}: written by scripts/report_families.py -->"
CONNECTED = "connected_account_"

GROUPS = {
    "Balance": {
        "balance.summary": "the balance at start and end, and what changed it",
        "balance_change_from_activity.summary": "what changed the balance, by kind",
        "balance_change_from_activity.itemized": "each transaction that changed the balance, "
        "payouts aside: the one to load into a warehouse",
    },
    "Payouts": {
        "payouts.summary": "what was paid out, by kind",
        "payouts.itemized": "each payout",
        "payout_reconciliation.summary": "what the payouts of an interval consist of, by kind",
        "payout_reconciliation.itemized": "each transaction in the payouts of an interval: to "
        "match bank statements",
        "payout_reconciliation.by_id.summary": "what one payout consists of, by kind",
        "payout_reconciliation.by_id.itemized": "each transaction in one payout",
        "ending_balance_reconciliation.summary": "what the balance consists of that is not paid "
        "out yet, by kind",
        "ending_balance_reconciliation.itemized": "each transaction that is not paid out yet",
    },
    "Fees": {
        "all_fees.balance_transaction_created.itemized": "each fee, by the day that it was "
        "charged to the balance (live keys only)",
        "all_fees.incurred_at.itemized": "each fee, by the day that it was incurred (live keys "
        "only)",
    },
    "Tax": {"tax.transactions.itemized": "each transaction with its tax"},
    "Connect": {
        "connect.negative_balance_refunds_disputes_overview": "connected accounts with a "
        "negative balance, disputes and refunds",
    },
    "Revenue recognition": {
        "revenue_recognition.debit_credit_summary": "debits and credits of each account and month",
        "revenue_recognition.debit_credit_by_customer": "the same by customer",
        "revenue_recognition.debit_credit_by_invoice": "the same by invoice",
        "revenue_recognition.debit_credit_by_invoice_line_item": "the same by line of an invoice",
        "revenue_recognition.debit_credit_by_price": "the same by price",
        "revenue_recognition.debit_credit_by_product": "the same by product",
    },
}
"""What each family of report types is for."""
LAGS = {"Balance": "12 hours", "Payouts": "12 hours", "Fees": "96 hours"}
"""How long after a UTC day its data are there: https://docs.stripe.com/reports/options."""


def main() -> None:
    """Write the page again."""
    PAGE.write_text(written(PAGE.read_text()))


def written(page: str) -> str:
    """Return the page with its tables made anew."""
    data = json.loads(DATA.read_text())
    families = _families(data["report_types"])
    for name, lines in (
        ("source", [f"Collected on {data['collected']} from {', '.join(data['sources'])}."]),
        ("families", _tables(families)),
        ("columns", _columns(families)),
    ):
        mark = re.escape(MARK.format(name))
        text = "\n".join(lines).rstrip()
        page, count = re.subn(rf"(?s)({mark}\n).*?(<!-- end -->)", rf"\1\n{text}\n\n\2", page)
        if count != 1:
            raise SystemExit(f"{PAGE} needs the mark {MARK.format(name)} once.")
    return page


def _families(types: dict[str, Any]) -> dict[str, dict[int, Any]]:
    """Return the report types by family and version."""
    families: dict[str, dict[int, Any]] = defaultdict(dict)
    for report_type, facts in types.items():
        family, _, version = report_type.rpartition(".")
        families[family][int(version)] = facts
    return families


def _tables(families: dict[str, dict[int, Any]]) -> Iterator[str]:
    told = {name for group in GROUPS.values() for name in group}
    unknown = {each.removeprefix(CONNECTED) for each in families} - told
    if unknown:
        raise SystemExit(f"Say in GROUPS what these are for: {', '.join(sorted(unknown))}.")
    for group, purposes in GROUPS.items():
        lag = f" Data of a UTC day: within {LAGS[group]}." if group in LAGS else ""
        yield f"**{group}.**{lag}\n"
        yield "| family | shows | takes | versions seen | for connected accounts |"
        yield "|---|---|---|---|---|"
        for family, purpose in purposes.items():
            versions = families[family]
            takes = _takes(versions[max(versions)]["required"])
            numbers = ", ".join(map(str, sorted(versions)))
            connected = "yes" if CONNECTED + family in families else "no"
            yield f"| `{family}` | {purpose} | {takes} | {numbers} | {connected} |"
        yield ""


def _takes(required: list[str]) -> str:
    if required == ["interval_start", "interval_end"]:
        return "an interval"
    if required == ["interval_end"]:
        return "only `interval_end`"
    return " and ".join(f"`{each}`" for each in required)


def _columns(families: dict[str, dict[int, Any]]) -> Iterator[str]:
    for family, versions in families.items():
        whole = [version for version, facts in versions.items() if facts["columns_complete"]]
        known = whole or [version for version, facts in versions.items() if facts["columns"]]
        if not known:
            continue
        version = max(known)
        columns = ", ".join(f"`{each}`" for each in versions[version]["columns"])
        more = "" if whole else ", perhaps others"
        yield f"- **`{family}.{version}`**: {columns}{more}"


if __name__ == "__main__":
    main()
