"""S3: uploads, what failed ones leave, options and connections."""

from __future__ import annotations

import http.client
import json
import re
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from landing.sources import RUN_ID, Meanwhile, serving, zipped
from landing.stores import BUCKET, BucketStore, aws_connection
from support.cases import BODY
from support.task_instances import dag, run_task

from airflow_provider_reportrun.errors import InvalidInput, LandingFailed
from airflow_provider_reportrun.landing.archive import LocalFile
from airflow_provider_reportrun.landing.land import look
from airflow_provider_reportrun.landing.places import read_place
from airflow_provider_reportrun.landing.stores import StoreTarget, check_options
from airflow_provider_reportrun.landing.targets import open_target
from airflow_provider_reportrun.operators.report_run import (
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)

OLD = b"a,b\nold,0\n"
LARGE = b"".join(b"%07d\n" % number for number in range(2_621_440))
"""20 MiB: an upload of three parts."""


class Gate(ThreadingHTTPServer):
    """
    A proxy before the S3 server that fails requests by plan.

    ``plan`` says, given a request as ``METHOD /path``, ``"cut"``, ``"refuse"`` or nothing.
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.peer = urlsplit(endpoint).netloc
        self.plan: Callable[[str], str | None] = lambda _: None

    @property
    def address(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Forward(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    protocol_version = "HTTP/1.1"
    server: Gate

    def handle_any(self):
        """Forward a request, or fail it."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        failure = self.server.plan(f"{self.command} {self.path}")
        if failure == "cut":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif failure == "refuse":
            self.answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        else:
            self.answer(*self.forwarded(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    def forwarded(self, body):
        """Send a request to the S3 server."""
        peer = http.client.HTTPConnection(self.server.peer, timeout=20)
        try:
            peer.request(self.command, self.path, body, dict(self.headers))
            answer = peer.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            peer.close()

    def answer(self, status, headers, body):
        """Answer with a body of a known length."""
        self.send_response(status)
        own = {"content-length", "connection", "transfer-encoding", "date", "server"}
        for name, value in headers.items():
            if name.lower() not in own:
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        length = headers.get("Content-Length", "0") if is_head else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(b"" if is_head else body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def gate(s3_endpoint) -> Iterator[Gate]:
    """Run a proxy in front of the S3 server."""
    with Gate(s3_endpoint) as gate:
        thread = threading.Thread(target=gate.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield gate
        gate.shutdown()
        thread.join(10)


@pytest.fixture
def gated(gate, s3, monkeypatch) -> BucketStore:
    """Return an empty folder of a bucket, with a connection through the proxy."""
    conn_id = f"s3_gate_{gate.address.rpartition(':')[2]}_{s3.prefix[:6]}"
    once = {"retries": {"total_max_attempts": 1}}
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{conn_id.upper()}", aws_connection(gate.address, config_kwargs=once)
    )
    return BucketStore(s3.client, s3.prefix, conn_id)


# Uploads


def test_a_large_result_is_uploaded_in_parts(s3, land):
    """20 MiB land in parts and replace an existing object; no upload stays open."""
    s3.put("report.csv", OLD)
    landing = land(serving(LARGE), RUN_ID, s3.destination("report.csv"))
    assert landing.size == len(LARGE)
    assert s3.files() == {"report.csv": LARGE}
    head = s3.client.head_object(Bucket=BUCKET, Key=f"{s3.prefix}/report.csv")
    assert head["ETag"].strip('"').endswith("-3")
    assert s3.open_uploads() == 0
    assert land.is_clean


def failing(what, failure="refuse"):
    """Fail the requests that match."""
    return lambda request: failure if re.search(what, request) else None


ANY = ""
FIRST_PART = r"^PUT .*partNumber=1\b"
LAST_PART = r"^PUT .*partNumber=3\b"
END = r"^POST .*uploadId="
LOOK = r"^(HEAD|GET) "


@pytest.mark.parametrize(
    ("when", "failure"),
    [(FIRST_PART, "refuse"), (LAST_PART, "refuse"), (LAST_PART, "cut"), (END, "refuse")],
    ids=["first part", "last part", "last part cut", "end"],
)
def test_a_failed_upload_leaves_the_old_object(gate, gated, land, when, failure):
    """If a part or the end of an upload fails, the old object is kept and no upload is open."""
    gated.put("report.csv", OLD)
    gate.plan = failing(when, failure)
    with pytest.raises(LandingFailed, match=r"report\.csv") as caught:
        land(serving(LARGE), RUN_ID, gated.destination("report.csv"))
    assert caught.value.uri == gated.uri("report.csv")
    assert gated.files() == {"report.csv": OLD}
    assert gated.open_uploads() == 0
    assert land.is_clean


def test_a_store_that_comes_back_is_landed_in(gate, gated, land):
    """The next try of the same task lands, with the same connection."""
    gate.plan = failing(LAST_PART)
    with pytest.raises(LandingFailed):
        land(serving(LARGE), RUN_ID, gated.destination("report.csv"))
    gate.plan = failing(r"^$")
    land(serving(LARGE), RUN_ID, gated.destination("report.csv"))
    assert gated.files() == {"report.csv": LARGE}


def test_who_may_write_need_not_be_allowed_to_look(gate, gated, land):
    """A key that may only write can land; the size is not compared then."""
    gate.plan = failing(LOOK)
    land(serving(BODY), RUN_ID, gated.destination("report.csv"))
    gate.plan = failing(r"^$")
    assert gated.files() == {"report.csv": BODY}


@pytest.mark.parametrize(("failure", "if_exists"), [("cut", "skip"), ("refuse", "fail")])
def test_a_store_that_cannot_be_looked_at(gate, gated, land, failure, if_exists):
    """If the destination cannot be read, LandingFailed is raised before any download."""
    gate.plan = failing(ANY, failure)
    source = serving(BODY)
    with pytest.raises(LandingFailed):
        land(source, RUN_ID, gated.destination("report.csv"), if_exists=if_exists)
    assert source.asked == []


def test_uploads_of_other_objects_are_left_alone(s3, land):
    """Only uploads of exactly this object are aborted, not those of longer names."""
    for name in ("report.csv", "report.csv.gz"):
        s3.client.create_multipart_upload(Bucket=BUCKET, Key=f"{s3.prefix}/{name}")
    land(serving(BODY), RUN_ID, s3.destination("report.csv"))
    assert s3.open_uploads() == 1
    (left,) = s3.client.list_multipart_uploads(Bucket=BUCKET, Prefix=s3.prefix)["Uploads"]
    assert left["Key"] == f"{s3.prefix}/report.csv.gz"
    s3.client.abort_multipart_upload(Bucket=BUCKET, Key=left["Key"], UploadId=left["UploadId"])


def test_a_first_try_aborts_nothing(s3, land):
    """A first try aborts no uploads."""
    key = f"{s3.prefix}/report.csv"
    upload = s3.client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    land(serving(BODY), RUN_ID, s3.destination("report.csv"), is_first_try=True)
    assert s3.open_uploads() == 1
    s3.client.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)


def test_uploads_need_not_be_listed(gate, gated, land, caplog):
    """A key that may not list uploads can land; the log names the missing permission."""
    gate.plan = failing(r"^GET .*uploads")
    land(serving(BODY), RUN_ID, gated.destination("report.csv"))
    assert gated.files() == {"report.csv": BODY}
    assert "s3:ListBucketMultipartUploads" in caplog.text


@pytest.mark.parametrize(
    ("connection", "bucket", "error"),
    [
        ({"endpoint_url": "http://127.0.0.1:9"}, BUCKET, "EndpointConnectionError"),
        ({"service_config": {"s3": {"endpoint_url": "http://127.0.0.1:9"}}}, BUCKET, "Endpoint"),
        ({}, "no bucket!", "ParamValidationError"),
    ],
)
def test_a_clean_up_that_fails_stops_nothing(
    s3, s3_endpoint, monkeypatch, land, caplog, connection, bucket, error
):
    """Errors of boto3 in a clean-up are logged; publishing then raises LandingFailed."""
    once = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
    extra = {"endpoint_url": s3_endpoint} | connection | once
    endpoint = extra.pop("endpoint_url")
    monkeypatch.setenv("AIRFLOW_CONN_S3_AWAY", aws_connection(endpoint, **extra))
    target = open_target(read_place(f"s3://s3_away@{bucket}/x/", None))
    target.clean("report.csv", land.owner)
    assert error in caplog.text
    assert "s3:AbortMultipartUpload" in caplog.text
    with pytest.raises(LandingFailed, match=error):
        land(serving(BODY), RUN_ID, f"s3://s3_away@{bucket}/x/report.csv", if_exists="skip")


def test_no_credentials(monkeypatch, s3_endpoint, land, caplog):
    """Without credentials the clean-up is skipped, and the landing raises LandingFailed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    extra = {"endpoint_url": s3_endpoint, "region_name": "us-east-1"}
    connection = json.dumps({"conn_type": "aws", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_S3_NOBODY", connection)
    with pytest.raises(LandingFailed, match="NoCredentialsError"):
        land(serving(BODY), RUN_ID, f"s3://s3_nobody@{BUCKET}/x/report.csv")
    assert "NoCredentialsError" in caplog.text


def test_an_upload_that_came_short_is_noticed(s3, tmp_path):
    """An object of another size than uploaded raises LandingFailed."""
    path = tmp_path / "x"
    path.write_bytes(BODY)
    target = open_target(read_place(s3.destination(""), None))
    with pytest.raises(LandingFailed, match="has 8 bytes after 9"):
        target.publish(LocalFile(name="x.csv", path=path, size=9, sha256=""), "owner")


def test_nobody_else_reads_the_spool(s3, land, result, hook):
    """Only the user of this process may read a file in the spool."""
    modes = set()

    def look():
        (staged,) = land.spool.iterdir()
        modes.add(stat.S_IMODE(staged.stat().st_mode))

    run_id = result(zipped({"a.csv": BODY}), "zip")
    land(Meanwhile(hook, look), run_id, s3.destination("report.zip"))
    assert modes == {0o600}


def test_no_such_bucket(s3, land):
    """LandingFailed names a bucket that does not exist."""
    with pytest.raises(LandingFailed, match="no-such-bucket"):
        land(serving(BODY), RUN_ID, f"s3://{s3.conn_id}@no-such-bucket/report.csv")
    assert land.is_clean


def test_a_full_spool(s3, land, small_files):
    """A full spool raises LandingFailed; the old object is kept and no file is left."""
    s3.put("report.zip", OLD)
    with small_files(1_000_000), pytest.raises(LandingFailed, match="spool_dir"):
        land(serving(LARGE, "zip"), RUN_ID, s3.destination("report.zip"))
    assert s3.files() == {"report.zip": OLD}
    assert land.is_clean


def test_a_csv_needs_no_spool(s3, land, small_files):
    """A CSV is sent while it is received, so a full disk does not matter."""
    with small_files(1_000_000):
        land(serving(LARGE), RUN_ID, s3.destination("report.csv"))
    assert s3.files() == {"report.csv": LARGE}


def test_the_spool_is_the_systems_own_by_default(s3, land, tmp_path, monkeypatch):
    """Without spool_dir the system's folder for temporary files is used, and no file is left."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "system"))
    land(serving(BODY), RUN_ID, s3.destination("report.csv"), spool_dir=None)
    assert s3.files() == {"report.csv": BODY}
    assert list((tmp_path / "system").iterdir()) == []


# How objects are kept

KMS = {
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "arn:aws:kms:us-east-1:1:key/a",
    "StorageClass": "STANDARD_IA",
    "Metadata": {"team": "finance"},
    "ACL": None,
}


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["single", "multipart"])
def test_an_object_is_kept_as_asked(s3, land, body):
    """Options reach S3 in single and multipart uploads; None is left out."""
    land(serving(body), RUN_ID, s3.destination("a.csv"), storage_options=KMS)
    head = s3.client.head_object(Bucket=BUCKET, Key=f"{s3.prefix}/a.csv")
    kept = {name: head[name] for name in ("ServerSideEncryption", "SSEKMSKeyId", "StorageClass")}
    assert kept == {name: KMS[name] for name in kept}
    assert head["Metadata"] == {"team": "finance"}
    assert s3.files() == {"a.csv": body}


def test_members_and_marker_are_kept_as_asked(s3, land):
    """Options apply to all members of a ZIP and to the marker."""
    source = serving(zipped({"a.csv": BODY, "b.csv": BODY}), "zip")
    options = {"decompress": True, "marker": "_SUCCESS", "storage_options": KMS}
    land(source, RUN_ID, s3.destination("x/"), **options)
    for name in ("a.csv", "b.csv", "_SUCCESS"):
        head = s3.client.head_object(Bucket=BUCKET, Key=f"{s3.prefix}/x/{name}")
        assert head["SSEKMSKeyId"] == KMS["SSEKMSKeyId"]


def test_an_object_that_only_its_key_opens(gate, gated, land):
    """A customer's own key is sent with reads as well as with uploads."""
    asked: list[tuple[str, str | None]] = []
    forwarded = Forward.forwarded

    class Noting(Forward):
        def forwarded(self, body):
            key = self.headers.get("x-amz-server-side-encryption-customer-key")
            asked.append((self.command, key))
            return forwarded(self, body)

    gate.RequestHandlerClass = Noting
    options = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    land(
        serving(BODY),
        RUN_ID,
        gated.destination("a.csv"),
        storage_options=options,
        is_first_try=True,
    )
    sent = {command for command, key in asked if key}
    assert sent == {"PUT", "HEAD"}
    assert all(key for _, key in asked)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ServerSideEncription": "aws:kms"}, "'ServerSideEncription'.*'ServerSideEncryption'"),
        ({"acl": "private"}, "'acl'"),
        ({"SSEKMSKeyId": "a", "zzz": "secret"}, "'zzz'.*ServerSideEncryption"),
        ({"SSECustomerKey": 5}, "SSECustomerKey"),
    ],
)
def test_options_that_s3_does_not_take(s3, land, options, words):
    """The error for an unknown option suggests the nearest name, and shows no value."""
    with pytest.raises(InvalidInput, match=words) as caught:
        look(land.to(s3.destination("a.csv"), storage_options=options))
    assert "secret" not in str(caught.value)


