"""
Where a result is written while it is received: to its place in a store, or to the spool.

It is sent to the store at once if nothing has to be read again before it is published, which saves
time and the room on the disk.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Self

from airflow_provider_reportrun.landing import LAND
from airflow_provider_reportrun.landing.archive import ZIP, LocalFile
from airflow_provider_reportrun.landing.spool import FileSink, open_staged
from airflow_provider_reportrun.landing.uploads import SentFile, Upload

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_provider_reportrun.landing.destination import Destination
    from airflow_provider_reportrun.landing.download import Sink
    from airflow_provider_reportrun.landing.spool import Spool
    from airflow_provider_reportrun.landing.targets import Target
    from airflow_provider_reportrun.protocol.models import ResultFacts


class Intake:
    """
    Takes one result; a context manager that discards what was not published.

    :param report_run_id: names a file in a folder.
    """

    def __init__(
        self, destination: Destination, target: Target, spool: Spool, report_run_id: str
    ) -> None:
        self._destination = destination
        self._target = target
        self._spool = spool
        self._report_run_id = report_run_id
        self._opened = ExitStack()
        self._upload: Upload | None = None
        self._path: Path | None = None
        self._name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.__exit__(kind, error, traceback)

    def begin(self, content_type: str) -> Sink:
        """
        Return what the result is written to.

        :raises InvalidInput: if it cannot land as the destination says.
        :raises LandingFailed: if the spool cannot be written.
        """
        destination = self._destination
        destination.check_result(content_type)
        name = destination.name or f"{_file_name(self._report_run_id)}.{_file_name(content_type)}"
        is_read_again = (
            content_type == ZIP or destination.is_converted or destination.if_empty != LAND
        )
        upload = None if is_read_again else self._target.upload(name)
        if upload is None:
            self._name, self._path = name, self._spool.new_file()
            return FileSink(self._opened.enter_context(open_staged(self._path)))
        if not destination.is_first_try:
            self._target.clean(name, destination.owner)
        self._upload = self._opened.enter_context(upload)
        return upload

    def received(self, facts: ResultFacts) -> LocalFile | SentFile:
        """Return the file that was received completely."""
        if self._upload is not None:
            return SentFile(upload=self._upload, size=facts.size, sha256=facts.sha256)
        assert self._path is not None  # noqa: S101 - it has begun
        self._opened.close()
        return LocalFile(name=self._name, path=self._path, size=facts.size, sha256=facts.sha256)


def _file_name(text: str) -> str:
    """Turn a text from the API into a file name."""
    return re.sub(r"[^\w-]", "_", text) or "result"
