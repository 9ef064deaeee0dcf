"""The order of a landing: look, stage, verify, publish, tell."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_reportrun.client import telemetry
from airflow_provider_reportrun.errors import InvalidInput, LandingExists, ResultEmpty
from airflow_provider_reportrun.landing import (
    FAIL,
    LAND,
    MAX_MEMBERS,
    MAX_UNPACKED_BYTES,
    PARQUET,
    REPLACE,
    SKIP,
    archive,
    parquet,
)
from airflow_provider_reportrun.landing.archive import ZIP, LocalFile
from airflow_provider_reportrun.landing.columns import ColumnTypes, checked_types
from airflow_provider_reportrun.landing.download import POLICY, Sleep, download
from airflow_provider_reportrun.landing.emptiness import is_empty
from airflow_provider_reportrun.landing.places import as_text, check_spool_dir, read_place
from airflow_provider_reportrun.landing.spool import Spool
from airflow_provider_reportrun.landing.targets import Target, open_target
from airflow_provider_reportrun.protocol.interval import INTERVAL_END, INTERVAL_START
from airflow_provider_reportrun.protocol.metrics import LANDED_BYTES, LANDINGS, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_reportrun.landing.download import ResultSource
    from airflow_provider_reportrun.protocol.models import Column, ResultFacts
    from airflow_provider_reportrun.protocol.retry import RetryPolicy

log = logging.getLogger(__name__)

CSV: Final = "csv"
"""``content_type`` of a result that is not compressed."""
_OTHER_KINDS: Final = (
    "7z arrow avro bz2 feather gz gzip json jsonl ndjson orc tar tgz xls xlsx xml xz zst"
)
_KINDS: Final = {
    ".csv": CSV,
    ".zip": ZIP,
    ".parquet": PARQUET,
    ".pq": PARQUET,
    **{f".{kind}": kind for kind in _OTHER_KINDS.split()},
}
"""What readers take a file for by the end of its name; other names are not looked at."""
_MADE: Final = {
    (CSV,): "what lands is CSV; for a ZIP, ask for compress_file and leave decompress out",
    (ZIP,): "what lands is a ZIP, which decompress=True unpacks",
    (CSV, ZIP): "Stripe sends CSV or ZIP, and output_format='parquet' makes Parquet of them",
    (PARQUET,): "output_format is 'parquet'",
}
"""What a file may be: why."""
IF_EXISTS: Final = (REPLACE, SKIP, FAIL)
IF_EMPTY: Final = (LAND, SKIP, FAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file that was landed."""

    uri: str
    name: str
    size: int
    """Bytes."""
    sha256: str | None
    """None where the file was there before and was not read."""
    rows: int | None = None
    """Of a converted file; None where the file was not read as rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What came from Stripe, before it was unpacked or converted."""

    size: int
    """Bytes, as announced."""
    sha256: str


