"""What the button "Test" of a connection says."""

from __future__ import annotations

import pytest
from contract.form import HTML

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol.generations import NAMES, named
from airflow_provider_reportrun.sandbox import Answer, Fault, Refuse

by_every_generation = pytest.mark.parametrize("speaks", NAMES)


@pytest.fixture(autouse=True)
def _no_pauses(pauses):
    """Nothing is waited for."""


def said():
    """Try the connection."""
    return ReportRunHook().test_connection()


@by_every_generation
@pytest.mark.parametrize("key", ["main", "second", "read_only"])
def test_a_key_that_may_read(sandbox, connect, key, speaks):
    """Works; whether it may create cannot be tried without creating, and that is said."""
    connect(password=getattr(sandbox.keyring, key).value)
    works, message = said()
    assert works
    assert f"The API at {sandbox.url} knows this key" in message
    assert named(speaks).permissions.create in message
    assert sandbox.runs == []


@by_every_generation
def test_a_key_of_an_organization_with_a_context(sandbox, connect):
    """Works."""
    connect({"stripe_context": "acct_1"}, password=sandbox.keyring.organization.value)
    works, message = said()
    assert works
    assert "the account acct_1" in message


def test_the_answer_of_a_report_run_that_exists(sandbox):
    """Works too, should there ever be one of that id."""
    body = {"id": "reprun_connection_test", "status": "running"}
    sandbox.faults.add(Fault("get_run", Answer(status=200, body=body)))
    assert said()[0]


@by_every_generation
def test_an_unknown_key(sandbox, connect):
    """Is told from everything else."""
    connect(password="rk_test_wrong_key_0000")  # noqa: S106
    works, message = said()
    assert not works
    assert message.startswith(f"The API at {sandbox.url} does not know this key: check the pass")


@by_every_generation
def test_a_key_without_permission(sandbox, connect, speaks):
    """Is known, and the permission is named."""
    connect(password=sandbox.keyring.powerless.value)
    works, message = said()
    assert not works
    assert message.startswith("The API knows this key, which may not read report runs")
    assert named(speaks).permissions.needs in message


@by_every_generation
def test_a_key_that_needs_a_context(sandbox, connect):
    """Is known, and the field is named."""
    connect(password=sandbox.keyring.organization.value)
    works, message = said()
    assert not works
    assert message.startswith("The API knows this key, which needs a Stripe-Context")
    assert "stripe_context" in message


@by_every_generation
def test_a_context_that_the_key_cannot_reach(sandbox, connect):
    """Is named."""
    connect({"stripe_context": "acct_other"})
    error = {
        "code": "permission_denied",
        "message": "Permission denied. Api key does not have permission to access account.",
    }
    sandbox.faults.add(Fault("get_run", Answer(status=403, body={"error": error})))
    works, message = said()
    assert not works
    assert "no access to the account acct_other" in message
    assert "stripe_context" in message


def test_a_context_that_is_no_account(sandbox, connect):
    """May be what is wrong, or the permission may: both are named."""
    connect({"stripe_context": "nonsense"}, password=sandbox.keyring.organization.value)
    works, message = said()
    assert not works
    first, _, _ = message.partition(". ")
    assert "of the account nonsense" in first
    assert "reporting_read" in first
    assert "stripe_context" in first


def test_a_host_that_cannot_be_reached(connect, closed_port):
    """Is named, with the system's own words."""
    connect(host=f"http://127.0.0.1:{closed_port}")
    works, message = said()
    assert not works
    assert f"http://127.0.0.1:{closed_port}" in message
    assert "Connection refused" in message


@pytest.mark.parametrize("host", ["http://api..stripe.com", "ftp://127.0.0.1", "http://a b"])
def test_a_host_that_is_none(connect, host):
    """Is an answer and no traceback."""
    connect(host=host)
    works, message = said()
    assert not works
    assert "host" in message


@pytest.mark.parametrize("status", [200, 403, 404])
def test_a_host_that_is_not_the_api(sandbox, status):
    """A page is not taken for the API, nor its 404 for a working key."""
    page = Answer(status=status, body=HTML, content_type="text/html")
    sandbox.faults.add(Fault("get_run", page, times=None))
    works, message = said()
    assert not works
    assert "not JSON" in message


@pytest.mark.parametrize(
    "action",
    [Answer(status=503), Answer(status=429), Answer(status=302), Refuse()],
    ids=["503", "429", "302", "cut"],
)
def test_an_api_that_is_out_of_order(sandbox, action):
    """Says what came, and proves nothing about the key."""
    sandbox.faults.add(Fault("get_run", action, times=None))
    works, message = said()
    assert not works
    assert message.startswith(
        ("The API failed", "There are too many", "Check the connection's host")
    )


def test_there_is_no_such_connection(sandbox, monkeypatch):
    """Is an answer and no traceback."""
    monkeypatch.delenv("AIRFLOW_CONN_REPORTRUN_DEFAULT")
    works, message = said()
    assert not works
    assert "reportrun_default" in message


def test_there_is_no_key_in_the_connection(connect):
    """Says where it goes."""
    connect(password="")
    works, message = said()
    assert not works
    assert "password field" in message


def test_leaves_nothing_open(sandbox):
    """The session of the hook is closed."""
    hook = ReportRunHook()
    hook.test_connection()
    assert hook._session is None


@pytest.mark.parametrize("key", ["main", "powerless", "organization"])
def test_never_shows_the_key(sandbox, connect, key):
    """The message goes to a browser."""
    value = getattr(sandbox.keyring, key).value
    connect(password=value)
    assert value not in said()[1]
