"""Fixtures: a hook and report runs of the sandbox, and stores that are real servers."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from landing import servers
from landing.stores import (
    BUCKET,
    AzureStore,
    BucketStore,
    FolderStore,
    GcsStore,
    SftpStore,
    aws_connection,
    azure_account,
    azure_connection,
    gcs_connection,
    sftp_connection,
)
from support.cases import INTERVAL

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.landing.destination import Destination
from airflow_provider_reportrun.landing.land import land as land_result
from airflow_provider_reportrun.landing.spool import owner_name

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.landed import Landing

Store: TypeAlias = FolderStore | BucketStore | AzureStore | GcsStore | SftpStore
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # it asks for gRPC and TLS


@pytest.fixture
def hook(sandbox) -> Iterator[ReportRunHook]:
    """Return a hook with the sandbox's connection."""
    with ReportRunHook() as hook:
        yield hook


@pytest.fixture
def result(sandbox, hook):
    """Return a function that creates a report run with given bytes as result, for its id."""

    def make(body: bytes, content_type: str = "csv") -> str:
        sandbox.deliver_next(body, content_type)
        return hook.create_report_run("balance_summary", INTERVAL).id

    return make


@pytest.fixture
def downloads(sandbox):
    """Return a function that returns the requests for result files so far."""
    return lambda: [request for request in sandbox.requests if request.operation == "download"]


@pytest.fixture
def waits() -> list[float]:
    """Return a list of the pauses, in seconds, that downloads would have made."""
    return []


@pytest.fixture
def small_files():
    """Return a context manager that limits the size of files, like a full disk."""
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
    """Lands as a task would, but without pauses."""

    spool: Path
    waits: list[float]
    owner: str = owner_name("dag", "run", "task", -1)

    def __call__(
        self, source: Any, report_run_id: str, destination: str, **options: Any
    ) -> Landing:
        """Land a result."""
        to = self.to(destination, **options)
        return land_result(to, source, report_run_id, sleep=self.waits.append)

    def to(self, destination: str, **options: Any) -> Destination:
        """Return a destination with the test's spool and owner."""
        defaults = {"spool_dir": str(self.spool), "owner": self.owner}
        return Destination(uri=destination, **defaults | options)

    @property
    def is_clean(self) -> bool:
        """Whether the spool contains no temporary file."""
        return not self.spool.exists() or not list(self.spool.iterdir())