_OF_CONVERSIONS: Final = ("rows", "columns", "received")


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """What a landing tells: plain JSON values."""

    uri: str
    """Of the file, or of the folder that a ZIP was unpacked into; without a connection id."""
    size: int
    """Bytes of all that was landed."""
    sha256: str | None
    """Of the one file; None for several, and where the file was there before."""
    content_type: str | None = None
    """What the API announced, ``csv`` or ``zip``; None where all was kept."""
    report_run_id: str | None = None
    """None where all was kept, for another run may have made what stands there."""
    report: str | None = None
    report_parameters: dict[str, Any] | None = None
    """As the API tells them."""
    stripe_context: str | None = None
    """The account that the task asked for; None for the key's own."""
    livemode: bool | None = None
    interval_start: str | None = None
    interval_end: str | None = None
    members: list[Member] = field(default_factory=list)
    """With ``decompress`` the files that came of it; empty otherwise."""
    rows: int | None = None
    """Of all converted files; None where any was not read as rows."""
    columns: list[Column] | None = None
    """Names and types of converted files; None where they differ, or were not read as rows."""
    received: Received | None = None
    """What Stripe sent, verified, where it was converted."""
    skipped: bool = False
    """Whether nothing was landed: what stood there was kept, or the result is empty."""
    is_empty: bool = field(default=False, repr=False)
    """Whether nothing was landed because the result has no rows."""
    is_folder: bool = field(default=False, repr=False)
    holder: str | None = field(default=None, repr=False)
    """The storage account or server, where the URI does not name it: for lineage alone."""

    def as_json(self) -> dict[str, Any]:
        """Give the facts for XCom and asset events; those of a conversion only after one."""
        facts = asdict(self)
        del facts["is_folder"], facts["holder"], facts["is_empty"]
        if self.received is None:
            for told in (facts, *facts["members"]):
                for name in _OF_CONVERSIONS:
                    told.pop(name, None)
        if self.is_empty:
            facts["rows"] = 0
        return facts

    @property
    def returned(self) -> str | list[str]:
        """What the task returns: the URI, or a list of them for a ZIP unpacked into a folder."""
        return [member.uri for member in self.members] if self.is_folder else self.uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """
    Where a result goes, and how.

    :param uri: a local path or any URI that Airflow has a filesystem for, as a text or as a path
        object; one that ends in ``/`` is a folder. Kept as a text.
    :param storage_conn_id: the Airflow connection of the store.
    :param if_exists: ``replace``, ``skip`` or ``fail``.
    :param decompress: whether a ZIP is unpacked.
    :param spool_dir: a local folder for temporary files of stores; None for the system's own.
        Local destinations are staged beside their name instead, to be renamed.
    :param owner: names the temporary files, see ``spool.owner_name``.
    :param marker: name of an empty file that is published in a folder after all others; None for
        none.
    :param max_unpacked_bytes: a ZIP that holds more is refused.
    :param max_members: a ZIP with more entries is refused.
    :param output_format: ``parquet``, or None to land what Stripe sends.
    :param column_types: types of columns, over those that Stripe announces; see ``columns.py``.
    :param if_empty: ``land``, ``skip`` or ``fail`` a result without rows.
    :param storage_options: how the store is to keep files; see ``stores.check_options``.
    :param is_first_try: whether there is no earlier try that may have left something in a store.
    """

    uri: str
    storage_conn_id: str | None
    if_exists: str
    decompress: bool
    spool_dir: str | None
    owner: str
    marker: str | None = None
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES
    max_members: int = MAX_MEMBERS
    output_format: str | None = None
    column_types: Mapping[str, str] | None = None
    if_empty: str = LAND
    is_first_try: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", as_text(self.uri))
        read_place(self.uri, self.storage_conn_id)
        if self.if_exists not in IF_EXISTS:
            raise InvalidInput(
                f"if_exists must be one of {', '.join(IF_EXISTS)}, not {self.if_exists!r}."
            )
        if self.if_empty not in IF_EMPTY:
            raise InvalidInput(
                f"if_empty must be one of {', '.join(IF_EMPTY)}, not {self.if_empty!r}."
            )
        if self.spool_dir is not None:
            check_spool_dir(self.spool_dir)
        self._check_marker()
        self._check_format()
        for name in ("max_unpacked_bytes", "max_members"):
            most = getattr(self, name)
            if isinstance(most, bool) or not (isinstance(most, int) and most > 0):
                raise InvalidInput(f"{name} must be a whole number above 0, not {most!r}.")

    @property
    def _bounds(self) -> archive.Bounds:
        return archive.Bounds(unpacked_bytes=self.max_unpacked_bytes, members=self.max_members)

    def _check_marker(self) -> None:
        if self.marker is None:
            return
        if not isinstance(self.marker, str) or "/" in self.marker or self.marker in {"", ".", ".."}:
            raise InvalidInput(
                f"marker must be the name of a file, such as '_SUCCESS', not {self.marker!r}."
            )
        if not self.is_folder:
            raise InvalidInput(
                f"marker={self.marker!r} is for folders, and the destination {self.uri} is one "
                "file, which is whole where it stands. End it in /, or leave marker out."
            )

    def _check_format(self) -> None:
        checked_types(self.column_types)
        if self.output_format is None:
            if self.column_types:
                raise InvalidInput(
                    "column_types is for conversions: add output_format='parquet', or leave it out."
                )
            self._check_name(*((CSV,) if self.decompress else (CSV, ZIP)))
            return
        if self.output_format != PARQUET:
            raise InvalidInput(
                f"output_format must be {PARQUET!r}, or left out to land what Stripe sends, "
                f"not {self.output_format!r}."
            )
        self._check_name(PARQUET)
        parquet.check_available()

    def _check_name(self, *kinds: str) -> None:
        """
        Refuse a name that readers would take for something else.

        :param kinds: what the file may be.
        """
        suffix = PurePosixPath(self.name).suffix.lower()
        named = _KINDS.get(suffix)
        if named is None or named in kinds:
            return
        ends = " or ".join(f".{kind}" for kind in kinds)
        raise InvalidInput(
            f"The destination ends in {suffix}. End it in {ends}, or in / for a folder: "
            f"{_MADE[kinds]}. It is {self.uri}."
        )

    def check_result(self, content_type: str) -> None:
        """
        Refuse a result that cannot be landed in the format, or under the name, that was asked for.

        :param content_type: what the API announces or is asked for.
        :raises InvalidInput: says what to change.
        """
        if self.output_format is None:
            if content_type not in {CSV, ZIP}:
                log.warning("%s will hold a result of the type %r", self.uri, content_type)
            elif not self.decompress:
                self._check_name(content_type)
            return
        if content_type == CSV:
            return
        if content_type != ZIP:
            raise InvalidInput(
                f"output_format is {self.output_format!r}, which a result of the content type "
                f"{content_type!r} cannot be converted to. Leave output_format out."
            )
        if not self.decompress:
            raise InvalidInput(
                f"output_format is {self.output_format!r}, and the result is a ZIP. Add "
                "decompress=True, or leave compress_file out of result_options."
            )

    @property
    def is_folder(self) -> bool:
        """Whether files are named by what they are, and not by the destination."""
        return self.uri.endswith("/")

    @property
    def name(self) -> str:
        """The name of the file within its folder; empty for a folder."""
        return self.uri.rpartition("/")[2]

    def open(self) -> Target:
        """
        Open the folder that the result goes into.

        :raises InvalidInput: when there is no filesystem or connection for it.
        """
        folder = self.uri[: len(self.uri) - len(self.name)]
        target = open_target(folder, self.storage_conn_id, self.storage_options)
        if self.name:
            target.check(self.name)
        return target

    def look(self) -> Landing | None:
        """
        See whether something stands there that settles the matter before a report run is spent.

        A folder's files are named by what they are, so only a file destination can be looked at.

        :return: what stands there and is to be kept, or None to go on.
        :raises LandingExists: when something stands there and ``if_exists`` is ``fail``.
        """
        return self._look(self.open())

    def _look(self, target: Target) -> Landing | None:
        if self.is_folder or self.if_exists == REPLACE:
            return None
        size = target.size(self.name)
        if size is None:
            return None
        self._refuse_if_fail(target, self.name)
        return self._told(target, [_kept(target, self.name, size)])

    def land(
        self,
        source: ResultSource,
        report_run_id: str,
        *,
        policy: RetryPolicy = POLICY,
        sleep: Sleep = time.sleep,
    ) -> Landing:
        """
        Land the result of a succeeded report run.

        :param policy: of the download.
        :raises LandingExists: when something stands there and ``if_exists`` is ``fail``.
        :raises ResultEmpty: when the result has no rows and ``if_empty`` is ``fail``.
        :raises LandingFailed: when the store cannot be written.
        :raises ReportRunError: as ``download`` and ``archive`` do; nothing was published then.
        """
        target = self.open()
        kept = self._look(target)
        if kept is not None:
            return kept
        types = self._types(source, report_run_id)
        folder = target.spool_folder or Path(self.spool_dir or tempfile.gettempdir())
        # Beside a local destination, what is renamed has the rights of a file there.
        with Spool(folder, self.owner, private=target.spool_folder is None) as spool:
            staged = spool.new_file()
            facts = download(
                source,
                report_run_id,
                staged,
                policy=policy,
                sleep=sleep,
                check_type=self.check_result,
            )
            files = self._files(spool, staged, facts)
            if self.if_empty != LAND and is_empty(staged, facts.content_type):
                return self._passed_over(target, facts)
            if types is not None:
                files = self._converted(spool, files, types)
            marker = self._marker(spool, files)
            members = self._publish(target, files + marker)[: len(files)]
        landing = self._told(target, members)
        if landing.skipped:
            return landing
        measure_landing(facts.report, sum(member.size for member in members if member.sha256))
        return _made_of(landing, facts, files)

    def _passed_over(self, target: Target, facts: ResultFacts) -> Landing:
        """
        Leave everything as it is, for the result has no rows.

        :raises ResultEmpty: when that is to be an error.
        """
        uri = target.uri(self.name)
        if self.if_empty == FAIL:
            raise ResultEmpty(
                f"The result of report run {facts.report_run_id} has no rows, and if_empty is "
                f"'fail'. Nothing was published at {uri}; check interval and parameters, or choose "
                "if_empty='land' or 'skip'.",
                report_run_id=facts.report_run_id,
                uri=uri,
            )
        landing = Landing(uri=uri, size=0, sha256=None, skipped=True, is_empty=True)
        return _made_of(landing, facts, [])

    def _types(self, source: ResultSource, report_run_id: str) -> ColumnTypes | None:
        """Say which types the columns are to have, or None where nothing is to be converted."""
        if self.output_format is None:
            return None
        file = source.get_result_file(report_run_id)
        if file is not None:
            self.check_result(file.content_type)
        return ColumnTypes(
            announced=file.schema if file else None, wanted=checked_types(self.column_types)
        )

    def _converted(
        self, spool: Spool, files: list[LocalFile], types: ColumnTypes
    ) -> list[LocalFile]:
        """Convert all files; in a folder their names end in ``.parquet`` then."""
        if self.is_folder:
            files = [replace(file, name=parquet.parquet_name(file.name)) for file in files]
            archive.check_room_for_each([PurePosixPath(file.name) for file in files])
        return [parquet.convert(file, spool, types) for file in files]

    def _files(self, spool: Spool, staged: Path, facts: ResultFacts) -> list[LocalFile]:
        """Say which verified files are to be published under which names."""
        if self.decompress and facts.content_type == ZIP:
            files = archive.unpack(staged, spool, self._bounds)
            if self.is_folder:
                return files
            if len(files) != 1:
                raise InvalidInput(
                    f"The ZIP holds {len(files)} files, and the destination {self.uri} is one "
                    "file. End it in / to land them in a folder. Nothing was published."
                )
            return [replace(files[0], name=self.name)]
        if facts.content_type == ZIP:
            archive.verify(staged, self._bounds)
        name = self.name or f"{_file_name(facts.report_run_id)}.{_file_name(facts.content_type)}"
        return [LocalFile(name=name, path=staged, size=facts.size, sha256=facts.sha256)]

    def _marker(self, spool: Spool, files: list[LocalFile]) -> list[LocalFile]:
        """Give the marker to publish after the files, where one is asked for."""
        if self.marker is None:
            return []
        if any(file.name.partition("/")[0] == self.marker for file in files):
            raise InvalidInput(
                f"The result itself holds {self.marker!r}, so marker must be another name. "
                "Nothing was published."
            )
        empty = spool.new_file()
        return [
            LocalFile(name=self.marker, path=empty, size=0, sha256=hashlib.sha256().hexdigest())
        ]

    def _publish(self, target: Target, files: list[LocalFile]) -> list[Member]:
        """Publish all files in their order, after a look at all of their names."""
        for file in files if not self.is_first_try else ():
            target.clean(file.name, self.owner)
        for file in files:
            target.check_free(file.name)
        standing: dict[str, int | None] = {}
        if self.if_exists != REPLACE:
            standing = {file.name: target.size(file.name) for file in files}
        for name, size in standing.items():
            if size is not None:
                self._refuse_if_fail(target, name)
        return [self._published(target, file, standing.get(file.name)) for file in files]

    def _published(self, target: Target, file: LocalFile, standing: int | None) -> Member:
        if standing is not None:
            return _kept(target, file.name, standing)
        target.publish(file, self.owner)
        uri = target.uri(file.name)
        log.info("Landed %s, %d bytes", uri, file.size)
        return Member(uri=uri, name=file.name, size=file.size, sha256=file.sha256, rows=file.rows)

    def _refuse_if_fail(self, target: Target, name: str) -> None:
        if self.if_exists == FAIL:
            uri = target.uri(name)
            raise LandingExists(
                f"{uri} exists, and if_exists is 'fail'. Remove it, or choose 'replace' or 'skip'.",
                uri=uri,
            )

    def _told(self, target: Target, members: list[Member]) -> Landing:
        """Tell what stands there now."""
        unpacked_into_folder = self.decompress and self.is_folder
        only = members[0] if len(members) == 1 else None
        return Landing(
            uri=target.uri("") if unpacked_into_folder or not only else only.uri,
            size=sum(member.size for member in members),
            sha256=only.sha256 if only else None,
            members=members if self.decompress else [],
            rows=_sum([member.rows for member in members]),
            skipped=bool(members) and all(member.sha256 is None for member in members),
            is_folder=unpacked_into_folder,
            holder=target.holder,
        )


