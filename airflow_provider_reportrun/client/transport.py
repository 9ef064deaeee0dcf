"""
From a ``Request`` to a ``Response``, blocking over requests or awaiting over aiohttp.

The only room that imports either library, and only inside functions: importing the operators must
stay cheap. Redirects are never followed here, so that the key goes to the API's host alone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_reportrun import __version__
from airflow_provider_reportrun.client import telemetry
from airflow_provider_reportrun.errors import InvalidInput, TransportError
from airflow_provider_reportrun.protocol.messages import Request, Response

if TYPE_CHECKING:
    import ssl

    import aiohttp
    import requests

    from airflow_provider_reportrun.client.access import ApiAccess
    from airflow_provider_reportrun.secret import Secret

CHUNK_BYTES: Final = 1 << 16
"""What is read at once, and the least of a result file that must come in ``request_timeout``."""
LONGEST_ANSWER_BYTES: Final = 4 << 20
"""An answer of the API takes some kilobytes."""
USER_AGENT: Final = f"airflow-provider-reportrun/{__version__}"
CONNECT_TIMEOUT_SECONDS: Final = 10.0
"""For the connection alone; a whole answer may take the connection's ``request_timeout``."""
IDLE_CONNECTION_SECONDS: Final = 900.0
"""How long an idle connection is kept: well above the longest wait between two polls."""
_REDIRECTS: Final = range(300, 400)
"""Statuses that are never followed, so their bodies are not read."""
CONNECTIONS: Final = 16
"""Connections of all triggers of one connection: few, for a poll takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer whose body is read as it comes."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Of a redirect, ``Location`` is a credential too."""
    chunks: Iterator[bytes]
    """Raises ``TransportError`` when the body is cut off."""
    length: int | None = None
    """Bytes of the whole body, as ``Content-Length`` says; None where it does not."""
    is_end_certain: bool = False
    """Whether a body that was cut off can be told from a whole one: by length or a last chunk."""


def api_headers(access: ApiAccess) -> dict[str, str]:
    """
    Put together what every request to the API carries, besides the key.

    Source: https://docs.stripe.com/api-v2-overview
    """
    headers = {
        "Stripe-Version": access.stripe_version,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
    }
    if access.stripe_context:
        headers["Stripe-Context"] = access.stripe_context
    return headers


def _bearer(access: ApiAccess) -> str:
    """Make the value of ``Authorization``, to be used in place: local variables may be recorded."""
    return f"Bearer {access.api_key.reveal()}"


def new_session(access: ApiAccess) -> requests.Session:
    """
    Open a blocking session for the API.

    :return: the caller closes it. It carries the key: never use it for another host.
    :raises InvalidInput: when ``ca_bundle`` is not there, or holds no certificates.
    """
    bundle = ca_bundle(access)
    if bundle and os.path.isfile(bundle):  # noqa: PTH113 - requests takes folders too
        _trusting(bundle)
    session = new_bare_session()

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = _bearer(access)
        return request

    session.auth = authorize
    session.headers.update(api_headers(access))
    return session


