"""ZIP results: check them before anything is published, and unpack them safely."""

from __future__ import annotations

import hashlib
import lzma
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

from airflow_provider_reportrun.errors import InvalidInput, ResultCorrupt
from airflow_provider_reportrun.landing import MAX_MEMBERS, MAX_UNPACKED_BYTES
from airflow_provider_reportrun.landing.spool import open_staged

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.spool import Spool
    from airflow_provider_reportrun.protocol.models import Column

ZIP: Final = "zip"
"""``content_type`` of a compressed result."""
_CHUNK_BYTES: Final = 1 << 20
_INSPECT: Final = "Inspect the ZIP, which decompress=False lands unchanged:"
_NOTHING: Final = "Nothing was published."
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
    IndexError,
    OverflowError,
    struct.error,
)
"""What ``zipfile`` and its decompressors raise for damaged bytes."""


_LOCAL_HEADER_BYTES: Final = 30
_LONGEST_NAME: Final = 255
"""Bytes of a file's or folder's name: the limit of the usual file systems."""
_LONGEST_PATH: Final = 900
"""Bytes of a path in a ZIP: keys of S3 and GCS have at most 1,024, the destination included."""
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that break a log line or cannot be encoded."""
_MOST_SHOWN: Final = 100
"""The most characters of a name, or of a library's message, in an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    Limits for a ZIP.

    :param unpacked_bytes: the most bytes of all members together.
    :param members: the most entries, folders included.
    """

    unpacked_bytes: int = MAX_UNPACKED_BYTES
    members: int = MAX_MEMBERS


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A verified file in the spool."""

    name: str
    """The name it will have for readers, relative to the destination's folder."""
    path: Path
    size: int
    """Bytes."""
    sha256: str
    rows: int | None = None
    """None unless the file was converted to Parquet."""
    columns: tuple[Column, ...] | None = None
    """With the names and types that they land as; None unless the file was converted to Parquet."""


def verify(path: Path, bounds: Bounds = Bounds()) -> None:
    """
    Read a whole ZIP and compare each member with its checksum.

    :raises ResultCorrupt: if it is not a ZIP, is damaged, or contains no file.
    :raises InvalidInput: if it exceeds ``bounds``.
    """
    with _opened(path) as archive:
        for member in _members(archive, bounds):
            for _ in _chunks(archive, member):
                pass


def unpack(path: Path, spool: Spool, bounds: Bounds = Bounds()) -> list[LocalFile]:
    """
    Unpack a ZIP into the spool and compare each member with its checksum.

    :return: its members in the order of the ZIP, without folders.
    :raises ResultCorrupt: if it is not a ZIP, is damaged, contains no file, or a member would land
        outside the destination, is not a plain file, conflicts with another, or has a name that
        stores do not accept.
    :raises InvalidInput: if it exceeds ``bounds``.
    :raises LandingFailed: if the spool cannot be written.
    """
    with _opened(path) as archive:
        members = _members(archive, bounds)
        names = [_name(member) for member in members]
        check_room_for_each(names)
        return [
            _unpacked(archive, member, str(name), spool.new_file())
            for member, name in zip(members, names, strict=True)
        ]


def any_file(path: Path, condition: Callable[[str, IO[bytes]], bool]) -> bool:
    """
    Tell whether a condition is true for any file of a ZIP.

    :param condition: called with a file's name and content.
    :raises ResultCorrupt: if the ZIP is damaged.
    """
    with _opened(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as file:
                    if condition(member.filename, file):
                        return True
    return False


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with _reading("The result was announced as a ZIP but"), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """
    Convert the errors that damaged bytes cause in the block.

    :param what: the beginning of the message.
    :raises ResultCorrupt: instead of each of them.
    """
    try:
        yield
    except _DAMAGE as error:
        raise ResultCorrupt(
            f"{what} cannot be read: let the task download it again. {_NOTHING} "
            f"The reason is {type(error).__name__}: {_shown(str(error))}."
        ) from None


def _members(archive: zipfile.ZipFile, bounds: Bounds) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > bounds.members:
        raise InvalidInput(
            f"Raise max_members={bounds.members} if the report has that many files: the ZIP "
            f"contains {len(entries)} entries. {_NOTHING}"
        )
    # is_dir() of Python 3.11 fails for an entry without a name.
    members = [entry for entry in entries if not entry.filename or not entry.is_dir()]
    if not members:
        raise ResultCorrupt(
            "The ZIP contains no file: check the report run in Stripe's Dashboard if a retry does "
            f"not help. {_NOTHING}"
        )
    for member in members:
        mode = member.external_attr >> 16
        if (mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG}) or member.flag_bits & _ENCRYPTED:
            raise ResultCorrupt(
                f"{_INSPECT} its member {_named(member)} is not a plain file. {_NOTHING}"
            )
    _check_apart(entries, archive.start_dir)
    # zipfile never reads more of a member than this, and then compares the checksum.
    unpacked = sum(member.file_size for member in members)
    if unpacked > bounds.unpacked_bytes:
        raise InvalidInput(
            f"Raise max_unpacked_bytes={bounds.unpacked_bytes} if the report is that large: the "
            f"ZIP would unpack to {unpacked} bytes. {_NOTHING}"
        )
    return members


