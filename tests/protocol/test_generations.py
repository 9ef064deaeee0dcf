"""What every generation of the API promises, whatever it is called on the wire."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from protocol.openapi import OBJECTS, check_body, check_object, described, samples
from protocol.test_anything import changed, fits, left

from airflow_provider_reportrun.errors import InvalidInput, ReportRunFailed, UnexpectedAnswer
from airflow_provider_reportrun.protocol import calls, generations
from airflow_provider_reportrun.protocol.generation import Generation
from airflow_provider_reportrun.protocol.generations import DEFAULT, NAMES, named, queries_of
from airflow_provider_reportrun.protocol.models import FINISHED, ReportRun
from airflow_provider_reportrun.protocol.requests import QueryRequest, ReportRequest

MODULES = Path(generations.__file__).parent
EVERY = {name: named(name) for name in [*NAMES, "v2.data.query_runs", "v2.reporting.query_runs"]}
OF_REPORTS = [EVERY[name] for name in NAMES]
OF_QUERIES = [api for api in EVERY.values() if api not in OF_REPORTS]
SINCE = datetime(2026, 11, 2, tzinfo=timezone.utc)
START, END = "2026-10-26T00:00:00.000Z", "2026-11-02T00:00:00.000Z"
REPORT = ReportRequest("balance_summary.1", {"interval_start": START, "interval_end": END})
QUERY = QueryRequest("select 1")


def asked_of(api):
    """Give a request that a generation can do."""
    return QUERY if api in OF_QUERIES else REPORT


FILE = {
    "content_type": "csv",
    "size": "2121",
    "download_url": {"url": "https://stripeusercontent.com/files/x", "expires_at": None},
}
QUERY_RUNS = {
    "v2.data.query_runs": {
        "id": "qrun_1",
        "object": "v2.data.query_run",
        "created": "2026-10-05T21:02:00.919623613Z",
        "dataset": "analytical",
        "format": "csv",
        "livemode": True,
        "query": {"sql": "select 1"},
        "refreshed_at": "2026-10-05T19:00:00.000Z",
        "result": {
            "col_count": "1",
            "file": FILE | {"columns": [{"name": "a", "type": "integer"}]},
            "row_count": "1",
        },
        "result_options": None,
        "status": "succeeded",
        "status_details": None,
    },
    "v2.reporting.query_runs": {
        "id": "qryrun_1",
        "object": "v2.data.reporting.query_run",
        "created": "2026-04-22T00:00:00.000Z",
        "livemode": True,
        "result": {"file": FILE | {"schema": [{"name": "a", "type": "bigint"}]}, "type": "file"},
        "result_options": {"compress_file": False},
        "sql": "select 1",
        "status": "succeeded",
        "status_details": {},
    },
}
"""As the descriptions say; they have no whole sample."""


def _runs(name):
    if name in QUERY_RUNS:
        return [QUERY_RUNS[name]]
    return [each for _, each in samples(OBJECTS[name], described(name))]


RUNS = [
    pytest.param(name, each, id=f"{name} {number}")
    for name in OBJECTS
    for number, each in enumerate(_runs(name))
]
every = pytest.mark.parametrize("api", EVERY.values(), ids=EVERY)
of_reports = pytest.mark.parametrize("api", OF_REPORTS, ids=lambda api: api.name)
of_queries = pytest.mark.parametrize("api", OF_QUERIES, ids=lambda api: api.name)


# Names


@every
def test_a_generation_is_found_by_its_name(api):
    """By the same name each time, and the same value."""
    assert isinstance(api, Generation)
    assert named(api.name) is api


@pytest.mark.parametrize("name", ["", "v2", "V1", "v2.data ", "v2_data", None, 1, ["v1"]], ids=repr)
def test_an_unknown_name_is_refused(name):
    """The error names those that users may choose, and what was given."""
    with pytest.raises(InvalidInput) as refused:
        named(name)
    assert refused.value.message == f"api must be v2.reporting, v2.data or v1, not {name!r}."


def test_the_default_is_the_generation_that_rows_without_one_mean():
    """A trigger row of a deployment that knew no other names none, and means it for ever."""
    assert DEFAULT == "v2.reporting"


def test_a_generation_is_imported_when_it_is_needed():
    """A DAG file pays for none that it does not use."""
    program = (
        "import sys; from airflow_provider_reportrun.protocol import calls, generations; "
        "generations.named('v2.data.query_runs'); "
        "print([name for name in sys.modules if '.generations.' in name])"
    )
    found = subprocess.run(  # noqa: S603 - Python itself
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "v2_data_query_runs" in found.stdout
    assert ".v1" not in found.stdout
    assert "v2_reporting_query_runs" not in found.stdout


@of_reports
def test_query_runs_have_generations_of_their_own(api):
    """Those of v2; the refusal of v1 names one that has them."""
    if api.queries is None:
        with pytest.raises(
            InvalidInput, match=r"^api='v1' has no SQL.* use api='v2.reporting' or 'v2.data'"
        ):
            queries_of(api)
    else:
        assert queries_of(api) in OF_QUERIES


def test_each_generation_has_room_of_its_own():
    """Whether they share a limit is not known, and a queue of both may hold up one for nothing."""
    assert len({api.capacity_group for api in EVERY.values()}) == len(EVERY)


def test_there_is_a_module_for_each_and_no_other():
    """A module that no name leads to would never be used."""
    modules = {path.stem for path in MODULES.glob("*.py")} - {"__init__"}
    assert modules == {name.replace(".", "_") for name in EVERY}


# What is sent


@every
def test_a_create_is_as_the_api_describes_it(api):
    """Path, body and encoding; nothing is sent that the description does not know."""
    request = calls.create_run(api, asked_of(api), "k").request
    assert (request.method, request.path) == ("POST", api.runs_path)
    assert request.headers == {"Idempotency-Key": "k"}
    assert request.stripe_version == api.stripe_version
    check_body(api.name, api.runs_path, request.body)


@every
def test_equal_requests_are_equal_bytes(api):
    """Whatever the order of their parameters, for the key allows no other body."""
    asked = asked_of(api)
    again = asked
    if isinstance(asked, ReportRequest):
        again = asked._replace(parameters=dict(reversed(asked.parameters.items())))
    first, second = (calls.create_run(api, each, "k").request.body for each in (asked, again))
    assert first == second


@every
def test_what_the_key_hashes_is_plain_json(api):
    """The same values come back from JSON."""
    body = api.create_body(asked_of(api))
    assert json.loads(json.dumps(body)) == body


@every
def test_what_a_generation_cannot_run_is_refused_by_name(api):
    """A query where there are reports, a report where there are queries; with what to do."""
    wrong = REPORT if api in OF_QUERIES else QUERY
    with pytest.raises(InvalidInput, match=r" is not a .*: (use|with) ") as refused:
        api.create_body(wrong)
    assert "use" in refused.value.message[:100]


@of_reports
@pytest.mark.parametrize("report", ["", " ", "None", "a b", None, 5, ["a"]], ids=repr)
def test_what_is_no_report_is_refused(api, report):
    """Before anything is sent; the error names the argument and points to templates."""
    for ask in (
        lambda: api.create_body(REPORT._replace(report=report)),
        lambda: calls.get_report(api, report),
    ):
        with pytest.raises(InvalidInput, match=r"^report must be .*template"):
            ask()


@of_queries
@pytest.mark.parametrize("sql", ["", " \n", "None", None, 5, ["select 1"]], ids=repr)
def test_what_is_no_query_is_refused(api, sql):
    """Before anything is sent; the error names the argument and points to templates."""
    with pytest.raises(InvalidInput, match=r"^sql must be .*template"):
        api.create_body(QueryRequest(sql))


@of_queries
def test_sql_is_sent_as_it_is(api):
    """With its lines and blanks: positions in the API's errors count them."""
    sql = "-- fees\nselect  'é', \"A\"\n  from balance_transactions\n"
    assert sql in _texts(api.create_body(QueryRequest(sql)))


