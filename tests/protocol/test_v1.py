"""What only v1 does: forms, seconds, families of report types, files with a key, and lists."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone

import pytest
from protocol.openapi import DATA, decoded, described
from protocol.test_anything import changed, fits, left

from airflow_provider_reportrun.errors import InvalidInput, UnexpectedAnswer
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.checks import (
    available_through,
    check_parameters,
    is_covered,
)
from airflow_provider_reportrun.protocol.generations.v1 import GENERATION as V1
from airflow_provider_reportrun.protocol.generations.v1 import read_report, read_run
from airflow_provider_reportrun.protocol.interval import format_instant
from airflow_provider_reportrun.protocol.requests import ReportRequest

TYPES = json.loads((DATA / "v1_report_types.json").read_text())["report_types"]
SAMPLES = described("v1")["x-docsSamples"]
UTC = timezone.utc
FIRST, THROUGH = datetime(2022, 11, 9, tzinfo=UTC), datetime(2023, 9, 19, tzinfo=UTC)
START, END = "2023-09-11T00:00:00.000Z", "2023-09-18T00:00:00.000Z"
GOOD = {"interval_start": START, "interval_end": END}


def body(parameters=None, report="balance.summary.1", options=None):
    """Build the body of a create."""
    return V1.create_body(
        ReportRequest(report, GOOD if parameters is None else parameters, options)
    )


def run(**fields):
    """Read a report run of so many fields."""
    return read_run({"id": "frr_1", "status": "pending"} | fields)


def report_type(name="balance.summary.1", **fields):
    """Read a report type."""
    return read_report(SAMPLES["report_type"] | {"id": name} | fields)


# Creating


def test_bounds_are_whole_seconds():
    """Everything else is sent as it is, names that no description lists included."""
    more = {"columns": ["net", "payment_metadata[order id]"], "decimal_separator": "comma"}
    assert body(GOOD | more) == {
        "report_type": "balance.summary.1",
        "parameters": {"interval_start": 1694390400, "interval_end": 1694995200} | more,
    }


def test_a_run_may_have_no_parameters():
    """A form has no way to say that there are none but to leave them out."""
    assert body({}) == {"report_type": "balance.summary.1"}
    request = ReportRequest("balance.summary.1", {})
    assert (
        calls.create_run(V1, request, "k").request.body.content == b"report_type=balance.summary.1"
    )


def test_a_create_is_a_form():
    """In the order of names, so that a repeat is the same bytes."""
    request = ReportRequest("balance.summary.1", GOOD | {"columns": ["net"], "timezone": "Etc/UTC"})
    assert calls.create_run(V1, request, "k").request.body.content == (
        b"parameters[columns][0]=net&parameters[interval_end]=1694995200"
        b"&parameters[interval_start]=1694390400&parameters[timezone]=Etc%2FUTC"
        b"&report_type=balance.summary.1"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("interval_end", "2023-09-18T00:00:00.001Z"),
        ("interval_start", "2023-09-11T00:00:00.999Z"),
        ("interval_start", "soon"),
        ("interval_start", ["2023-09-11T00:00:00.000Z"]),
    ],
)
def test_a_bound_between_seconds_is_refused(name, value):
    """It is not cut off: the interval would be another one. The error names bound and fix."""
    with pytest.raises(InvalidInput, match=rf"^{name} must be a whole second with api='v1'"):
        body(GOOD | {name: value})


@pytest.mark.parametrize("options", [{"compress_file": True}, {"compress_file": False}, ["x"]])
def test_options_are_refused(options):
    """The error names them and another generation that has them."""
    with pytest.raises(
        InvalidInput, match=r"^result_options must be left out with api='v1'"
    ) as refused:
        body(options=options)
    assert "api='v2.reporting'" in refused.value.message


@pytest.mark.parametrize("options", [None, {}])
def test_no_options_are_no_options(options):
    """They are part of no key."""
    assert body(options=options) == body()


@pytest.mark.parametrize("name", ["columns[]", "columns[0]", "a]b", "", "parameters[currency]"])
def test_names_have_no_brackets(name):
    """A form has brackets of its own, and would lead such a parameter elsewhere."""
    with pytest.raises(InvalidInput, match=r"^report_parameters has the name .*without brackets"):
        body(GOOD | {name: "x"})


@pytest.mark.parametrize("value", [[], {}, None])
def test_a_value_that_would_vanish_is_refused(value):
    """An empty list has no place in a form, and the report would have other columns."""
    with pytest.raises(InvalidInput, match=r"^parameters\[columns\] is .*: leave it out"):
        calls.create_run(V1, ReportRequest("r", {"columns": value}), "k")


# Reading


def test_reads_the_sample_of_a_created_run():
    """A pending one is running; there is no name, no result and no end yet."""
    found = read_run(SAMPLES["created"])
    assert (found.id, found.status) == ("frr_1MrQwrLkdIwHu7ixUov4x2b3", "running")
    assert (found.report, found.report_name) == ("balance.summary.1", "")
    assert found.created_at == datetime(2023, 3, 30, 19, 15, 49, tzinfo=UTC)
    assert found.report_parameters == {
        "interval_start": "2023-03-28T10:40:00.000Z",
        "interval_end": "2023-03-29T14:26:40.000Z",
    }
    assert (found.file, found.is_finished, found.failure) == (None, False, None)


def test_reads_the_sample_of_a_succeeded_run():
    """The size is a number, and the URL is without an end."""
    found = read_run(SAMPLES["succeeded"])
    assert found.status == "succeeded"
    assert found.report_parameters["columns"] == ["created", "reporting_category", "net"]
    assert found.report_parameters["timezone"] == "America/Los_Angeles"
    assert found.report_parameters["interval_start"] == "2020-01-01T08:00:00.000Z"
    assert (found.file.content_type, found.file.size) == ("csv", 53075)
    assert found.file.url.reveal() == "https://files.stripe.com/v1/files/file_xs8vrJzC/contents"
    assert (found.file.url_expires_at, found.file.schema) == (None, None)


def test_a_file_may_have_an_end():
    """In seconds, as all instants here."""
    found = run(status="succeeded", result={"type": "csv", "expires_at": 1694995200}).file
    assert found.url_expires_at == datetime(2023, 9, 18, tzinfo=UTC)


def test_a_failed_run_has_a_text_and_no_code():
    """The guide says to handle it as a 500 is handled, so a new one may succeed."""
    failure = run(status="failed", report_type="r", error="Something\nwent wrong.").failure
    assert failure.transient
    assert (failure.error_code, failure.error_message) == (None, "Something went wrong.")


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("9999-12-31T23:59:59.000Z", 253402300799),
        (253402300800, 253402300800),
        (-1, -1),
        (None, 1 << 70),
        (1.5, 1.5),
        (True, True),
        ("soon", "soon"),
    ],
)
def test_a_bound_that_is_no_instant_stays_as_it_is(expected, value):
    """It is told as the API told it, if it can be stored."""
    assert run(parameters={"interval_end": value}).report_parameters["interval_end"] == expected


@pytest.mark.parametrize("seed", range(2))
def test_what_was_sent_comes_back(seed):
    """An echo of any parameters reads as those that a task gave."""
    rng = random.Random(seed)  # noqa: S311 - the same cases each time
    for _ in range(200):
        start = datetime.fromtimestamp(rng.randrange(1 << 33), tz=UTC)
        end = start + timedelta(seconds=rng.randrange(1, 1 << 25))
        bounds = {"interval_start": format_instant(start), "interval_end": format_instant(end)}
        names = rng.sample(["currency", "columns", "payout", "timezone"], rng.randrange(5))
        more = {name: rng.choice(["eur", ["a", "b[c d]"], "Etc/UTC"]) for name in names}
        request = ReportRequest("r.1", bounds | more)
        sent = decoded(calls.create_run(V1, request, "k").request.body)
        assert sent == V1.create_body(request)
        echo = run(report_type=sent["report_type"], parameters=sent["parameters"])
        assert echo.report_parameters == request.parameters
        assert V1.run_listing.is_same(request, echo)


# Report types


def test_reads_the_sample_of_a_report_type():
    """The window of its data is that of the interval's bounds."""
    found = report_type()
    assert (found.id, found.name, found.livemode) == ("balance.summary.1", "Balance summary", False)
    assert list(found.parameters) == ["interval_start", "interval_end", "columns"]
    for name in ("interval_start", "interval_end"):
        bound = found.parameters[name]
        assert (bound.type, bound.required) == ("timestamp", True)
        assert (bound.earliest, bound.latest) == (FIRST, THROUGH)
    columns = found.parameters["columns"]
    assert (columns.type, columns.required, columns.allowed_values) == ("array", False, None)
    assert columns.description == "By default: category, description, net_amount, currency"


