"""
Where results are published: a local folder, or any store that Airflow has a filesystem for.

``publish`` makes one verified file visible under its name, whole or not at all. A local file stands
in the same folder before that and is renamed; how stores do it stands in ``stores``.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from airflow_provider_reportrun._compat import (
    AirflowNotFoundException,
    BaseHook,
    has_filesystem,
)
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.landing.stores import (
    S3_SCHEMES,
    SFTP_SCHEMES,
    S3Target,
    SftpTarget,
    StoreTarget,
    failing_as_ours,
)

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.archive import LocalFile

log = logging.getLogger(__name__)

LOCAL_SCHEMES: Final = frozenset({"", "file", "local"})


class Target(Protocol):
    """
    A folder that files are published in.

    Whatever its system or library raises leaves its methods as ``LandingFailed``.
    """

    spool_folder: Path | None
    """Where temporary files must lie, or None for anywhere."""
    holder: str | None
    """The storage account or server that the files lie with, where their URIs do not name it."""

    def uri(self, name: str) -> str:
        """The URI of a file, without a connection id."""

    def check(self, name: str) -> None:
        """Refuse a name that no file can have there."""

    def size(self, name: str) -> int | None:
        """The size in bytes of the file that stands there under a name, or None."""

    def publish(self, file: LocalFile, owner: str) -> None:
        """Make a file visible under its name; replaces what stands there."""

    def clean(self, name: str, owner: str) -> None:
        """Remove what earlier tries of this owner left when they were killed on the way there."""


class LocalTarget:
    """A folder of this machine."""

    holder: str | None = None

    def __init__(self, folder: Path) -> None:
        self.spool_folder: Path | None = folder
        self._folder = folder

    def uri(self, name: str) -> str:
        """Give the ``file://`` URI of a file, without escapes: so ObjectStoragePath reads it."""
        return f"file://{os.path.join(self._folder, name)}"  # noqa: PTH118 - keeps the last slash

    def check(self, name: str) -> None:
        """
        Refuse the name of a folder.

        :raises InvalidInput: says how to land inside of it.
        """
        path = self._folder / name
        with failing_as_ours("look at", self.uri(name)):
            is_folder = path.is_dir()
        if is_folder:
            raise InvalidInput(
                f"The destination {path} is a folder. End it in / to land files inside of it."
            )

    def size(self, name: str) -> int | None:
        """Give the size of the file that stands there, or None."""
        path = self._folder / name
        with failing_as_ours("look at", self.uri(name)):
            return None if path.is_dir() or not path.exists() else path.stat().st_size

    def publish(self, file: LocalFile, owner: str) -> None:  # noqa: ARG002 - the spool cleans up
        """Rename the spool file to its name, which is atomic within a folder's filesystem."""
        path = self._folder / file.name
        with failing_as_ours("publish", self.uri(file.name)):
            path.parent.mkdir(parents=True, exist_ok=True)
            file.path.replace(path)

    def clean(self, name: str, owner: str) -> None:
        """Leave it to the spool, which stands in the same folder."""


def open_target(folder: str, storage_conn_id: str | None) -> Target:
    """
    Open the folder that files are to be published in.

    :param folder: a local path or a URI, perhaps with a connection id before ``@``.
    :param storage_conn_id: the Airflow connection of the store; ignored for local folders.
    :raises InvalidInput: when it names no folder, no filesystem is installed for the scheme, no
        such connection is there, or two are named.
    """
    scheme, _, rest = folder.partition("://") if "://" in folder else ("", "", folder)
    if scheme in LOCAL_SCHEMES:
        if storage_conn_id:
            log.warning("storage_conn_id %r is ignored: %s is local", storage_conn_id, folder)
        path = _local_path(rest) if scheme else rest
        return LocalTarget(Path(os.path.abspath(path or ".")))  # noqa: PTH100 - keeps symlinks
    bucket, slash, key = rest.partition("/")
    named, _, bucket = bucket.rpartition("@")
    if not slash or not (bucket or scheme in SFTP_SCHEMES):
        raise InvalidInput(
            f"The destination names no file or folder in a bucket. Write {scheme}://bucket/"
            f"report.csv for a file, or {scheme}://bucket/ for a folder."
        )
    conn_id = _the_one(named, storage_conn_id)
    return _store(scheme, conn_id, f"{bucket}{slash}{key}")


def _local_path(rest: str) -> str:
    """
    Give the path of a ``file://`` URI.

    :param rest: what follows the two slashes: the host of this machine or none, and the path.
    :raises InvalidInput: when it is of another machine.
    """
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise InvalidInput(
            f"The destination names the host {host!r}, but file:// is for files of this machine. "
            "Write file:///folder/report.csv."
        )
    return f"/{path}"


def _the_one(named: str, storage_conn_id: str | None) -> str | None:
    if named and storage_conn_id and named != storage_conn_id:
        raise InvalidInput(
            f"Two storage connections are named: {named!r} in the destination and "
            f"storage_conn_id={storage_conn_id!r}. Name one."
        )
    return storage_conn_id or named or None


def _store(scheme: str, conn_id: str | None, path: str) -> Target:
    """Open a store as Airflow does; not inside an event loop, where S3's would fail."""
    _check_is_there(scheme, conn_id)
    with failing_as_ours("open", f"{scheme}://{path}"):
        if scheme in S3_SCHEMES:
            from airflow.providers.amazon.aws.hooks.s3 import S3Hook

            return S3Target(S3Hook(aws_conn_id=conn_id).get_conn(), scheme, path)
        from airflow.sdk import ObjectStoragePath

        root = ObjectStoragePath(f"{scheme}://{path}", conn_id=conn_id)
        kind = SftpTarget if scheme in SFTP_SCHEMES else StoreTarget
        return kind(root.fs, scheme, root.path)


def _check_is_there(scheme: str, conn_id: str | None) -> None:
    """
    Check that a store can be opened.

    :raises InvalidInput: when no filesystem is installed for it, or there is no such connection.
    """
    if not has_filesystem(scheme):
        extra = _EXTRAS.get(scheme)
        raise InvalidInput(
            f"No installed provider has a filesystem for {scheme}://. "
            + (
                f"Install airflow-provider-reportrun[{extra}]."
                if extra
                else "Give a local path, or s3://, gs://, abfs:// or sftp://."
            )
        )
    if conn_id:
        try:
            BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            raise InvalidInput(
                f"There is no Airflow connection {conn_id!r} for the store {scheme}://. "
                "Create it, or name another one in storage_conn_id."
            ) from None


_EXTRAS: Final = {
    "s3": "s3",
    "s3a": "s3",
    "s3n": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "abfss": "azure",
    "adl": "azure",
    "sftp": "sftp",
    "ssh": "sftp",
}
