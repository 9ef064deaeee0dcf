"""Results that are compressed with gzip while they land."""

from __future__ import annotations

import gzip
import hashlib
import subprocess

import pytest
from landing.sources import RUN_ID, serving, zipped
from support.cases import BODY, INTERVAL
from support.task_instances import dag, run_task

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.landing import parquet
from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator

GZ = {"output_format": "csv.gz"}
LARGE = b"id,net\n" + b"".join(b"txn_%07d,%d.00\n" % (n, n % 977) for n in range(300_000))


def test_lands_compressed(store, land, result, hook):
    """Any gzip reads it; size and hash are those of the landed file."""
    landing = land(hook, result(LARGE), store.destination("r.csv.gz"), **GZ)
    ((name, landed),) = store.files().items()
    assert name == "r.csv.gz"
    assert gzip.decompress(landed) == LARGE
    facts = landing.as_json()
    assert (facts["size"], facts["sha256"]) == (len(landed), hashlib.sha256(landed).hexdigest())
    assert facts["received"] == {"size": len(LARGE), "sha256": hashlib.sha256(LARGE).hexdigest()}
    assert facts["content_type"] == "csv"
    assert not {"rows", "columns"} & set(facts)
    assert len(landed) < len(LARGE) / 3
    assert land.is_clean


def test_the_store_does_not_say_that_it_is_compressed(s3, s3_client, land, result, hook):
    """Otherwise clients decompress it, and size and hash are those of another file."""
    land(hook, result(BODY), s3.destination("r.csv.gz"), **GZ)
    bucket, _, key = s3.uri("r.csv.gz").removeprefix("s3://").partition("/")
    answer = s3_client.get_object(Bucket=bucket, Key=key)
    assert not answer.get("ContentEncoding")
    assert gzip.decompress(answer["Body"].read()) == BODY


def test_the_same_bytes_every_time(folder, land):
    """Neither the time nor the name of the temporary file is in it."""
    hashes = {
        land(serving(BODY), RUN_ID, folder.destination(f"{n}.csv.gz"), **GZ).sha256 for n in "ab"
    }
    assert len(hashes) == 1
    head = folder.files()["a.csv.gz"][:10]
    assert head[:3] == b"\x1f\x8b\x08"
    assert head[3:8] == bytes(5)  # no name, and no time


def test_gunzip_reads_it(folder, land):
    """The tool itself finds nothing to complain about."""
    land(serving(LARGE), RUN_ID, folder.destination("r.csv.gz"), **GZ)
    path = folder.folder / "r.csv.gz"
    done = subprocess.run(["gzip", "-dc", path], capture_output=True, check=True)  # noqa: S603, S607 - the system's
    assert (done.stdout, done.stderr) == (LARGE, b"")


@pytest.mark.parametrize("body", [b"", b"id,net\n", b"\xff\x00whatever"])
def test_whatever_it_is(folder, land, body):
    """Without other names, nothing is read as CSV."""
    land(serving(body), RUN_ID, folder.destination("r.csv.gz"), **GZ)
    assert gzip.decompress(folder.files()["r.csv.gz"]) == body


def test_empty_results_are_recognised(folder, land):
    """Before they are compressed."""
    landing = land(serving(b"id\n"), RUN_ID, folder.destination("r.csv.gz"), if_empty="skip", **GZ)
    assert landing.is_empty
    assert folder.files() == {}


def test_renamed_and_compressed(folder, land):
    """Both at once."""
    uri = folder.destination("r.csv.gz")
    land(serving(b"Card Brand\nvisa\n"), RUN_ID, uri, column_names="snake", **GZ)
    assert gzip.decompress(folder.files()["r.csv.gz"]) == b"card_brand\nvisa\n"


def test_names_in_a_folder(folder, land):
    """They end in ``.csv.gz``."""
    land(serving(BODY), RUN_ID, folder.destination(""), **GZ)
    assert set(folder.files()) == {f"{RUN_ID}.csv.gz"}


