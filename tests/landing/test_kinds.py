"""File names that do not match the format of the file."""

from __future__ import annotations

import pytest
from landing.sources import RUN_ID, serving, zipped
from support.cases import BODY
from support.task_instances import dag, run_task

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

ZIPPED = zipped({"a.csv": BODY})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("x.parquet", {}, r"\.csv or \.zip.*output_format"),
        ("x.csv.gz", {}, r"\.csv or \.zip"),
        ("x.XLSX", {}, r"\.csv or \.zip"),
        ("x.csv.gzip", {}, r"\.csv or \.zip"),
        ("x.tar", {}, r"\.csv or \.zip"),
        ("x.feather", {}, r"\.csv or \.zip"),
        ("x.arrow", {}, r"\.csv or \.zip"),
        ("x.zip", {"decompress": True}, r"\.csv.*decompress"),
        ("x.parquet", {"decompress": True}, r"\.csv"),
    ],
)
def test_what_can_never_be(land, folder, name, options, words):
    """A name that no result can have is refused when the destination is made."""
    with pytest.raises(InvalidInput, match=words):
        land.to(folder.destination(name), **options)


@pytest.mark.parametrize(
    ("name", "body", "kind"), [("weekly.csv", ZIPPED, "zip"), ("weekly.zip", BODY, "csv")]
)
def test_what_the_api_announces_is_compared_before_the_download(land, folder, name, body, kind):
    """The announced type decides, before the download; an existing file is kept."""
    folder.put(name, b"old")
    source = serving(body, kind)
    with pytest.raises(InvalidInput, match=rf"End it in \.{kind}"):
        land(source, RUN_ID, folder.destination(name))
    assert source.asked == []
    assert folder.files() == {name: b"old"}


@pytest.mark.parametrize(
    ("name", "body", "kind", "options"),
    [
        ("a.txt", ZIPPED, "zip", {}),
        ("a", BODY, "csv", {}),
        ("a.CSV", BODY, "csv", {}),
        ("a.csv", ZIPPED, "zip", {"decompress": True}),
        ("a.csv", BODY, "csv", {"decompress": True}),
        ("a.ZIP", ZIPPED, "zip", {}),
    ],
)
def test_names_that_promise_nothing_else(land, folder, name, body, kind, options):
    """Other names are accepted."""
    land(serving(body, kind), RUN_ID, folder.destination(name), **options)
    assert list(folder.files()) == [name]


@pytest.mark.parametrize(
    ("name", "options"),
    [("weekly.csv", {"compress_file": True}), ("weekly.zip", {}), ("weekly.pq", {})],
)
def test_no_report_run_is_spent(sandbox, folder, name, options):
    """The requested type decides before a report run is created."""
    with dag():
        task = ReportRunToStorageOperator(
            task_id="land",
            report="balance_summary",
            destination=folder.destination(name),
            result_options=options,
            wait_for_data=False,
        )
    outcome = run_task(task)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert sandbox.runs == []
    assert folder.files() == {}


@pytest.mark.parametrize(
    ("destination", "output_format", "is_wrong"),
    [
        ("/r/{{ ds }}.csv", "parquet", True),
        ("/r/{{ ds }}/r.csv", "parquet", True),
        ("s3://b/r.parquet", "csv.gz", True),
        ("/r/{{ ds }}.parquet", "parquet", False),
        ("/r/{{ ds }}.csv.gz", "csv.gz", False),
        ("/r/{{ ds }}/", "parquet", False),
        ("/r/{{ params.name }}", "parquet", False),
        ("/r/r.csv", "{{ params.format }}", False),
        ("/r/r.csv", None, False),
    ],
)
def test_a_wrong_end_is_an_import_error(destination, output_format, is_wrong):
    """If the DAG file has both; templates before the end do not change it."""

    def make():
        with dag():
            ReportRunToStorageOperator(
                task_id="land",
                report="balance_summary",
                destination=destination,
                output_format=output_format,
            )

    if not is_wrong:
        return make()
    with pytest.raises(InvalidInput, match=r"^The destination ends in .*End it in \."):
        make()
    return None