def new_bare_session() -> requests.Session:
    """Open a blocking session without the key, for result files."""
    from http.cookiejar import DefaultCookiePolicy

    from airflow_provider_reportrun.client import guarded

    session = guarded.GuardedSession()
    session.headers["User-Agent"] = USER_AGENT
    session.auth = _no_netrc
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without an auth of its own, requests sends what a ``.netrc`` holds for the host."""
    return request


def network(access: ApiAccess) -> dict[str, Any]:
    """
    Give the arguments of each blocking request that say how to reach the network.

    Per request and not per session: there, requests lets the environment win.

    :raises InvalidInput: when ``ca_bundle`` is not there.
    """
    return {
        "timeout": (CONNECT_TIMEOUT_SECONDS, access.request_timeout_seconds),
        "verify": ca_bundle(access),
        "proxies": dict.fromkeys(("http", "https"), access.proxy.reveal())
        if access.proxy
        else None,
        "allow_redirects": False,
    }


def ca_bundle(access: ApiAccess) -> str | None:
    """
    Give the path of the CA bundle: of the connection, else what requests takes of the environment.

    :return: None for the usual one.
    :raises InvalidInput: when no such file is there.
    """
    where = f"The field 'ca_bundle' of the connection {access.conn_id!r}"
    bundle = access.ca_bundle
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if not bundle and os.environ.get(name):
            where, bundle = f"The environment variable {name}", os.environ[name]
    if bundle and not os.path.exists(bundle):  # noqa: PTH110 - a path as requests takes it
        # What does not look like a path is not shown: it may be a secret in the wrong field.
        path = repr(bundle) if "/" in bundle or "." in bundle else "what is no path"
        raise InvalidInput(f"{where} names {path}, a ca_bundle that is not on this machine.")
    return bundle


def send(session: requests.Session, access: ApiAccess, request: Request) -> Response:
    """
    Send one request, blocking.

    :param session: from ``new_session``.
    :raises TransportError: when no whole answer came.
    """
    with telemetry.api_call(request, access.base_url) as answered:
        response = _send(session, access, request)
        answered(response.status, response.request_id)
    return response


def _send(session: requests.Session, access: ApiAccess, request: Request) -> Response:
    from airflow_provider_reportrun.client.guarded import library_errors, watched

    seconds = _total_seconds(access, request)
    with watched(session, seconds) as watch:
        try:
            answer = session.request(
                request.method,
                access.base_url + request.path,
                data=request.encoded_body(),
                headers=_headers(request),
                stream=True,
                **network(access),
            )
            with answer:
                chunks = answer.raw.stream(CHUNK_BYTES, decode_content=False)
                body = _Body(answer.status_code, answer.headers)
                for chunk in chunks if body.is_wanted else ():
                    body.take(chunk)
        except library_errors() as error:
            failure = _failure(request, access, watch.error or error)
        else:
            if watch.error is None:
                return _response(access, body)
            failure = _failure(request, access, watch.error)
    raise failure


def _total_seconds(access: ApiAccess, request: Request) -> float:
    """Say how long one request may take in all, whatever trickles in meanwhile."""
    return min(access.request_timeout_seconds, request.seconds_left)


class _Body:
    """
    The body of an answer of the API, taken up to a bound and only as it was asked for.

    :raises UnreadableAnswer: when it is encoded, though ``identity`` was asked for, for a few bytes
        may unpack to gigabytes; or when it is too long.
    """

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.is_wanted = status not in _REDIRECTS
        self._chunks: list[bytes] = []
        self._length = 0
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if self.is_wanted and encoding not in {"", "identity"}:
            raise UnreadableAnswer("an encoding that was not asked for")

    def take(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._length += len(chunk)
        if self._length > LONGEST_ANSWER_BYTES:
            raise UnreadableAnswer(f"more than {LONGEST_ANSWER_BYTES >> 20} MiB")

    def whole(self) -> bytes:
        return b"".join(self._chunks)


class UnreadableAnswer(OSError):
    """An answer that is not read on; its words are the package's own."""

    def __init__(self, words: str) -> None:
        super().__init__(0, words)


@contextmanager
def open_stream(
    session: requests.Session, access: ApiAccess, url: Secret, headers: Mapping[str, str]
) -> Iterator[Stream]:
    """
    Ask for a result file and hand its bytes on as they come, undecoded.

    :param session: from ``new_bare_session``.
    :param url: a credential: it appears in no error and no log line.
    :raises TransportError: when no answer came, or, while reading, when it was cut off.
    """
    with (
        telemetry.download_call(url) as answered,
        _open_stream(session, access, url, headers) as stream,
    ):
        answered(stream.status, None)
        yield stream


