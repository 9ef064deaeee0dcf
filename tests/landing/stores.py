"""Stores for tests, which read them independently of the package."""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

BUCKET = "landing"


@dataclass
class FolderStore:
    """
    A local folder.

    :param prefix: the beginning of destinations: nothing, or ``file://``.
    """

    folder: Path
    prefix: str = ""

    def destination(self, name: str) -> str:
        """Return the destination as a DAG author would write it."""
        return f"{self.prefix}{self.folder}/{name}"

    def uri(self, name: str) -> str:
        """Return the expected URI: without escapes, as ObjectStoragePath reads it."""
        return f"file://{self.folder}/{name}"

    def put(self, name: str, body: bytes) -> None:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def files(self) -> dict[str, bytes]:
        """Return all files, hidden ones included."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def open_uploads(self) -> int:
        """Return the number of open uploads."""
        return 0


@dataclass
class BucketStore:
    """
    A folder of a bucket, read with boto3.

    :param conn_id: the Airflow connection, which destinations name.
    """

    client: Any
    prefix: str
    conn_id: str

    def destination(self, name: str) -> str:
        """Return the destination as a DAG author would write it."""
        return f"s3://{self.conn_id}@{BUCKET}/{self.prefix}/{name}"

    def uri(self, name: str) -> str:
        """Return the expected URI, without the connection."""
        return f"s3://{BUCKET}/{self.prefix}/{name}"

    def put(self, name: str, body: bytes) -> None:
        """Write a file."""
        self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}", Body=body)

    def files(self) -> dict[str, bytes]:
        """Return all files."""
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return {
            each["Key"].removeprefix(f"{self.prefix}/"): self.client.get_object(
                Bucket=BUCKET, Key=each["Key"]
            )["Body"].read()
            for each in listed.get("Contents", [])
        }

    def open_uploads(self) -> int:
        """Return the number of open uploads."""
        listed = self.client.list_multipart_uploads(Bucket=BUCKET)
        return sum(each["Key"].startswith(self.prefix) for each in listed.get("Uploads", []))


@dataclass
class AzureStore:
    """
    A folder of a container, read with Azure's client.

    :param client: of the container.
    """

    client: Any
    prefix: str
    conn_id: str

    def destination(self, name: str) -> str:
        """Return the destination as a DAG author would write it."""
        return f"abfs://{self.conn_id}@{BUCKET}/{self.prefix}/{name}"

    def uri(self, name: str) -> str:
        """Return the expected URI, without the connection."""
        return f"abfs://{BUCKET}/{self.prefix}/{name}"

    def put(self, name: str, body: bytes) -> None:
        """Write a file."""
        self.client.upload_blob(f"{self.prefix}/{name}", body, overwrite=True)

    def files(self) -> dict[str, bytes]:
        """Return all files."""
        return {
            name.removeprefix(f"{self.prefix}/"): self.client.download_blob(name).readall()
            for name in self.client.list_blob_names(name_starts_with=f"{self.prefix}/")
        }

    def open_uploads(self) -> int:
        """Return 0: uncommitted blocks are not a blob, and expire."""
        return 0


@dataclass
class GcsStore:
    """
    A folder of a bucket, read over plain HTTP.

    :param session: of ``requests``.
    :param endpoint: of the server.
    """

    session: Any
    endpoint: str
    prefix: str
    conn_id: str

    def destination(self, name: str) -> str:
        """Return the destination as a DAG author would write it."""
        return f"gs://{self.conn_id}@{BUCKET}/{self.prefix}/{name}"

    def uri(self, name: str) -> str:
        """Return the expected URI, without the connection."""
        return f"gs://{BUCKET}/{self.prefix}/{name}"

    def put(self, name: str, body: bytes) -> None:
        """Write a file."""
        self._ask(
            "POST",
            f"/upload/storage/v1/b/{BUCKET}/o",
            params={"uploadType": "media", "name": f"{self.prefix}/{name}"},
            data=body,
        )

    def files(self) -> dict[str, bytes]:
        """Return all files."""
        folder = f"/storage/v1/b/{BUCKET}/o"
        listed = self._ask("GET", folder, params={"prefix": f"{self.prefix}/"}).json()
        return {
            each["name"].removeprefix(f"{self.prefix}/"): self._ask(
                "GET", f"{folder}/{quote(each['name'], safe='')}", params={"alt": "media"}
            ).content
            for each in listed.get("items", [])
        }

    def open_uploads(self) -> int:
        """Return 0: upload sessions cannot be listed, and expire."""
        return 0

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        answer = self.session.request(method, self.endpoint + path, timeout=60, **options)
        answer.raise_for_status()
        return answer


@dataclass
class SftpStore(FolderStore):
    """A folder of an SFTP server, read on the local disk."""

    conn_id: str = ""

    def destination(self, name: str) -> str:
        """Return the destination as a DAG author would write it."""
        return f"sftp://{self.conn_id}@{self.folder}/{name}"

    def uri(self, name: str) -> str:
        """Return the expected URI, without the connection."""
        return f"sftp://{self.folder}/{name}"


def aws_connection(endpoint: str, **extra: Any) -> str:
    """Return the Airflow connection of an S3 server."""
    return json.dumps(
        {
            "conn_type": "aws",
            "login": "test",
            "password": "testtest",
            "extra": {"endpoint_url": endpoint, "region_name": "us-east-1", **extra},
        }
    )


def azure_account(port: int) -> str:
    """Return the connection string of an Azure server; all emulators have this key."""
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    name = "devstoreaccount1"
    return (
        f"DefaultEndpointsProtocol=http;AccountName={name};AccountKey={key};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{name};"
    )


def azure_connection(port: int) -> str:
    """Return the Airflow connection of an Azure server."""
    return json.dumps({"conn_type": "wasb", "extra": {"connection_string": azure_account(port)}})


def gcs_connection(port: int) -> str:
    """Return the Airflow connection of a GCS server."""
    extra = {
        "project": "test",
        "is_anonymous": True,
        "gcs.endpoint": f"http://127.0.0.1:{port}",
    }
    return json.dumps({"conn_type": "google_cloud_platform", "extra": extra})


def sftp_connection(port: int, key: Path) -> str:
    """Return the Airflow connection of an SFTP server."""
    return json.dumps(
        {
            "conn_type": "sftp",
            "host": "127.0.0.1",
            "port": port,
            "login": getpass.getuser(),
            "extra": {"key_file": str(key), "no_host_key_check": "true"},
        }
    )
