"""The hook against the sandbox over a socket: what goes right."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from contract.form import REPORTS
from support.cases import INTERVAL, STILL_RUNNING

from airflow_provider_reportrun import __version__
from airflow_provider_reportrun.errors import (
    DeadlinePassed,
    InvalidInput,
    ReportRunFailed,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.generations import NAMES, named
from airflow_provider_reportrun.sandbox import Answer, Fault, Patch, Sandbox

by_every_generation = pytest.mark.parametrize("speaks", NAMES)


@by_every_generation
def test_creates_a_report_run(sandbox, form, speaks):
    """It is returned as the API made it; v1 has no options."""
    options = {"v2.reporting": {"compress_file": True}, "v2.data": {"compression": "zip"}}
    run = form.create(options=options.get(speaks), key="k1")
    (made,) = sandbox.runs
    assert (run.id, run.status, run.report) == (made.id, "running", form.report)
    assert run.report_parameters == INTERVAL
    assert run.livemode is False
    assert made.idempotency_key == "k1"
    assert made.compress_file is (speaks in options)


def test_instants_may_be_datetimes(sandbox, form):
    """Aware ones are written as the API takes them; dates would need a zone."""
    start = datetime(2026, 10, 26, 2, tzinfo=timezone(timedelta(hours=2)))
    form.create(parameters=INTERVAL | {"interval_start": start})
    (made,) = sandbox.runs
    assert made.report_parameters == INTERVAL
    with pytest.raises(InvalidInput, match="interval_start"):
        form.create(parameters=INTERVAL | {"interval_start": datetime(2026, 10, 26)})  # noqa: DTZ001


def test_the_same_key_gives_the_same_report_run(sandbox, form):
    """As it is now, not as it was."""
    first, second = form.create(key="k1"), form.create(key="k1")
    assert first.id == second.id
    assert (first.status, second.status) == ("running", "succeeded")
    assert len(sandbox.runs) == 1


@pytest.mark.parametrize("key", [None, ""], ids=repr)
def test_without_a_key_each_create_is_one_of_its_own(sandbox, form, key):
    """A random key covers the repeats of one call alone."""
    assert form.create(key=key).id != form.create(key=key).id
    assert len({run.idempotency_key for run in sandbox.runs}) == 2
    assert all(run.idempotency_key for run in sandbox.runs)


@by_every_generation
def test_gets_a_report_run(sandbox, form, speaks):
    """A succeeded one comes with its file, whose URL is fresh each time, or needs the key."""
    report_run_id = form.create().id
    first, second = form.get_run(report_run_id), form.get_run(report_run_id)
    assert (first.id, first.status) == (report_run_id, "succeeded")
    assert first.file.content_type == "csv"
    assert first.file.size > 0
    assert first.file.url.reveal().startswith(sandbox.url)
    if named(speaks).key_hosts:
        assert first.file.url == second.file.url
    else:
        assert first.file.url != second.file.url
        assert first.file.url_expires_at > datetime.now(timezone.utc)


@by_every_generation
@pytest.mark.parametrize("other", ["reprun_other", "REPRUN_", "x"])
def test_another_report_run_is_refused(sandbox, form, other):
    """What a cache or a proxy mixed up is told apart by the id, and may pass."""
    report_run_id = form.create().id
    change = Patch(lambda run: run | {"id": run["id"].upper() if other == "REPRUN_" else other})
    sandbox.faults.add(Fault("get_run", change, times=None))
    with pytest.raises(UnexpectedAnswer, match="another report run") as caught:
        form.get_run(report_run_id)
    assert caught.value.transient
    assert report_run_id in str(caught.value)
    sandbox.faults.clear()
    assert form.get_run(report_run_id).id == report_run_id


def test_gets_a_result_file_with_its_columns(sandbox, form):
    """They are told only where they are asked for."""
    report_run_id = form.create().id
    with ReportRunHook() as hook:
        file = hook.get_result_file(report_run_id)
        assert [each.name for each in file.schema] == [
            "category",
            "description",
            "net_amount",
            "currency",
        ]
        assert file.schema[2].type == "double"
        assert hook.get_report_run(report_run_id).file.schema is None


def test_a_version_that_does_not_tell_columns(sandbox, form, caplog):
    """It refuses the question, which is logged; the rest of what it says is had all the same."""
    refusal = {"error": {"code": "invalid_fields", "message": "Unknown: include"}}
    sandbox.faults.add(
        Fault("get_run", Answer(status=400, body=refusal), times=None, match="include")
    )
    with ReportRunHook() as hook:
        file = hook.get_result_file(form.create().id)
    assert (file.content_type, file.schema) == ("csv", None)
    assert "does not return the columns" in caplog.text


@by_every_generation
def test_a_report_run_without_a_result_has_no_file(sandbox, form):
    """As one that has failed."""
    sandbox.fail_next(1, "internal_error")
    with ReportRunHook() as hook:
        assert hook.get_result_file(form.create().id) is None


def test_gets_a_failed_report_run(sandbox, form):
    """That is an answer like any other: whoever waits makes an error of it."""
    sandbox.fail_next(1, "file_size_above_limit")
    run = form.get_run(form.create().id)
    assert (run.status, run.error_code) == ("failed", "file_size_above_limit")
    assert not run.failure.transient


def test_gets_a_report(form):
    """Its parameters, and which data there is."""
    report = form.get_report("payouts_itemized")
    assert (report.id, report.name, report.livemode) == (
        "payouts_itemized",
        "Itemized payouts",
        False,
    )
    assert report.parameters["interval_end"].required
    assert report.parameters["interval_end"].latest > datetime(2026, 11, 1, tzinfo=timezone.utc)
    assert "payout_id" in report.parameters["columns"].allowed_values


def test_what_every_request_carries(sandbox, form, connect):
    """Key, version and who we are; a body has a type, a question has no body and no key."""
    connect({"stripe_version": "2026-10-14.preview"})
    form.get_run(form.create().id)
    post, get = sandbox.requests
    for request in (post, get):
        assert request.headers["authorization"] == f"Bearer {sandbox.api_key}"
        assert request.headers["stripe-version"] == "2026-10-14.preview"
        assert request.headers["user-agent"] == f"airflow-provider-reportrun/{__version__}"
        assert request.headers["accept"] == "application/json"
        assert "stripe-context" not in request.headers
    assert post.headers["content-type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f-]{36}", post.headers["idempotency-key"])
    assert post.json == {"report": "balance_summary", "report_parameters": INTERVAL}
    assert (get.body, get.headers.get("content-type")) == (b"", None)
    assert "idempotency-key" not in get.headers


@pytest.mark.parametrize(
    ("expected", "own", "given"),
    [
        ("acct_own", "acct_own", None),
        ("acct_own", "acct_own", " "),
        ("acct_task", "acct_own", "acct_task"),
        ("acct_task", None, " acct_task "),
    ],
    ids=repr,
)
def test_the_context_of_the_hook_wins_over_the_connections(
    sandbox, form, connect, expected, own, given
):
    """None and empty text leave the connection's."""
    connect({"stripe_context": own})
    form.get_report(context=given)
    (request,) = sandbox.requests
    assert request.headers["stripe-context"] == expected
    assert ReportRunHook(stripe_context=given).effective_context == expected


@pytest.mark.parametrize("context", [5, "acct_1\nX: y", "acct_日本", ["acct_1"]], ids=repr)
def test_what_cannot_be_a_context_is_refused(context):
    """When the hook is made, by name."""
    with pytest.raises(InvalidInput, match="stripe_context"):
        ReportRunHook(stripe_context=context)


def test_a_key_of_netrc_is_not_sent(sandbox, form, monkeypatch, tmp_path):
    """HTTP libraries put what a .netrc holds for a host in place of the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password 5ec4e7\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    form.get_report()
    assert sandbox.requests[0].headers["authorization"] == f"Bearer {sandbox.api_key}"


@pytest.fixture
def proxy():
    """A proxy that answers by itself, and the targets that it was asked for."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        """Answers with a report."""

        def do_GET(self):
            """Answer."""
            asked.append(self.path)
            body = b'{"id": "by_proxy"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


PLAIN = {"allow_plain_http": True}


def test_a_proxy_is_used(form, connect, proxy):
    """The one of the connection, for a host that this machine cannot even look up."""
    address, asked = proxy
    connect({"proxy": address} | PLAIN, host="http://api.stripe.invalid")
    assert form.get_report().id == "by_proxy"
    assert asked == ["http://api.stripe.invalid/v2/reporting/reports/balance_summary"]


def test_the_proxy_of_the_environment_is_used_where_the_connection_has_none(
    form, connect, proxy, monkeypatch
):
    """As HTTP libraries do; the connection's own wins."""
    address, asked = proxy
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", address)
    connect(PLAIN, host="http://api.stripe.invalid")
    assert form.get_report().id == "by_proxy"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    connect({"proxy": address} | PLAIN, host="http://api.stripe.invalid")
    assert form.get_report().id == "by_proxy"
    assert len(asked) == 2


def run_awaiting(hook):
    """The hook's awaiting conversation, to be called without awaiting."""
    return lambda flow: asyncio.run(hook.aconverse(flow))


