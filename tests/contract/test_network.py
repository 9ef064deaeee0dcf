"""What a host may send and for how long it is listened to, in both forms of the hook."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import socket
import ssl
import threading
import time
from contextlib import suppress

import pytest
import trustme

from airflow_provider_reportrun.client import transport
from airflow_provider_reportrun.client.access import ApiAccess
from airflow_provider_reportrun.errors import DeadlinePassed, ReportRunError, TransportError
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol.messages import Request
from airflow_provider_reportrun.secret import Secret

BODY = b'{"id": "balance_summary"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BOMB = gzip.compress(bytes(50 << 20))
ASK = Request(method="GET", path="/x")


class RawServer:
    """
    A server that answers each connection with the bytes that a function sends.

    :param answer: is given the socket, after a request has come, or at once for ``greets``.
    """

    def __init__(self, answer, *, greets=False):
        self._answer = answer
        self._greets = greets
        self.sent = 0
        self.accepted = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with suppress(OSError):
            while True:
                conn, _ = self._socket.accept()
                self.accepted += 1
                threading.Thread(target=self._one, args=(conn,), daemon=True).start()

    def _one(self, conn):
        with conn, suppress(OSError):
            if not self._greets:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    if not (more := conn.recv(65536)):
                        return
                    asked += more
            self._answer(conn)

    def close(self):
        """Listen no longer."""
        self._socket.close()


@pytest.fixture
def serve():
    """Start raw servers."""
    started = []

    def start(answer, **options):
        if isinstance(answer, bytes):
            data = answer
            started.append(RawServer(lambda conn: conn.sendall(data), **options))
        else:
            started.append(RawServer(answer, **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


def access(url, **fields):
    """A connection to a server."""
    return ApiAccess(conn_id="c", api_key=Secret("rk_test_1"), base_url=url, **fields)


@pytest.fixture(params=["blocking", "awaiting"])
def send(request):
    """Send one request, as each library does."""

    def blocking(to, ask=ASK):
        with transport.new_session(to) as session:
            return transport.send(session, to, ask)

    async def awaiting(to, ask):
        async with transport.new_async_session(to) as session:
            return await transport.asend(session, to, transport.api_headers(to), ask)

    if request.param == "blocking":
        return blocking
    return lambda to, ask=ASK: asyncio.run(awaiting(to, ask))


def dripping(*parts):
    """Send parts, and then a byte now and then."""

    def answer(conn):
        for part in parts[:-1]:
            conn.sendall(part)
        while True:
            for byte in parts[-1]:
                conn.sendall(bytes([byte]))
                time.sleep(0.05)

    return answer


DRIPS = {
    "status line": dripping(b"HTTP/1.1 2", b"0"),
    "headers": dripping(HEAD, b"X-A: b\r\n"),
    "a header": dripping(HEAD, b"X-A: ", b"b"),
    "body": dripping(HEAD, b"Content-Length: 100000\r\n\r\n", b" "),
    "body without a length": dripping(HEAD, b"\r\n", b" "),
    "chunks": dripping(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a chunk's size": dripping(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "informational": dripping(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing": dripping(b""),
}


@pytest.mark.parametrize("drip", DRIPS)
def test_a_drip_is_given_up(serve, send, drip):
    """The whole answer must come within ``request_timeout``, wherever the bytes trickle."""
    server = serve(DRIPS[drip] if drip != "nothing" else lambda _: time.sleep(1.5))
    began = time.monotonic()
    with pytest.raises(TransportError, match="no whole answer") as raised:
        send(access(server.url, request_timeout_seconds=0.3))
    assert time.monotonic() - began < 1.2
    assert raised.value.transient


def test_a_handshake_that_drips_is_given_up(serve, send):
    """TLS is part of the answer's time."""
    server = serve(dripping(b"\x16\x03\x03\x40\x00", b"\x02"), greets=True)
    began = time.monotonic()
    with pytest.raises(TransportError) as raised:
        send(access(server.url.replace("http", "https"), request_timeout_seconds=0.3))
    assert time.monotonic() - began < 1.2
    assert raised.value.transient


