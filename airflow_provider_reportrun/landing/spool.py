"""Temporary files that no reader takes for a result, and that the next try of a task cleans up."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from typing_extensions import Self

from airflow_provider_reportrun.errors import LandingFailed

log = logging.getLogger(__name__)

_CANNOT_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems answer that do not know how to sync a file or, more often, a folder."""


def owner_name(*identity: object) -> str:
    """
    Name the owner of temporary files, for file names.

    :param identity: what stays the same over the tries of a task instance.
    """
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:16]


def temporary_name(owner: str) -> str:
    """Make up the name of a temporary file: dot-prefixed, so that no ``*.csv`` matches it."""
    return f"{_prefix(owner)}{uuid.uuid4().hex}.part"


def is_leftover(name: str, owner: str) -> bool:
    """Tell whether a file name is of a temporary file of this owner."""
    return name.startswith(_prefix(owner)) and name.endswith(".part")


def _prefix(owner: str) -> str:
    return f".reportrun-{owner}-"


@contextmanager
def open_staged(path: Path) -> Iterator[BinaryIO]:
    """
    Open a local file to write it from its beginning.

    :raises LandingFailed: when it cannot be written, be it in the block.
    """
    try:
        with path.open("wb") as out:
            yield out
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> LandingFailed:
    return LandingFailed(
        f"Tried to write {path}: {error.strerror or error}. Nothing was published; see to "
        "space and rights there, or choose another spool_dir or destination."
    )


def _remove(path: Path) -> None:
    """Remove a temporary file; one that cannot be removed is logged, because it stops nothing."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("Could not remove %s: %s. Remove it by hand", path, error.strerror or error)


def sync(path: Path) -> None:
    """
    Let a file or the names in a folder survive a loss of power.

    Not every file system can, and a folder that may not be read cannot be opened: then it is left
    to the system.

    :raises OSError: when the disk fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
        log.debug("The file system of %s cannot sync it: %s", path, error.strerror)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """
    Make a folder with its parents, each of which survives a loss of power.

    :raises OSError: when it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync(path.parent)


class Spool:
    """
    The temporary files of one owner in one local folder; a context manager.

    Entering makes the folder and removes what a killed try of the same owner left; leaving removes
    whatever was not published.

    :param folder: made with its parents when it is not there.
    :param private: whether only the user of this process may read the files; else the umask says.
    :raises LandingFailed: when the folder cannot be made or written.
    """

    def __init__(self, folder: Path, owner: str, *, private: bool = True) -> None:
        self.folder = folder
        self._owner = owner
        self._mode = 0o600 if private else 0o666
        self._files: list[Path] = []

    def __enter__(self) -> Self:
        try:
            make_folder(self.folder)
        except OSError as error:
            raise LandingFailed(
                f"The folder {self.folder} cannot be used: {error.strerror}. "
                "Give another destination or spool_dir, or the rights to write there."
            ) from error
        self._remove_leftovers()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in self._files:
            _remove(file)

    def _remove_leftovers(self) -> None:
        """Remove what can be removed; who may write there need not be allowed to look."""
        try:
            leftovers = [p for p in self.folder.iterdir() if is_leftover(p.name, self._owner)]
        except OSError as error:
            log.warning("Could not look for leftovers in %s: %s", self.folder, error.strerror)
            return
        for leftover in leftovers:
            log.info("Removing %s, which an earlier try left", leftover)
            _remove(leftover)

    def new_file(self) -> Path:
        """
        Make a new temporary file.

        :raises LandingFailed: when the folder cannot be written.
        """
        file = self.folder / temporary_name(self._owner)
        try:
            file.touch(self._mode, exist_ok=False)
        except OSError as error:
            raise _unwritable(file, error) from error
        self._files.append(file)
        return file
