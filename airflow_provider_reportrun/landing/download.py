"""
Fetch a result into a local file, and verify it against what the API announced.

Every attempt asks for the report run again and so gets a fresh URL, which lives five minutes. What
was cut off is resumed where the server proves that the file is still the same, else restarted.
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias
from urllib.parse import urljoin

from airflow_provider_reportrun.client.access import is_host
from airflow_provider_reportrun.errors import (
    DownloadRefused,
    ReportRunError,
    ResultCorrupt,
    ResultGone,
    ServerError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.landing.spool import open_staged
from airflow_provider_reportrun.protocol.models import (
    SUCCEEDED,
    ReportRun,
    ResultFacts,
    ResultFile,
)
from airflow_provider_reportrun.protocol.retry import RetryPolicy
from airflow_provider_reportrun.secret import Secret

if TYPE_CHECKING:
    from airflow_provider_reportrun.client.access import ApiAccess
    from airflow_provider_reportrun.client.transport import Stream

log = logging.getLogger(__name__)

POLICY: Final = RetryPolicy(attempts=6)
"""Attempts in a row that brought nothing new."""
MOST_REDIRECTS: Final = 5
PROGRESS_SECONDS: Final = 10.0
"""At most so often does a long download report progress."""
_MOST_SHOWN: Final = 60
"""Characters of a header in an error."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PLAIN_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?(?=[/?#]|\Z)",
    re.ASCII | re.IGNORECASE,
)
"""A URL whose host all parsers read alike: no login, backslash, blank or escape before its path."""
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e\x80-\xff]{0,256}"')
"""A validator that proves that not a byte is different; it is sent back, so it is bounded."""
_CONTENT_RANGE: Final = re.compile(
    r"bytes +([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.ASCII | re.IGNORECASE
)
Sleep: TypeAlias = Callable[[float], object]
"""Waits for so many seconds."""


class ResultSource(Protocol):
    """The part of the hook that a download needs."""

    @property
    def access(self) -> ApiAccess:
        """How to reach the API."""

    def get_report_run(self, report_run_id: str) -> ReportRun:
        """Get a report run with a fresh URL."""

    def get_result_file(self, report_run_id: str) -> ResultFile | None:
        """Get what the API says of a result, columns too; for conversions alone."""

    def open_result(
        self, url: Secret, headers: Mapping[str, str]
    ) -> AbstractContextManager[Stream]:
        """Open a result file."""


def download(
    source: ResultSource,
    report_run_id: str,
    path: Path,
    *,
    policy: RetryPolicy = POLICY,
    sleep: Sleep = time.sleep,
    check_type: Callable[[str], object] = str,
) -> ResultFacts:
    """
    Download the result of a succeeded report run into a local file.

    :param path: written from its beginning; on an error the caller removes it.
    :param check_type: called with the content type before the download, to refuse it.
    :param policy: how often to try in a row without anything new, and how long to wait before.
    :return: facts that were verified: the size against what the API announced.
    :raises ReportRunFailed: when the report run has no result because it failed.
    :raises ResultCorrupt: when what came is not what the API announced.
    :raises DownloadRefused: when the file would come from a host that is not allowed.
    :raises LandingFailed: when the file cannot be written.
    :raises ReportRunError: when the API or the host of the file cannot be reached.
    """
    failures = 0
    with open_staged(path) as out:
        transfer = _Transfer(out)
        while True:
            had = transfer.received
            run = source.get_report_run(report_run_id)
            file = _ready_file(run)
            if not failures and not had:
                check_type(file.content_type)
                _tell_of(run, file)
            try:
                transfer.take(source, file)
            except ReportRunError as error:
                failures = 1 if transfer.resumed_past(had) else failures + 1
                delay = policy.delay(failures, error, random.uniform)
                if delay is None:
                    raise
                log.warning("%s Trying again in %.1f s", error, delay)
                sleep(delay)
            else:
                return transfer.facts(run, file)


def _tell_of(run: ReportRun, file: ResultFile) -> None:
    if file.size is not None:
        log.info("Downloading the result of report run %s, %d bytes", run.id, file.size)
        return
    log.warning(
        "Downloading the result of report run %s, whose size the API did not announce: it is taken "
        "for whole if its host says where it ends",
        run.id,
    )


