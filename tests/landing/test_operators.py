"""The operators that land, as real task instances, and what they report to Airflow."""

from __future__ import annotations

import hashlib
import json
import logging

import pytest
from airflow.sdk import Asset
from landing.sources import zipped
from support.cases import BODY, END, FAST, INTERVAL, START
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    InvalidInput,
    LandingExists,
    ReportRunFailed,
    ResultCorrupt,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.links.report_run import ReportRunLink
from airflow_provider_reportrun.operators.report_run import (
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Answer, Delivery, Fault, Patch
from airflow_provider_reportrun.secret import Secret

OLD = b"old\n"


def download_task(report_run_id, destination, **arguments):
    """Return a task that lands a report run."""
    with dag():
        return DownloadReportResultOperator(
            task_id="land", report_run_id=report_run_id, destination=destination, **arguments
        )


def single_task(destination, **arguments):
    """Return a task that creates, waits and lands."""
    with dag():
        return ReportRunToStorageOperator(
            task_id="land", report="balance_summary", destination=destination, **FAST | arguments
        )


def facts(store, name, run_id):
    """Return the expected facts of ``BODY``."""
    return {
        "uri": store.uri(name),
        "size": len(BODY),
        "sha256": hashlib.sha256(BODY).hexdigest(),
        "content_type": "csv",
        "report_run_id": run_id,
        "report": "balance_summary",
        "report_parameters": INTERVAL,
        "stripe_context": None,
        "livemode": False,
        "api": "v2.reporting",
        "interval_start": START,
        "interval_end": END,
        "members": [],
        "skipped": False,
    }


def extras(outcome):
    """Return the extras of the events of the task's outlet assets."""
    return [event["extra"] for event in outcome.outlet_events]


def test_download_tells_what_it_landed(store, result):
    """The URI is returned; XCom and the events of outlet assets contain the same facts."""
    run_id = result(BODY)
    asset = Asset("weekly", uri="x-report://weekly")
    outcome = run_task(download_task(run_id, store.destination("{{ ds }}.csv"), outlets=[asset]))
    assert outcome.state == "success", outcome.error
    assert store.files() == {"2026-10-26.csv": BODY}
    assert outcome.returned == store.uri("2026-10-26.csv")
    assert outcome.xcom["landing"] == facts(store, "2026-10-26.csv", run_id)
    assert extras(outcome) == [outcome.xcom["landing"]]


@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferred"])
def test_the_single_task_tells_what_it_landed(store, sandbox, deferrable):
    """One task creates, waits and lands, with the same facts."""
    sandbox.deliver_next(BODY)
    asset = Asset("weekly", uri="x-report://weekly")
    task = single_task(store.destination("r.csv"), outlets=[asset], deferrable=deferrable)
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    (run,) = sandbox.runs
    assert store.files() == {"r.csv": BODY}
    assert outcome.returned == store.uri("r.csv")
    assert outcome.xcom["landing"] == facts(store, "r.csv", run.id)
    assert extras(outcome) == [outcome.xcom["landing"]]
    assert bool(outcome.deferrals) is deferrable


def test_decompress_returns_a_list(store, result):
    """A ZIP unpacked into a folder returns the URIs of its members."""
    run_id = result(zipped({"a.csv": BODY, "x/b.csv": BODY}), "zip")
    outcome = run_task(download_task(run_id, store.destination("{{ ds }}/"), decompress=True))
    assert outcome.state == "success", outcome.error
    names = ["2026-10-26/a.csv", "2026-10-26/x/b.csv"]
    assert outcome.returned == [store.uri(name) for name in names]
    assert [member["uri"] for member in outcome.xcom["landing"]["members"]] == outcome.returned


def test_a_marker_and_a_bound_are_arguments(folder, sandbox):
    """Both operators accept the arguments."""
    asked = {"decompress": True, "marker": "_SUCCESS", "max_unpacked_bytes": len(BODY)}
    sandbox.deliver_next(zipped({"a.csv": BODY}), "zip")
    outcome = run_task(single_task(folder.destination("x/"), deferrable=False, **asked))
    assert outcome.state == "success", outcome.error
    assert folder.files() == {"x/a.csv": BODY, "x/_SUCCESS": b""}
    (run,) = sandbox.runs
    asked["max_unpacked_bytes"] -= 1
    outcome = run_task(download_task(run.id, folder.destination("y/"), retries=3, **asked))
    assert isinstance(outcome.error, InvalidInput)
    assert isinstance(outcome.error, AirflowFailException)


def test_no_connection_is_told(s3, result):
    """Neither XCom nor asset events contain the storage connection's id."""
    task = download_task(result(BODY), s3.destination("r.csv"), outlets=[Asset("weekly")])
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert s3.conn_id not in json.dumps([outcome.xcom, extras(outcome)])


def test_storage_conn_id_is_templated(s3, result):
    """The storage connection may come from a template."""
    destination = s3.destination("r.csv").replace(f"{s3.conn_id}@", "")
    task = download_task(result(BODY), destination, storage_conn_id="{{ 's3_' ~ 'landing' }}")
    assert run_task(task).state == "success"
    assert s3.files() == {"r.csv": BODY}


def test_no_xcom_where_none_is_wanted(folder, result):
    """With do_xcom_push=False, XCom contains no facts; Airflow itself pushes links."""
    outcome = run_task(download_task(result(BODY), folder.destination("r.csv"), do_xcom_push=False))
    assert outcome.state == "success", outcome.error
    assert set(outcome.xcom) == {ReportRunLink().xcom_key}


def test_skip_is_a_success_that_says_so(store, sandbox):
    """With skip, an existing file is kept before a report run is created."""
    store.put("r.csv", OLD)
    outcome = run_task(single_task(store.destination("r.csv"), if_exists="skip"))
    assert outcome.state == "success", outcome.error
    assert outcome.returned == store.uri("r.csv")
    assert outcome.xcom["landing"]["skipped"] is True
    assert outcome.xcom["landing"]["report_run_id"] is None
    assert store.files() == {"r.csv": OLD}
    assert sandbox.requests == []


def test_fail_fails_for_good(store, sandbox):
    """With fail, an existing file fails the task for good before a report run is created."""
    store.put("r.csv", OLD)
    outcome = run_task(single_task(store.destination("r.csv"), if_exists="fail", retries=3))
    assert isinstance(outcome.error, LandingExists)
    assert isinstance(outcome.error, AirflowFailException)
    assert store.files() == {"r.csv": OLD}
    assert sandbox.requests == []


def test_a_folder_that_cannot_be_written_spends_no_report_run(sandbox, tmp_path):
    """It is noticed before a report run is created, so a later try may still land one."""
    (tmp_path / "taken").write_text("a file")
    outcome = run_task(single_task(f"{tmp_path}/taken/r.csv", retries=3))
    assert str(outcome.error).startswith("Choose another destination or spool_dir")
    assert outcome.state == "up_for_retry"
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"destination": "{{ '' }}"},
        {"destination": "nowhere://b/r.csv"},
        {"destination": "s3://b/r.csv", "storage_conn_id": "nowhere"},
    ],
    ids=["nothing", "scheme", "connection"],
)
def test_a_bad_argument_spends_no_report_run(sandbox, s3, arguments):
    """An unusable destination fails the task for good before any request."""
    outcome = run_task(single_task(retries=3, **arguments))
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert sandbox.requests == []


