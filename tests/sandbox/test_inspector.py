"""The page in place of the object page in Stripe's Workbench."""

from __future__ import annotations

import pytest
import requests

TIMEOUT = 20


@pytest.mark.parametrize("mode", ["", "/test"])
def test_shows_a_report_run_without_a_key(client, sandbox, mode):
    """A browser sends no key; the answer contains no URL of a result."""
    run_id = client.create().json()["id"]
    sandbox.advance(60)
    url = f"{sandbox.url}{mode}/workbench/inspector?object={run_id}"
    shown = requests.get(url, timeout=TIMEOUT)
    assert shown.status_code == 200
    assert shown.json()["id"] == run_id
    assert shown.json()["status"] == "succeeded"
    assert "Signature" not in shown.text


@pytest.mark.parametrize("query", ["", "?object=reprun_none"])
def test_unknown_object(sandbox, query):
    """An unknown object is answered 404."""
    url = f"{sandbox.url}/workbench/inspector{query}"
    assert requests.get(url, timeout=TIMEOUT).status_code == 404
