"""The header of a CSV: its names, and where its bytes are."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_reportrun.errors import ConversionFailed

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.archive import LocalFile

LONGEST: Final = 8 << 20
"""The most characters of a header that are read: a file may be one endless line."""
LEAVE_IT: Final = "Leave output_format and column_names out to land the file unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    r"""
    The header of a CSV.

    :param names: None for a file without a header, which has only empty lines or nothing at all.
    :param start: offset of its first byte: after a byte order mark and empty lines.
    :param end: offset of the first byte after it and its line end.
    :param line_end: ``\r\n``, ``\n``, ``\r``, or nothing at the end of the file.
    :param has_rows: whether anything follows.
    """

    names: list[str] | None
    start: int
    end: int
    line_end: bytes
    has_rows: bool


def read_header(file: LocalFile) -> Header:
    """
    Read the header of a CSV.

    :param file: UTF-8, with or without a byte order mark.
    :raises ConversionFailed: if the header cannot be read.
    """
    with file.path.open("rb") as raw:
        start = len(codecs.BOM_UTF8) if raw.read(3) == codecs.BOM_UTF8 else 0
        raw.seek(start)
        text = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
        lines = _Lines(text, file, start)
        names = None
        try:
            for row in csv.reader(lines):
                if row:
                    names = row
                    break
                start = lines.end
        except csv.Error:
            names = ["\udcff"]
        header = Header(
            names=names,
            start=start,
            end=lines.end,
            line_end=lines.last[len(lines.last.rstrip("\r\n")) :].encode(),
            has_rows=bool(text.read(1)),
        )
    if names is not None and any(not _is_unicode(name) for name in names):
        raise ConversionFailed(
            f"{LEAVE_IT}: the header of the CSV for {file.name} is not CSV in UTF-8. Nothing was "
            "published."
        )
    return header


class _Lines:
    """
    Iterates over lines, which may all belong to the header.

    :raises ConversionFailed: if more than ``LONGEST`` characters are requested.
    """

    def __init__(self, text: io.TextIOWrapper, file: LocalFile, start: int) -> None:
        self._text = text
        self._file = file
        self._left = LONGEST
        self.end = start
        """Offset of the first byte after the last line."""
        self.last = ""

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(self._left + 1):
            self._left -= len(line)
            if self._left < 0:
                raise ConversionFailed(
                    f"{LEAVE_IT}: the header of the CSV for {self._file.name} has more than "
                    f"{LONGEST} characters, or the file is not CSV. Nothing was published."
                )
            self.end += len(line.encode(errors="surrogateescape"))
            self.last = line
            yield line


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)
