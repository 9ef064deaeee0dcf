"""What only v2.data does: reports by name, canceled runs, counts, and how fresh the data are."""

from __future__ import annotations

import random
from datetime import datetime, timezone

import pytest
from protocol.openapi import described
from protocol.test_anything import changed, fits, left

from airflow_provider_reportrun.errors import (
    DataWindowUnknown,
    InvalidInput,
    NotFound,
    ReportRunCanceled,
)
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.checks import available_through
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.models import Column
from airflow_provider_reportrun.protocol.requests import QueryRequest, ReportRequest

DATA = named("v2.data")
QUERIES = named("v2.data.query_runs")
OLD_QUERIES = named("v2.reporting.query_runs")
SAMPLE = described("v2.data")["x-docsSamples"]["report_run"]
UTC = timezone.utc
REPORT = {
    "id": "report_1",
    "object": "v2.data.report",
    "name": "balance.summary",
    "description": "Your balance.",
    "livemode": True,
    "parameters": {
        "interval_end": {"type": "timestamp", "required": True, "description": "D."},
        "currency": {
            "type": "enum",
            "required": False,
            "description": "D.",
            "enum_details": {"allowed_values": ["eur"]},
        },
    },
}


def body(report="report_1", options=None):
    """Build the body of a create."""
    return DATA.create_body(ReportRequest(report, {"columns": ["a"]}, options))


# Creating


@pytest.mark.parametrize(
    ("report", "sent"),
    [
        ("report_61Sud", {"id": "report_61Sud"}),
        (" report_61Sud\n", {"id": "report_61Sud"}),
        ("balance.summary", {"id": "balance.summary"}),
        ("name:balance.summary", {"name": "balance.summary"}),
        (" name: Fees by country (weekly)", {"name": "Fees by country (weekly)"}),
        ("name:name:x", {"name": "name:x"}),
    ],
)
def test_a_report_is_named_or_identified(report, sent):
    """What is meant is said, not guessed; a name may be any text."""
    assert body(report) == {"report": sent, "parameters": {"columns": ["a"]}, "format": "csv"}


@pytest.mark.parametrize("name", ["", " \n", "None", "a\nb", "x" * 256])
def test_what_is_no_name_is_refused(name):
    """Before anything is sent, whether to create or to look up."""
    for ask in (body, DATA.lookup):
        with pytest.raises(InvalidInput, match=r"^report must be an id or name:\.\.\. "):
            ask(f"name:{name}")


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        ({"compress_file": True}, {"compress_file": "True"}),
        ({"compress_file": False}, {"compress_file": False}),
        ({"compression": "none"}, {"compression": "none"}),
        ({"compression": "zip"}, {"compression": "zip"}),
        ({}, {}),
    ],
)
def test_either_spelling_of_the_option_is_sent(sent, options):
    """Which one the API knows depends on its version, so neither is made of the other."""
    assert body(options=options)["result_options"] == sent
    assert QUERIES.create_body(QueryRequest("select 1", options))["result_options"] == sent


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("result_options", {"compress_file": True, "compression": "none"}),
        ("result_options", {"format": "csv"}),
        ("result_options", "compress_file"),
        ("result_options", ["compression"]),
        ("compress_file", {"compress_file": 1}),
        ("compression", {"compression": True}),
        ("compression", {"compression": ""}),
        ("compression", {"compression": "a b"}),
        ("compression", {"compression": None}),
    ],
)
def test_other_options_are_refused(named, options):
    """The error names the field."""
    with pytest.raises(InvalidInput, match=rf"^{named} "):
        body(options=options)


def test_no_options_are_not_sent():
    """They are part of no key."""
    assert "result_options" not in body()


def test_a_query_names_its_dataset():
    """The only one that there is."""
    assert QUERIES.create_body(QueryRequest("select 1")) == {
        "dataset": "analytical",
        "format": "csv",
        "query": {"sql": "select 1"},
    }


