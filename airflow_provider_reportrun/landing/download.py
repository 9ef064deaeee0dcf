"""
Fetch a result into a local file, and verify it against what the API announced.

Every attempt asks for the report run again and so gets a fresh URL, which lives five minutes. What
was cut off is resumed where the server proves that the file is still the same, else restarted.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol
from urllib.parse import urljoin, urlsplit

from airflow_provider_reportrun.errors import (
    DownloadRefused,
    LandingFailed,
    NotFound,
    ReportRunError,
    ResultCorrupt,
    ServerError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.protocol.models import (
    SUCCEEDED,
    ReportRun,
    ResultFacts,
    ResultFile,
)
from airflow_provider_reportrun.protocol.retry import RetryPolicy

if TYPE_CHECKING:
    from airflow_provider_reportrun.connection import ApiAccess
    from airflow_provider_reportrun.transport import Stream

log = logging.getLogger(__name__)

POLICY: Final = RetryPolicy(attempts=6)
"""Attempts in a row that brought nothing new."""
MOST_REDIRECTS: Final = 5
PROGRESS_SECONDS: Final = 10.0
"""At most so often does a long download report progress."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class ResultSource(Protocol):
    """The part of the hook that a download needs."""

    @property
    def access(self) -> ApiAccess:
        """How to reach the API."""

    def get_report_run(self, report_run_id: str) -> ReportRun:
        """Get a report run with a fresh URL."""

    def open_result(self, url: str, headers: Mapping[str, str]) -> AbstractContextManager[Stream]:
        """Open a result file."""


def download(source: ResultSource, report_run_id: str, path: Path) -> ResultFacts:
    """
    Download the result of a succeeded report run into a local file.

    :param path: a new file; on an error what was written stays for the caller to remove.
    :return: facts that were verified: the size against what the API announced.
    :raises ReportRunFailed: when the report run has no result because it failed.
    :raises ResultCorrupt: when what came is not what the API announced.
    :raises DownloadRefused: when the file would come from a host that is not allowed.
    :raises LandingFailed: when the file cannot be written.
    :raises ReportRunError: when the API or the host of the file cannot be reached.
    """
    failures = 0
    try:
        with path.open("xb") as out:
            transfer = _Transfer(out)
            while True:
                had = transfer.received
                run = source.get_report_run(report_run_id)
                file = _ready_file(run)
                try:
                    transfer.take(source, file)
                except ReportRunError as error:
                    failures = 1 if transfer.resumed_past(had) else failures + 1
                    delay = POLICY.delay(failures, error, random.uniform)
                    if delay is None:
                        raise
                    log.warning("%s Trying again in %.1f s", error, delay)
                    time.sleep(delay)
                else:
                    return transfer.facts(run, file)
    except OSError as error:
        raise LandingFailed(
            f"Tried to write {path}: {error.strerror or error}. Nothing was published; see to "
            "space and rights there, or choose another spool_dir or destination."
        ) from error


def _ready_file(run: ReportRun) -> ResultFile:
    if run.failure is not None:
        raise run.failure
    if run.status != SUCCEEDED or run.file is None or not run.file.url:
        raise UnexpectedAnswer(
            f"Report run {run.id} has no result to download: its status is {run.status!r}. "
            "Wait for it with a ReportRunSensor first.",
            report_run_id=run.id,
        )
    return run.file


