"""The hook against the sandbox over a socket: what goes wrong, in both forms alike."""

from __future__ import annotations

import traceback

import pytest
from contract.form import HTML
from support.cases import INTERVAL

from airflow_provider_reportrun.errors import (
    ApiError,
    AuthenticationError,
    CapacityExceeded,
    IdempotencyMismatch,
    InvalidInput,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ReportRunError,
    ServerError,
    TransportError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.protocol.generations import NAMES, named
from airflow_provider_reportrun.sandbox import Answer, Fault, Hold, LoseAnswer, Refuse

ATTEMPTS = 5
by_every_generation = pytest.mark.parametrize("speaks", NAMES)


def posts(sandbox):
    """The creates that arrived."""
    return [request for request in sandbox.requests if request.method == "POST"]


def page(status):
    """A fault that answers with a page."""
    return Answer(status=status, body=HTML, content_type="text/html")


# What the API refuses


@by_every_generation
def test_an_unknown_parameter(sandbox, form, speaks):
    """400 with the API's own message, and asked once."""
    words = "unknown parameter" if speaks == "v1" else "`colour` is not a parameter"
    with pytest.raises(InvalidRequest, match=words) as raised:
        form.create(parameters=INTERVAL | {"colour": "red"})
    code = "parameter_unknown" if speaks == "v1" else "invalid_fields"
    assert (raised.value.status, raised.value.code) == (400, code)
    assert raised.value.request_id
    assert raised.value.request_id in str(raised.value)
    assert len(sandbox.requests) == 1


@by_every_generation
def test_an_unknown_key(sandbox, form, connect):
    """401, which names the field that the key stands in."""
    connect(password="rk_test_wrong_key_0000")  # noqa: S106
    with pytest.raises(AuthenticationError, match="password field") as raised:
        form.get_report()
    assert raised.value.status == 401
    assert "rk_test_wrong_key_0000" not in str(raised.value)
    assert len(sandbox.requests) == 1


def test_a_key_that_may_only_read(sandbox, form, connect):
    """403, which names the permission."""
    connect(password=sandbox.keyring.read_only.value)
    with pytest.raises(PermissionDenied, match="reporting_write") as raised:
        form.create()
    assert not raised.value.context_missing
    assert form.get_report().id == "balance_summary"


@by_every_generation
def test_a_key_that_may_nothing(sandbox, form, connect, speaks):
    """403, which names what the generation needs to create, and to read."""
    connect(password=sandbox.keyring.powerless.value)
    needs = named(speaks).permissions
    for ask, permission in ((form.create, needs.create), (form.get_report, needs.read)):
        with pytest.raises(PermissionDenied) as raised:
            ask()
        assert permission in str(raised.value)


@by_every_generation
def test_a_key_of_an_organization(sandbox, form, connect):
    """403 without a context; the error says that one is missing."""
    connect(password=sandbox.keyring.organization.value)
    with pytest.raises(PermissionDenied, match="stripe_context") as raised:
        form.get_report()
    assert raised.value.context_missing
    assert form.get_report(context="acct_1").id == form.report


def test_a_report_that_is_out_of_reach(form):
    """403 as well, with the API's own words."""
    with pytest.raises(PermissionDenied, match="not available to your account") as raised:
        form.get_report("connected_account_payouts_itemized")
    assert raised.value.code == "report_inaccessible"


@by_every_generation
@pytest.mark.parametrize("method", ["get_run", "get_report"])
def test_an_unknown_id(sandbox, form, method):
    """404, which names the id; it is not waited for, and at most the list is asked for."""
    with pytest.raises(NotFound, match="nothing_of_this_name") as raised:
        getattr(form, method)("nothing_of_this_name")
    assert raised.value.status == 404
    more = [each.operation for each in sandbox.requests[1:]]
    assert more in ([], ["list_reports"] if method == "get_report" else [])


@by_every_generation
def test_the_report_run_of_another_account(form):
    """404: accounts do not see each other's."""
    report_run_id = form.create(context="acct_1").id
    with pytest.raises(NotFound):
        form.get_run(report_run_id, context="acct_2")


@by_every_generation
def test_the_same_key_with_other_parameters(sandbox, form, speaks):
    """409 or 400, not asked again: it would stay."""
    form.create(key="k1")
    with pytest.raises(IdempotencyMismatch, match="idempotency_key") as raised:
        form.create(key="k1", parameters=INTERVAL | {"currency": "eur"})
    assert raised.value.status == (400 if speaks == "v1" else 409)
    assert len(sandbox.requests) == 2


def test_a_body_that_is_no_json(sandbox, form):
    """415, not asked again."""
    sandbox.faults.add(Fault("create", Answer(status=415)))
    with pytest.raises(InvalidRequest) as raised:
        form.create()
    assert raised.value.status == 415
    assert len(sandbox.requests) == 1


def test_no_room_for_one_more(sandbox, form):
    """429 of its own kind, which takes minutes: whoever calls decides where to wait."""
    sandbox.limit(0)
    with pytest.raises(CapacityExceeded, match="wait until one of them ends") as raised:
        form.create()
    assert raised.value.code == "report_run_rate_limit_exceeded"
    assert raised.value.transient
    assert len(sandbox.requests) == 1


# What passes


@by_every_generation
@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 504])
def test_what_passes_is_asked_again(sandbox, form, status):
    """Within seconds, and with the same key, so that there is one report run."""
    sandbox.faults.add(Fault("create", Answer(status=status), times=ATTEMPTS - 1))
    assert form.create().id == sandbox.runs[0].id
    assert len(posts(sandbox)) == ATTEMPTS
    assert len({request.headers["idempotency-key"] for request in posts(sandbox)}) == 1
    assert len(sandbox.runs) == 1


