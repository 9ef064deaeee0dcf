"""Whether a verified result has any rows, decided from its first lines."""

from __future__ import annotations

import csv
import io
from itertools import chain
from typing import TYPE_CHECKING, Final

from airflow_provider_reportrun.landing.archive import ZIP, any_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO, TextIO

_MOST_CHARACTERS: Final = 1 << 20
"""The most that is read at once: a result without line ends must not fill memory."""
_SUFFIX: Final = ".csv"


def is_empty(path: Path, content_type: str) -> bool:
    """
    Tell whether a result has no rows: only a header, or no bytes.

    A ZIP has no rows if none of its files has any. A file that is neither CSV nor ZIP has no rows
    only if it has no bytes.

    :param content_type: as announced by the API.
    :raises ResultCorrupt: if a ZIP cannot be read.
    """
    if content_type == ZIP:
        return not any_file(path, _has_rows)
    if content_type != "csv":
        return not path.stat().st_size
    with path.open("rb") as file:
        return is_empty_csv(file)


def _has_rows(name: str, file: IO[bytes]) -> bool:
    return not is_empty_csv(file) if name.lower().endswith(_SUFFIX) else bool(file.read(1))


def is_empty_csv(file: IO[bytes]) -> bool:
    """
    Tell whether a CSV has at most a header.

    Blank lines count as rows only in a file of one column, as they do in a conversion. A file that
    cannot be read as CSV is not empty.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    try:
        first = io.StringIO(_after_line_ends(text) + text.readline(_MOST_CHARACTERS), newline="")
        rows = csv.reader(chain(first, _lines(text)))
        header = next(rows, None)
        if header is not None and len(header) == 1:
            return next(rows, None) is None
        return not _after_line_ends(first) and not _after_line_ends(text)
    except csv.Error:
        return False
    finally:
        text.detach()


def _after_line_ends(text: TextIO) -> str:
    """
    Skip blank lines, of which a file may have millions.

    :return: a part of what follows them; empty at the end of the file.
    """
    while part := text.read(_MOST_CHARACTERS):
        if rest := part.lstrip("\r\n"):
            return rest
    return ""


def _lines(text: TextIO) -> Iterator[str]:
    while line := text.readline(_MOST_CHARACTERS):
        yield line
