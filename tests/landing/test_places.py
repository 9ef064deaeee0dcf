"""Destinations that would land elsewhere than they appear to."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from airflow.sdk import ObjectStoragePath
from landing.sources import RUN_ID, serving
from support.cases import BODY
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.landing.places import Place, read_place
from airflow_provider_reportrun.operators.report_run import (
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)

SHOWN_LETTERS = 100
"""Characters that a narrow window shows of a line."""
SIGNED = "https://finance.s3.eu-west-1.amazonaws.com/x/a.csv?X-Amz-Signature=5e1f"

MEANT = {
    "s3:/finance/a.csv": "s3://finance/a.csv",
    "gs:/finance/a.csv": "gs://finance/a.csv",
    "abfs:/finance/a.csv": "abfs://finance/a.csv",
    "hdfs:/finance/a.csv": "hdfs://finance/a.csv",
    "s3:finance/a.csv": "s3://finance/a.csv",
    "s3//finance/a.csv": "s3://finance/a.csv",
    "/s3:/finance/a.csv": "s3://finance/a.csv",
    "/data/s3://finance/a.csv": "s3://finance/a.csv",
    "file:///data/gs:/finance/a.csv": "gs://finance/a.csv",
    "S3://finance/a.csv": "s3://finance/a.csv",
    "dbfs:/x/a.csv": "/dbfs/x/a.csv",
    "~/a.csv": "full path",
    "~airflow/a.csv": "full path",
    "file://~/a.csv": "full path",
    "$HOME/a.csv": "os.environ",
    "${LANDING}/a.csv": "os.environ",
    "/data/$USER/a.csv": "os.environ",
    "s3://$BUCKET/a.csv": "os.environ",
    "%USERPROFILE%\\a.csv": "os.environ",
    "arn:aws:s3:::finance/x/a.csv": "s3://finance/x/a.csv",
    "arn:aws-cn:s3:::finance/a.csv": "s3://finance/a.csv",
    "s3://arn:aws:s3:::finance/a.csv": "s3://finance/a.csv",
    "https://finance.s3.amazonaws.com/x/a.csv": "s3://finance/x/a.csv",
    "https://finance.s3.eu-west-1.amazonaws.com/a.csv": "s3://finance/a.csv",
    "https://s3.eu-west-1.amazonaws.com/finance/a.csv": "s3://finance/a.csv",
    "https://storage.googleapis.com/finance/a.csv": "gs://finance/a.csv",
    "https://acct.blob.core.windows.net/c/a.csv": "abfss://c@acct.dfs.core.windows.net/a.csv",
    "wasbs://c@acct.blob.core.windows.net/a.csv": "abfss://c@acct.dfs.core.windows.net/a.csv",
    "wasb://c/a.csv": "abfs://c/a.csv",
    "C:\\data\\a.csv": "/folder/report.csv",
    "D:/data/a.csv": "/folder/report.csv",
    "\\\\server\\a.csv": "/folder/report.csv",
    "abfss://acct.dfs.core.windows.net/c/a.csv": "abfss://c@acct.dfs.core.windows.net/a.csv",
    "abfs://acct.dfs.core.windows.net/c/": "abfs://c@acct.dfs.core.windows.net/",
    "a.csv": "the text './a.csv', a full path",
    "data/a.csv": "./data/a.csv",
    "None": "./None",
    "file:a.csv": "file:///folder/a.csv",
    "//server/a.csv": "s3://server/a.csv",
    "/data/{ ds }.csv": "{{ ds }}",
}
"""Refused destinations, and what the error must suggest."""
REFUSED = {
    "/data/a\nb.csv": r"'\\n'",
    "s3://finance/a\x00.csv": r"'\\x00'",
    "/data/\ud83d.csv": "ud83d",
    "s3://finance//a.csv": "without //",
    "s3://finance/x/../a.csv": r"without '\.\.'",
    "gs://finance/./a.csv": r"without '\.'",
    "s3://key:secret@finance/a.csv": "contains a login",
    "sftp://me:secret@host/a.csv": "contains a login",
    "abfss://c@acct.dfs.core.windows.net/a.csv?sig=secret": "contains a query",
    "abfss://acct.dfs.core.windows.net/c/a.csv?sig=secret": "container before @",
}


@pytest.mark.parametrize(("text", "meant"), MEANT.items())
def test_the_error_says_what_was_meant(text, meant):
    """The first characters of the error contain mistake and fix."""
    with pytest.raises(InvalidInput) as caught:
        read_place(text, None)
    assert meant in str(caught.value)[:SHOWN_LETTERS]


@pytest.mark.parametrize(("text", "words"), REFUSED.items())
def test_what_no_store_should_hold(text, words):
    """Control characters, odd segments and secrets are refused, and secrets are not repeated."""
    with pytest.raises(InvalidInput, match=words) as caught:
        read_place(text, None)
    assert "secret" not in str(caught.value)


def test_a_signature_is_not_repeated():
    """A pre-signed URL is a credential."""
    with pytest.raises(InvalidInput, match=r"Write s3://finance/x/a\.csv") as caught:
        read_place(SIGNED, None)
    assert "5e1f" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/data/x:1/100%/a%20b $.csv", Place(scheme="", path="/data/x:1/100%/a%20b $.csv")),
        ("../a.csv", Place(scheme="", path="../a.csv")),
        ("file:/data/a.csv", Place(scheme="", path="/data/a.csv")),
        ("file:///data/a%20b.csv", Place(scheme="", path="/data/a%20b.csv")),
        ("s3://me@finance/a?b#c.csv", Place(scheme="s3", path="finance/a?b#c.csv", conn_id="me")),
        ("abfs://me@c/a.csv", Place(scheme="abfs", path="c/a.csv", conn_id="me")),
        (
            "abfss://c@acct.dfs.core.windows.net/x/a.csv",
            Place(scheme="abfss", path="c/x/a.csv", account="acct"),
        ),
        (
            "abfs://c@acct.dfs.core.usgovcloudapi.net/x/",
            Place(scheme="abfs", path="c/x/", account="acct"),
        ),
        ("sftp://me@/data/a.csv", Place(scheme="sftp", path="/data/a.csv", conn_id="me")),
    ],
)
def test_what_is_read(text, place):
    """Valid destinations are read as their systems read them."""
    assert read_place(text, None) == place


def test_the_container_of_azure_is_no_connection():
    """In Azure's own form the container is before @; the connection is the argument."""
    place = read_place("abfss://c@acct.dfs.core.windows.net/a.csv", "azure")
    assert place == Place(scheme="abfss", path="c/a.csv", conn_id="azure", account="acct")


