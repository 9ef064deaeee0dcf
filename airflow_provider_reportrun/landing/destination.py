"""Where a result goes and in which form: a checked value, which opens and reads nothing."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, get_args

from msgspec import structs

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.landing import (
    CSV_GZ,
    LAND,
    MAX_MEMBERS,
    MAX_UNPACKED_BYTES,
    PARQUET,
    REPLACE,
    ColumnNames,
    IfEmpty,
    IfExists,
    OutputFormat,
    parquet,
)
from airflow_provider_reportrun.landing.archive import ZIP, Bounds
from airflow_provider_reportrun.landing.columns import checked_types
from airflow_provider_reportrun.landing.places import Place, as_text, check_spool_dir, read_place

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

CSV: Final = "csv"
"""``content_type`` of a result that is not compressed."""
_GZIP: Final = "gz"
"""A compressed file of any format."""
_OTHER_KINDS: Final = "7z arrow avro bz2 feather json jsonl ndjson orc tar tgz xls xlsx xml xz zst"
_KINDS: Final = {
    ".csv": CSV,
    ".zip": ZIP,
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".gz": _GZIP,
    ".gzip": _GZIP,
    **{f".{kind}": kind for kind in _OTHER_KINDS.split()},
}
"""The end of a file name: the format that readers expect. Other names are not checked."""
_REASONS: Final = {
    (CSV,): (
        "the file is CSV; for a ZIP, leave decompress out and set compress_file in result_options, "
        "which api='v1' does not have"
    ),
    (ZIP,): "the file is a ZIP, which decompress=True unpacks",
    (CSV, ZIP): "Stripe sends CSV or ZIP, which output_format='parquet' or 'csv.gz' converts",
    (PARQUET,): "output_format is 'parquet'",
    (CSV_GZ,): "output_format is 'csv.gz'",
}
"""The formats that a file may have: why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """
    Where a result goes, in which form, and for whom.

    :param uri: a local path, or any URI that Airflow has a filesystem for, as text or as a path
        object; a folder if it ends in ``/``. Kept as text.
    :param storage_conn_id: the Airflow connection of the store.
    :param if_exists: what to do with an existing file: ``replace``, ``skip`` or ``fail``.
    :param if_empty: what to do with a result without rows: ``land``, ``skip`` or ``fail``.
    :param decompress: whether to unpack a ZIP.
    :param max_unpacked_bytes: a ZIP that unpacks to more is refused.
    :param max_members: a ZIP with more entries is refused.
    :param marker: name of an empty file to publish in a folder after all others; None for none.
    :param output_format: ``parquet`` or ``csv.gz``, or None to land what Stripe sends.
    :param column_types: types of columns that override the announced ones; see ``columns.py``.
    :param column_names: ``snake`` to rename columns, or None to keep their names; see ``names.py``.
    :param storage_options: options of the store; see ``stores.check_options``.
    :param spool_dir: local folder for temporary files; None for the system's. Local destinations do
        not use it: their temporary file is in the same folder, so that it can be renamed.
    :param owner: name of the task instance in temporary files, see ``spool.owner_name``.
    :param is_first_try: whether no earlier try can have left anything in a store.
    :raises InvalidInput: if anything is invalid; says what to change.
    """

    uri: str
    owner: str
    storage_conn_id: str | None = None
    if_exists: IfExists = REPLACE
    if_empty: IfEmpty = LAND
    decompress: bool = False
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES
    max_members: int = MAX_MEMBERS
    marker: str | None = None
    output_format: OutputFormat | None = None
    column_types: Mapping[str, str] | None = None
    column_names: ColumnNames | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    spool_dir: str | None = None
    is_first_try: bool = False
    place: Place = field(init=False, repr=False)
    """The destination, read from ``uri`` and ``storage_conn_id``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", as_text(self.uri))
        object.__setattr__(self, "place", read_place(self.uri, self.storage_conn_id))
        _check_choice("if_exists", self.if_exists, get_args(IfExists))
        _check_choice("if_empty", self.if_empty, get_args(IfEmpty))
        _check_count("max_unpacked_bytes", self.max_unpacked_bytes)
        _check_count("max_members", self.max_members)
        if self.spool_dir is not None:
            check_spool_dir(self.spool_dir)
        self._check_marker()
        self._check_format()

    @property
    def is_folder(self) -> bool:
        """Whether files are named after their content, and not by the destination."""
        return not self.name

    @property
    def name(self) -> str:
        """The name of the file in its folder; empty for a folder."""
        return self.uri.rpartition("/")[2]

    @property
    def is_converted(self) -> bool:
        """Whether a result is read as CSV and does not land as Stripe sends it."""
        return self.output_format is not None or self.column_names is not None

    @property
    def folder(self) -> Place:
        """The folder that the destination is, or is in."""
        path = self.place.path
        return structs.replace(self.place, path=path[: len(path) - len(self.name)])

    @property
    def bounds(self) -> Bounds:
        """The limits for a ZIP."""
        return Bounds(unpacked_bytes=self.max_unpacked_bytes, members=self.max_members)

    def check_result(self, content_type: str) -> None:
        """
        Refuse a result that cannot land in the requested format, or under the requested name.

        :param content_type: the API's, announced or requested.
        :raises InvalidInput: if it cannot; says what to change.
        """
        if self.is_converted:
            self._check_convertible(content_type)
        elif content_type not in {CSV, ZIP}:
            log.warning("%s will contain a result of the type %r", self.uri, content_type)
        elif not self.decompress:
            self._check_name(content_type)

    def _check_convertible(self, content_type: str) -> None:
        argument = "column_names" if self.output_format is None else "output_format"
        if content_type not in {CSV, ZIP}:
            raise InvalidInput(
                f"Leave {argument} out: a result of the content type {content_type!r} cannot be "
                f"converted to {getattr(self, argument)!r}."
            )
        if content_type == ZIP and not self.decompress:
            raise InvalidInput(
                f"{argument} is {getattr(self, argument)!r}, and the result is a ZIP. Add "
                "decompress=True, or leave compress_file out of result_options."
            )

    def _check_marker(self) -> None:
        if self.marker is None:
            return
        if not isinstance(self.marker, str) or "/" in self.marker or self.marker in {"", ".", ".."}:
            raise InvalidInput(
                f"marker must be the name of a file, such as '_SUCCESS', not {self.marker!r}."
            )
        if not self.is_folder:
            raise InvalidInput(
                "Leave marker out, or end the destination in /: "
                f"marker={self.marker!r} is for folders, and {self.uri} is one file, which is "
                "always complete."
            )

    def _check_format(self) -> None:
        checked_types(self.column_types)
        if self.column_names is not None:
            _check_choice("column_names", self.column_names, get_args(ColumnNames))
        if self.output_format is not None:
            _check_choice("output_format", self.output_format, get_args(OutputFormat))
        if self.column_types and self.output_format != PARQUET:
            raise InvalidInput(
                "column_types is for Parquet: add output_format='parquet', or leave it out."
            )
        if self.output_format is None:
            is_csv = self.decompress or self.is_converted
            self._check_name(*((CSV,) if is_csv else (CSV, ZIP)))
        else:
            self._check_name(self.output_format)
        if self.output_format == PARQUET:
            parquet.check_available()

    def _check_name(self, *kinds: str) -> None:
        """
        Refuse a name that readers would mistake for another format.

        :param kinds: the formats that the file may have.
        """
        _check_end(self.uri, self.name, kinds)


def check_written_end(destination: str, output_format: OutputFormat) -> None:
    """
    Check how a destination in a DAG file ends, which templates before the end do not change.

    :raises InvalidInput: if the end is that of another format.
    """
    end = re.split(r"}}|%}|/", destination)[-1]
    _check_end(destination, f"name{end}", (output_format,))


def _check_end(destination: str, name: str, kinds: tuple[str, ...]) -> None:
    suffix, named = _kind(name)
    if named is None or named in kinds:
        return
    ends = " or ".join(f".{kind}" for kind in kinds)
    raise InvalidInput(
        f"The destination ends in {suffix}. End it in {ends}, or in / for a folder: "
        f"{_REASONS[kinds]}. It is {destination}."
    )


def _kind(name: str) -> tuple[str, str | None]:
    """Return the end of a file name, and the format that readers expect, if any."""
    path = PurePosixPath(name.lower())
    kind = _KINDS.get(path.suffix)
    if kind == _GZIP and _KINDS.get(PurePosixPath(path.stem).suffix, CSV) == CSV:
        kind = CSV_GZ
    return path.suffix, kind


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInput(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not (isinstance(value, int) and value > 0):
        raise InvalidInput(f"{name} must be a whole number above 0, not {value!r}.")
