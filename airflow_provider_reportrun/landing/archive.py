"""ZIP results: checked before anything of them is published, and unpacked without surprises."""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from airflow_provider_reportrun.errors import ResultCorrupt

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.spool import Spool

_CHUNK_BYTES: Final = 1 << 20
_ENCRYPTED: Final = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A verified file that waits in the spool."""

    name: str
    """Under which readers will find it, relative to the destination."""
    path: Path
    size: int
    """Bytes."""
    sha256: str


def verify(path: Path) -> None:
    """
    Read a ZIP through, comparing every member with its checksum.

    :raises ResultCorrupt: when it is no ZIP, or is damaged.
    """
    with _reading(path) as archive:
        for member in _members(archive):
            _read(archive, member, None)


def unpack(path: Path, spool: Spool) -> list[LocalFile]:
    """
    Unpack a ZIP into the spool, comparing every member with its checksum.

    :return: its members in the order of the ZIP; folders are left out.
    :raises ResultCorrupt: when it is no ZIP, is damaged, or names a member that would land outside
        of the destination, is no plain file, or stands there twice.
    """
    with _reading(path) as archive:
        members = _members(archive)
        _check_names([member.filename for member in members])
        files = []
        for member in members:
            target = spool.new_file()
            digest = _read(archive, member, target)
            files.append(
                LocalFile(name=member.filename, path=target, size=member.file_size, sha256=digest)
            )
        return files


def _reading(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ResultCorrupt(
            f"The result was announced as a ZIP but cannot be read as one: {error}."
        ) from None


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        mode = member.external_attr >> 16
        if (mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG}) or member.flag_bits & _ENCRYPTED:
            raise ResultCorrupt(f"The member {member.filename!r} of the ZIP is no plain file.")
    return members


def _check_names(names: list[str]) -> None:
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
            raise ResultCorrupt(f"The ZIP holds {name!r}, which would land outside its folder.")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ResultCorrupt(f"The ZIP holds {sorted(twice)} more than once.")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path | None) -> str:
    """Read one member through, into a file where one is named; zipfile compares checksums."""
    digest = hashlib.sha256()
    try:
        with archive.open(member) as source:
            out = target.open("xb") if target else None
            try:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    if out:
                        out.write(chunk)
            finally:
                if out:
                    out.close()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ResultCorrupt(
            f"The member {member.filename!r} of the ZIP is damaged: {error}."
        ) from None
    return digest.hexdigest()