def test_members_of_a_zip(folder, land):
    """Each becomes a file of its own."""
    body = zipped({"a.csv": BODY, "b/notes.txt": b"x"})
    landing = land(serving(body, "zip"), RUN_ID, folder.destination(""), decompress=True, **GZ)
    found = {name: gzip.decompress(content) for name, content in folder.files().items()}
    assert found == {"a.csv.gz": BODY, "b/notes.txt.gz": b"x"}
    assert [member.name for member in landing.members] == list(found)
    assert landing.size == sum(map(len, folder.files().values()))


def test_the_only_member_of_a_zip(folder, land):
    """It lands as the destination."""
    source = serving(zipped({"a.csv": BODY}), "zip")
    land(source, RUN_ID, folder.destination("r.csv.gz"), decompress=True, **GZ)
    assert gzip.decompress(folder.files()["r.csv.gz"]) == BODY


def test_an_existing_file_is_kept(folder, land):
    """Under the name that the file would have."""
    folder.put("r.csv.gz", b"old")
    folder.put(f"{RUN_ID}.csv.gz", b"old")
    source = serving(BODY)
    assert land(source, RUN_ID, folder.destination("r.csv.gz"), if_exists="skip", **GZ).skipped
    assert source.asked == []
    assert land(source, RUN_ID, folder.destination(""), if_exists="skip", **GZ).skipped
    assert set(folder.files().values()) == {b"old"}


@pytest.mark.parametrize(
    "name", ["r.csv.gz", "r.CSV.GZ", "r.gz", "r.csv.gzip", "r.2026-01-05.gz", "r"]
)
def test_names_that_fit(folder, land, name):
    """Readers take them for a compressed file, or for nothing."""
    land(serving(BODY), RUN_ID, folder.destination(name), **GZ)
    assert set(folder.files()) == {name}


@pytest.mark.parametrize("name", ["r.csv", "r.parquet", "r.json.gz", "r.zip", "r.tar.gz", "r.zst"])
def test_names_that_do_not_fit(folder, land, name):
    """They are refused when the destination is made."""
    with pytest.raises(InvalidInput, match=r"End it in \.csv\.gz, .*output_format is 'csv.gz'"):
        land.to(folder.destination(name), **GZ)
    assert parquet.SUFFIX not in folder.files()


@pytest.mark.parametrize("options", [{}, {"output_format": "parquet"}])
def test_a_compressed_name_for_another_file(folder, land, options):
    """It is refused, and the error says what would compress."""
    with pytest.raises(InvalidInput, match=r"destination ends in \.gz"):
        land.to(folder.destination("r.csv.gz"), **options)


def test_a_zip_that_stays_one(folder, land):
    """It is refused before the download."""
    source = serving(zipped({"a.csv": BODY}), "zip")
    with pytest.raises(InvalidInput, match=r"output_format is 'csv\.gz', and the result is a ZIP"):
        land(source, RUN_ID, folder.destination("r.csv.gz"), **GZ)
    assert source.asked == []


@pytest.mark.parametrize("api", ["v2.reporting", "v2.data", "v1"])
def test_a_task_compresses(sandbox, folder, monkeypatch, api):
    """With any generation of the API, and nothing is asked about columns."""
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json_for(api))
    report = {"v1": "balance.summary.1", "v2.data": "name:balance.summary"}
    with dag():
        task = ReportRunToStorageOperator(
            task_id="t",
            report=report.get(api, "balance_summary"),
            destination=folder.destination("r.csv.gz"),
            interval_start=INTERVAL["interval_start"],
            interval_end=INTERVAL["interval_end"],
            output_format="csv.gz",
            wait_for_data=False,
            deferrable=False,
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert gzip.decompress(folder.files()["r.csv.gz"]).startswith(b"category")
    assert outcome.xcom["landing"]["received"]["size"] > 0