def test_what_is_left_bounds_a_request(serve, send):
    """A request may take less than the connection allows."""
    server = serve(DRIPS["body"])
    began = time.monotonic()
    ask = Request(method="GET", path="/x", seconds_left=0.3)
    with pytest.raises(TransportError):
        send(access(server.url), ask)
    assert time.monotonic() - began < 1.2


def test_a_wait_ends_near_its_deadline(serve, monkeypatch):
    """A drip does not hold a wait for the whole ``request_timeout``."""
    server = serve(DRIPS["body"])
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT",
        f'{{"conn_type": "reportrun", "password": "rk_test_1", "host": "{server.url}"}}',
    )
    began = time.monotonic()
    with ReportRunHook() as hook, pytest.raises(ReportRunError) as raised:
        hook.wait_for_report_run("reprun_1", timeout=0.2)
    assert time.monotonic() - began < 4
    assert isinstance(raised.value, TransportError | DeadlinePassed)


def test_a_session_goes_on_after_a_drip(serve):
    """The next request of a session opens another connection."""
    turns = iter([DRIPS["body"]])
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY

    def answer(conn):
        next(turns, lambda conn: conn.sendall(whole))(conn)

    server = serve(answer)
    to = access(server.url, request_timeout_seconds=0.3)
    with transport.new_session(to) as session:
        with pytest.raises(TransportError):
            transport.send(session, to, ASK)
        assert transport.send(session, to, ASK).body == BODY
        assert transport.send(session, to, ASK).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "gzip, gzip"])
def test_an_encoded_answer_is_not_unpacked(serve, send, encoding):
    """Nobody asked for it."""
    asked = f"Content-Encoding: {encoding}\r\nContent-Length: {len(BOMB)}\r\n\r\n".encode()
    server = serve(HEAD + asked + BOMB)
    with pytest.raises(TransportError, match="encoding that was not requested"):
        send(access(server.url))


def test_identity_is_asked_for(serve, send):
    """In both libraries."""
    asked = []

    def answer(conn):
        conn.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    class Listening(RawServer):
        def _one(self, conn):
            with conn:
                asked.append(conn.recv(65536).lower())
                answer(conn)

    server = Listening(answer)
    assert send(access(server.url)).body == b"{}"
    assert b"accept-encoding: identity\r\n" in asked[0]
    server.close()


@pytest.mark.parametrize("framing", [b"\r\n", b"Content-Length: 99000000\r\n\r\n"])
def test_an_endless_answer_is_not_read(serve, send, framing):
    """A few MiB are enough for the API."""
    sent = []

    def answer(conn):
        conn.sendall(HEAD + framing)
        for _ in range(99):
            conn.sendall(bytes(1_000_000))
            sent.append(1)

    server = serve(answer)
    with pytest.raises(TransportError, match="more than 4 MiB"):
        send(access(server.url))
    assert len(sent) < 30