@pytest.mark.parametrize("value", ["", "{{ '' }}", "two words", None])
def test_a_bad_report_run_id(sandbox, folder, value):
    """An invalid id fails the task for good before any request."""
    outcome = run_task(download_task(value, folder.destination("r.csv"), retries=3))
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert sandbox.requests == []


def test_a_failed_report_run_is_not_tried_again(sandbox, folder, result):
    """A failed report run is not retried."""
    sandbox.fail_next()
    outcome = run_task(download_task(result(BODY), folder.destination("r.csv"), retries=3))
    assert isinstance(outcome.error, ReportRunFailed)
    assert "internal_error" in str(outcome.error)
    assert "Clear the task that created the report run" in str(outcome.error)
    assert isinstance(outcome.error, AirflowFailException)
    assert folder.files() == {}


def test_a_failed_report_run_of_its_own_is_tried_again(sandbox, folder):
    """The single task creates a new report run in the next try."""
    sandbox.fail_next()
    outcome = run_task(single_task(folder.destination("r.csv"), deferrable=False, retries=3))
    assert isinstance(outcome.error, ReportRunFailed)
    assert outcome.state == "up_for_retry"


def test_a_running_report_run_is_tried_again(sandbox, folder, result):
    """A report run that is not finished is retried."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None})))
    outcome = run_task(download_task(run_id, folder.destination("r.csv"), retries=3))
    assert isinstance(outcome.error, UnexpectedAnswer)
    assert outcome.state == "up_for_retry"


def test_a_corrupt_result_is_tried_again(folder, result):
    """A result of the wrong size leaves the old file, and is retried."""
    folder.put("r.zip", OLD)
    run_id = result(b"no zip", "zip")
    outcome = run_task(download_task(run_id, folder.destination("r.zip"), retries=3))
    assert isinstance(outcome.error, ResultCorrupt)
    assert outcome.state == "up_for_retry"
    assert folder.files() == {"r.zip": OLD}


@pytest.fixture
def debug_log():
    """Return all lines that are logged at DEBUG, before any masking."""
    lines: list[str] = []

    class Listener(logging.Handler):
        """Keeps what a log file would contain."""

        def emit(self, record):
            lines.append(self.format(record))

    listener, root = Listener(), logging.getLogger()
    before = {name: logging.getLogger(name).level for name in ("", "urllib3", "requests")}
    root.addHandler(listener)
    for name in before:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(listener)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def secrets_of(request):
    """Return the secret parts of a request for a file."""
    return [request.target, request.query, request.query.rpartition("X-Amz-Signature=")[2]]


def test_secrets_stay_out_of_the_log(sandbox, hook, land, folder, result, debug_log):
    """Even at DEBUG, with faults and a redirect, the log contains no URL, signature or key."""
    run_id = result(BODY)
    for action in (
        Delivery(cut_after=3),
        Delivery(expired=True),
        Answer(status=500),
        Answer(status=302, headers={"Location": "/files/again?X-Amz-Signature=" + "5" * 64}),
    ):
        sandbox.faults.add(Fault("download", action))
    land(hook, run_id, folder.destination("r.csv"))
    log = "\n".join(debug_log)
    downloads = [request for request in sandbox.requests if request.operation == "download"]
    assert len(downloads) == 6
    assert "Trying again" in log
    assert "/files/" not in log
    assert not any(secret in log for request in downloads for secret in secrets_of(request))
    assert sandbox.api_key not in log


def test_a_signature_stays_out_of_the_log_however_it_is_written(hook, result, debug_log):
    """The signature is not logged either if requests rewrites the URL, as with %7E."""
    url = hook.get_report_run(result(BODY)).file.url.reveal() + "&x=%7E"
    with hook.open_result(Secret(url), {}):
        pass
    log = "\n".join(debug_log)
    assert "/files/" not in log
    assert url.partition("X-Amz-Signature=")[2].partition("&")[0] not in log
