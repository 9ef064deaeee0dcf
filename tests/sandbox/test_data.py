"""The content of result files."""

from __future__ import annotations

import csv
import io
import itertools
import zipfile
from decimal import Decimal

import pytest

from airflow_provider_reportrun.sandbox import Sandbox, files
from airflow_provider_reportrun.sandbox.state import Settings

ITEMIZED = [
    "balance_change_from_activity_itemized",
    "payouts_itemized",
    "payout_reconciliation_itemized",
    "ending_balance_reconciliation_itemized",
]
EVERY = ["balance_summary", *ITEMIZED]


def rows(content):
    """Read a CSV."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize("report", EVERY)
def test_same_request_same_bytes(client, sandbox, report):
    """The same request gives the same bytes, also after a reset."""
    first = client.content(report)
    sandbox.reset()
    assert client.content(report) == first


def test_others_differ(client, client_of):
    """Another seed, account or interval gives other rows."""
    first = client.content()
    later = client.content(interval_end="2025-08-24T00:00:00Z")
    account = client.create(context="acct_one").json()["id"]
    client.sandbox.advance(5)
    answer = client.run(account, context="acct_one").json()
    other = client.download(answer["result"]["file"]["download_url"]["url"]).content
    with Sandbox(seed=1) as sandbox:
        seeded = client_of(sandbox).content()
    assert len({first, later, other, seeded}) == 4


@pytest.mark.parametrize("report", ITEMIZED)
def test_rows(client, report):
    """Rows are in the interval, in order, with unique ids and amounts that add up."""
    found = rows(client.content(report))
    created = [row["created_utc"] for row in found]
    assert created == sorted(created)
    assert created[0] >= "2025-08-18 00:00:00"
    assert created[-1] < "2025-08-25 00:00:00"
    ids = {row.get("balance_transaction_id") or row["payout_id"] for row in found}
    assert len(ids) == len(found) > 20
    for row in found:
        assert Decimal(row["gross"]) - Decimal(row["fee"]) == Decimal(row["net"])


def test_difficult_texts(client):
    """Texts contain commas, quotes and letters beyond ASCII."""
    texts = "\n".join(row["description"] for row in rows(client.content()))
    assert "," in texts
    assert '"' in texts
    assert not texts.isascii()


def test_intervals_add_up(client):
    """Two adjacent intervals have the rows of the interval that spans both."""
    middle = "2025-08-20T13:37:00Z"
    whole = rows(client.content())
    parts = rows(client.content(interval_end=middle)) + rows(client.content(interval_start=middle))
    assert parts == whole


def test_parameters(client):
    """Columns, currency, category and time zone take effect."""
    found = rows(client.content(currency="gbp", columns=["net", "currency"]))
    assert list(found[0]) == ["net", "currency"]
    assert {row["currency"] for row in found} == {"gbp"}
    refunds = rows(client.content(reporting_category="refund"))
    assert {row["reporting_category"] for row in refunds} == {"refund"}
    zoned = rows(client.content(timezone="Asia/Kolkata"))
    assert zoned[0]["created_utc"][14:16] != zoned[0]["created"][14:16]


def test_summary(client):
    """The summary agrees with the items, and the balances agree with each other."""

    def summary(**changes):
        return {
            row["category"]: Decimal(row["net_amount"])
            for row in rows(client.content("balance_summary", currency="eur", **changes))
        }

    week = summary()
    total = week["starting_balance"] + week["activity"] + week["payouts"]
    assert total == week["ending_balance"]
    items = rows(client.content(currency="eur"))
    assert sum(Decimal(row["net"]) for row in items) == week["activity"]
    payouts = rows(client.content("payouts_itemized", currency="eur"))
    assert sum(Decimal(row["net"]) for row in payouts) == week["payouts"]
    unpaid = rows(client.content("ending_balance_reconciliation_itemized", currency="eur"))
    assert sum(Decimal(row["net"]) for row in unpaid) == week["ending_balance"]
    first = summary(interval_end="2025-08-20T13:37:00Z")
    second = summary(interval_start="2025-08-20T13:37:00Z")
    assert first["ending_balance"] == second["starting_balance"]


@pytest.mark.parametrize("size", [400, 5_000, 99_999, 150_001, 1_234_567])
def test_size(client_of, size):
    """A file has exactly the given size, and its rows are still valid."""
    with Sandbox(size=size, run_seconds=0) as sandbox:
        client = client_of(sandbox)
        runs = [client.finished(report) for report in EVERY]
        urls = [run["result"]["file"]["download_url"]["url"] for run in runs]
        contents = dict(zip(EVERY, map(client.content_of, urls), strict=True))
    assert {run["result"]["file"]["size"] for run in runs} == {str(size)}
    assert {len(content) for content in contents.values()} == {size}
    assert b"{" not in b"".join(contents.values())
    for report in ITEMIZED:
        found = rows(contents[report])
        created = [row["created_utc"] for row in found]
        assert created == sorted(created)
        assert created[0] >= "2025-08-18 00:00:00"
        assert created[-1] < "2025-08-25 00:00:00"
        name = "payout_id" if report == "payouts_itemized" else "balance_transaction_id"
        assert len({row[name] for row in found}) == len(found)


def test_sizes_around_a_block(client_of):
    """Sizes around the length of a block of rows are exact too."""
    with Sandbox(run_seconds=0) as sandbox:
        client_of(sandbox).create()
        plan = files.plan_of(sandbox.runs[0], Settings())
    names = [column.name for column in plan.columns]
    block = len(files._encoded(files._block_rows(plan), names))
    for room in itertools.chain(range(block - 3, block + 3), range(block + 100, block + 400, 7)):
        assert room == sum(map(len, files._filling(plan, names, room)))


def test_tiny_size(client_of):
    """If not even one row fits, the file is only the header."""
    with Sandbox(size=10, run_seconds=0) as sandbox:
        assert client_of(sandbox).content("balance_summary") == (
            b"category,description,net_amount,currency\n"
        )


def test_zip(client):
    """A compressed result is a ZIP of one CSV, the same as without compression."""
    run = client.finished(result_options={"compress_file": True})
    file = run["result"]["file"]
    answer = client.download(file["download_url"]["url"])
    assert run["result_options"] == {"compress_file": True}
    assert file["content_type"] == "zip"
    assert file["size"] == str(len(answer.content))
    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["balance_change_from_activity_itemized.csv"]
        assert archive.read(archive.namelist()[0]) == client.content()


@pytest.mark.parametrize("size", [None, 100_000])
def test_zip_members(client_of, size):
    """A ZIP may contain several CSVs, each with a header, which together have all rows."""
    with Sandbox(zip_members=3, run_seconds=0, size=size) as sandbox:
        client = client_of(sandbox)
        content = client.content(result_options={"compress_file": True})
        assert content == client.content(result_options={"compress_file": True})
        whole = rows(client.content())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [archive.read(name) for name in archive.namelist()]
    assert len(members) == 3
    if size is None:
        assert [row for member in members for row in rows(member)] == whole
    else:
        assert sum(map(len, members)) == size


def test_own_content(client, sandbox):
    """A test may supply the result file of one run."""
    sandbox.deliver_next(b"PK not really", "zip")
    file = client.finished()["result"]["file"]
    assert (file["content_type"], file["size"]) == ("zip", "13")
    assert client.download(file["download_url"]["url"]).content == b"PK not really"
    assert client.finished()["result"]["file"]["content_type"] == "csv"


def test_a_report_by_payout_holds_the_rows_of_that_payout(client):
    """They are exactly the rows that the reconciliation of an interval assigns to it."""
    wide = rows(client.content("payout_reconciliation_itemized"))
    payout = wide[len(wide) // 2]["automatic_payout_id"]
    run_id = client.post(
        {
            "report": "payout_reconciliation_by_id_itemized",
            "report_parameters": {"payout": payout},
        }
    ).json()["id"]
    client.sandbox.advance(10)
    url = client.run(run_id).json()["result"]["file"]["download_url"]["url"]
    found = rows(client.content_of(url))
    assert found == [row for row in wide if row["automatic_payout_id"] == payout]
    assert len(found) > 5


def test_an_ending_balance_takes_an_end_alone(client):
    """It is the ending balance in the summary of an interval."""
    summary = rows(client.content("balance_summary", currency="eur"))
    body = {
        "report": "ending_balance_reconciliation_summary",
        "report_parameters": {"interval_end": "2025-08-25T00:00:00Z", "currency": "eur"},
    }
    run_id = client.post(body).json()["id"]
    client.sandbox.advance(10)
    url = client.run(run_id).json()["result"]["file"]["download_url"]["url"]
    (found,) = rows(client.content_of(url))
    assert found["net_amount"] == summary[-1]["net_amount"]
    assert summary[-1]["category"] == "ending_balance"


@pytest.mark.parametrize(
    ("report", "parameters"),
    [
        ("payout_reconciliation_by_id_itemized", {"interval_end": "2025-08-25T00:00:00Z"}),
        ("payout_reconciliation_by_id_itemized", {}),
        ("ending_balance_reconciliation_summary", {"interval_start": "2025-08-18T00:00:00Z"}),
        ("ending_balance_reconciliation_summary", {}),
    ],
)
def test_a_bound_that_a_report_does_not_take_is_refused(client, report, parameters):
    """A request without what the report requires is refused too."""
    answer = client.post({"report": report, "report_parameters": parameters})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_fields"
