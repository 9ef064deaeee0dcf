"""What only ``/v2/data`` has."""

from __future__ import annotations

import csv
import io
import re
import zipfile

import pytest
import requests
from sandbox.clients import WEEK, V2DataClient

from airflow_provider_reportrun.sandbox import Answer, Fault, Sandbox
from airflow_provider_reportrun.sandbox.generations.v2_data import REPORTS

OLD, NEW = "2026-10-14.preview", "2026-10-28.preview"
NAMES = [each.name for each in REPORTS]


@pytest.fixture
def client(sandbox):
    """Return a client of v2.data."""
    return V2DataClient(sandbox)


def test_created(client):
    """A new run echoes the request, and what it does not have yet is null."""
    run = client.create(currency="eur").json()
    assert run.pop("id").startswith("rrun_")
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{9}Z", run.pop("created"))
    assert run == {
        "object": "v2.data.report_run",
        "livemode": False,
        "name": "balance.summary",
        "parameters": WEEK | {"currency": "eur"},
        "refreshed_at": None,
        "report": "report_test_000001",
        "result": None,
        "result_options": {"compression": "none"},
        "sql": None,
        "status": "running",
        "status_details": None,
    }


def test_result(client):
    """A finished run has columns, counts as strings, and the freshness of its data."""
    run = client.finished("balance_change_from_activity.itemized", columns=["net", "created_utc"])
    file = run["result"]["file"]
    assert file["columns"] == [
        {"name": "net", "type": "decimal"},
        {"name": "created_utc", "type": "timestamp"},
    ]
    content = client.content_of(client.url_of(run)).decode()
    assert run["result"]["col_count"] == "2"
    assert run["result"]["row_count"] == str(content.count("\n") - 1)
    assert file["size"] == str(len(content))
    assert "inline" not in run["result"]
    assert run["status_details"] is None
    assert re.fullmatch(r"[\d-]{10}T(00|12):00:00\.000Z", run["refreshed_at"])


def test_failed(client, sandbox):
    """The details of a failed run are flat, and those of other runs are null."""
    sandbox.fail_next(error_code="internal_error")
    assert client.finished()["status_details"] == {
        "canceled_at": None,
        "code": "internal_error",
        "message": "The report run failed due to an internal error.",
    }
    failed = client.finished("card_transactions.itemized")
    assert failed["status_details"]["code"] == "file_size_above_limit"


def test_data_that_is_not_there_yet(client, sandbox):
    """An interval may end after the data: the run says how fresh it was, and lacks the rest."""
    fresh = client.finished()["refreshed_at"]
    later = fresh.replace("T00", "T10").replace("T12", "T22")
    start = {"interval_start": "2026-11-01T00:00:00Z"}
    report = "balance_change_from_activity.itemized"
    short = client.finished(report, **start, interval_end=later)
    assert short["status"] == "succeeded"
    assert short["refreshed_at"] == fresh < later
    whole = client.content(report, **start, interval_end=fresh)
    assert client.content_of(client.url_of(short)) == whole
    sandbox.advance(24 * 3600)
    assert client.finished(report, **start, interval_end=later)["refreshed_at"] > later
    assert len(client.content(report, **start, interval_end=later)) > len(whole)


def test_same_rows_as_v2_reporting(client, sandbox):
    """Both generations of v2 write the same file about the same interval."""
    from sandbox.clients import Client

    mine = client.content("balance_change_from_activity.itemized")
    assert mine == Client(sandbox).content()


@pytest.mark.parametrize("report", [{"id": "report_test_000003"}, {"name": "payouts.itemized"}])
def test_by_id_or_name(client, report):
    """A report is named by its id or by its name."""
    answer = client.post({"report": report, "format": "csv", "parameters": WEEK})
    assert answer.status_code == 200
    assert (answer.json()["report"], answer.json()["name"]) == (
        "report_test_000003",
        "payouts.itemized",
    )


RIGHT = {"report": {"name": "balance.summary"}, "format": "csv", "parameters": WEEK}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"report": None}, "`report`"),
        ({"report": "balance.summary"}, "`report`"),
        ({"report": {}}, "`report`"),
        ({"report": {"id": "report_test_000001", "name": "balance.summary"}}, "`report`"),
        ({"report": {"name": "balance.summary.1"}}, "`report.name`"),
        ({"report": {"name": "Balance.summary"}}, "`report.name`"),
        ({"report": {"id": "balance.summary"}}, "`report.id`"),
        ({"report": {"name": 1}}, "`report.name`"),
        ({"report": {"title": "balance.summary"}}, "`report.title`"),
        ({"format": None}, "`format`"),
        ({"format": "zip"}, "`format`"),
        ({"parameters": None}, "`parameters`"),
        ({"parameters": []}, "`parameters`"),
        ({"parameters": {}}, "`interval_start`"),
        ({"parameters": WEEK | {"interval_end": 1756080000}}, "`interval_end`"),
        ({"parameters": WEEK | {"interval_end": WEEK["interval_start"]}}, "`interval_start`"),
        ({"parameters": WEEK | {"payout": "po_1"}}, "`payout`"),
        ({"report_parameters": WEEK}, "`report_parameters`"),
        ({"result_options": None}, "`result_options`"),
        ({"result_options": {"compression": "gzip"}}, "`result_options.compression`"),
        ({"result_options": {"compress_file": True}}, "`result_options.compress_file`"),
    ],
)
def test_refused_bodies(client, sandbox, changes, named):
    """What is wrong with the body is refused by its name."""
    body = {name: value for name, value in (RIGHT | changes).items() if value is not None}
    if changes.get("result_options", "") is None:
        body["result_options"] = None
    refused = client.post(body)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_fields"
    assert named in refused.json()["error"]["message"]
    assert sandbox.runs == []