def test_options_of_a_local_path(land, folder):
    """Options for a local destination are refused."""
    with pytest.raises(InvalidInput, match="Leave out storage_options"):
        look(land.to(folder.destination("a.csv"), storage_options=KMS))


def test_options_of_another_store(tmp_path):
    """Other stores accept options as arguments of their filesystem's open."""
    import fsspec

    path = tmp_path / "x"
    path.write_bytes(BODY)
    opened: dict[str, object] = {}
    fs = fsspec.filesystem("memory")

    class Noting(type(fs)):
        def _open(self, path, mode="rb", **options):
            opened.update(options)
            return super()._open(path, mode)

    check_options("gs", {"metadata": {"team": "finance"}})
    target = StoreTarget(Noting(), "gs", f"/{tmp_path.name}", {"metadata": {"team": "finance"}})
    target.publish(LocalFile(name="a.csv", path=path, size=len(BODY), sha256=""), "owner")
    assert opened["metadata"] == {"team": "finance"}
    assert fs.cat(f"/{tmp_path.name}/a.csv") == BODY
    with pytest.raises(InvalidInput, match="Leave autocommit out"):
        check_options("gs", {"autocommit": True})


def test_the_operators_take_options(s3, result):
    """storage_options is an argument with templated values."""
    options = {"StorageClass": "{{ 'STANDARD' ~ '_IA' }}"}
    with dag():
        task = DownloadReportResultOperator(
            task_id="land",
            report_run_id=result(BODY),
            destination=s3.destination("a.csv"),
            storage_options=options,
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    head = s3.client.head_object(Bucket=BUCKET, Key=f"{s3.prefix}/a.csv")
    assert head["StorageClass"] == "STANDARD_IA"


def test_wrong_options_spend_no_report_run(s3, sandbox):
    """An unknown option fails the task before any request."""
    with dag():
        task = ReportRunToStorageOperator(
            task_id="land",
            report="balance_summary",
            destination=s3.destination("a.csv"),
            storage_options={"Acl": "private"},
        )
    outcome = run_task(task)
    assert isinstance(outcome.error, InvalidInput)
    assert sandbox.requests == []


# Names


@pytest.mark.parametrize("if_exists", ["skip", "fail"])
def test_a_folder_without_a_slash(s3, land, if_exists):
    """Objects below a name are not an object with that name."""
    s3.put("reports/other.csv", OLD)
    landing = land(serving(BODY), RUN_ID, s3.destination("reports"), if_exists=if_exists)
    assert landing.skipped is False
    assert s3.files() == {"reports": BODY, "reports/other.csv": OLD}


@pytest.mark.parametrize("destination", ["s3://", "s3:///", "s3://{0}@landing", "s3://landing"])
def test_a_bucket_is_no_file(s3, land, destination):
    """A destination without a key is refused before any download."""
    source = serving(BODY)
    with pytest.raises(InvalidInput):
        land(source, RUN_ID, destination.format(s3.conn_id))
    assert source.asked == []


def test_the_top_of_a_bucket(s3, land):
    """A bucket with a slash is a folder."""
    landing = land(serving(BODY), s3.prefix, f"s3://{s3.conn_id}@{BUCKET}/")
    assert landing.uri == f"s3://{BUCKET}/{s3.prefix}.csv"
    s3.client.delete_object(Bucket=BUCKET, Key=f"{s3.prefix}.csv")


# Connections


@pytest.mark.parametrize("form", ["s3://{uri}@{rest}", "s3://{rest}"], ids=["both", "argument"])
def test_the_connection_may_be_an_argument(s3, land, form):
    """storage_conn_id names the connection, alone or as in the URI."""
    rest = s3.destination("report.csv").partition("@")[2]
    destination = form.format(uri=s3.conn_id, rest=rest)
    landing = land(serving(BODY), RUN_ID, destination, storage_conn_id=s3.conn_id)
    assert s3.files() == {"report.csv": BODY}
    assert landing.uri == s3.uri("report.csv")


def test_the_connection_is_told_nowhere(s3, land):
    """The facts of a landing do not contain the connection's id."""
    body = zipped({"a.csv": BODY, "b.csv": BODY})
    landing = land(serving(body, "zip"), RUN_ID, s3.destination("x/"), decompress=True)
    assert len(landing.members) == 2
    assert s3.conn_id not in str(landing.as_json())
    assert s3.conn_id not in str(landing.returned)


def test_two_connections_are_refused(s3, land):
    """Two different connections are refused, naming both."""
    with pytest.raises(InvalidInput, match=r"'s3_landing'.*'other'"):
        land(serving(BODY), RUN_ID, s3.destination("report.csv"), storage_conn_id="other")


def test_no_such_connection(s3, land):
    """The error names a storage connection that does not exist, before any download."""
    source = serving(BODY)
    with pytest.raises(InvalidInput, match=r"'nowhere'.*storage_conn_id"):
        land(source, RUN_ID, f"s3://nowhere@{BUCKET}/report.csv")
    assert source.asked == []


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ("nowhere://a/b.csv", "nowhere://.*s3://"),
        ("https://example.com/b.csv", "https://"),
        ("S3://a/b.csv", "S3://"),
    ],
)
def test_an_unknown_scheme(land, destination, words):
    """An unknown scheme is refused with the possible ones, before any download."""
    source = serving(BODY)
    with pytest.raises(InvalidInput, match=words):
        land(source, RUN_ID, destination)
    assert source.asked == []
