"""
Where results are published: a local folder, or any store that Airflow has a filesystem for.

``publish`` makes one verified file visible under its name, whole or not at all. How differs:

- local: the spool file stands in the same folder and is renamed;
- stores that hold an upload back until it is committed (S3, GCS, Azure): uploaded and committed;
- stores without that (SFTP): uploaded under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_reportrun._compat import (
    AirflowNotFoundException,
    BaseHook,
    has_filesystem,
)
from airflow_provider_reportrun.errors import InvalidInput, LandingFailed
from airflow_provider_reportrun.landing.spool import is_leftover, temporary_name

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.archive import LocalFile

log = logging.getLogger(__name__)

LOCAL_SCHEMES: Final = frozenset({"", "file", "local"})
_RENAMING_SCHEMES: Final = frozenset({"sftp", "ssh"})
_BLOCK_BYTES: Final = 16 << 20
"""Size of an upload's parts: larger ones cost memory, smaller ones time."""


class Target(Protocol):
    """
    A folder that files are published in.

    Whatever its system or library raises leaves its methods as ``LandingFailed``.
    """

    spool_folder: Path | None
    """Where temporary files must lie, or None for anywhere."""

    def uri(self, name: str) -> str:
        """The URI of a file, without a connection id."""

    def check(self, name: str) -> None:
        """Refuse a name that no file can have there."""

    def size(self, name: str) -> int | None:
        """The size in bytes of the file that stands there under a name, or None."""

    def publish(self, file: LocalFile, owner: str) -> None:
        """Make a file visible under its name; replaces what stands there."""


class LocalTarget:
    """A folder of this machine."""

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
        with _failing_as_ours("look at", self.uri(name)):
            is_folder = path.is_dir()
        if is_folder:
            raise InvalidInput(
                f"The destination {path} is a folder. End it in / to land files inside of it."
            )

    def size(self, name: str) -> int | None:
        """Give the size of the file that stands there, or None."""
        path = self._folder / name
        with _failing_as_ours("look at", self.uri(name)):
            return None if path.is_dir() or not path.exists() else path.stat().st_size

    def publish(self, file: LocalFile, owner: str) -> None:  # noqa: ARG002 - the spool cleans up
        """Rename the spool file to its name, which is atomic within a folder's filesystem."""
        path = self._folder / file.name
        with _failing_as_ours("publish", self.uri(file.name)):
            path.parent.mkdir(parents=True, exist_ok=True)
            file.path.replace(path)


class StoreTarget:
    """
    A folder of a store, over fsspec.

    :param fs: an fsspec filesystem, authenticated by Airflow.
    :param scheme: of the URIs to tell.
    :param root: the folder, as the filesystem names it.
    """

    spool_folder: Path | None = None

    def __init__(self, fs: Any, scheme: str, root: str) -> None:
        self._fs = fs
        self._scheme = scheme
        self._root = root.removesuffix("/")

    def uri(self, name: str) -> str:
        """Give the URI of a file, without a connection id."""
        return f"{self._scheme}://{self._path(name)}"

    def check(self, name: str) -> None:
        """Take any name: a store has no folders, or tells when it is written."""

    def size(self, name: str) -> int | None:
        """Give the size of the object that stands there now, or None."""
        with _failing_as_ours("look at", self.uri(name)):
            return self._size(self._path(name))

    def _size(self, path: str) -> int | None:
        self._fs.invalidate_cache(path)
        try:
            info = self._fs.info(path)
        except FileNotFoundError:
            return None
        # What other objects' names begin with is a folder to fsspec, and no object.
        return None if info.get("type") == "directory" else int(info["size"] or 0)

    def publish(self, file: LocalFile, owner: str) -> None:
        """Upload a file, and make it visible only when it is there whole."""
        with _failing_as_ours("publish", self.uri(file.name)):
            path = self._path(file.name)
            self._upload(file, path, owner)
            landed: int | None = file.size
            with contextlib.suppress(PermissionError):  # who may write need not be allowed to look
                landed = self._size(path)
        if landed != file.size:
            raise LandingFailed(
                f"{self.uri(file.name)} holds {landed} bytes after {file.size} were uploaded.",
                uri=self.uri(file.name),
            )

    def _upload(self, file: LocalFile, path: str, owner: str) -> None:
        if self._scheme in _RENAMING_SCHEMES:
            self._upload_and_rename(file, path, owner)
        else:
            with file.path.open("rb") as source, _held_back(self._fs, path) as out:
                shutil.copyfileobj(source, out, _BLOCK_BYTES)

    def _upload_and_rename(self, file: LocalFile, path: str, owner: str) -> None:
        folder = str(PurePosixPath(path).parent)
        self._fs.makedirs(folder, exist_ok=True)
        for name in self._fs.ls(folder, detail=False):
            if is_leftover(PurePosixPath(name).name, owner):
                log.info("Removing %s, which an earlier try left", name)
                self._fs.rm_file(name)
        temporary = f"{folder}/{temporary_name(owner)}"
        try:
            with file.path.open("rb") as source, self._fs.open(temporary, "wb") as out:
                shutil.copyfileobj(source, out, _BLOCK_BYTES)
            if self._fs.exists(path):  # SFTP's own rename does not overwrite
                self._fs.rm_file(path)
            self._fs.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root else name


@contextlib.contextmanager
def _failing_as_ours(what: str, uri: str) -> Iterator[None]:
    """
    Use a folder or a store.

    :param what: was tried on ``uri``.
    :raises LandingFailed: in place of whatever error of theirs it raises.
    """
    try:
        yield
    except Exception as error:  # each store raises errors of a client library of its own
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise LandingFailed(
            f"Tried to {what} {uri}: {reason}. "
            "See to space, rights and the storage connection; nothing partial was left.",
            uri=uri,
        ) from error


@contextlib.contextmanager
def _held_back(fs: Any, path: str) -> Iterator[Any]:
    """
    Write an object that becomes visible when the block ends well, and not at all otherwise.

    ``with fs.open(...)`` would commit what was written so far on an error: leaving the block closes
    the file, and closing it uploads the rest.
    """
    out = fs.open(path, "wb", autocommit=False, block_size=_BLOCK_BYTES)
    try:
        yield out
        out.close()
        out.commit()
    except BaseException:
        with contextlib.suppress(Exception):  # the error that led here is the one to tell
            out.discard()
        out.closed = True  # adlfs ignores autocommit: closing it, as __del__ does, would commit
        raise


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
    if not slash or not (bucket or scheme in _RENAMING_SCHEMES):
        raise InvalidInput(
            f"The destination names no file or folder in a bucket. Write {scheme}://bucket/"
            f"report.csv for a file, or {scheme}://bucket/ for a folder."
        )
    conn_id = _the_one(named, storage_conn_id)
    return StoreTarget(*_filesystem(scheme, conn_id, f"{bucket}{slash}{key}"))


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


def _filesystem(scheme: str, conn_id: str | None, path: str) -> tuple[Any, str, str]:
    """Open a store as Airflow does; not inside an event loop, where S3's would fail."""
    from airflow.sdk import ObjectStoragePath

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
    with _failing_as_ours("open", f"{scheme}://{path}"):
        root = ObjectStoragePath(f"{scheme}://{path}", conn_id=conn_id)
        return root.fs, scheme, root.path


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