def _check_apart(entries: list[zipfile.ZipInfo], end: int) -> None:
    """
    Refuse entries that share bytes, as those of ZIP bombs do.

    :param end: offset at which the directory of the ZIP begins.
    :raises ResultCorrupt: if there are any; names the first.
    """
    in_order = sorted(entries, key=lambda entry: entry.header_offset)
    starts = [*(entry.header_offset for entry in in_order), end]
    for entry, (start, following) in zip(in_order, pairwise(starts), strict=True):
        if start + _LOCAL_HEADER_BYTES + entry.compress_size > following:
            raise ResultCorrupt(
                f"{_INSPECT} its member {_named(entry)} overlaps with the next one. {_NOTHING}"
            )


def _named(member: zipfile.ZipInfo) -> str:
    """Return a member's name for an error, escaped, because the name is untrusted."""
    return _shown(ascii(member.filename))


def _shown(text: str) -> str:
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _name(member: zipfile.ZipInfo) -> PurePosixPath:
    """
    Return the checked name of a member.

    :raises ResultCorrupt: if it would land outside its folder, or stores do not accept it.
    """
    if not member.filename:
        raise ResultCorrupt(f"{_INSPECT} it contains a member without a name. {_NOTHING}")
    _check_spelling(member)
    path = PurePosixPath(member.filename)
    first = path.parts[0] if path.parts else ""
    if not first or path.is_absolute() or ".." in path.parts or "\\" in str(path) or ":" in first:
        raise ResultCorrupt(
            f"{_INSPECT} it contains {_named(member)}, which would land outside its folder. "
            f"{_NOTHING}"
        )
    return path


def _check_spelling(member: zipfile.ZipInfo) -> None:
    """
    Refuse names that stores do not accept, or that break a log line.

    Otherwise a store might refuse one member after others were published.

    :raises ResultCorrupt: if the name is unusable; says why.
    """
    # zipfile itself cuts names at a null.
    if any(unicodedata.category(each) in _UNPRINTABLE for each in member.orig_filename):
        raise ResultCorrupt(
            f"{_INSPECT} it contains {_shown(ascii(member.orig_filename))}, a name with control "
            f"characters. {_NOTHING}"
        )
    encoded = member.filename.encode()
    if len(encoded) > _LONGEST_PATH or max(map(len, encoded.split(b"/"))) > _LONGEST_NAME:
        raise ResultCorrupt(
            f"{_INSPECT} it contains a name of {len(encoded)} bytes, too long for a file: "
            f"{_named(member)}. {_NOTHING}"
        )


def check_room_for_each(names: list[PurePosixPath]) -> None:
    """
    Refuse names that conflict: equal names, or one name as file and as folder.

    :raises ResultCorrupt: if there are any; names them.
    """
    folders = {parent for name in names for parent in name.parents}
    clashes = {name for name, count in Counter(names).items() if count > 1 or name in folders}
    if clashes:
        raise ResultCorrupt(
            f"{_INSPECT} it contains {_shown(str(sorted(map(str, clashes))))} more than once, or "
            f"as file and as folder. {_NOTHING}"
        )


def _unpacked(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, target: Path
) -> LocalFile:
    digest, size = hashlib.sha256(), 0
    with open_staged(target) as out:
        for chunk in _chunks(archive, member):
            digest.update(chunk)
            # A member may be shorter than the ZIP declares, although its checksum is right.
            size += out.write(chunk)
    return LocalFile(name=name, path=target, size=size, sha256=digest.hexdigest())


def _chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Read a whole member; zipfile compares its checksum at the end."""
    what = f"The member {_named(member)} of the ZIP"
    with _reading(what), archive.open(member) as source:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk
