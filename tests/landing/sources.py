"""Sources of results: fakes of the part of the hook that a landing needs."""

from __future__ import annotations

import io
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from requests.structures import CaseInsensitiveDict

from airflow_provider_reportrun.client import transport
from airflow_provider_reportrun.client.access import ApiAccess
from airflow_provider_reportrun.client.transport import Stream
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.models import ReportRun, ResultFile
from airflow_provider_reportrun.secret import Secret

if TYPE_CHECKING:
    from airflow_provider_reportrun.landing.download import ResultSource
    from airflow_provider_reportrun.protocol.generation import Generation

RUN_ID = "reprun_1"
URL = "https://files.stripe.com/r.csv?X-Amz-Signature=0123456789abcdef0123456789abcdef"


def stream(
    *chunks: bytes, status: int = 200, fails: BaseException | None = None, **headers: str
) -> Stream:
    """Return an answer; ``fails`` ends its body, and underscores in header names become dashes."""

    def body() -> Iterator[bytes]:
        yield from chunks
        if fails is not None:
            raise fails

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = named.get("Content-Length", "")[:9]
    length = int(text) if text.isascii() and text.isdigit() else None
    return Stream(
        status=status,
        headers=CaseInsensitiveDict(named),
        chunks=body(),
        length=length,
        is_end_certain=length is not None or named.get("Transfer-Encoding") == "chunked",
    )


@dataclass
class Script:
    """
    A source that answers from a list, whose last entry is repeated.

    :param size: the announced size; None announces none.
    """

    answers: list[Callable[[], Stream]]
    size: int | None = None
    content_type: str = "csv"
    url: str = URL
    parameters: Mapping[str, str] = field(default_factory=dict)
    access: ApiAccess = field(
        default_factory=lambda: ApiAccess(conn_id="reportrun_default", api_key="rk_test_1")
    )
    api: Generation = field(default_factory=lambda: named("v2.reporting"))
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    keyed: list[str] = field(default_factory=list)
    """The URLs that were requested with the key."""

    def get_report_run(self, report_run_id: str) -> ReportRun:
        """Return a report run that has succeeded."""
        file = ResultFile(
            content_type=self.content_type,
            size=self.size,
            url=Secret(self.url),
            url_expires_at=None,
        )
        return ReportRun(
            id=report_run_id,
            status="succeeded",
            report="r",
            report_parameters=self.parameters,
            file=file,
        )

    def get_result_file(self, report_run_id: str) -> ResultFile | None:
        """Return its file, without columns."""
        return self.get_report_run(report_run_id).file

    @contextmanager
    def open_result(
        self, url: Secret, headers: Mapping[str, str], *, with_key: bool
    ) -> Iterator[Stream]:
        """Return the next answer, and record the request."""
        self.asked.append((url.reveal(), dict(headers)))
        if with_key:
            self.keyed.append(url.reveal())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        yield answer()


@dataclass
class Spoken(Script):
    """
    A source whose answers a local server sends, byte by byte.

    :param spoken: complete answers with headers; the last one is repeated.
    """

    answers: list[Callable[[], Stream]] = field(default_factory=list)
    spoken: list[bytes] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    @contextmanager
    def open_result(
        self, url: Secret, headers: Mapping[str, str], *, with_key: bool
    ) -> Iterator[Stream]:
        """Send the request to the server, as the hook does without the key."""
        assert not with_key
        answer = self.spoken.pop(0) if len(self.spoken) > 1 else self.spoken[0]
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(5)
            url = Secret(f"http://127.0.0.1:{server.getsockname()[1]}/r.csv")
            speaker = threading.Thread(target=self._speak, args=(server, answer))
            speaker.start()
            try:
                with (
                    transport.new_bare_session() as session,
                    transport.open_stream(session, self.access, url, headers) as opened,
                ):
                    yield opened
            finally:
                speaker.join()

    def _speak(self, server: socket.socket, answer: bytes) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            self.requests.append(connection.recv(65_536))
            connection.sendall(answer)


def serving(body: bytes, content_type: str = "csv") -> Script:
    """Return a source with one valid file."""
    return Script([lambda: stream(body)], size=len(body), content_type=content_type)


@dataclass
class Meanwhile:
    """
    A hook that calls a function during a download.

    :param happens: called after the download has begun.
    """

    hook: ResultSource
    happens: Callable[[], None]

    @property
    def access(self) -> ApiAccess:
        """Return the hook's."""
        return self.hook.access

    def get_report_run(self, report_run_id: str) -> ReportRun:
        """Return the hook's answer."""
        return self.hook.get_report_run(report_run_id)

    @property
    def api(self) -> Generation:
        """Return the hook's."""
        return self.hook.api

    @contextmanager
    def open_result(
        self, url: Secret, headers: Mapping[str, str], *, with_key: bool
    ) -> Iterator[Stream]:
        """Open it with the hook, and call ``happens``."""
        with self.hook.open_result(url, headers, with_key=with_key) as opened:
            self.happens()
            yield opened


def zipped(
    members: Mapping[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """Return a ZIP; pairs may repeat a name."""
    pairs = members.items() if isinstance(members, Mapping) else members
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, body in pairs:
            archive.writestr(zipfile.ZipInfo(name), body, compress_type=method)
    return file.getvalue()