@pytest.mark.parametrize("form", [" {}", "{}\n", "\t{} \r\n", "\ufeff{}"])
def test_blanks_around_it_are_no_part_of_the_name(land, folder, form):
    """Blanks and newlines around a destination are removed."""
    landing = land(serving(BODY), RUN_ID, form.format(folder.destination("a.csv")))
    assert folder.files() == {"a.csv": BODY}
    assert landing.uri == folder.uri("a.csv")


def test_a_file_uri_with_one_slash(land, folder):
    """file:/x is a valid URI of a local file."""
    landing = land(serving(BODY), RUN_ID, f"file:{folder.folder}/x/a.csv")
    assert folder.files() == {"x/a.csv": BODY}
    assert landing.uri == folder.uri("x/a.csv")


def test_a_storage_connection_of_a_local_path(land, folder):
    """A storage connection for a local path is refused."""
    source = serving(BODY)
    with pytest.raises(InvalidInput, match=r"storage_conn_id='s3_finance'.* is a local path"):
        land(source, RUN_ID, folder.destination("a.csv"), storage_conn_id="s3_finance")
    assert source.asked == []
    assert folder.files() == {}


@pytest.mark.parametrize("spool_dir", ["~/sp", "$HOME/sp", "/x/${TMP}", "s3://b/x", "%TEMP%/x"])
def test_a_spool_dir_that_is_not_what_it_looks_like(land, folder, spool_dir):
    """A spool_dir with parts that only a shell would expand is refused, and so is a URI."""
    with pytest.raises(InvalidInput, match="Write spool_dir as the full path of a local folder"):
        land.to(folder.destination("a.csv"), spool_dir=spool_dir)