@pytest.fixture
def land(tmp_path, waits) -> Lander:
    """Return a function that lands, with a spool of its own for the test."""
    return Lander(tmp_path / "spool", waits)


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory) -> Iterator[int]:
    """Run an S3 server for the session."""
    with servers.moto(tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture(scope="session")
def s3_endpoint(s3_port) -> str:
    """Return the address of the S3 server."""
    return f"http://127.0.0.1:{s3_port}"


@pytest.fixture(scope="session")
def s3_client(s3_endpoint) -> Iterator[Any]:
    """Return a client of the S3 server that is independent of the package."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        # Servers before moto 5.2 tell another checksum of a whole object than its parts make.
        config=Config(response_checksum_validation="when_required"),
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
    """Return an empty folder of a bucket, with the connection ``s3_landing``."""
    monkeypatch.setenv("AIRFLOW_CONN_S3_LANDING", aws_connection(s3_endpoint))
    return BucketStore(s3_client, uuid.uuid4().hex, "s3_landing")


@pytest.fixture(scope="session")
def azure_port(tmp_path_factory) -> Iterator[int]:
    """Run an Azure server for the session."""
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as port:
        yield port


@pytest.fixture(scope="session")
def azure_client(azure_port) -> Iterator[Any]:
    """Return a client of a container that is independent of the package."""
    from azure.storage.blob import ContainerClient

    with ContainerClient.from_connection_string(azure_account(azure_port), BUCKET) as client:
        client.create_container()
        yield client


@pytest.fixture
def azure(azure_port, azure_client, monkeypatch) -> AzureStore:
    """Return an empty folder of a container, with the connection ``azure_landing``."""
    monkeypatch.setenv("AIRFLOW_CONN_AZURE_LANDING", azure_connection(azure_port))
    return AzureStore(azure_client, uuid.uuid4().hex, "azure_landing")


@pytest.fixture(scope="session")
def gcs_port(tmp_path_factory) -> Iterator[int]:
    """Run a GCS server for the session."""
    with servers.gcs(tmp_path_factory.mktemp("gcs")) as port:
        yield port


@pytest.fixture(scope="session")
def gcs_session(gcs_port) -> Iterator[Any]:
    """Create the bucket, and return an HTTP session."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.headers["Connection"] = "close"  # the server closes idle ones as it pleases
        url = f"http://127.0.0.1:{gcs_port}/storage/v1/b?project=test"
        session.post(url, json={"name": BUCKET}, timeout=60).raise_for_status()
        yield session


@pytest.fixture
def gcs(gcs_port, gcs_session, monkeypatch) -> GcsStore:
    """Return an empty folder of a bucket, with the connection ``gcs_landing``."""
    monkeypatch.setenv("AIRFLOW_CONN_GCS_LANDING", gcs_connection(gcs_port))
    endpoint = f"http://127.0.0.1:{gcs_port}"
    return GcsStore(gcs_session, endpoint, uuid.uuid4().hex, "gcs_landing")


@pytest.fixture(scope="session")
def sftp_keys(tmp_path_factory) -> Path:
    """Return the folder of the SFTP server's configuration and keys."""
    return tmp_path_factory.mktemp("sshd")


@pytest.fixture(scope="session")
def sftp_port(sftp_keys) -> Iterator[int]:
    """Run an SFTP server for the session."""
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    with servers.sshd(sftp_keys) as port:
        yield port


@pytest.fixture
def sftp(sftp_port, sftp_keys, tmp_path, monkeypatch) -> SftpStore:
    """Return an empty folder of an SFTP server, with the connection ``sftp_landing``."""
    connection = sftp_connection(sftp_port, sftp_keys / "client_key")
    monkeypatch.setenv("AIRFLOW_CONN_SFTP_LANDING", connection)
    path = tmp_path / "sftp"
    path.mkdir()
    return SftpStore(path, conn_id="sftp_landing")


@pytest.fixture
def folder(tmp_path) -> FolderStore:
    """Return an empty local folder."""
    path = tmp_path / "landed"
    path.mkdir()
    return FolderStore(path)


@pytest.fixture
def file_uris(folder) -> FolderStore:
    """Return an empty local folder whose destinations are ``file://`` URIs."""
    return FolderStore(folder.folder, "file://")


REMOTE = [
    "s3",
    *(pytest.param(name, marks=pytest.mark.stores) for name in ("azure", "gcs", "sftp")),
]


@pytest.fixture(params=["folder", "file_uris", *REMOTE])
def store(request) -> Store:
    """Return each kind of store in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=REMOTE)
def remote(request) -> Store:
    """Return each kind of store with uploads in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def valve(request, monkeypatch) -> Iterator[Callable[..., Any]]:
    """Return a context manager that puts a valve before a store; it returns both."""

    @contextmanager
    def shutting(store: Store, bytes_before: int) -> Iterator[tuple[servers.Valve, Store]]:
        kind = store.conn_id.removesuffix("_landing")
        connections = {
            "s3": lambda port: aws_connection(f"http://127.0.0.1:{port}"),
            "azure": azure_connection,
            "gcs": gcs_connection,
            "sftp": lambda port: sftp_connection(
                port, request.getfixturevalue("sftp_keys") / "client_key"
            ),
        }
        with servers.Valve(request.getfixturevalue(f"{kind}_port"), bytes_before) as valve:
            conn_id = f"{kind}_valve_{valve.port}"
            connection = connections[kind](valve.port)
            monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
            yield valve, replace(store, conn_id=conn_id)

    return shutting
