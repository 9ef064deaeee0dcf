"""
Where results are published: a local folder, or any store that Airflow has a filesystem for.

``publish`` makes one verified file visible under its name, whole or not at all. A local file stands
in the same folder before that and is renamed; how stores do it stands in ``stores``.
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
    read_place,
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

    def check_free(self, name: str) -> None:
        """Refuse a name that no file can be published under because of what is there now."""

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

    def check_free(self, name: str) -> None:
        """
        Refuse a name that is a folder's, or below a file.

        :raises LandingFailed: names what is in the way.
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
        """Give the size of the file that stands there, or None."""
        path = self._folder / name
        with failing_as_ours("look at", self.uri(name)):
            return None if path.is_dir() or not path.exists() else path.stat().st_size

    def publish(self, file: LocalFile, owner: str) -> None:  # noqa: ARG002 - the spool cleans up
        """
        Rename the spool file to its name, which is atomic within a folder's filesystem.

        A rename may reach the disk before the file does, so that a loss of power leaves an empty
        file under the name: the file is synced before, and its folder after.
        """
        path = self._folder / file.name
        with failing_as_ours("publish", self.uri(file.name)):
            make_folder(path.parent)
            sync(file.path)
            file.path.replace(path)
            sync(path.parent)

    def clean(self, name: str, owner: str) -> None:
        """Leave it to the spool, which stands in the same folder."""


def open_target(
    folder: str, storage_conn_id: str | None, storage_options: Mapping[str, Any] | None = None
) -> Target:
    """
    Open the folder that files are to be published in.

    :param folder: a local path or a URI, perhaps with a connection id before ``@``.
    :param storage_conn_id: the Airflow connection of the store.
    :param storage_options: how the store is to keep files, in its own words; see ``stores``.
    :raises InvalidInput: when it names no folder, no filesystem is installed for the scheme, no
        such connection is there, or two are named.
    """
    place = read_place(folder, storage_conn_id)
    options = {k: v for k, v in (storage_options or {}).items() if v is not None}
    if options and place.scheme in LOCAL_SCHEMES | SFTP_SCHEMES:
        raise InvalidInput(
            f"Leave out storage_options for {place.scheme or 'local'} destinations: they are for "
            f"objects of a store such as S3, not {sorted(map(str, options))}."
        )
    if not place.scheme:
        path = os.path.abspath(re.sub("^/+", "/", place.path))  # noqa: PTH100 - keeps symlinks
        return LocalTarget(Path(path))
    return _store(place, options)


def _store(place: Place, options: dict[str, Any]) -> Target:
    """
    Open a store as Airflow does; not inside an event loop, where S3's would fail.

    :raises InvalidInput: also if its connection is of another storage account than its URI names.
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
            f"destination names the storage account {place.account!r}, and its connection "
            f"{conn_id or 'by default'!r} is of {target.holder!r}. Name another connection in "
            "storage_conn_id, or the account of this one."
        )
    return target


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
