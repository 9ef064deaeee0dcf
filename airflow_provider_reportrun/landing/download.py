"""
Fetch a result into a local file, and verify it against what the API announced.

Each attempt gets the report run again, with a fresh URL, because most URLs expire in minutes. An
interrupted download is resumed if the server proves that the file is unchanged; otherwise it starts
again.

Some generations' files need the API key. It goes only to the API's own address and to the hosts
that the generation names, which is decided for each redirect anew.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias
from urllib.parse import urljoin

from airflow_provider_reportrun.client.access import is_host
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    DownloadRefused,
    LandingFailed,
    PermissionDenied,
    ReportRunError,
    ResultCorrupt,
    ResultGone,
    ServerError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.landing.background import Digest
from airflow_provider_reportrun.landing.spool import FileSink, open_staged
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
    from airflow_provider_reportrun.protocol.generation import Generation

log = logging.getLogger(__name__)

POLICY: Final = RetryPolicy(attempts=6)
"""Attempts in a row without progress."""
MOST_REDIRECTS: Final = 5
PROGRESS_SECONDS: Final = 10.0
"""The shortest time between two progress reports of a download."""
_CHECK_PROXY: Final = "Check any proxy on the way"
_MOST_SHOWN: Final = 60
"""The most characters of a header in an error."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PLAIN_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?(?=[/?#]|\Z)",
    re.ASCII | re.IGNORECASE,
)
"""A URL whose host all parsers agree on: no login, backslash, blank or escape before the path."""
_PORTS: Final = {"http": 80, "https": 443}
"""By scheme, the port of a URL that names none."""
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e\x80-\xff]{0,256}"')
"""A validator that proves equality of all bytes; its length is bounded, because it is sent back."""
_CONTENT_RANGE: Final = re.compile(
    r"bytes +([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.ASCII | re.IGNORECASE
)
Sleep: TypeAlias = Callable[[float], object]
"""Waits for a number of seconds."""


class ResultSource(Protocol):
    """The part of the hook that a download needs."""

    @property
    def access(self) -> ApiAccess:
        """What the connection says: address, key and allowed hosts."""

    @property
    def api(self) -> Generation:
        """The generation of the API that the report run is of."""

    def get_report_run(self, report_run_id: str) -> ReportRun:
        """Get a report run with a fresh URL."""

    def get_result_file(self, report_run_id: str) -> ResultFile | None:
        """Get the result's facts with its columns, which only a conversion needs."""

    def open_result(
        self, url: Secret, headers: Mapping[str, str], *, with_key: bool
    ) -> AbstractContextManager[Stream]:
        """Open a result file, sending the API key only if told to."""


class Sink(Protocol):
    """Where a download writes to."""

    def write(self, block: bytes) -> object:
        """Append a block, which does not change afterwards."""

    def restart(self) -> None:
        """Discard everything that was written."""


def download(
    source: ResultSource,
    report_run_id: str,
    path: Path,
    *,
    policy: RetryPolicy = POLICY,
    sleep: Sleep = time.sleep,
) -> ResultFacts:
    """
    Download the result of a succeeded report run into a local file.

    :param path: written from its beginning; the caller removes it after an error.
    :return: as ``receive`` does.
    :raises LandingFailed: if the file cannot be written.
    :raises ReportRunError: as ``receive`` does.
    """
    with open_staged(path) as out:
        sink = FileSink(out)
        return receive(source, report_run_id, lambda _: sink, policy=policy, sleep=sleep)


def receive(
    source: ResultSource,
    report_run_id: str,
    begin: Callable[[str], Sink],
    *,
    policy: RetryPolicy = POLICY,
    sleep: Sleep = time.sleep,
) -> ResultFacts:
    """
    Download the result of a succeeded report run.

    :param begin: called before the download with the content type, which it may refuse; returns
        what to write to.
    :param policy: how many attempts in a row may make no progress, and the pauses between them.
    :return: the facts of the result; the size is verified if the API announced it.
    :raises ReportRunFailed: if the report run has no result because it failed.
    :raises ResultCorrupt: if the file is not what the API announced.
    :raises DownloadRefused: if the file would come from a host that is not allowed.
    :raises AuthenticationError: if the file needs the API key, and its host does not accept it.
    :raises PermissionDenied: if the file needs the API key, which may not read files.
    :raises LandingFailed: if the sink does.
    :raises ReportRunError: if the API or the host of the file cannot be reached.
    """
    failures = 0
    transfer: _Transfer | None = None
    with Digest() as digest:
        while True:
            run = source.get_report_run(report_run_id)
            file = _ready_file(run, source.api.noun)
            if transfer is None:
                transfer = _Transfer(begin(file.content_type), digest)
                _tell_of(source.api.noun, run, file)
            had = transfer.received
            try:
                transfer.take(source, file)
            except LandingFailed:
                raise
            except ReportRunError as error:
                failures = 1 if transfer.resumed_past(had) else failures + 1
                delay = policy.delay(failures, error, random.uniform)
                if delay is None:
                    raise
                log.warning("%s Trying again in %.1f s", error, delay)
                sleep(delay)
            else:
                return transfer.facts(run, file)


def _tell_of(noun: str, run: ReportRun, file: ResultFile) -> None:
    if file.size is not None:
        log.info("Downloading the result of %s %s, %d bytes", noun, run.id, file.size)
        return
    log.warning(
        "Downloading the result of %s %s, whose size the API did not announce: only its host says "
        "where it ends",
        noun,
        run.id,
    )


def _ready_file(run: ReportRun, noun: str) -> ResultFile:
    if run.failure is not None:
        raise run.failure
    if run.status != SUCCEEDED or run.file is None or run.file.url is None:
        raise UnexpectedAnswer(
            f"Wait for {noun} {run.id} with a sensor first: its status is {run.status!r}, and it "
            "has no result to download.",
            report_run_id=run.id,
        )
    return run.file


class _Transfer:
    """The state of a download across attempts: what has been received, in the sink and the hash."""

    def __init__(self, sink: Sink, digest: Digest) -> None:
        self._sink = sink
        self._digest = digest
        self._progress = _Progress()
        self._restart()

    def _restart(self) -> None:
        self._sink.restart()
        self._digest.restart()
        self._validator: str | None = None
        self._length: int | None = None
        self._resumed = False
        self.received = 0

    def resumed_past(self, had: int) -> bool:
        """Tell whether the last attempt resumed at ``had`` bytes and made progress."""
        return self._resumed and self.received > had

    def take(self, source: ResultSource, file: ResultFile) -> None:
        """
        Make one attempt.

        :raises ReportRunError: if it fails; what was received is kept if it can be resumed.
        """
        self._resumed = False
        headers: dict[str, str] = {}
        if self.received and self._validator:
            headers = {"Range": f"bytes={self.received}-", "If-Range": self._validator}
        with _opened(source, file.url or Secret(""), headers) as stream:
            self._begin(stream, file.size, is_rest=bool(headers))
            for chunk in stream.chunks:
                self._digest.update(chunk)
                self._sink.write(chunk)
                self.received += len(chunk)
                self._progress.report(self.received, file.size)
                if file.size is not None and self.received > file.size:
                    break
        self._check_end(file.size)

    def _begin(self, stream: Stream, size: int | None, *, is_rest: bool) -> None:
        """
        Check the answer, and whether its body continues what was received.

        :param size: bytes, as the API announces now.
        :param is_rest: whether only the rest was requested.
        :raises ReportRunError: if the answer has no usable file.
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
                f"{_CHECK_PROXY} if a retry does not help: the host of the result file sent a part "
                "of another file, or another part than requested. Nothing was published."
            )
        etag = stream.headers.get("ETag", "")
        self._validator = etag if _STRONG_ETAG.fullmatch(etag) else None
        self._length = stream.length
        if size is None and not stream.is_end_certain:
            raise ResultCorrupt(
                f"{_CHECK_PROXY} if a retry does not help: the host of the result file does not "
                "say where it ends, and the API announced no size, so a truncated file could not "
                "be recognized. Nothing was published."
            )

    def _is_rest(self, stream: Stream, size: int | None) -> bool:
        """
        Tell whether an answer is the rest of the same file.

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
        Check that the whole file was received; otherwise discard it.

        :param size: bytes, as the API announced; None to rely on the end that the host announces,
            by a length or by the last chunk.
        :raises ResultCorrupt: if the size differs.
        """
        whole = self._length if size is None else size
        if whole is None or self.received == whole:
            return
        received = self.received
        self._restart()
        raise ResultCorrupt(
            f"{_CHECK_PROXY} if a retry does not help: the result file has "
            f"{'more than ' if received > whole else ''}{received} bytes, but "
            f"{'the API' if size is not None else 'its host'} announced {whole}. Nothing was "
            "published."
        )

    def facts(self, run: ReportRun, file: ResultFile) -> ResultFacts:
        """Return the facts of the complete file."""
        return ResultFacts(
            report_run_id=run.id,
            report=run.report,
            report_parameters=run.report_parameters,
            livemode=run.livemode,
            is_query=run.is_query,
            content_type=file.content_type,
            size=self.received,
            sha256=self._digest.hexdigest(),
            schema=file.schema,
        )


class _Progress:
    """Logs the progress of a long download from time to time."""

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
        origin = _allowed_origin(source, url)
        with_key = _gets_key(source, origin)
        with source.open_result(url, headers, with_key=with_key) as stream:
            if stream.status not in _REDIRECTS:
                if with_key:
                    _check_key(source, origin.host, stream)
                yield stream
                return
            url = _redirected(url, Secret(stream.headers.get("Location", "")))
    raise DownloadRefused(
        f"{_CHECK_PROXY}: the result file was redirected more than {MOST_REDIRECTS} times. Nothing "
        "was published.",
        host=origin.host,
    )


def _redirected(url: Secret, location: Secret) -> Secret:
    """Return the target of a redirect; if it cannot be read, an empty one, which is refused."""
    try:
        return Secret(urljoin(url.reveal(), location.reveal()))
    except ValueError:
        return Secret("")


class _Origin(NamedTuple):
    """Where a URL leads."""

    scheme: str
    host: str
    """Lower case, IPv6 without brackets."""
    port: int


def _origin(url: Secret) -> _Origin | None:
    """Read the origin of a URL; None if it is uncertain."""
    parts = _PLAIN_URL.match(url.reveal())
    if parts is None:
        return None
    scheme, host = parts["scheme"].lower(), parts["host"].strip("[]").lower()
    if not is_host(host.rstrip("."), parts["port"]):
        return None
    return _Origin(scheme, host, int(parts["port"] or _PORTS[scheme]))


def _gets_key(source: ResultSource, origin: _Origin) -> bool:
    """
    Tell whether a request for a file sends the API key.

    It does only if files of this generation need the key, and then only to the API's own scheme,
    host and port, or to a host of the generation over https.
    """
    hosts = source.api.key_hosts
    if not hosts:
        return False
    is_named = origin.host in hosts and (origin.scheme, origin.port) == ("https", _PORTS["https"])
    return is_named or origin == _origin(Secret(source.access.base_url))


def _check_key(source: ResultSource, host: str, stream: Stream) -> None:
    """
    Refuse an answer to the API key that does not accept it.

    :raises AuthenticationError: for 401.
    :raises PermissionDenied: for 403.
    """
    refusals = {
        HTTPStatus.UNAUTHORIZED: (AuthenticationError, "is not accepted for result files"),
        HTTPStatus.FORBIDDEN: (PermissionDenied, "may not read result files"),
    }
    if stream.status not in refusals:
        return
    kind, words = refusals[HTTPStatus(stream.status)]
    raise kind(
        f"Give the key the permission {source.api.permissions.file}: it {words} "
        f"(HTTP {stream.status}). It is the key of the connection {source.access.conn_id!r} and "
        "needs this besides the permission for report runs. Check stripe_context too, if there is "
        f"one. The refusal came from {host}.",
        status=stream.status,
        request_id=_plain(stream.headers.get("Request-Id", "")) or None,
    )


def _allowed_origin(source: ResultSource, url: Secret) -> _Origin:
    """
    Return the origin of a result's URL.

    :raises DownloadRefused: if its host is not allowed; names only the host, because the URL is a
        credential.
    """
    access, origin = source.access, _origin(url)
    if origin is None:
        raise DownloadRefused(
            f"{_CHECK_PROXY}: the result file would come from an address that is not a plain "
            "https://host/path, so its host is uncertain. No request was sent."
        )
    host, scheme = origin.host, origin.scheme
    if not access.allows_download_from(host):
        raise DownloadRefused(
            "Add the host to download_hosts of the connection if it is right: the result file "
            f"would come from {host}, which is not allowed. The connection is {access.conn_id!r}.",
            host=host,
        )
    # An address that may get the key over http may serve the file over http too.
    if scheme != "https" and not (access.is_plain_loopback or _gets_key(source, origin)):
        raise DownloadRefused(
            f"{_CHECK_PROXY}: the result file would come from {host} over {scheme}, not https. No "
            "request was sent.",
            host=host,
        )
    return origin


def _check_kind(stream: Stream) -> None:
    """
    Refuse a web page instead of a file, and an encoding that was not requested.

    :raises UnexpectedAnswer: if the answer is one; names type and encoding.
    """
    encodings = [stream.headers.get("Content-Encoding"), stream.headers.get("Transfer-Encoding")]
    named = [each.strip().lower() for each in encodings if each and each.strip()]
    encoding = next((each for each in named if each not in {"identity", "chunked"}), "identity")
    content_type = stream.headers.get("Content-Type") or "no content type"
    if encoding != "identity" or content_type.startswith("text/html"):
        raise UnexpectedAnswer(
            f"{_CHECK_PROXY}: instead of the result file, its host sent {_plain(content_type)} in "
            f"encoding {_plain(encoding)}.",
            status=stream.status,
        )


def _plain(text: str) -> str:
    """Make an untrusted header fit for a log."""
    return re.sub(r"[^ -~]", "?", text[:_MOST_SHOWN])


def _check_status(status: int) -> None:
    """
    Refuse an answer without a result file.

    :raises ReportRunError: transient if a fresh URL or some time may help.
    """
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise UnexpectedAnswer(
            f"{_CHECK_PROXY}: the host of the result file refused the URL (HTTP {status}). URLs "
            "expire after five minutes, and each attempt gets a new one.",
            status=status,
        )
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise ResultGone(
            "Clear the task that creates the report run: its result file no longer exists "
            f"(HTTP {status}).",
            status=status,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ServerError(
            f"Let the task try again later: the host of the result file answered HTTP {status}. "
            "The report run is kept.",
            status=status,
        )
    if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise UnexpectedAnswer(
            f"{_CHECK_PROXY}: the host of the result file answered HTTP {status}.",
            status=status,
        )