class _Transfer:
    """What has arrived so far, in the file and in the hash."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._progress = _Progress()
        self._restart()

    def _restart(self) -> None:
        self._out.seek(0)
        self._out.truncate()
        self._sha256 = hashlib.sha256()
        self._validator: str | None = None
        self._resumed = False
        self.received = 0

    def resumed_past(self, had: int) -> bool:
        """Whether the last attempt carried on from ``had`` bytes, and came further."""
        return self._resumed and self.received > had

    def take(self, source: ResultSource, file: ResultFile) -> None:
        """
        Take what comes of one attempt.

        :raises ReportRunError: what has arrived is kept for the next attempt where it may serve.
        """
        self._resumed = False
        headers: dict[str, str] = {}
        if self.received and self._validator:
            headers = {"Range": f"bytes={self.received}-", "If-Range": self._validator}
        with _opened(source, file.url or "", headers) as stream:
            self._begin(stream)
            for chunk in stream.chunks:
                self._out.write(chunk)
                self._sha256.update(chunk)
                self.received += len(chunk)
                self._progress.report(self.received, file.size)
                if file.size is not None and self.received > file.size:
                    break
        if file.size is not None and self.received != file.size:
            received = self.received
            self._restart()
            raise ResultCorrupt(
                f"The result file has {'more than ' if received > file.size else ''}"
                f"{received} bytes, but the API announced {file.size}. Nothing was published."
            )
        self._out.flush()

    def _begin(self, stream: Stream) -> None:
        """Check the answer, and whether its body begins where the last attempt ended."""
        if stream.status == 416:  # noqa: PLR2004
            self._restart()
        _check_status(stream.status)
        _check_kind(stream)
        if stream.status == 206 and _starts_at(stream, self.received):  # noqa: PLR2004
            self._resumed = True
            log.info("Resuming the download at %d bytes", self.received)
            return
        self._restart()
        if stream.status == 206:  # noqa: PLR2004
            raise ResultCorrupt("The host of the result file sent another part than was asked for.")
        etag = stream.headers.get("ETag", "")
        self._validator = etag if etag.startswith('"') else None

    def facts(self, run: ReportRun, file: ResultFile) -> ResultFacts:
        """Tell what arrived, whole."""
        return ResultFacts(
            report_run_id=run.id,
            report=run.report,
            report_parameters=run.report_parameters,
            content_type=file.content_type,
            size=self.received,
            sha256=self._sha256.hexdigest(),
        )


class _Progress:
    """Says from time to time how far a long download is."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def report(self, received: int, size: int | None) -> None:
        now = time.monotonic()
        if now - self._said < PROGRESS_SECONDS:
            return
        self._said = now
        log.info(
            "Downloaded %.1f MB of %s, %.1f MB/s",
            received / 1e6,
            f"{size / 1e6:.1f} MB ({received / size:.0%})" if size else "unknown",
            received / 1e6 / (now - self._began),
        )


@contextmanager
def _opened(source: ResultSource, url: str, headers: Mapping[str, str]) -> Iterator[Stream]:
    """Open a result file, following redirects to allowed hosts."""
    for _ in range(MOST_REDIRECTS + 1):
        _check_url(source.access, url)
        with source.open_result(url, headers) as stream:
            if stream.status not in _REDIRECTS:
                yield stream
                return
            url = urljoin(url, stream.headers.get("Location", ""))
    raise DownloadRefused(
        f"The result file was redirected more than {MOST_REDIRECTS} times.",
        host=urlsplit(url).hostname,
    )


def _check_url(access: ApiAccess, url: str) -> None:
    """
    Refuse a URL that leads elsewhere than to a host of result files.

    :raises DownloadRefused: names the host alone; the URL is a credential.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not access.allows_download_from(host):
        raise DownloadRefused(
            f"The result file would come from {host or 'no host'}, which is not allowed. If that "
            f"is right, add it to download_hosts of the connection {access.conn_id!r}.",
            host=host,
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and access.is_plain_loopback):
        raise DownloadRefused(
            f"The result file would come from {host} over {parts.scheme}, not https.", host=host
        )


def _check_kind(stream: Stream) -> None:
    """
    Refuse a page in place of a file, and an encoding that nobody asked for.

    :raises UnexpectedAnswer: names what came.
    """
    encoding = stream.headers.get("Content-Encoding") or "identity"
    content_type = stream.headers.get("Content-Type") or "no content type"
    if encoding != "identity" or content_type.startswith("text/html"):
        raise UnexpectedAnswer(
            f"In place of the result file came {content_type} in encoding {encoding}. "
            "Check any proxy on the way.",
            status=stream.status,
        )


def _starts_at(stream: Stream, offset: int) -> bool:
    return stream.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _check_status(status: int) -> None:
    """
    Refuse an answer that holds no result file.

    :raises ReportRunError: transient where a fresh URL or some time may help.
    """
    if status in {401, 403}:
        raise UnexpectedAnswer(
            f"The host of the result file refused the URL (HTTP {status}); they live five minutes.",
            status=status,
        )
    if status in {404, 410}:
        raise NotFound(
            f"The result file is no longer there (HTTP {status}). Clear the task that creates "
            "report runs to make a new one.",
            status=status,
        )
    if status >= 500 or status == 429:  # noqa: PLR2004
        raise ServerError(f"The host of the result file answered HTTP {status}.", status=status)
    if status not in {200, 206}:
        raise UnexpectedAnswer(
            f"The host of the result file answered HTTP {status}.", status=status
        )
