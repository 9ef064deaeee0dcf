"""Requests and answers against Stripe's descriptions of each generation."""

from __future__ import annotations

import pytest
import requests
from sandbox.clients import CLIENTS, Client, V1Client, V2DataClient
from sandbox.descriptions import V1, V2_DATA, V2_REPORTING, checker_of

from airflow_provider_reportrun.sandbox import Fault, Patch
from airflow_provider_reportrun.sandbox.catalog import CATALOG
from airflow_provider_reportrun.sandbox.generations.v1_types import REPORT_TYPES
from airflow_provider_reportrun.sandbox.generations.v2_data import REPORTS

OpenAPIError = pytest.importorskip(
    "openapi_core.exceptions", reason="make test has it, whatever the Airflow"
).OpenAPIError

DESCRIPTIONS = {
    "v1": V1,
    "v2.reporting": V2_REPORTING,
    "v2.reporting.queries": V2_REPORTING,
    "v2.data": V2_DATA,
    "v2.data.queries": V2_DATA,
}
COMPRESSED = {
    "v2.reporting": {"compress_file": True},
    "v2.reporting.queries": {"compress_file": True},
    "v2.data": {"compression": "zip"},
    "v2.data.queries": {"compression": "zip"},
}
INCLUDES = {
    "v2.reporting": ["result.file.schema"],
    "v2.reporting.queries": ["result.file.schema"],
    "v2.data": ["result.inline", "sql"],
    "v2.data.queries": ["result.inline"],
}


@pytest.fixture(params=DESCRIPTIONS)
def name(request):
    """Return the name of each generation in turn."""
    return request.param


@pytest.fixture
def client(name, sandbox):
    """Return a client of that generation."""
    return CLIENTS[name](sandbox)


@pytest.fixture
def check(name, sandbox):
    """Return a checker of that generation."""
    return checker_of(DESCRIPTIONS[name], sandbox.url)


@pytest.fixture
def ended(client, sandbox):
    """Return a function that creates a run, lets its time pass, and gets it."""

    def ended(query="", **changes):
        run_id = client.create(**changes).json()["id"]
        sandbox.advance(10)
        return client.get(f"{client.runs}/{run_id}{query}")

    return ended


def test_life_of_a_run(client, sandbox, check):
    """A run matches the description when it is created, while it runs, and after that."""
    run_id = check(client.create(key="k"), 200).json()["id"]
    check(client.run(run_id), 200)
    sandbox.advance(5)
    check(client.run(run_id), 200)
    check(client.create(key="k"), 200)


@pytest.mark.parametrize("code", ["internal_error", "file_size_above_limit"])
def test_failed_run(sandbox, check, ended, code):
    """A failed run matches the description."""
    sandbox.fail_next(error_code=code)
    assert check(ended(), 200).json()["status"] == "failed"


def test_canceled_run(name, sandbox, check, ended):
    """A canceled run matches the description."""
    sandbox.cancel_next()
    status = "canceled" if name.startswith("v2.data") else "succeeded"
    assert check(ended(), 200).json()["status"] == status


def test_options(name, check, ended):
    """A compressed run, and one with all that can be included, match the description."""
    if name in COMPRESSED:
        check(ended(result_options=COMPRESSED[name]), 200)
        pairs = enumerate(INCLUDES[name])
        query = "&".join(f"include[{number}]={each}" for number, each in pairs)
        check(ended(f"?{query}"), 200)


def test_refusals(client, sandbox, check):
    """Every refusal that all generations have matches the description."""
    check(client.post({}), 400, bad_request=True)
    check(client.run("x", api_key="rk_nobody"), 401)
    check(client.create(api_key=sandbox.keyring.powerless.value), 403)
    check(client.run("x"), 404)
    check(client.create(key="k"), 200)
    check(client.another(key="k"), 400 if client.runs.startswith("/v1") else 409)
    sandbox.limit(0)
    check(client.create(), 429)


# -- v2.reporting ----------------------------------------------------------------------------


@pytest.fixture
def v2_reporting(sandbox):
    """Return a client and a checker of v2.reporting."""
    return Client(sandbox), checker_of(V2_REPORTING, sandbox.url)


@pytest.mark.parametrize("report", CATALOG)
def test_v2_reporting_reports(v2_reporting, report):
    """Every report of the catalogue matches the description."""
    client, check = v2_reporting
    check(client.report(report), 200 if CATALOG[report].accessible else 403)


