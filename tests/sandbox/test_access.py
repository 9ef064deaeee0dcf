"""Keys, accounts, versions and content types."""

from __future__ import annotations

import pytest
import requests

RUNS = "/v2/reporting/report_runs"


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Basic abc", "rk_test_sandbox"])
def test_no_key(sandbox, client, value):
    """A request without a Bearer key is answered 401."""
    headers = client.headers()
    headers["Authorization"] = value
    answer = requests.get(f"{sandbox.url}{RUNS}/x", headers=headers, timeout=5)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_unknown_key(client):
    """An unknown key is answered 401, and the message masks it."""
    answer = client.run("x", api_key="rk_test_nobody_knows_this_one")
    assert answer.status_code == 401
    message = answer.json()["error"]["message"]
    assert message.startswith("Invalid API Key provided: rk_test_***")
    assert "nobody" not in message


def test_read_only_key(sandbox, client):
    """A key with reporting_read may read but not create."""
    key = sandbox.keyring.read_only.value
    run_id = client.create().json()["id"]
    assert client.run(run_id, api_key=key).status_code == 200
    refused = client.create(api_key=key)
    assert refused.status_code == 403
    assert "reporting_write" in refused.json()["error"]["message"]
    assert len(sandbox.runs) == 1


def test_powerless_key(sandbox, client):
    """A key without reporting permissions is refused everywhere."""
    key = sandbox.keyring.powerless.value
    answers = [
        client.create(api_key=key),
        client.run("x", api_key=key),
        client.report("balance_summary", api_key=key),
    ]
    assert [each.status_code for each in answers] == [403, 403, 403]


def test_organization_key(sandbox, client):
    """An organisation's key needs Stripe-Context."""
    key = sandbox.keyring.organization.value
    refused = client.create(api_key=key)
    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == (
        "Permission denied. Api key does not have permission to access account."
    )
    assert client.create(api_key=key, context="acct_one").status_code == 200


def test_runs_belong_to_an_account(client):
    """A run of one account is unknown to another account."""
    run_id = client.create(context="acct_one").json()["id"]
    assert client.run(run_id, context="acct_one").status_code == 200
    assert client.run(run_id, context="acct_platform/acct_one").status_code == 200
    assert client.run(run_id, context="acct_two").status_code == 404
    assert client.run(run_id).status_code == 404


def test_own_account_as_context(client):
    """Naming the key's own account changes nothing."""
    run_id = client.create().json()["id"]
    assert client.run(run_id, context="acct_sandbox").status_code == 200


def test_strange_context(client):
    """A context that names no account is refused."""
    assert client.run("x", context="org: all").status_code == 403


@pytest.mark.parametrize("version", [None, "latest", "2026-04-22 dahlia"])
def test_version(client, sandbox, version):
    """Every request must have a valid version."""
    headers = client.headers()
    headers["Stripe-Version"] = version
    answer = requests.get(f"{sandbox.url}{RUNS}/x", headers=headers, timeout=5)
    assert answer.status_code == 400
    assert "version" in answer.json()["error"]["message"].lower()


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/json"])
def test_only_json(client, sandbox, content_type):
    """A body of another content type is answered 415."""
    headers = client.headers(Content_Type=content_type)
    answer = requests.post(sandbox.url + RUNS, data="{}", headers=headers, timeout=5)
    assert answer.status_code == 415


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000])
def test_not_an_object(client, sandbox, body):
    """A body that is not a JSON object is answered 400."""
    headers = client.headers(Content_Type="application/json; charset=utf-8")
    answer = requests.post(sandbox.url + RUNS, data=body, headers=headers, timeout=5)
    assert answer.status_code == 400


def test_half_an_emoji(client):
    """Half a surrogate pair is no text, so a body with one is answered 400."""
    refused = client.post({"report": "\ud83d", "report_parameters": {}})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_request_body"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", RUNS), ("DELETE", f"{RUNS}/x"), ("POST", f"{RUNS}/x"), ("GET", "/v1/charges")],
)
def test_unknown_route(client, sandbox, method, path):
    """There is no list, no cancel and no other API."""
    answer = requests.request(method, sandbox.url + path, headers=client.headers(), timeout=5)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"Unrecognized request URL ({method}: {path})."


def test_request_id(client):
    """Every answer has its own Request-Id."""
    answers = [client.create(), client.run("x"), client.report("x"), client.get("/x")]
    ids = {each.headers["Request-Id"] for each in answers}
    assert len(ids) == 4
    assert all(each.startswith("req_") for each in ids)
