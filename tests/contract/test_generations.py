"""What requests of each generation are on the wire, blocking and awaiting."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import pytest
from support.cases import INTERVAL
from support.cases import INTERVAL as WEEK

from airflow_provider_reportrun.errors import (
    CapacityExceeded,
    DataNotAvailable,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    RateLimited,
    ReportRunError,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.asking import ask
from airflow_provider_reportrun.protocol.earlier import find_earlier
from airflow_provider_reportrun.protocol.generations import NAMES, named
from airflow_provider_reportrun.protocol.interval import format_instant
from airflow_provider_reportrun.protocol.requests import QueryRequest, ReportRequest
from airflow_provider_reportrun.protocol.retry import RetryPolicy

REQUEST = ReportRequest("balance.summary.1", {"interval_end": "2023-09-18T00:00:00.000Z"})
ONCE = RetryPolicy(attempts=1)
of_every_generation = pytest.mark.parametrize("api", [*map(named, NAMES)], ids=NAMES)


def sent(sandbox, form, call, context=None):
    """Send a call, whatever the answer, and give what arrived."""
    hook = ReportRunHook(stripe_context=context)
    flow = ask(call, policy=ONCE)
    try:
        if form.name == "blocking":
            with hook:
                hook.converse(flow)
        else:
            asyncio.run(hook.aconverse(flow))
    except ReportRunError:
        pass  # what is asked for need not be there
    (request,) = sandbox.requests
    return request


@of_every_generation
def test_a_body_is_sent_as_it_was_encoded(sandbox, form, api):
    """With its type, and the version that its fields are of."""
    call = calls.create_run(api, REQUEST, "k")
    request = sent(sandbox, form, call)
    assert (request.method, request.path) == ("POST", api.runs_path)
    assert bytes(request.body) == call.request.body.content
    assert request.headers["content-type"] == call.request.body.content_type
    assert request.headers["idempotency-key"] == "k"
    assert request.headers["stripe-version"] == api.stripe_version


@of_every_generation
def test_the_version_of_the_connection_is_over_that_of_the_generation(sandbox, form, api, connect):
    """Who pins a version means it; a question has no body and no type of one."""
    connect({"stripe_version": "2030-01-01.pinned"})
    request = sent(sandbox, form, calls.get_run(api, "r"))
    assert request.headers["stripe-version"] == "2030-01-01.pinned"
    assert (bytes(request.body), request.headers.get("content-type")) == (b"", None)


@pytest.mark.parametrize("where", ["connection", "task"])
@of_every_generation
def test_an_account_has_the_header_of_the_generation(sandbox, form, api, connect, where):
    """In that header alone, whoever names it."""
    connect({"stripe_context": "acct_1"} if where == "connection" else {})
    context = "acct_1" if where == "task" else None
    request = sent(sandbox, form, calls.get_run(api, "r"), context)
    headers = {"stripe-context", "stripe-account"} & set(request.headers)
    assert headers == {"stripe-account" if api.name == "v1" else "stripe-context"}
    assert request.headers[headers.pop()] == "acct_1"


def test_an_account_of_an_organisation_is_a_context(sandbox, form):
    """No other header holds the way to it."""
    request = sent(sandbox, form, calls.get_run(named("v1"), "r"), "acct_1/acct_2")
    assert request.headers["stripe-context"] == "acct_1/acct_2"
    assert "stripe-account" not in request.headers


REPORTS = {
    "v2.reporting": "balance_summary",
    "v2.data": "name:balance.summary",
    "v1": "balance.summary.1",
}


@pytest.mark.parametrize("where", ["connection", "hook"])
@of_every_generation
def test_a_result_is_downloaded(sandbox, api, connect, where, tmp_path):
    """With the key only if the files of the generation need it."""
    connect({"api": api.name} if where == "connection" else {})
    with ReportRunHook(api=api.name if where == "hook" else None) as hook:
        run_id = hook.create_report_run(REPORTS[api.name], INTERVAL).id
        facts = hook.download_result(run_id, tmp_path / "report.csv")
    body = (tmp_path / "report.csv").read_bytes()
    assert body.startswith(b"category,")
    assert (facts.size, facts.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert (facts.report_run_id, facts.content_type) == (run_id, "csv")
    assert (facts.report_parameters["interval_start"]) == INTERVAL["interval_start"]
    request = sandbox.requests[-1]
    assert request.operation == "download"
    assert ("authorization" in request.headers) is bool(api.key_hosts)
    assert ("stripe-version" in request.headers) is bool(api.key_hosts)


@of_every_generation
def test_a_generation_whose_files_need_the_key_names_their_permission(api):
    """A refusal of the key is about it."""
    assert bool(api.permissions.file) is bool(api.key_hosts)


# Whole conversations


REQUESTS = {
    "v2.reporting": ReportRequest("balance_summary", WEEK),
    "v1": ReportRequest("balance.summary.1", WEEK | {"columns": ["category", "net_amount"]}),
    "v2.data": ReportRequest("name:balance.summary", WEEK),
    "v2.data.query_runs": QueryRequest("select 1 as a"),
    "v2.reporting.query_runs": QueryRequest("select 1 as a"),
}
SHORTER = {"interval_end": "2026-11-01T00:00:00.000Z"}
on_every_generation = pytest.mark.parametrize("name", REQUESTS)


def told(form, call):
    """Send a call and return what its answer says."""
    hook = ReportRunHook()
    if form.name == "blocking":
        with hook:
            return hook.converse(ask(call, policy=ONCE))
    return asyncio.run(hook.aconverse(ask(call, policy=ONCE)))


@on_every_generation
def test_a_run_is_created_found_again_and_finished(sandbox, form, name):
    """By one key; a repeat tells the run as it is now, or as it was."""
    api, request = named(name), REQUESTS[name]
    run = told(form, calls.create_run(api, request, "k"))
    assert (run.status, run.livemode) == ("running", False)
    sandbox.advance(3600)
    again = told(form, calls.create_run(api, request, "k"))
    assert again.id == run.id
    assert (again.status == "succeeded") is api.idempotency.answers_afresh
    found = told(form, calls.get_run(api, run.id, columns=True))
    assert (found.status, found.created_at) == ("succeeded", run.created_at)
    assert found.file.size > 0
    assert (found.file.schema is None) is (name == "v1")
    assert (found.refreshed_at is not None) is api.shows_data_on_run
    if isinstance(request, ReportRequest):
        assert found.report_parameters == request.parameters
    else:
        assert found.sql == request.sql


@on_every_generation
def test_another_request_needs_another_key(form, name):
    """Whatever status and form the refusal has."""
    api, request = named(name), REQUESTS[name]
    told(form, calls.create_run(api, request, "k"))
    other = (
        request._replace(sql="select 2 as a")
        if isinstance(request, QueryRequest)
        else request._replace(parameters=dict(request.parameters) | SHORTER)
    )
    with pytest.raises(IdempotencyMismatch):
        told(form, calls.create_run(api, other, "k"))


@on_every_generation
def test_a_limit_of_runs_is_waited_for(sandbox, form, name):
    """v1 has no code for it, so there it is a limit of requests; both are waited for."""
    sandbox.limit(0)
    with pytest.raises(CapacityExceeded if name != "v1" else RateLimited) as raised:
        told(form, calls.create_run(named(name), REQUESTS[name], "k"))
    assert raised.value.transient


@on_every_generation
def test_a_run_that_is_not_there_is_not_found(form, name):
    """The error is permanent and names the id."""
    api = named(name)
    with pytest.raises(NotFound, match=f"finds no {api.noun} nope "):
        told(form, calls.get_run(api, "nope"))


@pytest.mark.parametrize("name", ["v1", "v2.reporting", "v2.data"])
def test_a_definition_is_what_its_generation_says(form, name):
    """With a window where there is one before a run."""
    api = named(name)
    found = told(form, calls.get_report(api, REQUESTS[name].report))
    end = found.parameters["interval_end"]
    assert (end.type, end.required) == ("timestamp", True)
    assert (end.latest is None) is api.shows_data_on_run


@pytest.mark.parametrize("name", ["v1", "v2.data"])
def test_every_report_of_the_list_has_a_definition(form, name):
    """The same one."""
    api = named(name)
    page = told(form, calls.list_reports(api))
    assert len(page.reports) > 3
    for each in page.reports[:4]:
        assert told(form, calls.get_report(api, each.id)).name == each.name


def test_an_interval_past_the_data_of_v1_is_not_there_yet(form):
    """At their very end it is, as the guide says."""
    v1 = named("v1")
    end = told(form, calls.get_report(v1, "balance.summary.1")).parameters["interval_end"].latest
    week = {"interval_start": WEEK["interval_start"], "interval_end": format_instant(end)}
    assert told(form, calls.create_run(v1, ReportRequest("balance.summary.1", week), "k")).id
    late = week | {"interval_end": format_instant(end + timedelta(seconds=1))}
    with pytest.raises(DataNotAvailable) as raised:
        told(form, calls.create_run(v1, ReportRequest("balance.summary.1", late), "l"))
    assert raised.value.available_through == format_instant(end)


@pytest.mark.parametrize("name", ["v2.data.query_runs", "v2.reporting.query_runs"])
def test_wrong_sql_is_refused_with_its_position(form, name):
    """For good."""
    call = calls.create_run(named(name), QueryRequest("select nope from balance_transactions"), "k")
    with pytest.raises(InvalidRequest, match=r"line 1:8: Column 'nope'") as raised:
        told(form, call)
    assert (raised.value.code, raised.value.transient) == ("query_run_invalid_sql", False)


def test_an_earlier_run_is_found_in_the_list(sandbox, form):
    """Of the same parameters, as the API echoes them."""
    v1, request = named("v1"), REQUESTS["v1"]
    run = told(form, calls.create_run(v1, request, "k"))
    told(form, calls.create_run(v1, request._replace(parameters=WEEK), "other"))
    flow = find_earlier(v1, request, since=run.created_at, ask=ask)
    hook = ReportRunHook()
    with hook:
        assert hook.converse(flow).id == run.id


@of_every_generation
def test_the_session_speaks_the_generation(sandbox, api, connect):
    """Whoever sends with it by hand sends the version, and the account in its own header."""
    connect({"stripe_context": "acct_1"})
    with ReportRunHook(api=api.name) as hook:
        headers = hook.get_conn().headers
    assert headers["Stripe-Version"] == api.stripe_version
    assert headers[api.account_header] == "acct_1"
    assert {"Stripe-Context", "Stripe-Account"} & set(headers) == {api.account_header}
