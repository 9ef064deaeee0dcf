"""The order of a landing: look, stage, verify, publish, tell."""

from __future__ import annotations

import logging
import re
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_reportrun.errors import InvalidInput, LandingExists, LandingFailed
from airflow_provider_reportrun.landing import archive
from airflow_provider_reportrun.landing.archive import LocalFile
from airflow_provider_reportrun.landing.local import ZIP, fetch
from airflow_provider_reportrun.landing.spool import Spool
from airflow_provider_reportrun.landing.targets import Target, open_target
from airflow_provider_reportrun.protocol.interval import INTERVAL_END, INTERVAL_START

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.download import ResultSource
    from airflow_provider_reportrun.protocol.models import ResultFacts

log = logging.getLogger(__name__)

REPLACE: Final = "replace"
SKIP: Final = "skip"
FAIL: Final = "fail"
IF_EXISTS: Final = (REPLACE, SKIP, FAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file that was landed."""

    uri: str
    name: str
    size: int
    """Bytes."""
    sha256: str | None
    """None where the file was there before and was not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """What a landing tells: plain JSON values."""

    uri: str
    """Of the file, or of the folder that a ZIP was unpacked into; without a connection id."""
    size: int
    """Bytes of all that was landed."""
    sha256: str | None
    """Of the one file; None for several, and where the file was there before."""
    content_type: str | None
    """What the API announced, ``csv`` or ``zip``; None where nothing was downloaded."""
    report_run_id: str | None
    """None where nothing was downloaded, for another run may have made what stands there."""
    report: str | None
    interval_start: str | None
    interval_end: str | None
    members: list[Member] = field(default_factory=list)
    """With ``decompress`` the files that came of it; empty otherwise."""
    skipped: bool = False
    """Whether what stood there was kept."""
    is_folder: bool = field(default=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Give the facts for XCom and asset events."""
        facts = asdict(self)
        del facts["is_folder"]
        return facts

    @property
    def returned(self) -> str | list[str]:
        """What the task returns: the URI, or a list of them for a ZIP unpacked into a folder."""
        return [member.uri for member in self.members] if self.is_folder else self.uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """
    Where a result goes, and how.

    :param uri: a local path or any URI that Airflow has a filesystem for; one that ends in ``/`` is
        a folder.
    :param storage_conn_id: the Airflow connection of the store.
    :param if_exists: ``replace``, ``skip`` or ``fail``.
    :param decompress: whether a ZIP is unpacked.
    :param spool_dir: a local folder for temporary files of stores; None for the system's own.
        Local destinations are staged beside their name instead, to be renamed.
    :param owner: names the temporary files, see ``spool.owner_name``.
    """

    uri: str
    storage_conn_id: str | None
    if_exists: str
    decompress: bool
    spool_dir: str | None
    owner: str

    def __post_init__(self) -> None:
        if not isinstance(self.uri, str) or not self.uri.strip():
            raise InvalidInput(
                f"destination must be a local path or a URI such as s3://bucket/report.csv, "
                f"not {self.uri!r}. Where it comes from a template, check what that renders to."
            )
        if self.if_exists not in IF_EXISTS:
            raise InvalidInput(
                f"if_exists must be one of {', '.join(IF_EXISTS)}, not {self.if_exists!r}."
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
        target = open_target(self.uri[: len(self.uri) - len(self.name)], self.storage_conn_id)
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
        target = self.open()
        if self.is_folder or self.if_exists == REPLACE:
            return None
        size = target.size(self.name)
        if size is None:
            return None
        self._refuse_if_fail(target, self.name)
        log.info("Keeping %s (%d bytes), which stands there already", target.uri(self.name), size)
        return Landing(
            uri=target.uri(self.name),
            size=size,
            sha256=None,
            content_type=None,
            report_run_id=None,
            report=None,
            interval_start=None,
            interval_end=None,
            skipped=True,
        )

    def land(self, source: ResultSource, report_run_id: str) -> Landing:
        """
        Land the result of a succeeded report run.

        :raises LandingExists: when something stands there and ``if_exists`` is ``fail``.
        :raises LandingFailed: when the store cannot be written.
        :raises ReportRunError: as ``download`` and ``archive`` do; nothing was published then.
        """
        kept = self.look()
        if kept is not None:
            return kept
        target = self.open()
        folder = target.spool_folder or Path(self.spool_dir or tempfile.gettempdir())
        with Spool(folder, self.owner) as spool:
            staged = spool.new_file()
            facts = fetch(source, report_run_id, staged)
            files = self._files(spool, staged, facts)
            members = self._publish(target, files)
        return self._told(target, facts, members)

    def _files(self, spool: Spool, staged: Path, facts: ResultFacts) -> list[LocalFile]:
        """Say which verified files are to be published under which names."""
        if self.decompress and facts.content_type == ZIP:
            files = archive.unpack(staged, spool)
            if self.is_folder:
                return files
            if len(files) != 1:
                raise InvalidInput(
                    f"The ZIP holds {len(files)} files, and the destination {self.uri} is one "
                    "file. End it in / to land them in a folder. Nothing was published."
                )
            (only,) = files
            return [LocalFile(name=self.name, path=only.path, size=only.size, sha256=only.sha256)]
        name = self.name or f"{_file_name(facts.report_run_id)}.{_file_name(facts.content_type)}"
        return [LocalFile(name=name, path=staged, size=facts.size, sha256=facts.sha256)]

    def _publish(self, target: Target, files: list[LocalFile]) -> list[Member]:
        """Publish all files, after a look at all of their names."""
        standing: dict[str, int | None] = {}
        if self.if_exists != REPLACE:
            standing = {file.name: target.size(file.name) for file in files}
        members = []
        for name, size in standing.items():
            if size is not None:
                self._refuse_if_fail(target, name)
        for file in files:
            size, sha256 = standing.get(file.name), None
            if size is None:
                _publish(target, file, self.owner)
                size, sha256 = file.size, file.sha256
            members.append(
                Member(uri=target.uri(file.name), name=file.name, size=size, sha256=sha256)
            )
        return members

    def _refuse_if_fail(self, target: Target, name: str) -> None:
        if self.if_exists == FAIL:
            uri = target.uri(name)
            raise LandingExists(
                f"{uri} exists, and if_exists is 'fail'. Remove it, or choose 'replace' or 'skip'.",
                uri=uri,
            )

    def _told(self, target: Target, facts: ResultFacts, members: list[Member]) -> Landing:
        unpacked_into_folder = self.decompress and self.is_folder
        parameters = facts.report_parameters
        only = members[0] if len(members) == 1 else None
        return Landing(
            uri=target.uri("") if unpacked_into_folder or not only else only.uri,
            size=sum(member.size for member in members),
            sha256=only.sha256 if only else None,
            content_type=facts.content_type,
            report_run_id=facts.report_run_id,
            report=facts.report,
            interval_start=parameters.get(INTERVAL_START),
            interval_end=parameters.get(INTERVAL_END),
            members=members if self.decompress else [],
            is_folder=unpacked_into_folder,
        )


def _publish(target: Target, file: LocalFile, owner: str) -> None:
    try:
        target.publish(file, owner)
    except OSError as error:
        uri = target.uri(file.name)
        raise LandingFailed(
            f"Tried to publish {uri}: {error.strerror or error}. "
            "See to space, rights and the storage connection; nothing partial was left.",
            uri=uri,
        ) from error
    log.info("Landed %s, %d bytes", target.uri(file.name), file.size)


def _file_name(text: str) -> str:
    """Make a file name of what the API sent."""
    return re.sub(r"[^\w-]", "_", text) or "result"
