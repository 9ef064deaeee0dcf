"""A plain client of each generation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import requests

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox import Sandbox

ACTIVITY = "balance_change_from_activity_itemized"
WEEK = {
    "interval_start": "2025-08-18T00:00:00.000Z",
    "interval_end": "2025-08-25T00:00:00.000Z",
}
TIMEOUT = 20
START, END = 1755475200, 1756080000
"""The week of ``WEEK`` in Unix seconds."""
SECONDS = {"interval_start": START, "interval_end": END}


@dataclass
class Client:
    """Sends requests to a sandbox as any client of v2.reporting would."""

    sandbox: Sandbox

    version = "2026-04-22.dahlia"
    runs = "/v2/reporting/report_runs"
    content_type = "application/json"

    def headers(self, api_key=None, context=None, **more):
        """Return the headers that every request to the API has."""
        headers = {
            "Authorization": f"Bearer {api_key or self.sandbox.api_key}",
            "Stripe-Version": self.version,
        }
        if context is not None:
            headers["Stripe-Context"] = context
        return headers | {name.replace("_", "-"): value for name, value in more.items()}

    def encoded(self, body):
        """Encode a body."""
        return json.dumps(body)

    def post(self, body, key=None, api_key=None, context=None, **more):
        """Send a create request with any body."""
        headers = self.headers(api_key, context, Content_Type=self.content_type, **more)
        if key is not None:
            headers["Idempotency-Key"] = key
        url = self.sandbox.url + self.runs
        return requests.post(url, data=self.encoded(body), headers=headers, timeout=TIMEOUT)

    def create(self, report=ACTIVITY, key=None, api_key=None, context=None, **changes):
        """Send a create request that is valid apart from the changes."""
        options = changes.pop("result_options", None)
        body = {"report": report, "report_parameters": WEEK | changes}
        if options is not None:
            body["result_options"] = options
        return self.post(body, key, api_key, context)

    def another(self, key=None, **more):
        """Send a create request with another body than ``create``."""
        return self.create("payouts_itemized", key, **more)

    def get(self, path, api_key=None, context=None, **more):
        """Send a GET to the API."""
        headers = self.headers(api_key, context, **more)
        return requests.get(self.sandbox.url + path, headers=headers, timeout=TIMEOUT)

    def run(self, run_id, **more):
        """Get a report run."""
        return self.get(f"{self.runs}/{run_id}", **more)

    def report(self, report_id, **more):
        """Get the definition of a report."""
        return self.get(f"/v2/reporting/reports/{report_id}", **more)

    def finished(self, *arguments, **changes):
        """Create a run, let its time pass, and get it."""
        run_id = self.create(*arguments, **changes).json()["id"]
        self.sandbox.advance(10)
        return self.run(run_id).json()

    def url_of(self, run):
        """Return the URL of a finished run's file."""
        return run["result"]["file"]["download_url"]["url"]

    def size_of(self, run):
        """Return the size of a finished run's file, as the API writes it."""
        return run["result"]["file"]["size"]

    def failure_of(self, run):
        """Return what a failed run says: its code, if it has one, and its message."""
        failed = run["status_details"]["failed"]
        return failed["error_code"], failed["error_message"]

    def url(self, *arguments, **changes):
        """Create a run and return the URL of its file."""
        return self.url_of(self.finished(*arguments, **changes))

    def download(self, url, method="GET", **headers):
        """Fetch a result file, by a URL that is enough."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.request(method, url, headers=named, timeout=TIMEOUT)

    def content(self, *arguments, **changes):
        """Create a run and return the bytes of its file."""
        return self.content_of(self.url(*arguments, **changes))

    def content_of(self, url):
        """Fetch the bytes of a file."""
        return self.download(url).content


class V1Client(Client):
    """Sends forms to ``/v1/reporting``."""

    version = "2026-10-28.endive"
    runs = "/v1/reporting/report_runs"
    content_type = "application/x-www-form-urlencoded"

    def encoded(self, body):
        """Encode a body as the SDK does."""
        return form(body)

    def create(self, report="balance.summary.1", key=None, api_key=None, context=None, **changes):
        """Send a create request that is valid apart from the changes; None leaves one out."""
        given = SECONDS | changes
        parameters = {name: value for name, value in given.items() if value is not None}
        return self.post({"report_type": report, "parameters": parameters}, key, api_key, context)

    def another(self, key=None, **more):
        """Send a create request with another body than ``create``."""
        return self.create("payouts.itemized.3", key, **more)

    def report(self, report_id, **more):
        """Get a report type."""
        return self.get(f"/v1/reporting/report_types/{report_id}", **more)

    def list(self, **query):
        """List report runs."""
        return self.get(f"{self.runs}?{form(query)}")

    def url_of(self, run):
        """Return the URL of a finished run's file."""
        return run["result"]["url"]

    def size_of(self, run):
        """Return the size of a finished run's file, as the API writes it."""
        return run["result"]["size"]

    def failure_of(self, run):
        """Return what a failed run says: its message only."""
        return None, run["error"]

    def download(self, url, method="GET", api_key=None, **headers):
        """Fetch a result file, with the key."""
        named = self.headers(api_key) | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return requests.request(method, url, headers=named, timeout=TIMEOUT, allow_redirects=False)


