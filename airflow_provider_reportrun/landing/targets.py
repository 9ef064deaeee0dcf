"""
The places where results are published: a local folder, or any store with an Airflow filesystem.

``publish`` makes one verified file visible under its name, completely or not at all. A local file
is in the same folder before and is renamed; ``stores`` describes the other ways.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_reportrun._compat import (
    AirflowNotFoundException,
    BaseHook,
    has_filesystem,
)
from airflow_provider_reportrun.errors import InvalidInput, LandingFailed
from airflow_provider_reportrun.landing.places import (
    LOCAL_SCHEMES,
    SFTP_SCHEMES,
    Place,
)
from airflow_provider_reportrun.landing.spool import make_folder, sync
from airflow_provider_reportrun.landing.stores import (
    S3_SCHEMES,
    S3Target,
    SftpTarget,
    StoreTarget,
    check_options,
    failing_as_ours,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_reportrun.landing.archive import LocalFile
    from airflow_provider_reportrun.landing.uploads import Upload


class Target(Protocol):
    """
    A folder in which files are published.

    Its methods convert all errors of the system or of a client library to ``LandingFailed``.
    """

    spool_folder: Path | None
    """The folder where temporary files must be, or None for any."""
    holder: str | None
    """The storage account or server, if the URIs do not name it."""

    def uri(self, name: str) -> str:
        """Return the URI of a file, without a connection id."""

    def check(self, name: str) -> None:
        """Refuse a name that no file can have."""

    def check_free(self, name: str) -> None:
        """Refuse a name if an existing file or folder is in its way."""

    def size(self, name: str) -> int | None:
        """Return the size of an existing file in bytes, or None."""

    def publish(self, file: LocalFile, owner: str) -> None:
        """Make a file visible under its name; replaces an existing one."""

    def upload(self, name: str) -> Upload | None:
        """Return an upload that is held back until it is complete; None if there is no such."""

    def clean(self, name: str, owner: str) -> None:
        """Remove what killed tries of this owner left of a file."""


class LocalTarget:
    """A folder of this machine."""

    holder: str | None = None

    def __init__(self, folder: Path) -> None:
        self.spool_folder: Path | None = folder
        self._folder = folder

    def uri(self, name: str) -> str:
        """Return the ``file://`` URI of a file, without escapes, as ObjectStoragePath reads it."""
        return f"file://{os.path.join(self._folder, name)}"  # noqa: PTH118 - keeps the last slash

    def check(self, name: str) -> None:
        """
        Refuse the name of an existing folder.

        :raises InvalidInput: if it is one; says how to land in it.
        """
        path = self._folder / name
        with failing_as_ours("look at", self.uri(name)):
            is_folder = path.is_dir()
        if is_folder:
            raise InvalidInput(
                f"The destination {path} is a folder. End it in / to land files in it."
            )

    def check_free(self, name: str) -> None:
        """
        Refuse the name of an existing folder, and a name below an existing file.

        :raises LandingFailed: if something is in the way; names it.
        """
        path = self._folder / name
        with failing_as_ours("look at", self.uri(name)):
            files = (p for p in self._folders(path) if os.path.lexists(p) and not p.is_dir())
            in_the_way = path if path.is_dir() else next(files, None)
        if in_the_way is not None:
            raise LandingFailed(
                f"Remove {in_the_way}, which is a {'folder' if in_the_way == path else 'file'} in "
                f"the way of {self.uri(name)}, or choose another destination. Nothing was "
                "published.",
                uri=self.uri(name),
            )

    def _folders(self, path: Path) -> list[Path]:
        """Return the folders between the destination and a file."""
        return [parent for parent in path.parents if self._folder in parent.parents]

    def size(self, name: str) -> int | None:
        """Return the size of an existing file in bytes, or None."""
        path = self._folder / name
        with failing_as_ours("look at", self.uri(name)):
            return None if path.is_dir() or not path.exists() else path.stat().st_size

    def publish(self, file: LocalFile, owner: str) -> None:  # noqa: ARG002 - the spool cleans up
        """
        Rename the spool file to its name, which is atomic within one file system.

        The file is synced before the rename and its folder after it. Otherwise the rename could
        reach the disk first, and a power loss would leave an empty file under the name.
        """
        path = self._folder / file.name
        with failing_as_ours("publish", self.uri(file.name)):
            make_folder(path.parent)
            sync(file.path)
            file.path.replace(path)
            sync(path.parent)

    def upload(self, name: str) -> None:
        """Return None: the spool is in the same folder."""

    def clean(self, name: str, owner: str) -> None:
        """Do nothing: the spool is in the same folder and removes its own leftovers."""


def open_target(place: Place, storage_options: Mapping[str, Any] | None = None) -> Target:
    """
    Open a folder for publishing.

    :param storage_options: options of the store; see ``stores.check_options``.
    :raises InvalidInput: if an option is not accepted, no filesystem is installed for the scheme,
        or the connection does not exist.
    """
    options = {k: v for k, v in (storage_options or {}).items() if v is not None}
    if options and place.scheme in LOCAL_SCHEMES | SFTP_SCHEMES:
        raise InvalidInput(
            f"Leave out storage_options for {place.scheme or 'local'} destinations: options such "
            f"as {sorted(map(str, options))} are for object stores such as S3."
        )
    if not place.scheme:
        path = os.path.abspath(re.sub("^/+", "/", place.path))  # noqa: PTH100 - keeps symlinks
        return LocalTarget(Path(path))
    return _store(place, options)


def _store(place: Place, options: dict[str, Any]) -> Target:
    """
    Open a store as Airflow does; not within an event loop, where S3's would fail.

    :raises InvalidInput: also if the connection's storage account is not the one in the URI.
    """
    scheme, conn_id, path = place.scheme, place.conn_id, place.path
    _check_is_there(scheme, conn_id)
    check_options(scheme, options)
    with failing_as_ours("open", f"{scheme}://{path}"):
        if scheme in S3_SCHEMES:
            from airflow.providers.amazon.aws.hooks.s3 import S3Hook

            return S3Target(S3Hook(aws_conn_id=conn_id).get_conn(), scheme, path, options)
        from airflow.sdk import ObjectStoragePath

        root = ObjectStoragePath(f"{scheme}://{path}", conn_id=conn_id)
        kind = SftpTarget if scheme in SFTP_SCHEMES else StoreTarget
        target = kind(root.fs, scheme, root.path, options)
    if place.account and target.holder and place.account != target.holder:
        raise InvalidInput(
            "Name another connection in storage_conn_id, or its account in destination: "
            + (f"the connection {conn_id!r}" if conn_id else "the default connection")
            + f" is for {target.holder!r}, and destination names {place.account!r}."
        )
    return target


def _check_is_there(scheme: str, conn_id: str | None) -> None:
    """
    Check that a store can be opened.

    :raises InvalidInput: if no filesystem is installed for it, or the connection does not exist.
    """
    if not has_filesystem(scheme):
        extra = _EXTRAS.get(scheme)
        raise InvalidInput(
            f"No installed provider has a filesystem for {scheme}://: "
            + (
                f"install airflow-provider-reportrun[{extra}]."
                if extra
                else "use a local path, or s3://, gs://, abfs:// or sftp://."
            )
        )
    if conn_id:
        try:
            BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            raise InvalidInput(
                f"There is no Airflow connection {conn_id!r}: create it, or name another one in "
                f"storage_conn_id. It is for the store {scheme}://."
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