@contextmanager
def _open_stream(
    session: requests.Session, access: ApiAccess, url: Secret, headers: Mapping[str, str]
) -> Iterator[Stream]:
    from airflow_provider_reportrun.client.guarded import library_errors, watched

    _filter_loggers()
    what = f"download a result file from {_host(url.reveal())}"
    seconds = access.request_timeout_seconds
    with watched(session, seconds) as watch:
        answer = failure = None
        try:
            with _unlogged():
                answer = session.get(
                    url.reveal(),
                    headers={**headers, "Accept-Encoding": "identity"},
                    stream=True,
                    **network(access),
                )
        except library_errors() as error:
            failure = _cut(what, watch.error or error)
        if answer is None:
            raise failure or AssertionError

        def chunks() -> Iterator[bytes]:
            broken = None
            try:
                for chunk in _read_unlogged(answer.raw.stream(CHUNK_BYTES, decode_content=False)):
                    with watch.resting(len(chunk), least=CHUNK_BYTES, seconds=seconds):
                        yield chunk
            except library_errors() as error:
                # Among them ValueError: a chunk of a size below zero.
                broken = _cut(what, watch.error or error)
            if broken is None and watch.error is not None:
                broken = _cut(what, watch.error)
            if broken is not None:
                raise broken

        try:
            with watch.resting(CHUNK_BYTES, least=CHUNK_BYTES, seconds=seconds):
                length = answer.raw.length_remaining
                stream = Stream(
                    status=answer.status_code,
                    headers=answer.headers,
                    chunks=chunks(),
                    length=length,
                    is_end_certain=length is not None or answer.raw.chunked,
                )
            yield stream
        finally:
            with _unlogged():
                answer.close()


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "nowhere"
    except ValueError:
        return "an address that cannot be read"


class _Unlogged(threading.local):
    """Drops what a thread lets the HTTP libraries log while it asks for a result file."""

    is_on = False

    def __call__(self, _record: logging.LogRecord) -> bool:
        return not self.is_on


_unlogged_here: Final = _Unlogged()
_LOGGERS_OF_HTTP: Final = ("urllib3", "requests", "http.client", "charset_normalizer")


def _filter_loggers() -> None:
    """
    Let the loggers of the HTTP libraries drop what a thread asks for while it is ``_unlogged``.

    At DEBUG they log each path, and at WARNING the whole URL if a header cannot be read. The filter
    stays, because adding and removing one is not safe while another thread logs.
    """
    for name in [*logging.root.manager.loggerDict, *_LOGGERS_OF_HTTP]:
        if f"{name}.".startswith(tuple(f"{each}." for each in _LOGGERS_OF_HTTP)):
            logging.getLogger(name).addFilter(_unlogged_here)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep what this thread asks for out of the logs of the HTTP libraries, which hold its URL."""
    before, _unlogged_here.is_on = _unlogged_here.is_on, True
    try:
        yield
    finally:
        _unlogged_here.is_on = before


def _read_unlogged(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read a body, and let the libraries log again what is done between its chunks."""
    while True:
        with _unlogged():
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


def _cut(what: str, error: Exception) -> TransportError:
    return TransportError(
        f"Tried to {what}: the connection failed or was cut off ({reason(error)}).",
        transient=not is_untrusted(error),
    )


def new_async_session(access: ApiAccess) -> aiohttp.ClientSession:
    """
    Open an awaiting session for the API; it holds no key, ``asend`` adds it.

    :return: to be closed in the event loop that it was opened in.
    :raises InvalidInput: when ``ca_bundle`` is not there.
    """
    import aiohttp

    bundle = ca_bundle(access)
    context = _trusting(bundle) if bundle else True
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS,
        keepalive_timeout=IDLE_CONNECTION_SECONDS,
        ssl=context,
    )
    return aiohttp.ClientSession(
        connector=connector,
        proxy=access.proxy.reveal() if access.proxy else _environment_proxy(access.base_url),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def _trusting(bundle: str) -> ssl.SSLContext:
    import ssl

    try:
        return ssl.create_default_context(cafile=bundle)
    except (ssl.SSLError, OSError):
        raise InvalidInput(f"The ca_bundle {bundle!r} holds no certificates in PEM.") from None


def _environment_proxy(base_url: str) -> str | None:
    """
    Give the proxy that the environment names for a host.

    Once for a session: aiohttp's own ``trust_env`` looks it up for each request, in a thread, which
    costs more than the request itself.
    """
    parts = urlsplit(base_url)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


async def asend(
    session: aiohttp.ClientSession,
    access: ApiAccess,
    headers: Mapping[str, str],
    request: Request,
) -> Response:
    """
    Send one request, awaiting.

    :param session: from ``new_async_session``.
    :param headers: from ``api_headers``.
    :raises TransportError: when no whole answer came.
    """
    with telemetry.api_call(request, access.base_url) as answered:
        response = await _asend(session, access, headers, request)
        answered(response.status, response.request_id)
    return response


async def _asend(
    session: aiohttp.ClientSession,
    access: ApiAccess,
    headers: Mapping[str, str],
    request: Request,
) -> Response:
    import aiohttp

    seconds = _total_seconds(access, request)
    timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_TIMEOUT_SECONDS)
    try:
        async with session.request(
            request.method,
            access.base_url + request.path,
            data=request.encoded_body(),
            headers={**headers, **_headers(request), "Authorization": _bearer(access)},
            allow_redirects=False,
            timeout=timeout,
        ) as answer:
            body = _Body(answer.status, answer.headers)
            if body.is_wanted:
                async for chunk in answer.content.iter_any():
                    body.take(chunk)
            else:
                answer.close()
    except _awaiting_errors() as error:
        # What the library makes of junk in an answer or in an address is not always its own error.
        failure = _failure(request, access, error)
    else:
        return _response(access, body)
    raise failure


