"""The official SDK as the client, for every generation that it reads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from sandbox.clients import END, SECONDS, SQL, START, WEEK

from airflow_provider_reportrun.sandbox import Answer, Crash, Fault, Hold, LoseAnswer

stripe = pytest.importorskip("stripe", reason="make test has it, whatever the Airflow")


def sdk(sandbox, api_key=None, **options):
    """Return the SDK's client of a sandbox, which repeats nothing unless it is told to."""
    return stripe.StripeClient(
        api_key or sandbox.api_key,
        base_addresses={"api": sandbox.url, "files": sandbox.url},
        http_client=stripe.RequestsClient(),
        **({"max_network_retries": 0} | options),
    )


class V1:
    """Report runs of v1 through the SDK."""

    def __init__(self, client):
        self.runs = client.v1.reporting.report_runs

    def create(self, options=None, **changes):
        """Create a run; any change makes another body."""
        body = {"report_type": "balance.summary.1", "parameters": SECONDS | changes}
        return self.runs.create(body, options)

    def url_of(self, run):
        """Return the URL of a finished run's file."""
        return run.result.url

    def size_of(self, run):
        """Return the size of a finished run's file."""
        return run.result.size


class V2Reporting(V1):
    """Report runs of v2.reporting through the SDK."""

    def __init__(self, client):
        self.runs = client.v2.reporting.report_runs

    def create(self, options=None, **changes):
        """Create a run; any change makes another body."""
        body = {"report": "balance_summary", "report_parameters": WEEK | changes}
        return self.runs.create(body, options)

    def url_of(self, run):
        """Return the URL of a finished run's file."""
        return run.result.file.download_url.url

    def size_of(self, run):
        """Return the size of a finished run's file."""
        return run.result.file.size


class V2Data(V2Reporting):
    """Report runs of v2.data through the SDK."""

    def __init__(self, client):
        self.runs = client.v2.data.report_runs

    def create(self, options=None, **changes):
        """Create a run; any change makes another body."""
        body = {
            "report": {"name": "balance.summary"},
            "format": "csv",
            "parameters": WEEK | changes,
        }
        return self.runs.create(body, options)


class V2DataQueries(V2Reporting):
    """Query runs of v2.data through the SDK."""

    def __init__(self, client):
        self.runs = client.v2.data.query_runs

    def create(self, options=None, currency=None):
        """Create a run; any change makes another body."""
        sql = "select 1" if currency else SQL
        body = {"dataset": "analytical", "format": "csv", "query": {"sql": sql}}
        return self.runs.create(body, options)


class V2ReportingQueries(V2Reporting):
    """Older query runs through the SDK."""

    def __init__(self, client):
        self.runs = client.v2.data.reporting.query_runs

    def create(self, options=None, currency=None):
        """Create a run; any change makes another body."""
        return self.runs.create({"sql": "select 1" if currency else SQL}, options)


KINDS = [V1, V2Reporting, V2ReportingQueries, V2Data, V2DataQueries]


@pytest.fixture(params=KINDS)
def kind(request):
    """Return each generation in turn."""
    return request.param


@pytest.fixture
def api(kind, sandbox):
    """Return the SDK's client of that generation."""
    return kind(sdk(sandbox))


KEY = {"idempotency_key": "k"}


def test_life_of_a_run(api, sandbox):
    """The SDK creates a run, gets it, and its file has the size that it reads."""
    run = api.create()
    assert run.status in {"pending", "running"}
    sandbox.advance(5)
    run = api.runs.retrieve(run.id)
    assert run.status == "succeeded"
    key = (sandbox.api_key, "") if type(api) is V1 else None
    content = requests.get(api.url_of(run), auth=key, timeout=5).content
    assert len(content) == api.size_of(run) > 20


def test_repeat(api, sandbox):
    """A repeat creates nothing."""
    assert api.create(KEY).id == api.create(KEY).id
    assert len(sandbox.runs) == 1


def test_other_parameters(api):
    """Another body under the same key is the SDK's IdempotencyError."""
    api.create(KEY)
    with pytest.raises(stripe.IdempotencyError):
        api.create(KEY, currency="eur")


def test_repeats_of_the_sdk_itself(kind, sandbox):
    """A lost answer and a key in use are repeated by the SDK, and make one run."""
    api = kind(sdk(sandbox, max_network_retries=3))
    sandbox.faults.add(Fault("create", LoseAnswer()))
    api.create()
    assert len(sandbox.runs) == 1
    fault = sandbox.faults.add(Fault("create", Hold(before="finishing")))
    with ThreadPoolExecutor() as pool:
        held = pool.submit(api.create, {"idempotency_key": "k"})
        assert fault.reached.wait(5)
        other = pool.submit(api.create, {"idempotency_key": "k"})
        until = time.monotonic() + 5
        while all(each.status != 409 for each in sandbox.requests):
            assert time.monotonic() < until
        fault.release()
        assert held.result().id == other.result().id


def test_crash(kind, sandbox):
    """A 500 that says not to repeat is not repeated."""
    api = kind(sdk(sandbox, max_network_retries=3))
    sandbox.faults.add(Fault("create", Crash(should_retry=False)))
    with pytest.raises(stripe.APIError) as caught:
        api.create()
    assert caught.value.http_status == 500
    assert len(sandbox.requests) == 1