@pytest.mark.parametrize(
    "location", [b"//[bad", b"http://a:99999/", b"\xff\xfe", b"/" + b"a" * 999]
)
def test_a_redirect_is_neither_followed_nor_read(serve, send, location):
    """Its status is told; its body, however long, and its address are left alone."""
    sent = []

    def answer(conn):
        conn.sendall(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n")
        for _ in range(99):
            conn.sendall(bytes(1_000_000))
            sent.append(1)

    server = serve(answer)
    response = send(access(server.url))
    assert (response.status, response.body) == (302, b"")
    assert len(sent) < 30


def listening(to):
    """Open a result file, and read it."""
    with (
        transport.new_bare_session() as session,
        transport.open_stream(session, to, Secret(to.base_url + "/f?sig=s3cret"), {}) as stream,
    ):
        return b"".join(stream.chunks)


@pytest.mark.parametrize("drip", DRIPS)
def test_a_download_that_drips_is_given_up(serve, drip):
    """A file must come at a lowest rate; what arrived is resumed."""
    server = serve(DRIPS[drip] if drip != "nothing" else lambda _: time.sleep(1.5))
    began = time.monotonic()
    with pytest.raises(TransportError) as raised:
        listening(access(server.url, request_timeout_seconds=0.3))
    assert time.monotonic() - began < 1.5
    assert raised.value.transient
    assert "s3cret" not in str(raised.value)


def test_a_long_download_may_take_long(serve):
    """As long as enough comes, the time of one request is no bound."""
    part = bytes(200_000)

    def answer(conn):
        conn.sendall(HEAD + b"Content-Length: 1200000\r\n\r\n")
        for _ in range(6):
            conn.sendall(part)
            time.sleep(0.15)

    server = serve(answer)
    assert listening(access(server.url, request_timeout_seconds=0.4)) == part * 6


def test_a_slow_reader_is_not_cut_off(serve):
    """The time that the reader takes for itself does not count."""
    whole = bytes(1_000_000)
    server = serve(HEAD + b"Content-Length: 1000000\r\n\r\n" + whole)
    to = access(server.url, request_timeout_seconds=0.3)
    read = b""
    with (
        transport.new_bare_session() as session,
        transport.open_stream(session, to, Secret(server.url + "/f"), {}) as stream,
    ):
        for chunk in stream.chunks:
            if not read:
                time.sleep(0.6)
            read += chunk
    assert read == whole


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """An authority in a file."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path_factory.mktemp("ca") / "ca.pem")
    return made


HICCUPS = {
    "a FIN": lambda _: None,
    "a FIN after the hello": lambda conn: conn.recv(65536),
    "a FIN within the answer": lambda conn: (conn.recv(65536), conn.sendall(b"\x16\x03\x03\x00")),
    "a RST": lambda conn: (
        conn.recv(65536),
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"),
    ),
    "plain http": lambda conn: (
        conn.recv(65536),
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ),
    "an alert": lambda conn: (conn.recv(65536), conn.sendall(b"\x15\x03\x03\x00\x02\x02\x28")),
    "an internal error": lambda conn: (
        conn.recv(65536),
        conn.sendall(b"\x15\x03\x03\x00\x02\x02\x50"),
    ),
    "another version": lambda conn: (
        conn.recv(65536),
        conn.sendall(b"\x15\x03\x01\x00\x02\x02\x46"),
    ),
}


@pytest.mark.parametrize("hiccup", HICCUPS)
def test_what_may_pass_in_tls_is_transient(serve, send, hiccup):
    """In both libraries, and in downloads."""
    to = access(serve(HICCUPS[hiccup], greets=True).url.replace("http", "https"))
    for ask in (send, listening):
        with pytest.raises(TransportError) as raised:
            ask(to)
        assert raised.value.transient, hiccup


@pytest.mark.parametrize("flaw", ["another name", "expired", "not trusted"])
def test_a_certificate_that_is_refused_is_permanent(serve, send, authority, tmp_path, flaw):
    """In both libraries, and in downloads."""
    past = {"not_after": dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc)}
    past["not_before"] = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    name = "other.example" if flaw == "another name" else "127.0.0.1"
    issuer = trustme.CA() if flaw == "not trusted" else authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert(name, **(past if flaw == "expired" else {})).configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)

    def answer(conn):
        with context.wrap_socket(conn, server_side=True) as secure:
            secure.recv(65536)

    to = access(serve(answer, greets=True).url.replace("http", "https"), ca_bundle=str(bundle))
    for ask in (send, listening):
        with pytest.raises(TransportError) as raised:
            ask(to)
        assert not raised.value.transient, flaw


def test_a_timeout_is_told_as_one():
    """Aiohttp makes its timeouts of a cancellation, which would say nothing to a reader."""
    timeout = TimeoutError()
    timeout.__cause__ = asyncio.CancelledError()
    assert transport.reason(timeout) == "TimeoutError"