# In tasks


def land_task(destination, **arguments):
    """Return a task that lands a report run."""
    with dag():
        return DownloadReportResultOperator(
            task_id="land", report_run_id=RUN_ID, destination=destination, **arguments
        )


@pytest.mark.parametrize("operator", [DownloadReportResultOperator, ReportRunToStorageOperator])
@pytest.mark.parametrize(
    "destination",
    [
        "s3:/finance/a.csv",
        "a.csv",
        Path("s3://finance") / "{{ ds }}" / "a.csv",
        "x/{{ ds }}.csv",
        "",
    ],
)
def test_a_dag_file_with_a_wrong_destination_is_not_imported(operator, destination):
    """A destination that is known when a DAG file is parsed is refused there."""
    what = {"report_run_id": "x"} if operator is DownloadReportResultOperator else {"report": "x"}
    with pytest.raises(InvalidInput, match="destination"), dag():
        operator(task_id="land", destination=destination, **what)


@pytest.mark.parametrize(
    "destination",
    ["{{ x }}", "s3:{{ x }}", "s3://{{ x }}@b/a.csv", "/data/{{ ds }}.csv", "file:/{{ x }}.csv"],
)
def test_a_template_that_may_render_well_is_imported(destination):
    """A template that may render to a valid destination is accepted."""
    assert land_task(destination).destination == destination


def test_a_known_connection_of_a_local_path():
    """A known storage connection for a local path is refused when the DAG file is parsed."""
    with pytest.raises(InvalidInput, match="storage_conn_id"):
        land_task("/data/a.csv", storage_conn_id="s3_finance")


@pytest.mark.parametrize(
    ("template", "value"), [("{{ 's3:' ~ '/finance/a.csv' }}", None), ("{{ 'a.csv' }}", None)]
)
def test_a_template_is_refused_before_a_report_run_is_spent(sandbox, template, value):
    """What a template renders to is checked before any request, and fails for good."""
    with dag():
        task = ReportRunToStorageOperator(
            task_id="land", report="balance_summary", destination=template, retries=3
        )
    outcome = run_task(task)
    assert isinstance(outcome.error, InvalidInput)
    assert isinstance(outcome.error, AirflowFailException)
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "make", [Path, PurePosixPath, lambda path: ObjectStoragePath(f"file://{path}")]
)
def test_path_objects(result, folder, make):
    """Path objects of pathlib and Airflow are accepted, and templates in them are rendered."""
    destination = make(f"{folder.folder}/{{{{ ds }}}}.csv")
    with dag():
        task = DownloadReportResultOperator(
            task_id="land", report_run_id=result(BODY), destination=destination
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert folder.files() == {"2026-10-26.csv": BODY}


def test_a_path_of_airflow_brings_its_connection(result, s3):
    """An ObjectStoragePath lands with its own connection."""
    where = s3.destination("{{ ds }}.csv").replace(f"{s3.conn_id}@", "")
    with dag():
        task = DownloadReportResultOperator(
            task_id="land",
            report_run_id=result(BODY),
            destination=ObjectStoragePath(where, conn_id=s3.conn_id),
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert s3.files() == {"2026-10-26.csv": BODY}


@pytest.mark.parametrize("make", [str, Path, lambda path: ObjectStoragePath(f"file://{path}")])
def test_mapped_path_objects(result, folder, make):
    """Path objects can be mapped over; a wrong one fails for good."""
    good, bad = make(f"{folder.folder}/a.csv"), Path("s3://finance/a.csv")
    with dag():
        mapped = DownloadReportResultOperator.partial(
            task_id="land", report_run_id=result(BODY), retries=3
        ).expand(destination=[good, bad])
    outcome = run_task(mapped.unmap({"destination": good}), map_index=0)
    assert outcome.state == "success", outcome.error
    assert folder.files() == {"a.csv": BODY}
    outcome = run_task(mapped.unmap({"destination": bad}), map_index=1)
    assert isinstance(outcome.error, InvalidInput)
    assert isinstance(outcome.error, AirflowFailException)