def test_refusals(kind, api, sandbox):
    """The SDK raises its own error for each kind of refusal."""
    with pytest.raises(stripe.AuthenticationError):
        kind(sdk(sandbox, "rk_test_nobody_knows")).create()
    with pytest.raises(stripe.PermissionError):
        kind(sdk(sandbox, sandbox.keyring.powerless.value)).create()
    with pytest.raises(stripe.PermissionError):
        kind(sdk(sandbox, sandbox.keyring.organization.value)).create()
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.runs.retrieve("nothing")
    assert caught.value.http_status == 404
    assert caught.value.request_id
    sandbox.limit(0)
    with pytest.raises(stripe.RateLimitError) as caught:
        api.create()
    assert caught.value.http_status == 429


@pytest.mark.parametrize("option", ["stripe_account", "stripe_context"])
def test_account(api, sandbox, option):
    """The SDK's options for the account of a request both work."""
    run = api.create({option: "acct_one"})
    assert [each.account for each in sandbox.runs] == ["acct_one"]
    assert api.runs.retrieve(run.id, options={option: "acct_one"}).id == run.id
    with pytest.raises(stripe.InvalidRequestError):
        api.runs.retrieve(run.id)


# -- v1 ----------------------------------------------------------------------------------------


def test_v1_pages(sandbox):
    """The SDK pages through the list, and its filters work."""
    client = sdk(sandbox)
    reporting = client.v1.reporting
    sandbox.limit(20)
    created = [V1(client).create().id for _ in range(7)]
    pages = reporting.report_runs.list({"limit": 3})
    assert [run.id for run in pages.auto_paging_iter()] == created[::-1]
    first = reporting.report_runs.retrieve(created[0])
    later = reporting.report_runs.list({"created": {"gt": first.created + 1}})
    assert later.data == []


def test_v1_report_types(sandbox):
    """The SDK reads report types and their windows."""
    types = sdk(sandbox).v1.reporting.report_types
    (found,) = [each for each in types.list().data if each.id == "payouts.itemized.3"]
    assert types.retrieve("payouts.itemized.3") == found
    assert found.data_available_start < START < END < found.data_available_end
    assert "payout_id" in found.default_columns


def test_v1_errors(sandbox):
    """Codes and parameters of refusals arrive."""
    api = V1(sdk(sandbox))
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.create(colour="red")
    assert (caught.value.code, caught.value.param) == ("parameter_unknown", "parameters[colour]")
    with pytest.raises(stripe.InvalidRequestError, match="only available through"):
        api.create(interval_end=4102444800)


def test_v1_replayed_error(sandbox):
    """A saved error is replayed to the SDK, too."""
    api = V1(sdk(sandbox))
    sandbox.faults.add(Fault("create", Crash()))
    for replayed in (None, "true"):
        with pytest.raises(stripe.APIError) as caught:
            api.create(KEY)
        assert caught.value.headers.get("Idempotent-Replayed") == replayed


def test_v1_file(sandbox):
    """The SDK reads the file of a run."""
    client = sdk(sandbox)
    run = V1(client).create(columns=["currency"])
    sandbox.advance(5)
    file = client.v1.reporting.report_runs.retrieve(run.id).result
    assert client.v1.files.retrieve(file.id) == file


# -- v2 ----------------------------------------------------------------------------------------


def test_v2_reporting(sandbox):
    """The SDK reads definitions, failures and schemas of v2.reporting."""
    client = sdk(sandbox)
    report = client.v2.reporting.reports.retrieve("payouts_itemized")
    assert report.parameters["interval_end"].timestamp_details.max
    sandbox.fail_next(error_code="file_size_above_limit")
    failed, run = V2Reporting(client).create(), V2Reporting(client).create()
    sandbox.advance(5)
    runs = client.v2.reporting.report_runs
    details = runs.retrieve(failed.id).status_details["failed"]
    assert details.error_code == "file_size_above_limit"
    included = runs.retrieve(run.id, {"include": ["result.file.schema"]})
    assert included.result.file.schema[0].name == "category"


def test_v2_data(sandbox):
    """The SDK reads reports, inline rows, counts and failures of v2.data."""
    client = sdk(sandbox)
    reports = list(client.v2.data.reports.list({"limit": 3}).auto_paging_iter())
    assert len({each.id for each in reports}) == len(reports) == 8
    (report,) = client.v2.data.reports.list({"name": "balance.summary"}).data
    sandbox.cancel_next()
    canceled, run = V2Data(client).create(), V2Data(client).create()
    sandbox.advance(5)
    runs = client.v2.data.report_runs
    found = runs.retrieve(run.id, {"include": ["result.inline", "sql"], "limit": 2})
    assert found.report == report.id
    assert (found.result.row_count, found.result.col_count) == (12, 4)
    assert found.result.inline.rows[0].data["category"] == "starting_balance"
    assert found.result.file.columns[2].type == "decimal"
    assert found.sql
    assert found.result_options.compress_file is False
    assert runs.retrieve(canceled.id).status_details.canceled_at


def test_v2_sql_error(sandbox):
    """Invalid SQL is refused with code, position and message."""
    runs = sdk(sandbox).v2.data.query_runs
    with pytest.raises(stripe.InvalidRequestError, match="line 1:8: Column 'x'") as caught:
        runs.create({"dataset": "analytical", "format": "csv", "query": {"sql": "select x"}})
    assert caught.value.code == "query_run_invalid_sql"


def test_faults_reach_the_sdk(api, sandbox):
    """A planned answer in the API's form is read as the API's."""
    sandbox.faults.add(Fault("create", Answer(status=503)))
    with pytest.raises(stripe.APIError, match="asked for"):
        api.create()