def test_an_old_query_is_its_sql():
    """And the option that results of v2.reporting have."""
    assert OLD_QUERIES.create_body(QueryRequest("select 1", {"compress_file": True})) == {
        "sql": "select 1",
        "result_options": {"compress_file": True},
    }
    with pytest.raises(InvalidInput, match=r"^result_options accepts only compress_file, not"):
        OLD_QUERIES.create_body(QueryRequest("select 1", {"compression": "none"}))


# Reading


def test_reads_the_sample_of_a_report_run():
    """Columns and counts come by themselves, and so does how fresh the data are."""
    found = DATA.read_run(SAMPLE)
    assert (found.status, found.report) == ("succeeded", "report_61Sud3n5oAGVCWiSr5")
    assert found.report_name == "balance.summary"
    assert found.report_parameters["interval_end"] == "2026-07-01T00:00:00.000Z"
    assert found.created_at == datetime(2026, 10, 5, 21, 1, 11, 504756, tzinfo=UTC)
    assert found.refreshed_at == datetime(2026, 10, 7, 21, 1, 11, tzinfo=UTC)
    assert (found.file.content_type, found.file.size) == ("csv", 2121)
    assert (found.file.row_count, found.file.column_count) == (32, 4)
    assert found.file.schema[2] == Column("net_amount", "decimal")
    assert found.file.url_expires_at == datetime(2026, 10, 5, 21, 12, 8, 978477, tzinfo=UTC)


def failed(api, **details):
    """Give the failure of a run that failed."""
    return api.read_run({"id": "r", "status": "failed", "status_details": details}).failure


@pytest.mark.parametrize("api", [DATA, QUERIES], ids=lambda api: api.name)
def test_details_of_a_failure_are_flat(api):
    """And null if there was none."""
    failure = failed(api, code="internal_error", message="No luck.")
    assert (failure.error_code, failure.error_message) == ("internal_error", "No luck.")
    assert failure.transient
    assert f"A new {api.noun} may succeed" in failure.message
    assert not failed(api, code="file_size_above_limit", message="Too big.").transient


@pytest.mark.parametrize("api", [DATA, QUERIES], ids=lambda api: api.name)
def test_a_canceled_run_is_not_repeated(api):
    """Somebody meant it."""
    details = {"canceled_at": "2026-10-05T21:02:00Z", "code": None, "message": "By you."}
    found = api.read_run({"id": "r_1", "status": "canceled", "status_details": details})
    assert found.is_finished
    assert isinstance(found.failure, ReportRunCanceled)
    assert not found.failure.transient
    found_as = "It was query run r_1." if api is QUERIES else "It was report run r_1 of its report."
    assert found.failure.message.startswith(f"The {api.noun} was canceled at Stripe: clear ")
    assert found.failure.message.endswith(f"Stripe says: By you. {found_as}")


POSITION = "line 3:8: Column 'nett' cannot be resolved"


@pytest.mark.parametrize(
    ("api", "details"),
    [
        (QUERIES, {"code": "query_run_invalid_sql", "message": POSITION}),
        (
            OLD_QUERIES,
            {"failed": {"error_code": "query_run_invalid_sql", "error_message": POSITION}},
        ),
    ],
    ids=["v2.data", "v2.reporting"],
)
def test_wrong_sql_stays_wrong(api, details):
    """The error keeps the API's words with the position, and no new run is made."""
    failure = failed(api, **details)
    assert not failure.transient
    assert failure.error_code == "query_run_invalid_sql"
    assert failure.message == (
        f"Correct the SQL: the query run failed with query_run_invalid_sql: {POSITION}. "
        "It was query run r."
    )


@pytest.mark.parametrize("api", [QUERIES, OLD_QUERIES], ids=lambda api: api.name)
def test_a_query_run_knows_its_sql(api):
    """Cut if it is endless; and it is of no report."""
    long = "select 1 -- " + "é" * 20_000
    run = {"id": "q", "status": "running", "sql": long, "query": {"sql": long}}
    found = api.read_run(run)
    assert found.sql == long[:10_000]
    assert (found.report, found.report_name, found.report_parameters) == ("", "", {})
    assert api.read_run({"id": "q", "status": "running"}).sql == ""


