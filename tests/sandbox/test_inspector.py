"""The page in place of the object page in Stripe's Workbench."""

from __future__ import annotations

import pytest
import requests
from sandbox.clients import SQL, V2DataQueriesClient

TIMEOUT = 20


def page_of(sandbox, query, mode=""):
    """Get the page as a browser does, which sends no key."""
    answer = requests.get(f"{sandbox.url}{mode}/workbench/inspector{query}", timeout=TIMEOUT)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer


@pytest.mark.parametrize("mode", ["", "/test"])
def test_each_generation(each_client, sandbox, mode):
    """The page has the facts of the run and its status, and neither a key nor a URL."""
    run_id = each_client.create().json()["id"]
    unfinished = page_of(sandbox, f"?object={run_id}", mode)
    sandbox.advance(60)
    finished = page_of(sandbox, f"?object={run_id}", mode)
    for shown, status, looks_again in (
        (unfinished, ("pending", "running"), True),
        (finished, ("succeeded",), False),
    ):
        assert shown.status_code == 200
        assert run_id in shown.text
        assert any(f">{each}<" in shown.text for each in status)
        assert ('http-equiv="refresh"' in shown.text) is looks_again
        assert sandbox.api_key not in shown.text
        assert "http://" not in shown.text


def test_parameters_and_failure(client, sandbox):
    """The page shows what the run was created with, and why it failed."""
    sandbox.fail_next(message="Out of <paper> & ink.")
    run_id = client.create(currency="usd").json()["id"]
    sandbox.advance(60)
    shown = page_of(sandbox, f"?object={run_id}").text
    assert "<th>report_parameters.currency<td>usd" in shown
    assert "internal_error" in shown
    assert "Out of &lt;paper&gt; &amp; ink." in shown


def test_query(sandbox):
    """The SQL of a query is text, whatever is in it."""
    run_id = V2DataQueriesClient(sandbox).create(f"{SQL} -- <script>").json()["id"]
    shown = page_of(sandbox, f"?object={run_id}").text
    assert "-- &lt;script&gt;" in shown
    assert "<script>" not in shown


@pytest.mark.parametrize("query", ["", "?object=reprun_none", "?object=<script>"])
def test_unknown_object(sandbox, query):
    """An unknown object is answered 404, with a page that says so."""
    shown = page_of(sandbox, query)
    assert shown.status_code == 404
    assert "<script>" not in shown.text