def _ready_file(run: ReportRun) -> ResultFile:
    if run.failure is not None:
        raise run.failure
    if run.status != SUCCEEDED or run.file is None or run.file.url is None:
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
        self._length: int | None = None
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
        with _opened(source, file.url or Secret(""), headers) as stream:
            self._begin(stream, file.size, is_rest=bool(headers))
            for chunk in stream.chunks:
                self._out.write(chunk)
                self._sha256.update(chunk)
                self.received += len(chunk)
                self._progress.report(self.received, file.size)
                if file.size is not None and self.received > file.size:
                    break
        self._check_end(file.size)
        self._out.flush()

    def _begin(self, stream: Stream, size: int | None, *, is_rest: bool) -> None:
        """
        Check the answer, and whether its body begins where the last attempt ended.

        :param size: as the API announces it now.
        :param is_rest: whether only the rest was asked for.
        """
        if stream.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._restart()
        _check_status(stream.status)
        _check_kind(stream)
        is_part = stream.status == HTTPStatus.PARTIAL_CONTENT
        if is_rest and is_part and self._is_rest(stream, size):
            self._resumed = True
            log.info("Resuming the download at %d bytes", self.received)
            return
        self._restart()
        if is_part:
            raise ResultCorrupt(
                "The host of the result file sent a part of another file, or another part than was "
                "asked for. Nothing was published; download it anew, and check any proxy on the "
                "way if that does not help."
            )
        etag = stream.headers.get("ETag", "")
        self._validator = etag if _STRONG_ETAG.fullmatch(etag) else None
        self._length = stream.length
        if size is None and not stream.is_end_certain:
            raise ResultCorrupt(
                "The host of the result file does not say where the file ends, and the API "
                "announced no size, so that a cut could not be seen. Nothing was published; "
                "download it anew, and check any proxy on the way if that does not help."
            )

    def _is_rest(self, stream: Stream, size: int | None) -> bool:
        """
        Tell whether a part is the rest of the file that arrived, and of no other.

        Source: RFC 9110, sections 14.4 and 15.3.7.
        """
        part = _CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
        if part is None or stream.headers.get("ETag") != self._validator:
            return False
        first, last, total = (int(number) for number in part.groups())
        totals = {total, *({size, self._length} - {None})}
        if (first, last + 1) != (self.received, total) or len(totals) > 1:
            return False
        self._length = total
        return True

    def _check_end(self, size: int | None) -> None:
        """
        Refuse what is not the whole file, and begin anew.

        :param size: as the API announced it; None to believe the host of the file, be it by the
            last chunk of its body.
        :raises ResultCorrupt: says what is missing.
        """
        whole = self._length if size is None else size
        if whole is None or self.received == whole:
            return
        received = self.received
        self._restart()
        raise ResultCorrupt(
            f"The result file has {'more than ' if received > whole else ''}{received} bytes, but "
            f"{'the API' if size is not None else 'its host'} announced {whole}. Nothing was "
            "published; download it anew, and check any proxy on the way if that does not help."
        )

    def facts(self, run: ReportRun, file: ResultFile) -> ResultFacts:
        """Tell what arrived, whole."""
        return ResultFacts(
            report_run_id=run.id,
            report=run.report,
            report_parameters=run.report_parameters,
            livemode=run.livemode,
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
def _opened(source: ResultSource, url: Secret, headers: Mapping[str, str]) -> Iterator[Stream]:
    """Open a result file, following redirects to allowed hosts."""
    for _ in range(MOST_REDIRECTS + 1):
        host = _allowed_host(source.access, url)
        with source.open_result(url, headers) as stream:
            if stream.status not in _REDIRECTS:
                yield stream
                return
            url = _redirected(url, Secret(stream.headers.get("Location", "")))
    raise DownloadRefused(
        f"The result file was redirected more than {MOST_REDIRECTS} times. Nothing was published; "
        "check any proxy on the way.",
        host=host,
    )


def _redirected(url: Secret, location: Secret) -> Secret:
    """Say where a redirect leads; empty, which is refused, where that cannot be read."""
    try:
        return Secret(urljoin(url.reveal(), location.reveal()))
    except ValueError:
        return Secret("")


def _allowed_host(access: ApiAccess, url: Secret) -> str:
    """
    Give the host of a URL that leads to result files.

    :raises DownloadRefused: names the host alone; the URL is a credential.
    """
    parts = _PLAIN_URL.match(url.reveal())
    if parts is None or not is_host(parts["host"].strip("[]").lower().rstrip("."), parts["port"]):
        raise DownloadRefused(
            "The result file would come from an address that is no plain https://host/path, so "
            "that it is not certain which host would be asked. Nothing was; check any proxy on "
            "the way."
        )
    host, scheme = parts["host"].strip("[]").lower(), parts["scheme"].lower()
    if not access.allows_download_from(host):
        raise DownloadRefused(
            f"The result file would come from {host}, which is not allowed. If that is right, "
            f"add it to download_hosts of the connection {access.conn_id!r}.",
            host=host,
        )
    if scheme != "https" and not access.is_plain_loopback:
        raise DownloadRefused(
            f"The result file would come from {host} over {scheme}, not https. It was not asked; "
            "check any proxy on the way.",
            host=host,
        )
    return host


def _check_kind(stream: Stream) -> None:
    """
    Refuse a page in place of a file, and an encoding that nobody asked for.

    :raises UnexpectedAnswer: names what came.
    """
    encodings = [stream.headers.get("Content-Encoding"), stream.headers.get("Transfer-Encoding")]
    named = [each.strip().lower() for each in encodings if each and each.strip()]
    encoding = next((each for each in named if each not in {"identity", "chunked"}), "identity")
    content_type = stream.headers.get("Content-Type") or "no content type"
    if encoding != "identity" or content_type.startswith("text/html"):
        raise UnexpectedAnswer(
            f"In place of the result file came {_plain(content_type)} in encoding "
            f"{_plain(encoding)}. "
            "Check any proxy on the way.",
            status=stream.status,
        )


def _plain(text: str) -> str:
    """Make a header fit for a log: whoever answered chose its bytes."""
    return re.sub(r"[^ -~]", "?", text[:_MOST_SHOWN])


def _check_status(status: int) -> None:
    """
    Refuse an answer that holds no result file.

    :raises ReportRunError: transient where a fresh URL or some time may help.
    """
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise UnexpectedAnswer(
            f"The host of the result file refused the URL (HTTP {status}); they live five minutes, "
            "and each attempt asks for a new one. Check any proxy or firewall on the way.",
            status=status,
        )
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise ResultGone(
            f"The result file is no longer there (HTTP {status}). Clear the task that creates "
            "report runs to make a new one.",
            status=status,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ServerError(
            f"The host of the result file answered HTTP {status}. The report run is kept; download "
            "its result later.",
            status=status,
        )
    if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise UnexpectedAnswer(
            f"The host of the result file answered HTTP {status}. Check any proxy on the way.",
            status=status,
        )
