"""Requests and answers against the API's own OpenAPI description."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from airflow_provider_reportrun.sandbox.catalog import CATALOG

openapi_core = pytest.importorskip(
    "openapi_core", reason="make test has it, whatever the Airflow", exc_type=ImportError
)
from openapi_core.contrib.requests import (  # noqa: E402
    RequestsOpenAPIRequest,
    RequestsOpenAPIResponse,
)

DESCRIPTION = Path(__file__).parents[1] / "data" / "stripe_v2_reporting.patched.openapi.json"


@pytest.fixture
def check(sandbox):
    """Return a function that checks an answer and its request against the description."""
    description = json.loads(DESCRIPTION.read_text())
    description["servers"] = [{"url": sandbox.url}]
    for operations in description["paths"].values():
        for parameter in operations.get("get", {}).get("parameters", []):
            if parameter["name"] == "include":
                # The validator does not support arrays in deepObject style: include[0]=...
                del parameter["style"]
    openapi = openapi_core.OpenAPI.from_dict(description)

    def check(answer, status, *, bad_request=False):
        assert answer.status_code == status
        request = RequestsOpenAPIRequest(answer.request)
        if not bad_request:
            openapi.validate_request(request)
        openapi.validate_response(request, RequestsOpenAPIResponse(answer))
        return answer

    return check


def test_created(client, check):
    """A create matches the description, with and without options."""
    check(client.create(currency="usd", columns=["net", "fee"]), 200)
    check(client.create(result_options={"compress_file": True}), 200)


@pytest.mark.parametrize("compress", [False, True])
def test_runs(client, sandbox, check, compress):
    """A run matches the description while it runs and after it succeeded."""
    options = {"compress_file": compress}
    run_id = client.create(key="k", result_options=options).json()["id"]
    check(client.run(run_id), 200)
    sandbox.advance(5)
    check(client.run(run_id), 200)
    check(client.create(key="k", result_options=options), 200)


@pytest.mark.parametrize("code", ["internal_error", "file_size_above_limit"])
def test_failed_run(client, sandbox, check, code):
    """A failed run matches the description."""
    sandbox.fail_next(error_code=code)
    check(client.run(client.finished()["id"]), 200)


def test_schema(client, check):
    """A run with its columns matches the description."""
    run = client.finished()
    path = f"/v2/reporting/report_runs/{run['id']}?include[0]=result.file.schema"
    check(client.get(path), 200)


@pytest.mark.parametrize("report", CATALOG)
def test_reports(client, check, report):
    """Every report of the catalogue matches the description."""
    check(client.report(report), 200 if CATALOG[report].accessible else 403)


def test_refusals(client, sandbox, check):
    """Every refusal matches the description."""
    check(client.post({"report": "payouts_itemized"}), 400, bad_request=True)
    check(client.create(interval_end="2025-01-01T00:00:00Z"), 400)
    check(client.run("x", api_key="rk_nobody"), 401)
    check(client.create(api_key=sandbox.keyring.read_only.value), 403)
    check(client.create("connected_account_payouts_itemized"), 403)
    check(client.run("x"), 404)
    check(client.report("x"), 404)
    check(client.create(key="k"), 200)
    check(client.create(key="k", currency="eur"), 409)
    sandbox.limit(0)
    check(client.create(), 429)
    url = f"{sandbox.url}/v2/reporting/report_runs"
    form = requests.post(url, data={"a": "b"}, headers=client.headers(), timeout=5)
    check(form, 415, bad_request=True)
