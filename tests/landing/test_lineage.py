"""What OpenLineage's provider reports: names, statistics and the report run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.utils.state import TaskInstanceState
from landing.sources import zipped
from openlineage.client.naming import dataset as naming
from support.cases import BODY, FAST
from support.task_instances import dag, run_task

from airflow_provider_reportrun.errors import ResultCorrupt
from airflow_provider_reportrun.landing.stores import SftpTarget, StoreTarget
from airflow_provider_reportrun.landing.targets import LocalTarget
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.task.lineage import dataset_name

NAMESPACES = {
    "file": "file",
    "s3": "s3://landing",
    "gs": "gs://landing",
    "abfs": "abfss://landing@devstoreaccount1.dfs.core.windows.net",
    "sftp": "file://127.0.0.1",
}
"""The expected namespaces of the test stores, by scheme."""


def single_task(destination, **arguments):
    """Return a task that creates, waits and lands."""
    with dag():
        return ReportRunToStorageOperator(
            task_id="land", report="balance_summary", destination=destination, **FAST | arguments
        )


def lineage(outcome):
    """Return what the OpenLineage provider extracts from a task that has ended."""
    run, ti = SimpleNamespace(run_id="r"), SimpleNamespace()
    state = TaskInstanceState(outcome.state)
    return ExtractorManager().extract_metadata(run, outcome.task, state, ti)


def report_run_of(found):
    """Return the facet of the external query."""
    facet = found.run_facets["externalQuery"]
    return facet.source, facet.externalQueryId


@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferred"])
def test_a_landed_file_is_the_output(sandbox, tmp_path, deferrable):
    """Name, size and report run of a landed file are reported."""
    sandbox.deliver_next(BODY)
    outcome = run_task(single_task(f"{tmp_path}/{{{{ ds }}}}.csv", deferrable=deferrable))
    assert outcome.state == "success", outcome.error
    found = lineage(outcome)
    (output,) = found.outputs
    assert (output.namespace, output.name) == ("file", f"{tmp_path}/2026-10-26.csv")
    assert output.outputFacets["outputStatistics"].size == len(BODY)
    assert report_run_of(found) == ("stripe", sandbox.runs[0].id)
    assert found.inputs == []


def test_each_file_of_a_zip_is_an_output(sandbox, tmp_path):
    """Each unpacked file is an output; the marker is not."""
    sandbox.deliver_next(zipped({"a.csv": BODY, "x/b.csv": BODY * 2}), "zip")
    outcome = run_task(single_task(f"{tmp_path}/", decompress=True, marker="_SUCCESS"))
    assert outcome.state == "success", outcome.error
    outputs = lineage(outcome).outputs
    told = {each.name: each.outputFacets["outputStatistics"].size for each in outputs}
    assert told == {f"{tmp_path}/a.csv": len(BODY), f"{tmp_path}/x/b.csv": 2 * len(BODY)}


def test_what_was_converted_tells_its_rows_and_columns(sandbox, tmp_path):
    """After a conversion, lineage has rows and columns; otherwise it does not."""
    sandbox.deliver_next(BODY, columns={"a": "bigint", "b": "bigint"})
    outcome = run_task(single_task(f"{tmp_path}/r.parquet", output_format="parquet"))
    assert outcome.state == "success", outcome.error
    (output,) = lineage(outcome).outputs
    told = outcome.xcom["landing"]
    assert output.outputFacets["outputStatistics"].rowCount == told["rows"] == 1
    fields = [{"name": f.name, "type": f.type} for f in output.facets["schema"].fields]
    assert fields == told["columns"]
    assert [field["name"] for field in fields] == ["a", "b"]


def test_what_was_kept_is_no_output(sandbox, tmp_path):
    """A file that was kept is not an output."""
    path = tmp_path / "r.csv"
    path.write_bytes(BODY)
    outcome = run_task(single_task(str(path), if_exists="skip"))
    assert outcome.state == "success", outcome.error
    found = lineage(outcome)
    assert (found.outputs, found.run_facets) == ([], {})


@pytest.mark.parametrize("deferrable", [False, True], ids=["in place", "deferred"])
def test_a_create_names_its_report_run(sandbox, deferrable):
    """A task that only creates has no output, but an external query."""
    with dag():
        task = CreateReportRunOperator(
            task_id="create",
            report="balance_summary",
            wait_for_completion=True,
            deferrable=deferrable,
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    found = lineage(outcome)
    assert report_run_of(found) == ("stripe", sandbox.runs[0].id)
    assert found.outputs == []


def test_a_download_that_failed_names_its_report_run(result, tmp_path):
    """A failed landing has no output; the provider itself reports the error."""
    run_id = result(b"no zip", "zip")
    with dag():
        task = DownloadReportResultOperator(
            task_id="land", report_run_id=run_id, destination=f"{tmp_path}/r.zip"
        )
    outcome = run_task(task)
    assert isinstance(outcome.error, ResultCorrupt)
    found = lineage(outcome)
    assert report_run_of(found) == ("stripe", run_id)
    assert found.outputs == []


@pytest.mark.parametrize(
    ("uri", "holder", "prescribed"),
    [
        ("file:///data/r 1.csv", None, naming.LocalFileSystem("/data/r 1.csv")),
        ("s3://bucket/x/r.csv", None, naming.S3("bucket", "x/r.csv")),
        ("s3a://bucket/x/r.csv", None, naming.S3("bucket", "x/r.csv")),
        ("gs://bucket/x/r.csv", None, naming.GCS("bucket", "x/r.csv")),
        ("gcs://bucket/x/r.csv", None, naming.GCS("bucket", "x/r.csv")),
        ("abfs://files/x/r.csv", "acme", naming.ABFSS("files", "acme", "x/r.csv")),
        (
            "sftp:///data/r.csv",
            "files.internal",
            naming.RemoteFileSystem("files.internal", "/data/r.csv"),
        ),
    ],
)
def test_files_are_named_as_prescribed(uri, holder, prescribed):
    """The names equal those of OpenLineage's client."""
    assert (prescribed.get_namespace(), prescribed.get_name()) == dataset_name(uri, holder)


def test_a_store_without_a_prescribed_name():
    """A store that OpenLineage does not define is named by its URI."""
    assert dataset_name("abfs://files/x/r.csv", None) == ("abfss://files", "x/r.csv")
    assert dataset_name("webhdfs://node/x/r.csv", None) == ("webhdfs://node", "x/r.csv")


def test_the_holder_is_the_account_or_the_server(tmp_path):
    """If the URI does not name the account or server, the filesystem does."""
    adlfs = SimpleNamespace(service_client=SimpleNamespace(account_name="acme"))
    sshfs = SimpleNamespace(storage_options={"host": "files.internal", "password": "secret"})
    assert StoreTarget(adlfs, "abfs", "files").holder == "acme"
    assert SftpTarget(sshfs, "sftp", "/data").holder == "files.internal"
    assert LocalTarget(tmp_path).holder is None


def test_no_connection_is_told(store, sandbox):
    """Names contain no connection id in any store, and XCom no holder."""
    outcome = run_task(single_task(store.destination("r.csv")))
    assert outcome.state == "success", outcome.error
    (output,) = lineage(outcome).outputs
    path = f"{store.folder}/r.csv" if hasattr(store, "folder") else f"{store.prefix}/r.csv"
    assert output.name == path
    scheme = store.uri("").partition("://")[0]
    assert output.namespace == NAMESPACES[scheme]
    assert getattr(store, "conn_id", "conn_id") not in output.namespace + output.name
    assert "holder" not in outcome.xcom["landing"]
