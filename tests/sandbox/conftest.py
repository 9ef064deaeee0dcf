"""One sandbox for all its tests, reset before each of them, and a plain client."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import requests

from airflow_provider_reportrun.sandbox import Sandbox

VERSION = "2026-04-22.dahlia"
ACTIVITY = "balance_change_from_activity_itemized"
WEEK = {
    "interval_start": "2025-08-18T00:00:00.000Z",
    "interval_end": "2025-08-25T00:00:00.000Z",
}
TIMEOUT = 20


@dataclass
class Client:
    """Sends requests to a sandbox as any client would."""

    sandbox: Sandbox

    def headers(self, api_key=None, context=None, **more):
        """Return the headers that every request to the API has."""
        headers = {
            "Authorization": f"Bearer {api_key or self.sandbox.api_key}",
            "Stripe-Version": VERSION,
        }
        if context is not None:
            headers["Stripe-Context"] = context
        return headers | {name.replace("_", "-"): value for name, value in more.items()}

    def post(self, body, key=None, api_key=None, context=None, **more):
        """Send a create request with any body."""
        headers = self.headers(api_key, context, **more)
        if key is not None:
            headers["Idempotency-Key"] = key
        url = f"{self.sandbox.url}/v2/reporting/report_runs"
        return requests.post(url, json=body, headers=headers, timeout=TIMEOUT)

    def create(self, report=ACTIVITY, key=None, api_key=None, context=None, **changes):
        """Send a create request that is valid apart from the changes."""
        options = changes.pop("result_options", None)
        body = {"report": report, "report_parameters": WEEK | changes}
        if options is not None:
            body["result_options"] = options
        return self.post(body, key, api_key, context)

    def get(self, path, api_key=None, context=None, **more):
        """Send a GET to the API."""
        headers = self.headers(api_key, context, **more)
        return requests.get(self.sandbox.url + path, headers=headers, timeout=TIMEOUT)

    def run(self, run_id, **more):
        """Get a report run."""
        return self.get(f"/v2/reporting/report_runs/{run_id}", **more)

    def report(self, report_id, **more):
        """Get the definition of a report."""
        return self.get(f"/v2/reporting/reports/{report_id}", **more)

    def finished(self, report=ACTIVITY, **changes):
        """Create a run, let its time pass, and get it."""
        run_id = self.create(report, **changes).json()["id"]
        self.sandbox.advance(10)
        return self.run(run_id).json()

    def url(self, report=ACTIVITY, **changes):
        """Create a run and return the URL of its file."""
        return self.finished(report, **changes)["result"]["file"]["download_url"]["url"]

    def download(self, url, method="GET", **headers):
        """Fetch a result file."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.request(method, url, headers=named, timeout=TIMEOUT)

    def content(self, report=ACTIVITY, **changes):
        """Create a run and return the bytes of its file."""
        return self.content_of(self.url(report, **changes))

    def content_of(self, url):
        """Fetch the bytes of a file."""
        return self.download(url).content


@pytest.fixture(scope="session")
def shared_sandbox():
    """Start one sandbox for the session."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox):
    """Return the shared sandbox as if it were new."""
    shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture
def client(sandbox):
    """Return a client of the shared sandbox."""
    return Client(sandbox)


@pytest.fixture
def client_of():
    """Return a function that makes a client of another sandbox."""
    return Client
