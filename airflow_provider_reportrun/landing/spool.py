"""Temporary files, which readers do not mistake for results and a task's next try removes."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from typing_extensions import Self

from airflow_provider_reportrun.errors import LandingFailed

log = logging.getLogger(__name__)

_CANNOT_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""Errors of file systems that cannot sync a file or, more often, a folder."""


def owner_name(*identity: object) -> str:
    """
    Return a name for the owner of temporary files, for use in file names.

    :param identity: what stays the same across the tries of a task instance.
    :return: 16 hexadecimal digits.
    """
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:16]


def temporary_name(owner: str) -> str:
    """Return a new name for a temporary file; it begins with a dot, so ``*.csv`` never matches."""
    return f"{_prefix(owner)}{uuid.uuid4().hex}.part"


def is_leftover(name: str, owner: str) -> bool:
    """Tell whether a name is that of a temporary file of this owner."""
    return name.startswith(_prefix(owner)) and name.endswith(".part")


def _prefix(owner: str) -> str:
    return f".reportrun-{owner}-"


@contextmanager
def open_staged(path: Path) -> Iterator[BinaryIO]:
    """
    Open a local file to write it from its beginning.

    :raises LandingFailed: if it cannot be opened, or writing in the block fails.
    """
    try:
        with path.open("wb") as out:
            yield out
    except OSError as error:
        raise _unwritable(path, error) from error


class FileSink:
    """A local file that a download writes to."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.write = out.write

    def restart(self) -> None:
        """Empty the file."""
        self._out.seek(0)
        self._out.truncate()


def _unwritable(path: Path, error: OSError) -> LandingFailed:
    return LandingFailed(
        "Check space and permissions, or choose another spool_dir or destination: could not write "
        f"{path}: {error.strerror or error}. Nothing was published."
    )


def check_writable(folder: Path) -> None:
    """
    Check that files can be created in a folder, or the folder in its nearest parent that exists.

    It is tried, because permissions alone do not tell: of root, of a read-only file system.

    :raises LandingFailed: if they cannot.
    """
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: OSError) -> LandingFailed:
    return LandingFailed(
        "Choose another destination or spool_dir, or grant permission: cannot use the "
        f"folder {folder}: {error.strerror}."
    )


def _remove(path: Path) -> None:
    """Remove a temporary file; a failure is only logged, because the landing can continue."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("Could not remove %s: %s. Remove it by hand", path, error.strerror or error)


def sync(path: Path) -> None:
    """
    Sync a file, or the names in a folder, so that it survives a power loss.

    Does nothing if the file system cannot sync it, or if a folder may not be read.

    :raises OSError: if the disk fails.
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
    Create a folder with its parents, and sync each, so that they survive a power loss.

    :raises OSError: if it cannot be created.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync(path.parent)


class Spool:
    """
    The temporary files of one owner in one local folder; a context manager.

    Entering it creates the folder and removes what a killed try of the same owner left. Leaving it
    removes the files that were not published.

    :param folder: created with its parents if it does not exist.
    :param private: whether only the user of this process may read the files; otherwise the umask
        decides.
    :raises LandingFailed: if the folder cannot be created or written.
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
            raise _unusable(self.folder, error) from error
        self._remove_leftovers()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in self._files:
            _remove(file)

    def _remove_leftovers(self) -> None:
        """Remove leftovers; a folder may be writable although it cannot be listed."""
        try:
            leftovers = [p for p in self.folder.iterdir() if is_leftover(p.name, self._owner)]
        except OSError as error:
            log.warning("Could not look for leftovers in %s: %s", self.folder, error.strerror)
            return
        for leftover in leftovers:
            log.info("Removing the leftover %s of an earlier try", leftover)
            _remove(leftover)

    def new_file(self) -> Path:
        """
        Create a new temporary file.

        :raises LandingFailed: if the folder cannot be written.
        """
        file = self.folder / temporary_name(self._owner)
        try:
            file.touch(self._mode, exist_ok=False)
        except OSError as error:
            raise _unwritable(file, error) from error
        self._files.append(file)
        return file
