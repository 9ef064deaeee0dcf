"""Junk from the network and in connection fields: only errors of the package leave."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
from contextlib import suppress

import pytest

from airflow_provider_reportrun.client import transport
from airflow_provider_reportrun.client.access import ApiAccess, read_connection
from airflow_provider_reportrun.errors import ReportRunError
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.landing.download import download
from airflow_provider_reportrun.protocol.calls import get_report
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.models import ReportRun, ResultFile
from airflow_provider_reportrun.secret import Secret

SEED = 11
JUNK = [
    b"\x00", b"\xff\xfe", b"\xed\xa0\xbd", b"-1", b"1e99", b"nan", b"9" * 5000, b"//[bad",
    b"http://" + b"a" * 70 + b".stripe.com/", b"http://127.0.0.1:99999/", b"bytes -5-/*", b";",
    b"\r\n", b"\n\n", b": ", b"=", b"\xe2\x80\xae", b"utf-99", b"x" * 9000, b"0x10", b"+3", b"",
]  # fmt: skip
HEADERS = [
    b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Content-Type", b"Location",
    b"Retry-After", b"Set-Cookie", b"Content-Range", b"ETag", b"Connection", b"Request-Id",
    b"Stripe-Should-Retry", b"Upgrade", b"Keep-Alive", b"X",
]  # fmt: skip
STATUSES = [b"200", b"206", b"204", b"302", b"307", b"400", b"401", b"409", b"416", b"429", b"500"]


def mutated(draw):
    """Make an answer, more or less of HTTP."""
    line = b"HTTP/1.1 " + draw.choice([*STATUSES, b"-1", b"abc", b"99999", b"2e2"]) + b" OK"
    chosen = [
        draw.choice(HEADERS)
        + b": "
        + draw.choice([*JUNK, b"5", b"chunked", b"gzip", b"text/html; charset=utf-99", b"close"])
        for _ in range(draw.choice([0, 1, 2, 3, 5, 120]))
    ]
    body = draw.choice([b"", b"{}", b'{"id": 1}', b"5\r\nhello\r\n0\r\n\r\n", b"-5\r\n", *JUNK])
    whole = bytearray(b"\r\n".join([line, *chosen]) + b"\r\n\r\n" + body)
    for _ in range(draw.choice([0, 0, 1, 3])):
        at = draw.randrange(len(whole))
        whole[at : at + draw.randrange(3)] = draw.choice(JUNK)
    return bytes(whole)


@pytest.fixture
def junk():
    """A server of mutated answers, each on its own connection."""
    draw = random.Random(SEED)  # noqa: S311 - the same junk each time
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def one(conn):
        with conn, suppress(OSError):
            conn.recv(65536)
            conn.sendall(mutated(draw))
            conn.shutdown(socket.SHUT_WR)
            conn.settimeout(0.02)
            while conn.recv(65536):
                pass

    def serve():
        with suppress(OSError):
            while True:
                one(listener.accept()[0])

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def access(url, **fields):
    """A connection to a server that is given up soon."""
    return ApiAccess(
        conn_id="c",
        api_key=Secret("rk_test_1"),
        base_url=url,
        request_timeout_seconds=0.5,
        **fields,
    )


def told(ask, *arguments):
    """Call, and give what the package says: an answer, or an error of its own."""
    try:
        return ask(*arguments)
    except ReportRunError as error:
        str(error).encode()
        return error


def test_blocking_requests(junk):
    """Whatever answers the API's requests."""
    to, request, seen = (
        access(junk),
        get_report(named("v2.reporting"), "balance_summary").request,
        set(),
    )
    with transport.new_session(to) as session:
        for _ in range(800):
            seen.add(type(told(transport.send, session, to, request)))
    assert len(seen) == 2


def test_awaiting_requests(junk):
    """As over requests."""
    to, request, seen = (
        access(junk),
        get_report(named("v2.reporting"), "balance_summary").request,
        set(),
    )
    headers = transport.api_headers(to)

    async def all_of_them():
        async with transport.new_async_session(to) as session:
            for _ in range(800):
                try:
                    seen.add(type(await transport.asend(session, to, headers, request)))
                except ReportRunError as error:  # noqa: PERF203 - each may fail
                    seen.add(type(error))

    asyncio.run(all_of_them())
    assert len(seen) == 2


class Source:
    """A report run whose file the junk server has."""

    def __init__(self, to):
        self.access, self.api = to, named("v2.reporting")

    def get_report_run(self, report_run_id):
        """Give a report run that has succeeded."""
        file = ResultFile(
            url=Secret(f"{self.access.base_url}/f"), size=5, content_type="csv", url_expires_at=None
        )
        return ReportRun(
            id=report_run_id, status="succeeded", report="r", report_parameters={}, file=file
        )

    def open_result(self, url, headers, *, with_key):
        """Open it as the hook does."""
        hook = ReportRunHook()
        hook.__dict__["access"] = self.access
        return hook.open_result(url, headers, with_key=with_key)


def test_downloads(junk, tmp_path):
    """Whatever serves a file."""
    source, seen = Source(access(junk)), set()
    for _ in range(150):
        found = told(lambda: download(source, "reprun_1", tmp_path / "f", sleep=lambda _: None))
        seen.add(type(found).__name__)
    assert "ResultCorrupt" in seen or "TransportError" in seen


PIECES = [
    "http://", "https://", "//", "a" * 64, "a", ".", "..", "-", "_", ":", "::1", "[::1]", "[", "]",
    "99999", "0", "443", "@", "xn--", "xn--a", "\u00df", "\ud83d", "%", "%zz", "/", "?", "#", " ",
    "\x00", "\u2024", "127.0.0.1", "1.1.1.1.1", "localhost", "256.256.256.256", "\\",
]  # fmt: skip


class Fields:
    """The part of Airflow's connection that is read."""

    conn_id, password, schema = "c", "rk_test_1", None

    def __init__(self, host, port, extra):
        self.host, self.port, self.extra_dejson = host, port, extra
        self.extra = json.dumps(extra)
        self.login = None


def test_connection_fields():
    """Host, port and proxy: refused when they are read, or fit to be asked."""
    draw = random.Random(SEED)  # noqa: S311 - the same junk each time
    asked = 0
    for _ in range(3000):
        host, proxy = ("".join(draw.choices(PIECES, k=draw.randrange(1, 6))) for _ in range(2))
        extra = {} if draw.random() < 0.7 else {"proxy": proxy}
        port = draw.choice([None, None, 0, -1, 443, 65_536, 99_999])
        to = told(read_connection, Fields(host, port, extra))
        if isinstance(to, ReportRunError):
            continue
        asked += 1
        to.base_url.encode("ascii")
    assert asked > 20


@pytest.mark.parametrize("host", ["a" * 70, "a." * 127 + "aa", "[:::]", "xn--a", "1::2::3"])
def test_hosts_that_nobody_can_have(host):
    """Are refused by the name of the field."""
    error = told(read_connection, Fields(f"https://{host}", None, {}))
    assert "'host' of the connection" in str(error)


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_ports_that_nobody_can_have(port):
    """Are refused by the name of the field."""
    error = told(read_connection, Fields("api.example", port, {}))
    assert "'port' of the connection" in str(error)