@pytest.mark.parametrize(("kind", "status"), [(RateLimited, 429), (ServerError, 503)])
def test_what_does_not_pass_comes_out(sandbox, form, kind, status):
    """After so many requests, with the status and as transient."""
    sandbox.faults.add(Fault("get_report", Answer(status=status), times=None))
    with pytest.raises(kind) as raised:
        form.get_report()
    assert raised.value.status == status
    assert raised.value.transient
    assert len(sandbox.requests) == ATTEMPTS


def test_what_the_api_says_is_in_vain_is_not_asked_again(sandbox, form):
    """Stripe-Should-Retry wins over what the status means."""
    answer = Answer(status=503, headers={"Stripe-Should-Retry": "false"})
    sandbox.faults.add(Fault("get_report", answer))
    with pytest.raises(ServerError):
        form.get_report()
    assert len(sandbox.requests) == 1


def test_what_the_api_says_will_pass_is_asked_again(sandbox, form):
    """Stripe-Should-Retry wins over what the status means."""
    answer = Answer(status=400, headers={"Stripe-Should-Retry": "true"})
    sandbox.faults.add(Fault("get_report", answer))
    assert form.get_report().id == "balance_summary"
    assert len(sandbox.requests) == 2


def test_the_servers_hint_is_slept_for(sandbox, form, pauses):
    """Retry-After takes the place of our own pause."""
    sandbox.faults.add(Fault("get_report", Answer(status=429, headers={"Retry-After": "3"})))
    assert form.get_report().id == "balance_summary"
    assert pauses == [3.0]


