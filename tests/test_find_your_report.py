"""The page about reports agrees with the data that it is made from."""

from __future__ import annotations

import pytest
import report_families


def test_the_page_is_made_from_the_data():
    """By ``python scripts/report_families.py``."""
    page = report_families.PAGE.read_text()
    assert page == report_families.written(page)
    assert "Collected on 2026-11-25 from https://docs.stripe.com/" in page


def test_every_report_type_is_on_the_page():
    """With what it takes, and its columns if they are known."""
    types = report_families.json.loads(report_families.DATA.read_text())["report_types"]
    page = report_families.PAGE.read_text()
    for name in types:
        family = name.rpartition(".")[0].removeprefix("connected_account_")
        assert f"| `{family}` |" in page
    assert "- **`payout_reconciliation.itemized.5`**: `" in page
    assert (
        "| `payout_reconciliation.by_id.itemized` | each transaction in one payout | `payout` |"
        in page
    )


@pytest.mark.parametrize("mark", ["source", "families", "columns"])
def test_a_page_without_a_mark_is_refused(mark):
    """Else a table would silently stay as it is."""
    page = report_families.PAGE.read_text().replace(report_families.MARK.format(mark), "")
    with pytest.raises(SystemExit, match=f"needs the mark <!-- {mark}"):
        report_families.written(page)