def _texts(value):
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    return [value] if isinstance(value, str) else []


@every
@pytest.mark.parametrize("bad", ["", " ", "a b", "None", None, 5], ids=repr)
def test_a_run_is_asked_for_by_its_id(api, bad):
    """It is one segment of the path, whatever it holds."""
    call = calls.get_run(api, " a/b?c#d%\n")
    assert (call.request.method, call.request.path) == ("GET", f"{api.runs_path}/a%2Fb%3Fc%23d%25")
    assert (call.request.body, call.request.stripe_version) == (None, api.stripe_version)
    assert call.tried == f"get {api.noun} a/b?c#d%"
    with pytest.raises(InvalidInput, match=rf"^{api.noun.replace(' ', '_')}_id must be the id"):
        calls.get_run(api, bad)


@every
def test_columns_are_asked_for_if_they_do_not_come_by_themselves(api):
    """In the API's own spelling of a list."""
    asks = api.name in {"v2.reporting", "v2.reporting.query_runs"}
    query = "?include%5B0%5D=result.file.schema" if asks else ""
    assert calls.get_run(api, "r", columns=True).request.path == f"{api.runs_path}/r{query}"


@of_reports
def test_a_definition_is_asked_for_by_its_id(api):
    """It is one segment of the path, whatever it holds."""
    call = calls.get_report(api, " a/b?c ", fresh_since=5.0)
    path, _, query = call.request.path.partition("?")
    assert path.endswith("/a%2Fb%3Fc")
    assert path.rpartition("/")[0] == call.request.template.rpartition("/")[0]
    assert query in {"", "include%5B0%5D=parameters"}
    assert (call.request.fresh_since, call.tried) == (5.0, "get report a/b?c")
    assert call.request.stripe_version == api.stripe_version


