"""Where tests land files, each looked at past the package: a folder, and a bucket."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "landing"


@dataclass
class FolderStore:
    """
    A local folder.

    :param prefix: what destinations begin with: nothing, or ``file://``.
    """

    folder: Path
    prefix: str = ""

    def destination(self, name: str) -> str:
        """Give what a DAG author would write."""
        return f"{self.prefix}{self.folder}/{name}"

    def uri(self, name: str) -> str:
        """Give the URI that is to be told: as ObjectStoragePath reads it, without escapes."""
        return f"file://{self.folder}/{name}"

    def put(self, name: str, body: bytes) -> None:
        """Let something stand there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def files(self) -> dict[str, bytes]:
        """Give everything that lies there, hidden files too."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def open_uploads(self) -> int:
        """Count uploads that were begun and not ended."""
        return 0


@dataclass
class BucketStore:
    """
    A folder of a bucket, seen over boto3.

    :param conn_id: the Airflow connection, which destinations hold.
    """

    client: Any
    prefix: str
    conn_id: str

    def destination(self, name: str) -> str:
        """Give what a DAG author would write."""
        return f"s3://{self.conn_id}@{BUCKET}/{self.prefix}/{name}"

    def uri(self, name: str) -> str:
        """Give the URI that is to be told, without the connection."""
        return f"s3://{BUCKET}/{self.prefix}/{name}"

    def put(self, name: str, body: bytes) -> None:
        """Let something stand there."""
        self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}", Body=body)

    def files(self) -> dict[str, bytes]:
        """Give everything that lies there."""
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return {
            each["Key"].removeprefix(f"{self.prefix}/"): self.client.get_object(
                Bucket=BUCKET, Key=each["Key"]
            )["Body"].read()
            for each in listed.get("Contents", [])
        }

    def open_uploads(self) -> int:
        """Count uploads that were begun and not ended."""
        listed = self.client.list_multipart_uploads(Bucket=BUCKET)
        return sum(each["Key"].startswith(self.prefix) for each in listed.get("Uploads", []))


def aws_connection(endpoint: str, **extra: Any) -> str:
    """Make the Airflow connection of an S3 server."""
    return json.dumps(
        {
            "conn_type": "aws",
            "login": "test",
            "password": "testtest",
            "extra": {"endpoint_url": endpoint, "region_name": "us-east-1", **extra},
        }
    )