def _awaiting_errors() -> tuple[type[Exception], ...]:
    """List what aiohttp raises, and asyncio, whose timeout is its own class on Python 3.10."""
    import asyncio

    import aiohttp

    own = (aiohttp.ClientError, asyncio.TimeoutError)
    return (*own, OSError, ValueError, LookupError, ArithmeticError)


_READ_HEADERS: Final = ("Request-Id", "Content-Type", "Stripe-Should-Retry", "Retry-After")
"""What is read of an answer's headers."""


def _headers(request: Request) -> Mapping[str, str]:
    if request.body is None:
        return request.headers
    return {**request.headers, "Content-Type": "application/json"}


def _response(access: ApiAccess, body: _Body) -> Response:
    """Make the answer, without the key where the server repeats it back."""
    kept = {
        name: access.api_key.cut(value)
        for name in _READ_HEADERS
        if (value := body.headers.get(name)) is not None
    }
    return Response(status=body.status, headers=kept, body=body.whole(), api_key=access.api_key)


def _failure(request: Request, access: ApiAccess, error: Exception) -> TransportError:
    """
    Say what went wrong without quoting the library.

    Raised outside of the ``except``: the library's error may hold more than a log should.
    """
    is_tls = any(type(each).__module__ == "ssl" for each in _causes(error))
    return TransportError(
        f"Tried {request.method} {request.path} at {access.base_url}: no whole answer "
        f"({reason(error)}). "
        + (
            "Check that the host speaks TLS, its certificate, and ca_bundle of the connection."
            if is_tls
            else "Check the connection's host and proxy, and the network on the way."
        ),
        transient=not is_untrusted(error),
    )


def is_untrusted(error: BaseException) -> bool:
    """
    Tell whether a certificate is not trusted, or is for another host: that does not pass.

    Whatever else fails in TLS may: a connection that ends in the handshake, say. The libraries'
    own classes tell these apart neither surely nor alike.
    """
    import ssl

    names = {"CertificateError", "ClientConnectorCertificateError", "ServerFingerprintMismatch"}
    return any(
        isinstance(each, ssl.SSLCertVerificationError) or type(each).__name__ in names
        for each in _causes(error)
    )


def _causes(error: BaseException) -> list[BaseException]:
    """List an error and all that it wraps, in whichever way its library does."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        each = todo.pop()
        if isinstance(each, BaseException) and not any(each is known for known in found):
            found.append(each)
            wrapped = (getattr(each, name, None) for name in ("reason", "os_error"))
            todo += [each.__cause__, each.__context__, *wrapped, *each.args]
    return found


def reason(error: BaseException) -> str:
    """Name the innermost cause of a library's error, by its class and the system's own words."""
    cause: BaseException = error
    while True:
        inner = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
        # aiohttp's timeouts come of a cancellation, which says nothing: ``Exception`` has none.
        if not isinstance(inner, Exception) or inner is cause:
            break
        cause = inner
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    name = type(cause).__name__
    return f"{name}: {words}" if words else name