def measure_landing(report: str, size: int) -> None:
    """
    Measure that a result was landed.

    :param size: bytes.
    """
    telemetry.measure(Metric(LANDINGS, {"report": report}))
    telemetry.measure(Metric(LANDED_BYTES, {"report": report}, amount=size))


def _made_of(landing: Landing, facts: ResultFacts, files: list[LocalFile]) -> Landing:
    """Add the report run that the files, or some of them, are of, and what was read of them."""
    of_files = {file.columns for file in files}
    columns = next(iter(of_files)) if len(of_files) == 1 else None
    return replace(
        landing,
        content_type=facts.content_type,
        report_run_id=facts.report_run_id,
        report=facts.report,
        report_parameters=dict(facts.report_parameters),
        livemode=facts.livemode,
        interval_start=facts.report_parameters.get(INTERVAL_START),
        interval_end=facts.report_parameters.get(INTERVAL_END),
        columns=None if columns is None else list(columns),
        received=Received(size=facts.size, sha256=facts.sha256) if of_files - {None} else None,
    )


def _sum(counts: list[int | None]) -> int | None:
    """Add counts up; None where there are none, or one is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _kept(target: Target, name: str, size: int) -> Member:
    uri = target.uri(name)
    log.info("Kept the existing file %s, %d bytes", uri, size)
    return Member(uri=uri, name=name, size=size, sha256=None)


def _file_name(text: str) -> str:
    """Make a file name of what the API sent."""
    return re.sub(r"[^\w-]", "_", text) or "result"
