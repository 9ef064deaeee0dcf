"""A hook and report runs of the sandbox, and stores to land in; S3 is a real moto server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from landing.stores import BUCKET, BucketStore, FolderStore, aws_connection

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.landing.land import Destination, Landing
from airflow_provider_reportrun.landing.spool import owner_name

INTERVAL = {
    "interval_start": "2026-10-26T00:00:00.000Z",
    "interval_end": "2026-11-02T00:00:00.000Z",
}
START_SECONDS = 60.0
"""How long the S3 server may take to start."""


@pytest.fixture
def hook(sandbox) -> Iterator[ReportRunHook]:
    """The hook of the sandbox's connection."""
    with ReportRunHook() as hook:
        yield hook


@pytest.fixture
def result(sandbox, hook):
    """Make report runs that deliver given bytes, and give their ids."""

    def make(body: bytes, content_type: str = "csv") -> str:
        sandbox.deliver_next(body, content_type)
        return hook.create_report_run("balance_summary", INTERVAL).id

    return make


@pytest.fixture
def downloads(sandbox):
    """Give the requests for result files so far."""
    return lambda: [request for request in sandbox.requests if request.operation == "download"]


@pytest.fixture
def waits() -> list[float]:
    """List for how long downloads would have slept."""
    return []


@pytest.fixture
def small_files():
    """Let files grow to so many bytes only, as on a disk that is full."""
    import resource

    @contextmanager
    def limited(most: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@dataclass
class Lander:
    """Lands as a task would, without sleeping; its spool is empty when all is well."""

    spool: Path
    waits: list[float]
    owner: str = owner_name("dag", "run", "task", -1)

    def __call__(
        self, source: Any, report_run_id: str, destination: str, **options: Any
    ) -> Landing:
        """Land a result."""
        return self.to(destination, **options).land(source, report_run_id, sleep=self.waits.append)

    def to(self, destination: str, **options: Any) -> Destination:
        """Make a destination with an operator's defaults."""
        defaults = {
            "storage_conn_id": None,
            "if_exists": "replace",
            "decompress": False,
            "spool_dir": str(self.spool),
            "owner": self.owner,
        }
        return Destination(uri=destination, **defaults | options)

    @property
    def is_clean(self) -> bool:
        """Whether no temporary file is left in the spool."""
        return not self.spool.exists() or not list(self.spool.iterdir())


@pytest.fixture
def land(tmp_path, waits) -> Lander:
    """Land with a spool of the test's own."""
    return Lander(tmp_path / "spool", waits)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory) -> Iterator[str]:
    """Run an S3 server for the session, and give its address."""
    for module in ("moto", "flask", "s3fs", "airflow.providers.amazon"):
        if not _is_there(module):
            pytest.skip(f"S3: {module} is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
    try:
        _wait_for(server, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait(10)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with socket.socket() as peer:
            if peer.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"The S3 server did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def s3_client(s3_endpoint) -> Iterator[Any]:
    """Give a client of the S3 server that knows nothing of the package."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="testtest",  # noqa: S106 - opens nothing
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


@pytest.fixture
def s3(s3_endpoint, s3_client, monkeypatch) -> BucketStore:
    """Give an empty folder of a bucket, as the connection ``s3_landing``."""
    monkeypatch.setenv("AIRFLOW_CONN_S3_LANDING", aws_connection(s3_endpoint))
    return BucketStore(s3_client, uuid.uuid4().hex, "s3_landing")


@pytest.fixture
def folder(tmp_path) -> FolderStore:
    """Give an empty local folder."""
    path = tmp_path / "landed"
    path.mkdir()
    return FolderStore(path)


@pytest.fixture
def file_uris(folder) -> FolderStore:
    """Give an empty local folder that is named by ``file://`` URIs."""
    return FolderStore(folder.folder, "file://")


@pytest.fixture(params=["folder", "file_uris", "s3"])
def store(request) -> FolderStore | BucketStore:
    """Give each kind of store in turn."""
    return request.getfixturevalue(request.param)