@of_queries
def test_a_query_run_has_no_definition(api):
    """It is permanent: asking again does not help."""
    with pytest.raises(InvalidInput, match="has no report definitions"):
        calls.get_report(api, "balance_summary")


@every
def test_what_cannot_be_listed_is_refused(api):
    """Only v1 lists runs; v2.reporting lists nothing."""
    for listing, ask in (
        (api.run_listing, lambda: calls.list_runs(api, since=SINCE)),
        (api.report_listing, lambda: calls.list_reports(api)),
    ):
        if listing is None:
            with pytest.raises(InvalidInput, match=rf"^api='{api.name}' has no list of "):
                ask()
        else:
            call = ask()
            assert (call.request.method, call.request.template) == (
                "GET",
                call.request.path.partition("?")[0],
            )
            assert call.request.stripe_version == api.stripe_version


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("v2.reporting", "reporting_read to read and reporting_write to create"),
        (
            "v1",
            "report_runs_and_report_types_read to read and to create, and Files (read) to download",
        ),
        ("v2.data", "data_reports_read to read and to create"),
        ("v2.data.query_runs", "data_queries_read to read and to create"),
    ],
)
def test_a_call_knows_which_permissions_it_needs(name, needs):
    """For the error of a key that lacks one."""
    assert calls.get_run(named(name), "r").needs == needs


# What is read


def test_there_are_samples():
    """Of each generation, and in each state."""
    assert {each.values[0] for each in RUNS} == set(EVERY)
    statuses = {each.values[1]["status"] for each in RUNS}
    assert statuses == {"pending", "running", "succeeded", "failed"}


@every
def test_samples_are_as_described(api):
    """Those of this file as well, apart from a slip of a guide's: a purpose that is not listed."""
    for sample in _runs(api.name):
        # The validator knows no null that is allowed beside a reference.
        known = {name: value for name, value in sample.items() if value is not None}
        if sample.get("result") and sample["result"].get("purpose") == "report_run":
            known["result"] = sample["result"] | {"purpose": "finance_report_run"}
        check_object(api.name, known)


@pytest.mark.parametrize(("name", "sample"), RUNS)
def test_every_sample_of_a_run_is_read(name, sample):
    """Into the same form, whatever the wire calls it."""
    found = named(name).read_run(sample)
    assert isinstance(found, ReportRun)
    assert found.id == sample["id"]
    assert found.livemode is sample["livemode"]
    assert found.created_at.tzinfo is timezone.utc
    assert found.is_finished is (found.status in FINISHED)
    assert (found.file is not None) is (found.status == "succeeded")
    for bound in found.report_parameters.keys() & {"interval_start", "interval_end"}:
        assert found.report_parameters[bound].endswith(".000Z")


@every
@pytest.mark.parametrize("status", ["running", "succeeded", "failed", "canceled", "queued"])
def test_statuses_are_one_union(api, status):
    """One that is not known counts as unfinished, until the deadline."""
    found = api.read_run({"id": "r", "status": status})
    assert (found.status, found.is_finished) == (status, status in FINISHED)
    assert isinstance(found.failure, ReportRunFailed) is (status in {"failed", "canceled"})


