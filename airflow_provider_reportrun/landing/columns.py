"""
Which types the columns of a converted result have.

Those that Stripe announced or that were asked for, and text where neither says; never what values
look like, for that differs from week to week.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_reportrun.errors import ConversionFailed, InvalidInput
from airflow_provider_reportrun.protocol.models import Column

log = logging.getLogger(__name__)

TEXT: Final = "varchar"
DECIMAL: Final = "decimal(38,18)"
"""What an announced ``double`` lands as: room for 20 digits before the point and 18 after it."""
TYPES: Final = ("bigint", "boolean", "date", "decimal", "double", "timestamp", "timestamptz", TEXT)
_ANNOUNCED: Final = {
    "bigint": "bigint",
    "boolean": "boolean",
    "double": DECIMAL,  # Stripe announces money so, and a float holds no 0.10
    "timestamp": "timestamp",
    "varchar": TEXT,
}
"""
Type that the API announces: type that it lands as.

Source: Stripe OpenAPI, ``v2.reporting.report_run``, ``result.file.schema[].type``.
"""
_LOOKS: Final = {"<": "XML or HTML", "{": "JSON", "[": "JSON"}
"""What a file is that begins so."""
_SEPARATORS: Final = {";": "values separated by semicolons", "\t": "values separated by tabs"}
"""What a header of one column is that holds one of these."""
_DECIMAL: Final = re.compile(r"decimal\( *([0-9]{1,2}) *, *([0-9]{1,2}) *\)")
MOST_DIGITS: Final = 38


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnTypes:
    """
    What is known of the types of columns, by their names.

    :param announced: the columns as the API tells them; None where it does not.
    :param wanted: types that were asked for, over the announced ones; see ``checked_types``.
    """

    announced: Sequence[Column] | None = None
    wanted: Mapping[str, str] = field(default_factory=dict)

    def of(self, names: Sequence[str] | None) -> tuple[Column, ...]:
        """
        Type the columns of one file.

        :param names: in the order of the file; None for a file without a header, which has the
            columns that were announced, if any were.
        :raises ConversionFailed: when there are no columns, two of one name, or none that was
            announced, as of an error page.
        :raises InvalidInput: when a type was asked for of a column that is not there.
        """
        announced = {column.name: column.type for column in self.announced or ()}
        if names is None:
            names = list(announced)
        _check_names(names)
        announced = _as_spelled(announced, names)
        if announced:
            self._check_shared(announced, names)
        elif not set(self.wanted).intersection(names):
            _check_looks(names)
        absent = sorted(set(self.wanted) - set(names))
        if absent:
            raise InvalidInput(
                f"column_types names {absent}, but the columns of the result are {list(names)}. "
                "Nothing was published."
            )
        known = {name: _ANNOUNCED.get(announced.get(name, "")) for name in names}
        found = {**known, **self.wanted}
        unknown = [name for name in names if not found[name]]
        if unknown:
            log.warning(
                "The API announced no type, or none that is known, for %s: landed as text, "
                "unless column_types names one",
                unknown,
            )
        if missing := sorted(set(announced) - set(names)):
            log.warning("The API announced columns that the result does not have: %s", missing)
        return tuple(Column(name, found[name] or TEXT) for name in names)

    def _check_shared(self, announced: Mapping[str, str], names: Sequence[str]) -> None:
        if set(names).isdisjoint({*announced, *self.wanted}):
            raise ConversionFailed(
                f"The file has none of the {len(announced)} columns that the API announced, but "
                f"{len(names)} others, so it is another file or no CSV. Nothing was published; "
                "look at it without output_format, or name its columns in column_types."
            )


def _as_spelled(announced: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Name announced columns as the file does, if that differs in case and blanks alone."""
    folded = {_folded(name): name for name in names if name not in announced}
    spelled = {}
    for name, type_ in announced.items():
        other = None if name in names else folded.get(_folded(name))
        spelled[other or name] = type_
    return spelled


def _folded(name: str) -> str:
    return name.strip("\ufeff \t\u00a0").casefold()


def _check_looks(names: Sequence[str]) -> None:
    """
    Refuse what is evidently no CSV, where the API tells no columns to compare with.

    :raises ConversionFailed: says what it looks like.
    """
    first = names[0].lstrip()
    looks = _LOOKS.get(first[:1])
    if looks is None and len(names) == 1:
        looks = next((words for sign, words in _SEPARATORS.items() if sign in first), None)
    if looks is not None:
        raise ConversionFailed(
            f"The file looks like {looks}, not like a CSV whose values are separated by commas. "
            "Nothing was published; look at it without output_format, or name its columns in "
            "column_types."
        )


def checked_types(column_types: Mapping[str, str] | None) -> dict[str, str]:
    """
    Check the argument ``column_types``.

    :return: the same, each decimal with its digits.
    :raises InvalidInput: names what cannot be used.
    """
    if column_types is None:
        return {}
    if not isinstance(column_types, Mapping):
        raise InvalidInput(
            f"column_types must name columns and their types, such as {{'fee': 'decimal'}}, "
            f"not {column_types!r}."
        )
    return {str(name): _checked_type(name, wanted) for name, wanted in column_types.items()}


def decimal_digits(type_: str) -> tuple[int, int] | None:
    """Give the digits in all and after the point of a decimal type; None for another type."""
    found = _DECIMAL.fullmatch(type_)
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
            f"or, with its digits in all and after the point, decimal(38,18), not {wanted!r}."
        )
    return f"decimal({digits[0]},{digits[1]})"


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise ConversionFailed(
            "The result is empty, without even a header, and the API tells no columns for it, so "
            "there is nothing to make a Parquet file of. Nothing was published; leave "
            "output_format out to land such results as they are."
        )
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ConversionFailed(
            f"The result has more than one column of the name {', '.join(map(repr, twice))}, which "
            "readers of Parquet cannot tell apart. Nothing was published; ask for other columns, "
            "or leave output_format out to land the result as it is."
        )
