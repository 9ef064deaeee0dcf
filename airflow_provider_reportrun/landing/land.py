"""Land a result: look, stage, verify, convert, publish."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from airflow_provider_reportrun.errors import InvalidInput, LandingExists, ResultEmpty
from airflow_provider_reportrun.landing import (
    CSV_GZ,
    FAIL,
    LAND,
    PARQUET,
    REPLACE,
    archive,
    parquet,
    rewriting,
)
from airflow_provider_reportrun.landing.archive import ZIP, LocalFile
from airflow_provider_reportrun.landing.columns import ColumnTypes, checked_types
from airflow_provider_reportrun.landing.download import POLICY, Sleep, receive
from airflow_provider_reportrun.landing.emptiness import is_empty
from airflow_provider_reportrun.landing.intake import Intake
from airflow_provider_reportrun.landing.landed import Landing, Member, Received
from airflow_provider_reportrun.landing.metrics import measure_landing
from airflow_provider_reportrun.landing.spool import Spool, check_writable
from airflow_provider_reportrun.landing.targets import Target, open_target
from airflow_provider_reportrun.landing.uploads import SentFile
from airflow_provider_reportrun.protocol.generations import spoken_name
from airflow_provider_reportrun.protocol.interval import INTERVAL_END, INTERVAL_START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_reportrun.landing.destination import Destination
    from airflow_provider_reportrun.landing.download import ResultSource
    from airflow_provider_reportrun.protocol.models import Column, ResultFacts
    from airflow_provider_reportrun.protocol.retry import RetryPolicy

log = logging.getLogger(__name__)


def look(destination: Destination) -> Landing | None:
    """
    Look for what settles the matter before a report run is created.

    That is an existing file, or a local folder that cannot be written. Files in a folder are named
    after their content, so they cannot be looked for in advance.

    :return: the existing file, if it is to be kept; otherwise None.
    :raises LandingExists: if there is one and ``if_exists`` is ``fail``.
    :raises InvalidInput: if the store, its filesystem or its connection does not exist.
    :raises LandingFailed: if the store cannot be read, or the folder of the temporary files, which
        is that of a local destination, cannot be written.
    """
    target = _open(destination)
    existing = _existing(destination, target)
    if existing is None:
        check_writable(_spool_folder(destination, target))
    return existing


def land(
    destination: Destination,
    source: ResultSource,
    report_run_id: str,
    *,
    policy: RetryPolicy = POLICY,
    sleep: Sleep = time.sleep,
) -> Landing:
    """
    Land the result of a succeeded report run, completely or not at all.

    :param policy: of the download.
    :raises LandingExists: if a file exists and ``if_exists`` is ``fail``.
    :raises ResultEmpty: if the result has no rows and ``if_empty`` is ``fail``.
    :raises LandingFailed: if the store cannot be read or written.
    :raises ReportRunError: as ``receive``, ``archive`` and ``parquet`` do, before anything is
        published.
    """
    target = _open(destination)
    existing = _existing(destination, target)
    if existing is not None:
        return existing
    announced = _announced(destination, source, report_run_id)
    with (
        _spool(destination, target) as spool,
        Intake(destination, target, spool, report_run_id) as intake,
    ):
        facts = receive(source, report_run_id, intake.begin, policy=policy, sleep=sleep)
        received = intake.received(facts)
        files: Sequence[LocalFile | SentFile] = [received]
        if isinstance(received, LocalFile):
            verified = _verified(destination, spool, received, facts)
            if destination.if_empty != LAND and is_empty(received.path, facts.content_type):
                return _without_rows(destination, target, source, facts)
            files = _converted(destination, spool, verified, announced or facts.schema)
        members = _publish(destination, target, spool, files)
    landing = _landing(destination, target, members)
    if landing.skipped:
        return landing
    measure_landing(facts.subject, sum(member.size for member in members if member.sha256))
    return _with_facts(landing, source, facts, files, is_converted=destination.is_converted)


# Look


def _open(destination: Destination) -> Target:
    """
    Open the folder that the result goes into.

    :raises InvalidInput: if there is no filesystem or connection for it.
    """
    target = open_target(destination.folder, destination.storage_options)
    if destination.name:
        target.check(destination.name)
    return target


def _existing(destination: Destination, target: Target) -> Landing | None:
    if destination.is_folder or destination.if_exists == REPLACE:
        return None
    size = target.size(destination.name)
    if size is None:
        return None
    _refuse_if_fail(destination, target, destination.name)
    return _landing(destination, target, [_kept(target, destination.name, size)])


def _refuse_if_fail(destination: Destination, target: Target, name: str) -> None:
    if destination.if_exists == FAIL:
        uri = target.uri(name)
        raise LandingExists(
            "The file exists, and if_exists is 'fail': remove it, or choose 'replace' or 'skip'. "
            f"It is {uri}.",
            uri=uri,
        )


def _kept(target: Target, name: str, size: int) -> Member:
    uri = target.uri(name)
    log.info("Kept the existing file %s, %d bytes", uri, size)
    return Member(uri=uri, name=name, size=size, sha256=None)


# Stage and verify


def _spool(destination: Destination, target: Target) -> Spool:
    """Return the spool: in the folder of a local destination, because a rename needs that."""
    folder = _spool_folder(destination, target)
    # A file that is renamed keeps its permissions, so they must be those of any file there.
    return Spool(folder, destination.owner, private=target.spool_folder is None)


def _spool_folder(destination: Destination, target: Target) -> Path:
    return target.spool_folder or Path(destination.spool_dir or tempfile.gettempdir())


def _verified(
    destination: Destination, spool: Spool, received: LocalFile, facts: ResultFacts
) -> list[LocalFile]:
    """
    Verify a downloaded result, and unpack it if requested.

    :return: the files to publish, with their names.
    """
    if destination.decompress and facts.content_type == ZIP:
        files = archive.unpack(received.path, spool, destination.bounds)
        if destination.is_folder:
            return files
        if len(files) != 1:
            raise InvalidInput(
                f"End the destination in / for a folder: the ZIP contains {len(files)} files, and "
                f"{destination.uri} is one. Nothing was published."
            )
        return [replace(files[0], name=destination.name)]
    if facts.content_type == ZIP:
        archive.verify(received.path, destination.bounds)
    return [received]


def _without_rows(
    destination: Destination, target: Target, source: ResultSource, facts: ResultFacts
) -> Landing:
    """
    Leave everything as it is, because the result has no rows.

    :raises ResultEmpty: if ``if_empty`` is ``fail``.
    """
    uri = target.uri(destination.name)
    if destination.if_empty == FAIL:
        raise ResultEmpty(
            "The result has no rows, and if_empty is 'fail': check interval and parameters, or "
            f"choose 'land' or 'skip'. It is of {source.api.noun} {facts.report_run_id}. Nothing "
            f"was published at {uri}.",
            report_run_id=facts.report_run_id,
            uri=uri,
        )
    landing = Landing(uri=uri, size=0, sha256=None, skipped=True, is_empty=True)
    return _with_facts(landing, source, facts)


# Convert


def _announced(
    destination: Destination, source: ResultSource, report_run_id: str
) -> tuple[Column, ...] | None:
    """Return the columns of a result, if they are needed and announced only on request."""
    if destination.output_format != PARQUET or not source.api.columns_query:
        return None
    file = source.get_result_file(report_run_id)
    if file is None:
        return None
    destination.check_result(file.content_type)
    return file.schema


def _converted(
    destination: Destination,
    spool: Spool,
    files: list[LocalFile],
    announced: Sequence[Column] | None,
) -> list[LocalFile]:
    """
    Convert all files, if requested; in a folder, their names then end as those of their format do.

    :param announced: the columns that the API announced, or None.
    """
    if not destination.is_converted:
        return files
    if destination.is_folder:
        files = [replace(file, name=_converted_name(destination, file.name)) for file in files]
        archive.check_room_for_each([PurePosixPath(file.name) for file in files])
    names = destination.column_names
    if destination.output_format == PARQUET:
        types = ColumnTypes(announced=announced, wanted=checked_types(destination.column_types))
        return [parquet.convert(file, spool, types, names) for file in files]
    compress = destination.output_format == CSV_GZ
    return [rewriting.rewrite(file, spool, names, compress=compress) for file in files]


def _converted_name(destination: Destination, name: str) -> str:
    match destination.output_format:
        case "parquet":
            return parquet.parquet_name(name)
        case "csv.gz":
            return f"{name}{rewriting.SUFFIX}"
        case None:
            return name


# Publish


def _publish(
    destination: Destination,
    target: Target,
    spool: Spool,
    files: Sequence[LocalFile | SentFile],
) -> list[Member]:
    """
    Publish files in their order and then the marker, after all names are checked.

    :return: the files, without the marker.
    """
    in_order = [*files, *_marker(destination, spool, files)]
    if not destination.is_first_try:
        for file in in_order:
            if isinstance(file, LocalFile):  # another one is cleaned up after before it is sent
                target.clean(file.name, destination.owner)
    for file in in_order:
        target.check_free(file.name)
    existing: dict[str, int | None] = {}
    if destination.if_exists != REPLACE:
        existing = {file.name: target.size(file.name) for file in in_order}
    for name, size in existing.items():
        if size is not None:
            _refuse_if_fail(destination, target, name)
    members = [_published(destination, target, file, existing.get(file.name)) for file in in_order]
    return members[: len(files)]


def _marker(
    destination: Destination, spool: Spool, files: Sequence[LocalFile | SentFile]
) -> list[LocalFile]:
    """Return the marker, if one is requested."""
    if destination.marker is None:
        return []
    if any(file.name.partition("/")[0] == destination.marker for file in files):
        raise InvalidInput(
            f"The result contains a file {destination.marker!r}, so marker must be another name. "
            "Nothing was published."
        )
    return [
        LocalFile(
            name=destination.marker,
            path=spool.new_file(),
            size=0,
            sha256=hashlib.sha256().hexdigest(),
        )
    ]


def _published(
    destination: Destination,
    target: Target,
    file: LocalFile | SentFile,
    existing_size: int | None,
) -> Member:
    if existing_size is not None:
        return _kept(target, file.name, existing_size)
    if isinstance(file, SentFile):
        file.upload.complete(file.size)
    else:
        target.publish(file, destination.owner)
    uri = target.uri(file.name)
    log.info("Landed %s, %d bytes", uri, file.size)
    return Member(uri=uri, name=file.name, size=file.size, sha256=file.sha256, rows=file.rows)


# Report


def _landing(destination: Destination, target: Target, members: list[Member]) -> Landing:
    """Return the facts of files that are now at the destination."""
    is_folder = destination.decompress and destination.is_folder
    only = members[0] if len(members) == 1 else None
    return Landing(
        uri=target.uri("") if is_folder or not only else only.uri,
        size=sum(member.size for member in members),
        sha256=only.sha256 if only else None,
        members=members if destination.decompress else [],
        rows=_sum([member.rows for member in members]),
        skipped=bool(members) and all(member.sha256 is None for member in members),
        is_folder=is_folder,
        holder=target.holder,
    )


def _sum(counts: list[int | None]) -> int | None:
    """Return the sum, or None if there are no counts or one is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _with_facts(
    landing: Landing,
    source: ResultSource,
    facts: ResultFacts,
    files: Sequence[LocalFile | SentFile] = (),
    *,
    is_converted: bool = False,
) -> Landing:
    """Add the facts of the report run, and those of a conversion."""
    of_files = {file.columns for file in files}
    columns = next(iter(of_files)) if len(of_files) == 1 else None
    return replace(
        landing,
        content_type=facts.content_type,
        report_run_id=facts.report_run_id,
        query_run_id=facts.report_run_id if facts.is_query else None,
        report=None if facts.is_query else facts.report,
        report_parameters=None if facts.is_query else dict(facts.report_parameters),
        livemode=facts.livemode,
        api=spoken_name(source.api),
        interval_start=facts.report_parameters.get(INTERVAL_START),
        interval_end=facts.report_parameters.get(INTERVAL_END),
        columns=None if columns is None else list(columns),
        received=Received(size=facts.size, sha256=facts.sha256) if is_converted else None,
    )
