"""ZIP results: checked before anything of them is published, and unpacked without surprises."""

from __future__ import annotations

import hashlib
import lzma
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

from airflow_provider_reportrun.errors import InvalidInput, ResultCorrupt
from airflow_provider_reportrun.landing import MAX_UNPACKED_BYTES
from airflow_provider_reportrun.landing.spool import open_staged

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.spool import Spool
    from airflow_provider_reportrun.protocol.models import Column

ZIP: Final = "zip"
"""``content_type`` of a compressed result."""
_CHUNK_BYTES: Final = 1 << 20
_UNTRUSTED: Final = (
    "Nothing was published; decompress=False lands the ZIP as it is, to be looked at."
)
_ENCRYPTED: Final = 0x1
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
"""What ``zipfile`` and its decompressors raise on bytes that are no good ZIP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A verified file that waits in the spool."""

    name: str
    """Under which readers will find it, relative to the destination."""
    path: Path
    size: int
    """Bytes."""
    sha256: str
    rows: int | None = None
    """None where the file was not read as rows."""
    columns: tuple[Column, ...] | None = None
    """In the types that they landed in; None where the file was not read as rows."""


def verify(path: Path, max_unpacked_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """
    Read a ZIP through, comparing every member with its checksum.

    :raises ResultCorrupt: when it is no ZIP, or is damaged.
    :raises InvalidInput: when it would unpack to more than ``max_unpacked_bytes``.
    """
    with _opened(path) as archive:
        for member in _members(archive, max_unpacked_bytes):
            for _ in _chunks(archive, member):
                pass


def unpack(
    path: Path, spool: Spool, max_unpacked_bytes: int = MAX_UNPACKED_BYTES
) -> list[LocalFile]:
    """
    Unpack a ZIP into the spool, comparing every member with its checksum.

    :return: its members in the order of the ZIP; folders are left out.
    :raises ResultCorrupt: when it is no ZIP, is damaged, or names a member that would land outside
        of the destination, is no plain file, or stands in the way of another.
    :raises InvalidInput: when it would unpack to more than ``max_unpacked_bytes``.
    :raises LandingFailed: when the spool cannot be written.
    """
    with _opened(path) as archive:
        members = _members(archive, max_unpacked_bytes)
        names = [_name(member) for member in members]
        check_room_for_each(names)
        return [
            _unpacked(archive, member, str(name), spool.new_file())
            for member, name in zip(members, names, strict=True)
        ]


def any_file(path: Path, holds: Callable[[str, IO[bytes]], bool]) -> bool:
    """
    Tell whether something holds for any file of a ZIP.

    :param holds: takes the name and the content.
    :raises ResultCorrupt: when the ZIP is damaged.
    """
    with _opened(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as file:
                    if holds(member.filename, file):
                        return True
    return False


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with _reading("The result was announced as a ZIP but"), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """
    Read of a ZIP.

    :param what: begins the message.
    :raises ResultCorrupt: in place of whatever damaged bytes make Python raise.
    """
    try:
        yield
    except _DAMAGE as error:
        raise ResultCorrupt(
            f"{what} cannot be read ({type(error).__name__}: {error}). Nothing was published; "
            "download it anew."
        ) from None


def _members(archive: zipfile.ZipFile, max_unpacked_bytes: int) -> list[zipfile.ZipInfo]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        mode = member.external_attr >> 16
        if (mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG}) or member.flag_bits & _ENCRYPTED:
            raise ResultCorrupt(
                f"The member {member.filename!r} of the ZIP is no plain file. {_UNTRUSTED}"
            )
    # zipfile never reads more of a member than this, and then compares the checksum.
    unpacked = sum(member.file_size for member in members)
    if unpacked > max_unpacked_bytes:
        raise InvalidInput(
            f"The ZIP would unpack to {unpacked} bytes, more than max_unpacked_bytes="
            f"{max_unpacked_bytes}. Nothing was published; raise it if the report is that large."
        )
    return members


def _name(member: zipfile.ZipInfo) -> PurePosixPath:
    """
    Read the name of a member, once for all that is done with it.

    :raises ResultCorrupt: when it would land outside of its folder.
    """
    path = PurePosixPath(member.filename)
    first = path.parts[0] if path.parts else ""
    if not first or path.is_absolute() or ".." in path.parts or "\\" in str(path) or ":" in first:
        raise ResultCorrupt(
            f"The ZIP holds {member.filename!r}, which would land outside its folder. {_UNTRUSTED}"
        )
    return path


def check_room_for_each(names: list[PurePosixPath]) -> None:
    """
    Refuse names of which one would take the place of another.

    :raises ResultCorrupt: names them.
    """
    folders = {parent for name in names for parent in name.parents}
    clashes = {name for name, count in Counter(names).items() if count > 1 or name in folders}
    if clashes:
        raise ResultCorrupt(
            f"The ZIP holds {sorted(map(str, clashes))} more than once, or as file and as folder. "
            f"{_UNTRUSTED}"
        )


def _unpacked(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, target: Path
) -> LocalFile:
    digest = hashlib.sha256()
    with open_staged(target) as out:
        for chunk in _chunks(archive, member):
            digest.update(chunk)
            out.write(chunk)
    return LocalFile(name=name, path=target, size=member.file_size, sha256=digest.hexdigest())


def _chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Read one member through; zipfile compares its checksum at the end."""
    what = f"The member {member.filename!r} of the ZIP"
    with _reading(what), archive.open(member) as source:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk
