"""What requests of each generation are on the wire, blocking and awaiting."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from support.cases import INTERVAL

from airflow_provider_reportrun.errors import ReportRunError
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.asking import ask
from airflow_provider_reportrun.protocol.generations import NAMES, named
from airflow_provider_reportrun.protocol.requests import ReportRequest
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
        pass  # the sandbox may not know this generation
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
