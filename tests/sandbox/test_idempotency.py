"""Idempotency keys create or attach for thirty days."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_reportrun.sandbox import Fault, Hold, LoseAnswer, Refuse

DAY = 24 * 3600


def test_attaches(client, sandbox):
    """A repeat returns the same run with its current status and result."""
    first = client.create(key="k").json()
    assert client.create(key="k").json() == first
    sandbox.advance(5)
    last = client.create(key="k").json()
    assert last["id"] == first["id"]
    assert last["status"] == "succeeded"
    assert last["result"]["file"]["size"]
    assert len(sandbox.runs) == 1
    assert sandbox.runs[0].idempotency_key == "k"
    assert sandbox.runs[0].attached == 2


def test_attaches_to_a_failed_run(client, sandbox):
    """A repeat returns a failed run too."""
    sandbox.fail_next()
    first = client.create(key="k").json()
    sandbox.advance(5)
    assert client.create(key="k").json()["status"] == "failed"
    assert client.create(key="k").json()["id"] == first["id"]


def test_attaching_needs_no_capacity(client, sandbox):
    """A repeat creates no run, so the limit does not apply."""
    first = client.create(key="k").json()
    sandbox.limit(0)
    assert client.create(key="k").json()["id"] == first["id"]
    assert client.create(key="other").status_code == 429


def test_attaching_needs_no_data(client, sandbox):
    """A repeat is not validated again."""
    window = client.report("balance_summary").json()["parameters"]["interval_end"]
    latest = window["timestamp_details"]["max"]
    first = client.create(key="k", interval_end=latest).json()
    sandbox.advance(-5 * DAY)
    assert client.create(interval_end=latest).status_code == 400
    assert client.create(key="k", interval_end=latest).json()["id"] == first["id"]


def test_other_parameters(client, sandbox):
    """The same key with another body is answered 409."""
    client.create(key="k")
    for changes in ({"currency": "eur"}, {"result_options": {"compress_file": True}}):
        refused = client.create(key="k", **changes)
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "idempotency_error"
    assert len(sandbox.runs) == 1


def test_order_of_fields_does_not_matter(client):
    """The same values in another order are the same request."""
    interval = ["2025-08-18T00:00:00.000Z", "2025-08-25T00:00:00.000Z"]
    there = dict(zip(["interval_start", "interval_end"], interval, strict=True))
    back = dict(reversed(there.items()))
    first = client.post({"report": "balance_summary", "report_parameters": there}, key="k")
    second = client.post({"report_parameters": back, "report": "balance_summary"}, key="k")
    assert first.json()["id"] == second.json()["id"]


def test_thirty_days(client, sandbox):
    """A key attaches for thirty days, and creates a new run after that."""
    first = client.create(key="k").json()["id"]
    sandbox.advance(30 * DAY - 60)
    assert client.create(key="k").json()["id"] == first
    sandbox.advance(120)
    second = client.create(key="k", currency="eur").json()["id"]
    assert second != first
    assert client.create(key="k", currency="eur").json()["id"] == second


def test_refused_requests_are_executed_again(client, sandbox):
    """Only success is remembered under a key."""
    assert client.create(key="k", currency="xxx").status_code == 400
    sandbox.limit(0)
    assert client.create(key="k").status_code == 429
    sandbox.limit(1)
    assert client.create(key="k").status_code == 200
    assert len(sandbox.runs) == 1


def test_keys_belong_to_an_account(client, sandbox):
    """A key is separate for each account, and shared by the API keys of an account."""
    own = client.create(key="k").json()["id"]
    other = client.create(key="k", context="acct_one").json()["id"]
    assert own != other
    assert client.create(key="k", api_key=sandbox.keyring.second.value).json()["id"] == own


def test_without_key(client, sandbox):
    """Each request without a key creates a run."""
    assert client.create().json()["id"] != client.create().json()["id"]
    assert [run.idempotency_key for run in sandbox.runs] == [None, None]


def test_too_long(client):
    """A key has 255 characters at most."""
    assert client.create(key="k" * 255).status_code == 200
    assert client.create(key="k" * 256).status_code == 400


def test_repeat_while_the_first_is_held(client, sandbox):
    """A repeat that overtakes the first request creates no second run."""
    for before in ("handling", "answering"):
        sandbox.reset()
        fault = sandbox.faults.add(Fault("create", Hold(before=before)))
        with ThreadPoolExecutor() as pool:
            first = pool.submit(client.create, key="k")
            assert fault.reached.wait(5)
            second = client.create(key="k").json()["id"]
            fault.release()
            assert first.result().json()["id"] == second
        assert len(sandbox.runs) == 1


def test_many_at_once(client, sandbox):
    """Many concurrent requests with one key create one run."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.create(key="k").json()["id"], range(16)))
    assert len(set(answers)) == 1
    assert len(sandbox.runs) == 1


def test_lost_answers(client, sandbox):
    """A lost answer leaves a run that the key finds again; a refusal leaves none."""
    for action, runs in ((LoseAnswer(), 1), (Refuse(), 0)):
        sandbox.reset()
        sandbox.faults.add(Fault("create", action))
        with pytest.raises(OSError, match="Connection"):
            client.create(key="k")
        assert len(sandbox.runs) == runs
        assert client.create(key="k").status_code == 200
        assert len(sandbox.runs) == 1