def test_an_old_query_run_fails_as_a_report_run_of_v2_reporting():
    """Details under the name of the status, and no cancelled state to know of."""
    details = {"failed": {"error_code": "internal_error", "error_message": "m"}}
    failure = failed(OLD_QUERIES, **details)
    assert (failure.error_code, failure.transient) == ("internal_error", True)
    assert failure.message.startswith("A new query run may succeed: this one failed with internal")


@pytest.mark.parametrize("api", [DATA, QUERIES], ids=lambda api: api.name)
def test_how_fresh_the_data_are_may_be_unknown(api):
    """The field is null until then."""
    assert api.shows_data_on_run
    for unknown in (None, "", "soon", 5):
        found = api.read_run({"id": "r", "status": "running", "refreshed_at": unknown})
        assert found.refreshed_at is None


# Definitions


def test_a_definition_has_parameters_and_no_window():
    """So nothing can be waited for before a run."""
    found = calls.get_report(DATA, "report_1").read(REPORT)
    assert found.parameters["currency"].allowed_values == ("eur",)
    assert found.parameters["interval_end"].required
    with pytest.raises(DataWindowUnknown):
        available_through(found)


def test_a_report_is_found_by_its_name():
    """In the list, which has an exact filter."""
    call = calls.get_report(DATA, "name:Fees & more")
    query = "name=Fees+%26+more&include%5B0%5D=parameters"
    assert call.request.path == f"/v2/data/reports?{query}"
    assert call.request.template == "/v2/data/reports"
    assert call.request.names == {"report": "name:Fees & more"}
    assert call.read({"data": [REPORT], "next_page_url": None}).id == "report_1"


def test_a_name_that_nothing_has_is_not_found():
    """The error is permanent, names the name and says what names look like."""
    for nothing in ({"data": []}, {"data": None}, {}):
        with pytest.raises(NotFound, match=r"^Correct the name.*'x'.*case-sensitive") as said:
            calls.get_report(DATA, "name:x").read(nothing)
        assert not said.value.transient


def test_a_name_that_several_have_is_refused():
    """With their ids, one of which is meant."""
    several = {"data": [REPORT, REPORT | {"id": "report_2"}]}
    with pytest.raises(InvalidInput, match="use one of the ids report_1, report_2"):
        calls.get_report(DATA, "name:x").read(several)


@pytest.mark.parametrize(
    ("token", "url"),
    [
        ("abc", "/v2/data/reports?limit=100&page=abc"),
        ("abc", "https://elsewhere.example/?page=abc"),
        ("a b", "/v2/data/reports?page=a%20b"),
        (None, "/v2/data/reports?limit=100"),
        (None, "http://[::1"),
        (None, ""),
        (None, None),
        (None, 5),
    ],
)
def test_the_next_page_is_of_the_same_list(token, url):
    """Only the token is taken from its URL, so nothing else is ever asked."""
    read = calls.list_reports(DATA).read
    assert read({"data": [REPORT], "next_page_url": url}).next_page == token


def test_reports_are_listed_by_the_hundred():
    """Without their parameters, which each definition has."""
    assert calls.list_reports(DATA).request.path == "/v2/data/reports?limit=100"
    assert calls.list_reports(DATA, "a&b").request.path == "/v2/data/reports?limit=100&page=a%26b"


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_listed_only_errors_of_the_package_leave(seed):
    """And all that leaves can be stored."""
    rng = random.Random(seed)  # noqa: S311 - the same cases each time

    def listed(data):
        found = calls.list_reports(DATA).read(data)
        return [[each.summary() for each in found.reports[:20]], (found.next_page or "")[:100]]

    def by_name(data):
        return calls.get_report(DATA, "name:x").read(data).summary()

    whole = {"data": [REPORT, REPORT], "next_page_url": "/v2/data/reports?page=abc"}
    for _ in range(300):
        assert fits(left(listed, changed(rng, whole)))
        assert fits(left(by_name, changed(rng, whole)))