def test_a_step_that_nobody_knows_is_refused(sandbox, form):
    """A conversation that asks for something new must not go on as if it had been done."""

    def flow():
        yield "dance"

    hook = ReportRunHook()
    converse = hook.converse if form.name == "blocking" else run_awaiting(hook)
    with pytest.raises(AssertionError, match="dance"):
        converse(flow())


def test_a_definition_is_of_the_server_that_gave_it(sandbox, monkeypatch):
    """A connection of the same name that leads elsewhere by now has definitions of its own."""
    with ReportRunHook() as hook:
        assert (
            hook.converse(flows.define(hook.api, "balance_summary")).report.id == "balance_summary"
        )
    with Sandbox() as another:
        monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", another.connection_uri)
        with ReportRunHook() as hook:
            hook.converse(flows.define(hook.api, "balance_summary"))
            hook.converse(flows.define(hook.api, "balance_summary"))
        assert [request.operation for request in another.requests] == ["get_report"]


def test_one_hook_keeps_one_connection(sandbox):
    """Requests in a row take one TCP connection; a closed hook opens another."""
    with ReportRunHook() as hook:
        for _ in range(5):
            hook.get_report("balance_summary")
        assert sandbox.connections == 1
        hook.close()
        hook.get_report("balance_summary")
        assert sandbox.connections == 2


def test_the_session_may_be_used_for_other_paths(sandbox):
    """It carries key and version, and is the one that the hook sends with."""
    with ReportRunHook(stripe_context="acct_1") as hook:
        session = hook.get_conn()
        assert isinstance(session, requests.Session)
        assert session is hook.get_conn()
        answer = session.get(f"{sandbox.url}/v2/reporting/reports/balance_summary", timeout=10)
    assert answer.status_code == 200
    (request,) = sandbox.requests
    assert request.headers["authorization"] == f"Bearer {sandbox.api_key}"
    assert request.headers["stripe-context"] == "acct_1"
    assert "stripe-version" in request.headers


# Waiting


@by_every_generation
def test_waits_for_a_report_run(sandbox, pauses, speaks):
    """It is asked for until it has succeeded, at first more often than the interval."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=3))
    with ReportRunHook() as hook:
        report_run_id = hook.create_report_run(REPORTS[speaks], INTERVAL).id
        run = hook.wait_for_report_run(report_run_id, poll_interval=1.5)
    assert (run.id, run.status) == (report_run_id, "succeeded")
    assert len(pauses) == 3
    assert all(0 < pause <= 1.5 for pause in pauses)


def test_a_wait_passes_over_another_report_run(sandbox, pauses):
    """A wait goes on until the report run itself has succeeded."""
    sandbox.faults.add(Fault("get_run", Patch({"id": "reprun_other"}), times=2))
    with ReportRunHook() as hook:
        report_run_id = hook.create_report_run("balance_summary", INTERVAL).id
        assert hook.wait_for_report_run(report_run_id).id == report_run_id


@pytest.mark.parametrize("timeout", [0, 0.0, timedelta(0)], ids=repr)
def test_a_wait_has_a_timeout(sandbox, pauses, timeout):
    """Seconds or a timedelta; with none it looks once."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    with ReportRunHook() as hook:
        report_run_id = hook.create_report_run("balance_summary", INTERVAL).id
        with pytest.raises(DeadlinePassed, match=f"{report_run_id}.*goes on at Stripe"):
            hook.wait_for_report_run(report_run_id, timeout=timeout)
    assert pauses == []
    assert len(sandbox.requests) == 2


@by_every_generation
def test_a_wait_for_a_report_run_that_fails(sandbox, pauses, speaks):
    """It ends with the error that the API gave."""
    sandbox.fail_next(1)
    with ReportRunHook() as hook:
        report_run_id = hook.create_report_run(REPORTS[speaks], INTERVAL).id
        with pytest.raises(ReportRunFailed, match=r"internal[_ ]error") as raised:
            hook.wait_for_report_run(report_run_id)
    assert raised.value.report_run_id == report_run_id


def test_downloads_a_result(sandbox, tmp_path):
    """To a local file, with the facts of what came."""
    with ReportRunHook() as hook:
        report_run_id = hook.create_report_run("balance_summary", INTERVAL).id
        facts = hook.download_result(report_run_id, tmp_path / "report.csv")
    landed = (tmp_path / "report.csv").read_bytes()
    assert landed.startswith(b"category,")
    assert facts.size == len(landed)
    assert facts.sha256 == hashlib.sha256(landed).hexdigest()
    assert (facts.report_run_id, facts.content_type) == (report_run_id, "csv")
    assert [each.name for each in tmp_path.iterdir()] == ["report.csv"]