@every
@pytest.mark.parametrize("missing", ["id", "status"])
@pytest.mark.parametrize("odd", ["", None, 5, True, [], {}], ids=repr)
def test_an_answer_without_id_or_status_is_no_run(api, missing, odd):
    """Nothing could be done with it; the error is transient, for a proxy may have sent it."""
    with pytest.raises(
        UnexpectedAnswer, match=f"has no '{missing}', so it is no {api.noun}"
    ) as said:
        api.read_run({"id": "r", "status": "running"} | {missing: odd})
    assert said.value.transient


@every
def test_a_run_is_the_one_that_was_asked_for(api):
    """Another one's file would land under the wrong name."""
    call = calls.get_run(api, "mine")
    assert call.read({"id": "mine", "status": "running"}).id == "mine"
    with pytest.raises(UnexpectedAnswer, match=rf"about another {api.noun}, 'other'"):
        call.read({"id": "other", "status": "running"})


@every
def test_no_answer_shows_its_url(api):
    """It is a credential in v2, and no harm is done where it is not."""
    for sample in _runs(api.name):
        found = api.read_run(sample)
        shown = (repr(found), str(found), repr(found.file), json.dumps(found))
        assert not [text for text in shown if "https://" in text]


# Whatever comes


ODD_FIELDS = [None, True, 0, -1, 1 << 70, 1.5, "", "x", [], {}, [None], [1], {"a": 1}, [[]], [{}]]


def places(value, path=()):
    """Find every place in JSON values."""
    yield path
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*path, name))


def with_odd(value, path, odd):
    """Put something odd in one place."""
    if not path:
        return odd
    name, *rest = path
    if isinstance(value, list):
        return [with_odd(each, rest, odd) if at == name else each for at, each in enumerate(value)]
    return value | {name: with_odd(value[name], rest, odd)}


def told(api, data):
    """Give what leaves a task of a run, and its failure."""
    found = api.read_run(data)
    failure = str(found.failure) if found.failure else None
    file = found.file
    columns = [[each.name, each.type] for each in (file and file.schema) or ()]
    counts = [file and file.row_count, file and file.column_count, file and file.size]
    assert found.created_at is None or found.created_at.tzinfo is timezone.utc
    assert found.refreshed_at is None or found.refreshed_at.tzinfo is timezone.utc
    return [found.summary(), failure, columns, counts, found.sql and found.sql[:100]]


def whole(api):
    """Give a run with every field that is read."""
    return max(_runs(api.name), key=lambda run: len(str(run)))


@every
def test_every_field_may_be_of_any_type(api):
    """Each field in turn holds what it should not; only errors of the package leave."""
    run = whole(api)
    for path in places(run):
        for odd in ODD_FIELDS:
            assert fits(left(told, api, with_odd(run, path, odd))), (path, odd)


@pytest.mark.parametrize("seed", range(2))
@every
def test_whatever_comes_only_errors_of_the_package_leave(api, seed):
    """And all that leaves can be stored."""
    rng = random.Random(f"{api.name} {seed}")  # noqa: S311 - the same cases each time
    run = whole(api)
    for _ in range(300):
        assert fits(left(told, api, changed(rng, run)))


def defined(api, data):
    """Give what leaves of a definition."""
    call = calls.get_report(api, "balance.summary.1")
    report = call.read(data)
    return report.summary()


@of_reports
def test_every_field_of_a_definition_may_be_of_any_type(api):
    """Each field in turn holds what it should not; only errors of the package leave."""
    (definition, *_) = [
        each
        for kind in ("v2.reporting.report", "v2.data.report", "reporting.report_type")
        for _, each in samples(kind, described(api.name))
    ] or [{"id": "r", "name": "R", "description": "D", "parameters": {"p": {"type": "enum"}}}]
    rng = random.Random(api.name)  # noqa: S311 - the same cases each time
    for path in places(definition):
        for odd in ODD_FIELDS:
            assert fits(left(defined, api, with_odd(definition, path, odd))), (path, odd)
    for _ in range(300):
        assert fits(left(defined, api, changed(rng, definition)))