@pytest.mark.parametrize(
    ("version", "options", "plain"),
    [
        (OLD, {"compress_file": True}, {"compress_file": False}),
        (NEW, {"compression": "zip"}, {"compression": "none"}),
    ],
)
def test_spellings_of_result_options(client, version, options, plain):
    """Each version knows one spelling, in requests and in answers."""
    client.version = version
    run = client.finished(result_options=options)
    assert run["result_options"] == options
    assert run["result"]["file"]["content_type"] == "zip"
    with zipfile.ZipFile(io.BytesIO(client.content_of(client.url_of(run)))) as archive:
        rows = archive.read(archive.namelist()[0]).count(b"\n") - 1
    assert run["result"]["row_count"] == str(rows)
    assert client.create().json()["result_options"] == plain
    client.version = NEW if version == OLD else OLD
    assert client.create(result_options=options).status_code == 400
    assert client.run(run["id"]).json()["result_options"] != options


def test_inline(client, sandbox):
    """Rows come inline on request, in pages that follow each other."""
    run_id = client.finished("payouts.itemized")["id"]
    sandbox.advance(5)
    path = f"{client.runs}/{run_id}?include[0]=result.inline&limit=8"
    rows, pages = [], 0
    while path:
        inline = client.get(path).json()["result"]["inline"]
        rows += [row["data"] for row in inline["rows"]]
        path, pages = inline["next_page_url"], pages + 1
    assert pages == 3
    assert inline["previous_page_url"]
    text = client.content("payouts.itemized").decode()
    assert rows == list(csv.DictReader(io.StringIO(text, newline="")))
    assert inline["columns"][0] == {"name": "payout_id", "type": "varchar"}


def test_inline_of_a_zip(client):
    """Rows come inline from a compressed file too."""
    run = client.finished(result_options={"compression": "zip"})
    path = f"{client.runs}/{run['id']}?include[]=result.inline"
    assert len(client.get(path).json()["result"]["inline"]["rows"]) == 10


@pytest.mark.parametrize("spelling", ["include[0]", "include[]"])
def test_sql(client, spelling):
    """The SQL of a run is there on request only."""
    run_id = client.create().json()["id"]
    assert client.run(run_id).json()["sql"] is None
    assert "SELECT" in client.get(f"{client.runs}/{run_id}?{spelling}=sql").json()["sql"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "page=second", "include[0]=result.file.schema"]
)
def test_refused_queries(client, query):
    """A query that makes no sense is refused."""
    run_id = client.create().json()["id"]
    assert client.get(f"{client.runs}/{run_id}?{query}").status_code == 400


def test_reports(client):
    """Reports are listed in pages."""
    names, path = [], "/v2/data/reports?limit=3"
    while path:
        page = client.get(path).json()
        names += [each["name"] for each in page["data"]]
        path = page["next_page_url"]
    assert names == NAMES
    assert client.get(page["previous_page_url"]).json()["data"][0]["name"] == NAMES[3]


def test_report_by_name(client):
    """A name is exact, and case counts."""
    (found,) = client.get("/v2/data/reports?name=payouts.itemized").json()["data"]
    assert client.report(found["id"]).json() == found
    assert client.get("/v2/data/reports?name=Payouts.itemized").json()["data"] == []


def test_parameters_of_a_report(client):
    """Parameters come on request only, and say nothing of a window."""
    report_id = REPORTS[2].id
    assert client.report(report_id).json()["parameters"] is None
    path = f"/v2/data/reports/{report_id}?include[0]=parameters&include[1]=default_sql"
    report = client.get(path).json()
    assert report["parameters"]["interval_end"]["required"] is True
    assert "timestamp_details" not in report["parameters"]["interval_end"]
    assert report["default_sql"]


def test_unknown_names(client):
    """Unknown runs and reports are 404."""
    for answer in (client.run("rrun_none"), client.report("report_none")):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_list_and_no_cancel(client, sandbox, method):
    """Runs can be neither listed nor canceled by a client."""
    for path in (client.runs, f"{client.runs}/rrun_1/cancel"):
        headers = client.headers()
        answer = requests.request(method, sandbox.url + path, headers=headers, timeout=5)
        assert answer.status_code == 404


def test_permission(client, sandbox):
    """A key that may read creates runs too."""
    key = sandbox.keyring.read_only.value
    assert client.create(api_key=key).status_code == 200
    refused = client.get("/v2/data/reports", api_key=sandbox.keyring.powerless.value)
    assert "data_reports_read" in refused.json()["error"]["message"]


def test_livemode():
    """A key of live mode makes live runs."""
    with Sandbox(api_key="sk_live_1") as sandbox:
        assert V2DataClient(sandbox).create().json()["livemode"] is True


@pytest.mark.parametrize(
    ("operation", "path"),
    [("list_reports", "/v2/data/reports"), ("get_report", f"/v2/data/reports/{REPORTS[0].id}")],
)
def test_faults_of_other_operations(client, sandbox, operation, path):
    """Each operation has a name for faults and in what was seen."""
    sandbox.faults.add(Fault(operation, Answer(status=502)))
    assert [client.get(path).status_code for _ in range(2)] == [502, 200]
    assert sandbox.requests[-1].operation == operation


@pytest.mark.parametrize(
    ("body", "content_type", "count"),
    [(b"a,b\n1,2\n3,4", "csv", "2"), (b"", "csv", "0"), (b"PK not really", "zip", None)],
)
def test_row_count_of_own_content(client, sandbox, body, content_type, count):
    """The rows of a supplied file are counted, if it can be read."""
    sandbox.deliver_next(body, content_type)
    assert client.finished()["result"]["row_count"] == count