def test_v2_reporting_refusals(sandbox, v2_reporting):
    """Every refusal of v2.reporting matches the description."""
    client, check = v2_reporting
    check(client.post({"report": "payouts_itemized"}), 400, bad_request=True)
    check(client.create(interval_end="2025-01-01T00:00:00Z"), 400)
    check(client.create(api_key=sandbox.keyring.read_only.value), 403)
    check(client.create("connected_account_payouts_itemized"), 403)
    check(client.report("x"), 404)
    url = f"{sandbox.url}/v2/reporting/report_runs"
    form = requests.post(url, data={"a": "b"}, headers=client.headers(), timeout=5)
    check(form, 415, bad_request=True)


# -- v2.data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?include[0]=parameters&include[1]=default_sql"])
def test_v2_data_reports(sandbox, query):
    """Reports of v2.data, and their list, match the description."""
    client, check = V2DataClient(sandbox), checker_of(V2_DATA, sandbox.url)
    check(client.get(f"/v2/data/reports{query}"), 200)
    for each in REPORTS:
        check(client.get(f"/v2/data/reports/{each.id}{query}"), 200)
    check(client.report("x"), 404)


@pytest.mark.parametrize("version", ["2026-10-14.preview", "2026-10-28.preview"])
def test_v2_data_versions(sandbox, version):
    """A run matches the description in both spellings of its options."""
    client, check = V2DataClient(sandbox), checker_of(V2_DATA, sandbox.url)
    client.version = version
    check(client.create(), 200)


# -- v1 ----------------------------------------------------------------------------------------


@pytest.fixture
def v1(sandbox):
    """Return a client and a checker of v1."""
    return V1Client(sandbox), checker_of(V1, sandbox.url)


def test_v1_lists(sandbox, v1):
    """Lists match the description, with runs of every status."""
    client, check = v1
    sandbox.fail_next()
    client.finished()
    client.finished()
    client.create()
    listed = check(client.list(), 200).json()
    assert [run["status"] for run in listed["data"]] == ["pending", "succeeded", "failed"]
    check(client.get("/v1/reporting/report_types"), 200)


def test_v1_file(v1):
    """A file matches the description."""
    client, check = v1
    file_id = client.finished()["result"]["id"]
    check(client.get(f"/v1/files/{file_id}"), 200)
    check(client.get("/v1/files/file_none"), 404)


@pytest.mark.parametrize("report_type", REPORT_TYPES)
def test_v1_report_types(v1, report_type):
    """Every report type matches the description."""
    client, check = v1
    check(client.report(report_type), 404 if REPORT_TYPES[report_type].live_only else 200)


def test_v1_refusals(sandbox, v1):
    """Every refusal of v1 matches the description."""
    client, check = v1
    check(client.create(interval_start=1), 400)
    check(client.create(colour="red"), 400, bad_request=True)
    check(client.create("nothing.1"), 404)
    check(client.create(context="?"), 403)
    check(client.get(f"{client.runs}?limit=0"), 400)


# -- the checker itself ------------------------------------------------------------------------


def _with_size(result, size):
    """Change the size in a result, wherever a generation has it."""
    if "file" in result:
        return result | {"file": result["file"] | {"size": size}}
    return result | {"size": size}


WRONG = {
    "surplus": lambda run: run | {"colour": "red"},
    "misspelt": lambda run: {
        name.replace("result", "resultt") if name == "result" else name: value
        for name, value in run.items()
    },
    "missing": lambda run: {name: value for name, value in run.items() if name != "result"},
    "another type": lambda run: run | {"livemode": "false"},
    "another object": lambda run: run | {"object": "report_run"},
    "a malformed instant": lambda run: run | {"created": "yesterday"},
    "surplus within": lambda run: run | {"result": run["result"] | {"colour": "red"}},
    "no id": lambda run: run | {"id": None},
    "a size without digits": lambda run: run | {"result": _with_size(run["result"], "many")},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_the_checker_notices(client, sandbox, check, ended, wrong):
    """Surplus, misspelt, missing and wrong fields are noticed in every generation."""
    run_id = check(ended(), 200).json()["id"]
    sandbox.faults.add(Fault("get_run", Patch(WRONG[wrong])))
    with pytest.raises((AssertionError, OpenAPIError)):
        check(client.run(run_id), 200)


@pytest.mark.parametrize(
    "changes",
    [{"colour": "red"}, {"interval_end": "today"}, {"timezone": "Mars"}, {"columns": "net"}],
)
def test_what_the_checker_notices_in_forms(v1, changes):
    """A form with anything wrong is noticed too."""
    client, check = v1
    with pytest.raises(AssertionError):
        check(client.create(**changes), 400)