class V2DataClient(Client):
    """Sends JSON to ``/v2/data/report_runs``."""

    version = "2026-10-28.preview"
    runs = "/v2/data/report_runs"

    def create(self, report="balance.summary", key=None, api_key=None, context=None, **changes):
        """Send a create request that is valid apart from the changes."""
        options = changes.pop("result_options", None)
        body = {"report": {"name": report}, "format": "csv", "parameters": WEEK | changes}
        if options is not None:
            body["result_options"] = options
        return self.post(body, key, api_key, context)

    def another(self, key=None, **more):
        """Send a create request with another body than ``create``."""
        return self.create("payouts.itemized", key, **more)

    def report(self, report_id, **more):
        """Get a report."""
        return self.get(f"/v2/data/reports/{report_id}", **more)

    def failure_of(self, run):
        """Return what a failed run says: its code and its message."""
        return run["status_details"]["code"], run["status_details"]["message"]


SQL = (
    "select reporting_category, count(*) as n from balance_transactions "
    "where created >= timestamp '2025-08-18 00:00:00' "
    "and created < timestamp '2025-08-25 00:00:00' group by 1 order by 1"
)


class V2DataQueriesClient(V2DataClient):
    """Sends JSON to ``/v2/data/query_runs``."""

    runs = "/v2/data/query_runs"

    def create(self, sql=SQL, key=None, api_key=None, context=None, **changes):
        """Send a create request that is valid apart from the changes."""
        body = {"dataset": "analytical", "format": "csv", "query": {"sql": sql}} | changes
        return self.post(body, key, api_key, context)

    def another(self, key=None, **more):
        """Send a create request with another body than ``create``."""
        return self.create("select 1", key, **more)


class V2ReportingQueriesClient(Client):
    """Sends JSON to ``/v2/data/reporting/query_runs``."""

    version = "2026-04-22.preview"
    runs = "/v2/data/reporting/query_runs"

    def create(self, sql=SQL, key=None, api_key=None, context=None, **changes):
        """Send a create request that is valid apart from the changes."""
        return self.post({"sql": sql} | changes, key, api_key, context)

    def another(self, key=None, **more):
        """Send a create request with another body than ``create``."""
        return self.create("select 1", key, **more)


CLIENTS = {
    "v1": V1Client,
    "v2.reporting": Client,
    "v2.reporting.queries": V2ReportingQueriesClient,
    "v2.data": V2DataClient,
    "v2.data.queries": V2DataQueriesClient,
}
"""By the name of the generation."""


def form(body):
    """Encode nested values as the SDK does: ``a[b][0]=c``."""
    return urlencode(list(_pairs(body, "")), quote_via=quote, safe="[]")


def _pairs(value, name):
    if isinstance(value, dict):
        for inner, each in value.items():
            yield from _pairs(each, f"{name}[{inner}]" if name else inner)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _pairs(each, f"{name}[{number}]")
    else:
        yield name, value