@by_every_generation
@pytest.mark.parametrize("fault", [LoseAnswer, Refuse], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end"])
def test_a_lost_answer_is_asked_for_again(sandbox, form, fault, reset):
    """The same key finds the report run that was made, or makes it now: there is one."""
    sandbox.faults.add(Fault("create", fault(reset=reset)))
    run = form.create()
    assert [made.id for made in sandbox.runs] == [run.id]
    first, second = posts(sandbox)
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


def test_a_server_that_hangs_up_comes_out(sandbox, form):
    """After so many requests, with what was tried; nothing of it is quoted from a library."""
    sandbox.faults.add(Fault("get_report", Refuse(), times=None))
    words = f"no whole answer from {sandbox.url} .* GET .*balance_summary"
    with pytest.raises(TransportError, match=words) as it:
        form.get_report()
    assert it.value.transient
    assert it.value.__cause__ is None
    assert it.value.__context__ is None
    # aiohttp asks once more by itself when a GET is cut off.
    assert len(sandbox.requests) in {ATTEMPTS, 2 * ATTEMPTS if form.name == "awaiting" else 0}


def test_a_host_that_does_not_listen(form, connect, closed_port):
    """The error names the address, the system's own words, and what to check."""
    connect(host=f"http://127.0.0.1:{closed_port}")
    with pytest.raises(TransportError, match=r"(?i)connection ?refused") as raised:
        form.get_report()
    assert f"http://127.0.0.1:{closed_port}" in str(raised.value)
    assert "host and proxy" in str(raised.value)


def test_an_answer_that_takes_too_long(sandbox, form, connect):
    """Is given up after the connection's request_timeout, and the socket with it."""
    connect({"request_timeout": 0.3})
    held = sandbox.faults.add(Fault("get_report", Hold(seconds=20)))
    assert form.get_report().id == "balance_summary"
    held.release()
    assert [request.operation for request in sandbox.requests] == ["get_report"] * 2


# What is not the API


@pytest.mark.parametrize("status", [200, 403, 404])
def test_a_page_of_a_proxy(sandbox, form, status):
    """Is no answer of the API, whatever its status says; it may let go."""
    sandbox.faults.add(Fault("get_report", page(status), times=None))
    with pytest.raises(UnexpectedAnswer, match=f"HTTP {status} came with text/html") as raised:
        form.get_report()
    assert "Sign in" not in str(raised.value)
    assert raised.value.status == status


@by_every_generation
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(sandbox, form, speaks, status):
    """The key and the body go to the API's address alone."""
    elsewhere = f"{sandbox.url}/elsewhere"
    redirect = Answer(status=status, headers={"Location": elsewhere})
    sandbox.faults.add(Fault("create", redirect, times=None))
    with pytest.raises(UnexpectedAnswer, match=f"HTTP {status}"):
        form.create()
    assert {named(speaks).runs_path} == {request.path for request in sandbox.requests}


@by_every_generation
@pytest.mark.parametrize("answer", [b"", b"null", b"[]", b'{"object": "list"}', b"{"], ids=repr)
def test_an_answer_of_another_kind(sandbox, form, answer):
    """Is unexpected, and names what was asked for."""
    sandbox.faults.add(Fault("get_report", Answer(status=200, body=answer), times=None))
    with pytest.raises(UnexpectedAnswer):
        form.get_report()


# What is not sent


def nothing_was_sent(sandbox):
    """Tell whether no request arrived."""
    return not sandbox.requests and not sandbox.connections


def test_there_is_no_such_connection(sandbox, form, monkeypatch):
    """The error names it, its type, and the argument."""
    monkeypatch.delenv("AIRFLOW_CONN_REPORTRUN_DEFAULT")
    with pytest.raises(InvalidInput, match="no Airflow connection 'reportrun_default'") as raised:
        form.get_report()
    assert "reportrun_conn_id" in str(raised.value)
    assert nothing_was_sent(sandbox)


def test_there_is_no_key_in_the_connection(sandbox, form, connect):
    """The error says where it goes."""
    connect(password="")
    with pytest.raises(InvalidInput, match="password field"):
        form.get_report()
    assert nothing_was_sent(sandbox)


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("report", {"report": ""}),
        ("report", {"report": None}),
        ("report_parameters", {"parameters": None}),
        (r"report_parameters\['count'\]", {"parameters": INTERVAL | {"count": 5}}),
        ("interval_end", {"parameters": INTERVAL | {"interval_end": "tomorrow"}}),
        ("The interval", {"parameters": INTERVAL | {"interval_end": INTERVAL["interval_start"]}}),
        ("result_options", {"options": {"format": "csv"}}),
        ("idempotency_key", {"key": "a\nX: y"}),
        ("idempotency_key", {"key": "日本"}),
        ("idempotency_key", {"key": "k" * 256}),
        ("idempotency_key", {"key": 5}),
    ],
    ids=repr,
)
def test_what_cannot_be_sent_is_refused(sandbox, form, named, arguments):
    """By the argument's name, before any request."""
    with pytest.raises(InvalidInput, match=named):
        form.create(**arguments)
    assert nothing_was_sent(sandbox)


@pytest.mark.parametrize("value", ["", None, "a b"], ids=repr)
def test_an_id_that_is_none_is_refused(sandbox, form, value):
    """By the argument's name, before any request."""
    with pytest.raises(InvalidInput, match=r"^report_run_id"):
        form.get_run(value)
    with pytest.raises(InvalidInput, match=r"^report "):
        form.get_report(value)
    assert nothing_was_sent(sandbox)


@pytest.mark.parametrize(
    "proxy", ["nonsense", "socks5://127.0.0.1:1", "http://", "http://127.0.0.1:port"]
)
def test_a_proxy_that_cannot_be_used(sandbox, form, connect, proxy):
    """Is an error of ours, in both forms."""
    connect({"proxy": proxy})
    with pytest.raises(ReportRunError, match="proxy"):
        form.get_report()
    assert nothing_was_sent(sandbox)


# The key


@by_every_generation
@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
@pytest.mark.parametrize(
    "echo",
    [
        lambda status, key: Answer(status=status, body={"error": {"code": key, "message": key}}),
        lambda status, key: Answer(status=status, body=f"<p>{key}</p>", content_type="text/html"),
        lambda status, key: Answer(status=status, body="x", content_type=f"text/x-{key}"),
        lambda status, key: Answer(status=status, headers={"Request-Id": f"req_{key}"}),
    ],
    ids=["code and message", "page", "content type", "request id"],
)
def test_an_echo_of_the_key_goes_nowhere(sandbox, form, status, echo):
    """Whatever a server repeats back, the key is in no error and no traceback."""
    sandbox.faults.add(Fault("get_report", echo(status, sandbox.api_key), times=None))
    with pytest.raises((ApiError, UnexpectedAnswer)) as raised:
        form.get_report()
    shown = "".join(traceback.format_exception(raised.value))
    assert sandbox.api_key not in shown + repr(raised.value) + repr(raised.value.facts)
