"""
Which types the columns of a converted result have.

The types are those that Stripe announced or that ``column_types`` names; other columns are text.
Types are never guessed from values, because a guess could differ from week to week.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from airflow_provider_reportrun.errors import ConversionFailed, InvalidInput
from airflow_provider_reportrun.protocol.models import Column

log = logging.getLogger(__name__)

TEXT: Final = "varchar"
DECIMAL: Final = "decimal(38,18)"
"""The type that announced money lands as: 20 digits before the point and 18 after it."""
TYPES: Final = ("bigint", "boolean", "date", "decimal", "double", "timestamp", "timestamptz", TEXT)
_ANNOUNCED: Final = {
    "bigint": "bigint",
    "boolean": "boolean",
    "date": "date",
    "datetime": "timestamp",
    "decimal": DECIMAL,
    "double": DECIMAL,  # used for money, and a float cannot represent 0.10
    "integer": "bigint",
    "timestamp": "timestamp",
    "varchar": TEXT,
}
"""
The type that the API announces: the type that it lands as.

Source: Stripe OpenAPI, ``v2.reporting.report_run``, ``result.file.schema[].type``; stripe-python
16.1.0a4, ``v2/data/_report_run.py``, ``Result.File.Column.type``.
"""
_LOOKS: Final = {"<": "XML or HTML", "{": "JSON", "[": "JSON"}
"""First character: the format that such a file probably is."""
_SEPARATORS: Final = {";": "values separated by semicolons", "\t": "values separated by tabs"}
"""Character in a header of one column: what such a file probably contains."""
_DECIMAL: Final = r"decimal\( *([0-9]{1,2}) *, *([0-9]{1,2}) *\)"
MOST_DIGITS: Final = 38
_MOST_SHOWN: Final = 20
"""The most names of columns in a log line."""


class ColumnTypes(Struct, frozen=True, kw_only=True):
    """
    What is known about the types of columns, by name.

    :param announced: the columns that the API announced; None if it announced none.
    :param wanted: types that override the announced ones; see ``checked_types``.
    """

    announced: Sequence[Column] | None = None
    wanted: Mapping[str, str] = {}

    def of(self, names: Sequence[str] | None) -> tuple[Column, ...]:
        """
        Return the columns of one file with their types.

        :param names: in the order of the file; None for a file without a header, which gets the
            announced columns.
        :raises ConversionFailed: if there are no columns, two have the same name, or none was
            announced, as in an error page.
        :raises InvalidInput: if ``column_types`` names a column that the file does not have.
        """
        announced = {column.name: column.type for column in self.announced or ()}
        if names is None:
            names = list(announced)
        _check_names(names)
        announced = _as_spelled(announced, names)
        if announced:
            self._check_shared(announced, names)
        elif not set(self.wanted).intersection(names):
            check_looks(names)
        absent = sorted(set(self.wanted) - set(names))
        if absent:
            raise InvalidInput(
                f"Correct the names in column_types: the result has no column {absent}. It has "
                f"{list(names)}. Nothing was published."
            )
        known = {name: _ANNOUNCED.get(announced.get(name, "")) for name in names}
        found = {**known, **self.wanted}
        unknown = [name for name in names if not found[name]]
        if unknown:
            log.warning(
                "The columns %s land as text, because the API announced no known type for them. "
                "Name their types in column_types for others",
                _shown(unknown),
            )
        if missing := sorted(set(announced) - set(names)):
            log.warning(
                "The API announced columns that the result does not have: %s", _shown(missing)
            )
        return tuple(Column(name, found[name] or TEXT) for name in names)

    def _check_shared(self, announced: Mapping[str, str], names: Sequence[str]) -> None:
        if set(names).isdisjoint({*announced, *self.wanted}):
            raise ConversionFailed(
                "Look at the file without output_format, or name its columns in column_types: it "
                f"has none of the {len(announced)} columns that the API announced, but "
                f"{len(names)} others, so it is another file or not CSV. Nothing was published."
            )


def _shown(names: Sequence[str]) -> str:
    """Show names in a log line, which a wide file must not fill."""
    more = len(names) - _MOST_SHOWN
    return str(list(names[:_MOST_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _as_spelled(announced: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Rename announced columns to the file's spelling, if only case or blanks differ."""
    folded = {_folded(name): name for name in names if name not in announced}
    spelled = {}
    for name, type_ in announced.items():
        other = None if name in names else folded.get(_folded(name))
        spelled[other or name] = type_
    return spelled


def _folded(name: str) -> str:
    return name.strip("\ufeff \t\u00a0").casefold()


def check_looks(names: Sequence[str]) -> None:
    """
    Refuse a file that is evidently not CSV, if there are no announced columns to compare with.

    :raises ConversionFailed: if the header looks like another format.
    """
    first = names[0].lstrip()
    looks = _LOOKS.get(first[:1])
    if looks is None and len(names) == 1:
        looks = next((words for sign, words in _SEPARATORS.items() if sign in first), None)
    if looks is not None:
        raise ConversionFailed(
            "Look at the file without output_format and column_names, or name its columns in "
            f"column_types: it looks like {looks}, not like CSV with values separated by commas. "
            "Nothing was published."
        )


def checked_types(column_types: Mapping[str, str] | None) -> dict[str, str]:
    """
    Check the argument ``column_types``.

    :return: the same mapping, with the digits of each decimal type spelled out.
    :raises InvalidInput: if a type is unknown; names the column.
    """
    if column_types is None:
        return {}
    if not isinstance(column_types, Mapping):
        raise InvalidInput(
            f"column_types must be a mapping of columns to types, such as {{'fee': 'decimal'}}, "
            f"not {column_types!r}."
        )
    return {str(name): _checked_type(name, wanted) for name, wanted in column_types.items()}


def decimal_digits(type_: str) -> tuple[int, int] | None:
    """Return the total digits and those after the point of a decimal type, or None."""
    found = re.fullmatch(_DECIMAL, type_)
    return (int(found[1]), int(found[2])) if found else None


def _checked_type(name: object, wanted: Any) -> str:
    if wanted == "decimal":
        return DECIMAL
    if wanted in TYPES:
        return str(wanted)
    digits = decimal_digits(wanted) if isinstance(wanted, str) else None
    if digits is None or not digits[1] <= digits[0] or not 1 <= digits[0] <= MOST_DIGITS:
        raise InvalidInput(
            f"The type of the column {name!r} in column_types must be one of {', '.join(TYPES)} "
            f"or a decimal with its total digits and those after the point, such as "
            f"decimal(38,18), not {wanted!r}."
        )
    return f"decimal({digits[0]},{digits[1]})"


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise ConversionFailed(
            "Leave output_format out to land such a result: it has no header, and the API "
            "announced no columns, so there are none for a Parquet file. Nothing was published."
        )
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ConversionFailed(
            "Request other columns, or leave output_format out: the result has more than one "
            f"column with the name {', '.join(map(repr, twice))}, which readers of Parquet cannot "
            "distinguish. Nothing was published."
        )
