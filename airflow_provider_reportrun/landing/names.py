"""
Names of columns that warehouses take without quotes.

A name depends only on the column's name in the report, so it is the same in every week. Nothing is
guessed about a report, and two columns never silently become one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from airflow_provider_reportrun.errors import ConversionFailed

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing import ColumnNames

LONGEST: Final = 63
"""
The most characters of a name: PostgreSQL cuts longer ones off without an error.

BigQuery takes 300, Snowflake and Databricks 255, Redshift 127.

Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
"""
_HASH_DIGITS: Final = 8
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where a word begins in ``cardBrand`` and in ``HTTPStatus``."""
_OTHERS: Final = re.compile(r"[^A-Za-z0-9]+")
_LATIN: Final = re.compile(r"LATIN (SMALL|CAPITAL) LETTER ([A-Z]{1,2})( WITH .+)?")
"""The name that Unicode gives to a letter such as ``é``, ``ł`` or ``æ``."""


def landed_names(names: Sequence[str], style: ColumnNames | None) -> list[str]:
    """
    Return the names that columns land under.

    :param names: as in the report.
    :param style: ``snake``, or None to keep the names.
    :raises ConversionFailed: if columns would land under the same name; names them.
    """
    if style is None:
        return list(names)
    landed = [snake(name) or f"column_{number}" for number, name in enumerate(names, start=1)]
    by_name: dict[str, list[str]] = defaultdict(list)
    for name, new in zip(names, landed, strict=True):
        by_name[new].append(name)
    for new, same in by_name.items():
        if len(same) > 1:
            raise ConversionFailed(
                "Leave column_names out, or request other columns: "
                f"{' and '.join(map(repr, same))} would both be {new!r}. Nothing was published.",
                column=same[0],
            )
    return landed


def snake(name: str) -> str:
    """
    Return a name in snake case: ``[a-z0-9_]``, not beginning with a digit, at most 63 characters.

    Anything but letters and digits becomes one underscore, and a word that begins with a capital
    gets one before it. Letters with accents lose them. A letter of another script becomes its code
    point, such as ``u6771``. A longer name is cut off, and ends in a hash of the whole name.

    :return: empty if the name has no letter and no digit. A name that is returned is returned
        unchanged for itself.
    """
    ascii_name = "".join(map(_as_ascii, unicodedata.normalize("NFKC", name)))
    words = _OTHERS.sub("_", _WORDS.sub("_", ascii_name)).strip("_").lower()
    if words[:1].isdigit():
        words = f"_{words}"
    if len(words) <= LONGEST:
        return words
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_HASH_DIGITS]
    return f"{words[: LONGEST - _HASH_DIGITS - 1].rstrip('_')}_{digest}"


def _as_ascii(letter: str) -> str:
    if letter.isascii():
        return letter
    if letter == "ß":
        return "ss"
    if latin := _LATIN.fullmatch(unicodedata.name(letter, "")):
        return latin[2] if latin[1] == "CAPITAL" else latin[2].lower()
    is_letter = unicodedata.category(letter)[0] in "LMN"
    return f"_u{ord(letter):x}_" if is_letter else "_"
