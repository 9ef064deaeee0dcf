"""Rewrite a verified CSV in the spool: with other names in its header, or compressed, or both."""

from __future__ import annotations

import hashlib
import logging
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final

from airflow_provider_reportrun.landing.columns import check_looks
from airflow_provider_reportrun.landing.header import read_header
from airflow_provider_reportrun.landing.names import landed_names
from airflow_provider_reportrun.landing.spool import open_staged

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing import ColumnNames
    from airflow_provider_reportrun.landing.archive import LocalFile
    from airflow_provider_reportrun.landing.spool import Spool

log = logging.getLogger(__name__)

SUFFIX: Final = ".gz"
LEVEL: Final = 1
"""
Of zlib, from 1 to 9: the fastest.

Level 6 is 2.5 times slower and saves an eighth of an itemized report.
"""
_GZIP: Final = 16 + zlib.MAX_WBITS
"""Makes zlib write a gzip header, in which name and time are empty: the same bytes every time."""
_CHUNK_BYTES: Final = 1 << 20


def rewrite(
    file: LocalFile, spool: Spool, names: ColumnNames | None, *, compress: bool
) -> LocalFile:
    """
    Rewrite a CSV, and remove the old file.

    Everything after the header is copied byte for byte. So are a byte order mark and the end of the
    header's line.

    :param names: how to rename the columns; None keeps the header.
    :param compress: whether to compress the file with gzip.
    :return: another file of the spool with the same name.
    :raises ConversionFailed: if the file is not CSV, or columns would have the same name.
    :raises LandingFailed: if the spool cannot be written.
    """
    began = time.monotonic()
    head, rest_at = _head(file, names)
    target = spool.new_file()
    digest, size = hashlib.sha256(), 0
    with file.path.open("rb") as source, open_staged(target) as out:
        source.seek(rest_at)
        chunks = chain([head], _chunks(source))
        for chunk in _compressed(chunks) if compress else chunks:
            digest.update(chunk)
            size += out.write(chunk)
    file.path.unlink()
    log.info(
        "Rewrote %s: %d bytes to %d bytes, in %.1f s",
        file.name,
        file.size,
        size,
        time.monotonic() - began,
    )
    return replace(file, path=target, size=size, sha256=digest.hexdigest())


def _head(file: LocalFile, names: ColumnNames | None) -> tuple[bytes, int]:
    """Return the beginning of the new file, and the offset in the old one of what follows it."""
    if names is None:
        return b"", 0
    header = read_header(file)
    if header.names is None:
        return b"", 0
    check_looks(header.names)
    with file.path.open("rb") as source:
        before = source.read(header.start)
    # These names need no quotes.
    line = ",".join(landed_names(header.names, names)).encode()
    return before + line + header.line_end, header.end


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk


def _compressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    deflate = zlib.compressobj(LEVEL, wbits=_GZIP)
    for chunk in chunks:
        yield deflate.compress(chunk)
    yield deflate.flush()