@pytest.mark.parametrize("name", TYPES)
def test_a_type_requires_what_its_family_does(name):
    """Some take no interval, some only its end; nothing else is required of anybody."""
    found = report_type(name).parameters
    required = {each for each, parameter in found.items() if parameter.required}
    assert required == set(TYPES[name]["required"])
    assert set(found) - required <= {"columns"}


@pytest.mark.parametrize("name", TYPES)
def test_a_type_takes_what_its_documentation_names(name):
    """Nothing that a report takes is refused, and the time zone is left to the API."""
    values = {"columns": ["net"], "timezone": "Europe/Paris"} | GOOD
    names = [*TYPES[name]["required"], *(TYPES[name]["optional"] or ())]
    check_parameters(report_type(name), {each: values.get(each, "x") for each in names})


def test_a_name_that_is_like_no_known_one_is_left_to_the_api():
    """It defines no parameters, so there may be others."""
    check_parameters(report_type(), GOOD | {"fresh_thing": "x"})


def test_a_type_of_a_new_family_takes_an_interval():
    """As nearly all do; the checks can be switched off for one that does not."""
    assert {"interval_start", "interval_end"} < set(report_type("something.new.3").parameters)


def test_a_type_without_default_columns_takes_none():
    """The API says so by null."""
    assert "columns" not in report_type(default_columns=None).parameters
    assert report_type(default_columns=[]).parameters["columns"].description == "By default: "


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("columns must be a list, not 'net'", GOOD | {"columns": "net"}),
        ("interval_start is required", {"interval_end": END}),
        (
            "Did you mean 'timezone'? There is no parameter 'timezones'.",
            GOOD | {"timezones": "UTC"},
        ),
        ("only has data from 2022-11-09", GOOD | {"interval_start": "2022-11-08T23:59:59.000Z"}),
    ],
)
def test_parameters_are_checked_as_far_as_they_are_known(words, given):
    """Before a report run is spent on them."""
    with pytest.raises(InvalidInput) as refused:
        check_parameters(report_type(), given)
    assert words in refused.value.message


def test_an_interval_may_end_with_the_data():
    """The guide includes that instant; where the API does not, its refusal is for now only."""
    assert available_through(report_type()) == THROUGH
    assert is_covered(report_type(), THROUGH)
    assert not is_covered(report_type(), THROUGH + timedelta(seconds=1))


# Lists


def page(*runs, has_more=False):
    """A page as the API sends it."""
    return {"object": "list", "data": list(runs), "has_more": has_more, "url": "/v1/reporting"}


ONE = SAMPLES["succeeded"] | {"id": "frr_1"}
TWO = SAMPLES["created"] | {"id": "frr_2"}


def test_runs_are_listed_since_an_instant():
    """A hundred at a time, after the last of the page before."""
    since = datetime(2023, 9, 18, 0, 0, 0, 999_999, tzinfo=UTC)
    first = calls.list_runs(V1, since=since)
    query = "limit=100&created%5Bgte%5D=1694995200"
    assert first.request.path == f"/v1/reporting/report_runs?{query}"
    assert (first.tried, first.request.template) == (
        "list report runs",
        "/v1/reporting/report_runs",
    )
    second = calls.list_runs(V1, since=since, after="frr_1")
    assert second.request.path.endswith(f"?{query}&starting_after=frr_1")


def test_a_page_leads_to_the_next():
    """By the id of its last run, as long as there is more."""
    read = calls.list_runs(V1, since=FIRST).read
    found = read(page(ONE, TWO, has_more=True))
    assert [each.id for each in found.runs] == ["frr_1", "frr_2"]
    assert found.next_after == "frr_2"
    assert read(page(ONE, TWO)).next_after is None
    assert read(page(has_more=True)) == ((), None)


def test_a_page_of_something_else_is_no_page():
    """A run without an id cannot be reattached to."""
    with pytest.raises(UnexpectedAnswer, match="has no 'id', so it is no report run"):
        calls.list_runs(V1, since=FIRST).read(page(ONE, {"object": "charge"}))


def test_all_report_types_are_one_page():
    """Those that the account may run."""
    call = calls.list_reports(V1)
    assert call.request.path == "/v1/reporting/report_types"
    found = call.read(page(SAMPLES["report_type"], SAMPLES["report_type"] | {"id": "x.1"}))
    assert [each.id for each in found.reports] == ["balance.summary.1", "x.1"]
    assert found.next_page is None


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_listed_only_errors_of_the_package_leave(seed):
    """And all that leaves can be stored."""
    rng = random.Random(seed)  # noqa: S311 - the same cases each time

    def listed(data):
        found = calls.list_runs(V1, since=FIRST).read(data)
        return [[each.summary() for each in found.runs[:20]], found.next_after]

    def types(data):
        found = calls.list_reports(V1).read(data)
        return [[each.summary() for each in found.reports[:20]], found.next_page]

    for _ in range(300):
        assert fits(left(listed, changed(rng, page(ONE, TWO, has_more=True))))
        assert fits(left(types, changed(rng, page(SAMPLES["report_type"]))))


ASKED = ReportRequest("r.1", GOOD | {"columns": ["a", "b"], "limit": "5", "flag": "true"})


def echoed(report="r.1", **more):
    """A run that echoes what was asked for, its own way."""
    parameters = V1.create_body(ASKED)["parameters"] | more
    return run(report_type=report, parameters=parameters)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"timezone": "Etc/UTC"},
        {"currency": None},
        {"limit": 5, "flag": True},
    ],
)
def test_a_run_of_the_same_request_is_found(more):
    """The API may add its default zone, nulls, and spell numbers and flags."""
    assert V1.run_listing.is_same(ASKED, echoed(**more))


@pytest.mark.parametrize(
    "other",
    [
        echoed("r.2"),
        echoed(timezone="Europe/Paris"),
        echoed(currency="eur"),
        echoed(columns=["b", "a"]),
        echoed(columns="a"),
        echoed(columns=None),
        echoed(interval_end=1694995201),
        echoed(limit="6"),
    ],
)
def test_a_run_of_another_request_is_not(other):
    """Neither with less, nor with more."""
    assert not V1.run_listing.is_same(ASKED, other)


# Facts


def test_the_facts_of_a_repeat():
    """A key lasts a day, tells the run of then, and keeps errors."""
    assert V1.idempotency == (24 * 3600.0, False, True)


def test_only_the_host_of_files_wants_the_key():
    """And an account is named in a header of its own."""
    assert V1.key_hosts == {"files.stripe.com"}
    assert V1.account_header == "Stripe-Account"
