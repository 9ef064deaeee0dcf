"""Report definitions, and the requests that they refuse."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_reportrun.sandbox import Sandbox
from airflow_provider_reportrun.sandbox.catalog import window_at

START = "2025-08-18T00:00:00.000Z"
END = "2025-08-25T00:00:00.000Z"
WEEK = {"interval_start": START, "interval_end": END}


def test_definition(client):
    """A definition describes every parameter; details that do not apply are null."""
    report = client.report("payouts_itemized").json()
    assert report["id"] == "payouts_itemized"
    assert report["object"] == "v2.reporting.report"
    assert report["livemode"] is False
    parameters = report["parameters"]
    assert sorted(parameters) == [
        "columns",
        "currency",
        "interval_end",
        "interval_start",
        "timezone",
    ]
    end = parameters["interval_end"]
    assert (end["type"], end["required"], end["enum_details"]) == ("timestamp", True, None)
    assert end["timestamp_details"]["min"] == "2020-01-01T00:00:00.000Z"
    assert parameters["currency"]["enum_details"] == {"allowed_values": ["eur", "gbp", "usd"]}
    elements = parameters["columns"]["array_details"]
    assert elements["element_type"] == "enum"
    assert "payout_id" in elements["enum_details"]["allowed_values"]


def test_kinds_of_reports(client):
    """One report takes no columns; another has no window and requires columns."""
    assert "columns" not in client.report("balance_summary").json()["parameters"]
    parameters = client.report("all_fees_itemized").json()["parameters"]
    assert parameters["columns"]["required"] is True
    assert parameters["interval_end"]["timestamp_details"] is None
    columns = ["fee", "currency"]
    far = "2090-01-01T00:00:00Z"
    created = client.create("all_fees_itemized", columns=columns, interval_end=far)
    assert created.status_code == 200


def test_unknown_report(client):
    """An unknown report is answered 404 on GET and 400 on create."""
    assert client.report("nothing").status_code == 404
    refused = client.create("nothing")
    assert refused.status_code == 400
    assert "nothing" in refused.json()["error"]["message"]


def test_inaccessible_report(client):
    """An inaccessible report is answered 403 on GET and on create."""
    report = "connected_account_payouts_itemized"
    for answer in (client.report(report), client.create(report)):
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "report_inaccessible"


@pytest.mark.parametrize(
    ("now", "lag", "end"),
    [
        ("2025-08-25T11:59", 12, "2025-08-24T12:00"),
        ("2025-08-25T12:00", 12, "2025-08-25T00:00"),
        ("2025-08-25T23:59", 12, "2025-08-25T00:00"),
        ("2025-08-26T00:00", 12, "2025-08-25T12:00"),
        ("2025-08-25T12:30", 0, "2025-08-25T12:00"),
        ("2020-01-01T00:00", 99, "2020-01-01T00:00"),
    ],
)
def test_window(now, lag, end):
    """Data becomes available in half days, some hours after the end of each."""
    now, end = (datetime.fromisoformat(each).replace(tzinfo=timezone.utc) for each in (now, end))
    assert window_at(now, lag).end == end


def test_window_moves(client, sandbox):
    """The window moves with the sandbox's clock."""

    def latest():
        end = client.report("balance_summary").json()["parameters"]["interval_end"]
        return end["timestamp_details"]["max"]

    first = latest()
    sandbox.advance(12 * 3600)
    second = latest()
    gap = datetime.strptime(second, "%Y-%m-%dT%H:%M:%S.%fZ").replace(
        tzinfo=timezone.utc
    ) - datetime.strptime(first, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert gap == timedelta(hours=12)
    assert client.create(interval_end=second).status_code == 200
    sandbox.reset()
    refused = client.create(interval_end=second)
    assert refused.status_code == 400
    words = second[:10] + " " + second[11:19] + " UTC"
    message = refused.json()["error"]["message"]
    assert "is only available through" in message
    assert message.endswith(f"you requested `interval_end` = {words}.")


def test_before_the_first_data(client):
    """An interval that starts too early is refused; the message names the first instant."""
    refused = client.create(interval_start="2019-12-31T23:59:59.999Z")
    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert "only available starting at 2020-01-01 00:00:00 UTC; you requested" in message
    assert "`interval_start`" in message


def test_lag(client_of):
    """A larger lag makes data available later."""
    with Sandbox(data_lag_hours=24 * 365) as sandbox:
        refused = client_of(sandbox).create(interval_end="2026-11-01T00:00:00Z")
        assert refused.status_code == 400


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "`report`"),
        ({"report": None, "report_parameters": WEEK}, "`report`"),
        ({"report": 1, "report_parameters": WEEK}, "`report`"),
        ({"report": ["payouts_itemized"], "report_parameters": WEEK}, "`report`"),
        ({"report": "payouts_itemized"}, "`report_parameters`"),
        ({"report": "payouts_itemized", "report_parameters": None}, "`report_parameters`"),
        ({"report": "payouts_itemized", "report_parameters": []}, "`report_parameters`"),
        ({"report": "payouts_itemized", "report_parameters": WEEK, "async": True}, "`async`"),
        (
            {"report": "payouts_itemized", "report_parameters": WEEK, "result_options": None},
            "`result_options`",
        ),
        (
            {
                "report": "payouts_itemized",
                "report_parameters": WEEK,
                "result_options": {"compress_file": "yes"},
            },
            "`result_options.compress_file`",
        ),
        (
            {
                "report": "payouts_itemized",
                "report_parameters": WEEK,
                "result_options": {"format": "csv"},
            },
            "`result_options.format`",
        ),
        ({"report": "payouts_itemized", "report_parameters": {}}, "`interval_start`"),
        (
            {"report": "payouts_itemized", "report_parameters": {"interval_start": START}},
            "`interval_end`",
        ),
    ],
)
def test_refused_bodies(client, body, named):
    """The refusal of a body names the wrong field."""
    refused = client.post(body)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_fields"
    assert named in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("payout", "po_1"),
        ("interval_start", 1755475200),
        ("interval_start", None),
        ("interval_start", [START]),
        ("interval_start", "2025-08-18"),
        ("interval_start", "2025-08-18T00:00:00"),
        ("interval_start", "2025-08-18 00:00:00Z"),
        ("interval_start", "2025-08-18T02:00:00+02:00"),
        ("interval_start", "2025-02-30T00:00:00Z"),
        ("interval_start", "2025-08-18T00:00:00.0000000000Z"),
        ("interval_start", END),
        ("interval_start", "2025-08-26T00:00:00Z"),
        ("currency", "EUR"),
        ("currency", ["eur"]),
        ("currency", {"value": "eur"}),
        ("currency", True),
        ("columns", "payout_id"),
        ("columns", []),
        ("columns", ["payout_id", 1]),
        ("columns", ["nothing"]),
        ("timezone", "Europe/Atlantis"),
        ("timezone", "../etc/passwd"),
        ("timezone", ""),
    ],
)
def test_refused_values(client, sandbox, name, value):
    """The refusal of a value names its parameter."""
    refused = client.create("payouts_itemized", **{name: value})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_fields"
    assert f"`{name}`" in refused.json()["error"]["message"]
    assert sandbox.runs == []


@pytest.mark.parametrize(
    "start",
    ["2025-08-18T00:00:00Z", "2025-08-18T00:00:00.1Z", "2025-08-18T00:00:00.123456789+00:00"],
)
def test_accepted_timestamps(client, start):
    """RFC 3339 in UTC is accepted with up to nine digits, and echoed as sent."""
    created = client.create(interval_start=start)
    assert created.status_code == 200
    assert created.json()["report_parameters"]["interval_start"] == start


def test_compress_null(client):
    """A null compress_file means no compression."""
    created = client.create(result_options={"compress_file": None}).json()
    assert created["result_options"] == {"compress_file": False}
