"""
Turn a ``Request`` into a ``Response``: blocking with requests, or awaiting with aiohttp.

Only this module and ``guarded.py`` import these libraries. They do so only inside functions,
because importing the operators must stay cheap. Redirects are never followed here, so the key is
sent only to the host of the request.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_reportrun import __version__
from airflow_provider_reportrun.client import telemetry
from airflow_provider_reportrun.errors import InvalidInput, TransportError
from airflow_provider_reportrun.protocol.messages import STRIPE_CONTEXT, Request, Response

if TYPE_CHECKING:
    import ssl

    import aiohttp
    import requests
    from requests.structures import CaseInsensitiveDict
    from urllib3 import HTTPResponse

    from airflow_provider_reportrun.client.access import ApiAccess
    from airflow_provider_reportrun.protocol.generation import Generation
    from airflow_provider_reportrun.secret import Secret

CHUNK_BYTES: Final = 1 << 16
"""Size of a first read, and the least of a result that must arrive in ``request_timeout``."""
LARGEST_READ_BYTES: Final = 4 << 20
"""
Size of one read of a result file that arrives quickly.

With smaller ones, the threads that read and hash spend more time on waking each other.
"""
QUICK_SECONDS: Final = 0.05
"""How soon a block must arrive for the next one to be larger."""
LONGEST_ANSWER_BYTES: Final = 4 << 20
"""The longest answer that is read; the API's answers have a few kilobytes."""
USER_AGENT: Final = f"airflow-provider-reportrun/{__version__}"
CONNECT_TIMEOUT_SECONDS: Final = 10.0
"""For connecting only; a whole answer may take the Airflow connection's ``request_timeout``."""
IDLE_CONNECTION_SECONDS: Final = 900.0
"""How long an idle connection is kept open: well above the longest wait between two polls."""
_REDIRECTS: Final = range(300, 400)
"""Statuses that are never followed, so their bodies are not read."""
CONNECTIONS: Final = 16
"""Sockets that all triggers of a connection share: few, because a poll takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer whose body is read as it arrives."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """In a redirect, ``Location`` is a credential too."""
    chunks: Iterator[bytes]
    """Raises ``TransportError`` if the body is cut off."""
    length: int | None = None
    """Bytes of the whole body, from ``Content-Length``; None if there is none."""
    is_end_certain: bool = False
    """Whether a truncated body can be told from a whole one: by its length or a last chunk."""


def api_headers(access: ApiAccess) -> dict[str, str]:
    """
    Return the headers of every request to the API, without the key.

    Source: https://docs.stripe.com/api-v2-overview
    """
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
    }
    if access.stripe_context:
        headers[STRIPE_CONTEXT] = access.stripe_context
    return headers


def _bearer(access: ApiAccess) -> str:
    """Return the ``Authorization`` value. Never assign it: local variables may be recorded."""
    return f"Bearer {access.api_key.reveal()}"


def new_session(access: ApiAccess) -> requests.Session:
    """
    Open a blocking session for the API.

    :return: a session that the caller closes. It sends the key, so never use it for another host.
    :raises InvalidInput: if ``ca_bundle`` does not exist.
    """
    ca_bundle(access)
    session = new_bare_session()
    session.auth = _authorizing(access)
    session.headers.update(api_headers(access))
    return session


def _authorizing(
    access: ApiAccess,
) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = _bearer(access)
        return request

    return authorize


def new_file_session(access: ApiAccess, api: Generation, account: str | None) -> requests.Session:
    """
    Open a blocking session with the key, for result files that need it.

    :param account: the account that the report is about; None for the key's own.
    :return: a session that the caller closes. It sends the key, so use it for one host only.

    Source: https://docs.stripe.com/reports/api
    """
    session = new_bare_session()
    session.auth = _authorizing(access)
    speak(session, access, api, account)
    return session


def speak(
    session: requests.Session, access: ApiAccess, api: Generation, account: str | None
) -> None:
    """
    Make a session send the version of a generation and its header for the account.

    :param account: the account that the report is about; None for the key's own.
    """
    shared = {STRIPE_CONTEXT: account} if account else {}
    question = Request(
        method="GET", path="", stripe_version=api.stripe_version, account_header=api.account_header
    )
    session.headers.pop(STRIPE_CONTEXT, None)
    session.headers.update(_without_none({**shared, **_headers(access, question, shared)}))


def new_bare_session() -> requests.Session:
    """Open a blocking session without the key, for result files whose URL is enough."""
    from http.cookiejar import DefaultCookiePolicy

    from airflow_provider_reportrun.client import guarded

    session = guarded.GuardedSession()
    session.headers["User-Agent"] = USER_AGENT
    session.auth = _no_netrc
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add nothing; without an auth, requests would send the host's login from ``.netrc``."""
    return request


def network(access: ApiAccess) -> dict[str, Any]:
    """
    Return the network arguments of each blocking request.

    They are passed per request because requests lets environment variables override a session's.

    :raises InvalidInput: if ``ca_bundle`` does not exist.
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
    Return the path of the CA bundle.

    The connection's wins over those that requests reads from the environment.

    :return: None for the default bundle.
    :raises InvalidInput: if the path does not exist.
    """
    where = f"The field 'ca_bundle' of the connection {access.conn_id!r}"
    bundle = access.ca_bundle
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if not bundle and os.environ.get(name):
            where, bundle = f"The environment variable {name}", os.environ[name]
    if bundle and not os.path.exists(bundle):  # noqa: PTH110 - a path as requests accepts it
        # Text that does not look like a path is not shown: it may be a secret in the wrong field.
        path = repr(bundle) if "/" in bundle or "." in bundle else "its value"
        raise InvalidInput(
            f"{where} must be the path of a PEM file on this machine, as ca_bundle; {path} does "
            "not exist."
        )
    return bundle


def send(session: requests.Session, access: ApiAccess, request: Request) -> Response:
    """
    Send one request, blocking.

    :param session: from ``new_session``.
    :raises TransportError: if no whole answer arrived.
    :raises InvalidInput: if ``ca_bundle`` contains no certificates.
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
                data=request.body and request.body.content,
                headers=_headers(access, request, session.headers),
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
    _check_bundle(access)
    raise failure


def _check_bundle(access: ApiAccess) -> None:
    """
    Check the certificates of ``ca_bundle`` after a request failed, because that takes 25 ms.

    :raises InvalidInput: if it contains none.
    """
    bundle = ca_bundle(access)
    is_read = access.base_url.startswith("https:")
    if is_read and bundle and os.path.isfile(bundle):  # noqa: PTH113 - requests accepts folders too
        _trusting(bundle)


def _total_seconds(access: ApiAccess, request: Request) -> float:
    """
    Return how long one request may take in total, even if bytes keep trickling in.

    That is the connection's ``request_timeout``, or less if a wait reaches its deadline before.
    """
    return min(access.request_timeout_seconds, request.seconds_left)


class _Body:
    """
    The body of an API answer, read up to a limit and only in the requested encoding.

    :raises UnreadableAnswer: if the body is encoded although ``identity`` was requested, because a
        few bytes may unpack to gigabytes; or if it is too long.
    """

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.is_wanted = status not in _REDIRECTS
        self._chunks: list[bytes] = []
        self._length = 0
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if self.is_wanted and encoding not in {"", "identity"}:
            raise UnreadableAnswer("an encoding that was not requested")

    def take(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._length += len(chunk)
        if self._length > LONGEST_ANSWER_BYTES:
            raise UnreadableAnswer(f"more than {LONGEST_ANSWER_BYTES >> 20} MiB")

    def whole(self) -> bytes:
        return b"".join(self._chunks)


class UnreadableAnswer(OSError):
    """An answer that is not read to its end; the text is this package's own."""

    def __init__(self, words: str) -> None:
        super().__init__(0, words)


@contextmanager
def open_stream(
    session: requests.Session, access: ApiAccess, url: Secret, headers: Mapping[str, str]
) -> Iterator[Stream]:
    """
    Request a result file and stream its bytes as they arrive, undecoded.

    :param session: from ``new_bare_session``, or from ``new_file_session`` for a host that may get
        the key.
    :param url: a credential: it appears in no error and no log line.
    :raises TransportError: if no answer arrived, or if the body is cut off while it is read.
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
                for chunk in _read_unlogged(_blocks(answer.raw)):
                    with watch.resting(len(chunk), least=CHUNK_BYTES, seconds=seconds):
                        yield chunk
            except library_errors() as error:
                # Includes ValueError, which a chunk with a negative size raises.
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
                    headers=_without_key(access, answer.headers),
                    chunks=chunks(),
                    length=length,
                    is_end_certain=length is not None or answer.raw.chunked,
                )
            yield stream
        finally:
            with _unlogged():
                answer.close()


def _blocks(raw: HTTPResponse) -> Iterator[bytes]:
    """
    Read a body, undecoded, in blocks that grow as long as they arrive quickly.

    Large blocks cost less CPU, and small ones show sooner that a slow server still sends.
    """
    if raw.chunked:
        yield from raw.stream(CHUNK_BYTES, decode_content=False)
        return
    size = CHUNK_BYTES
    began = time.monotonic()
    while block := raw.read(size, decode_content=False):
        is_quick = time.monotonic() - began < QUICK_SECONDS
        size = min(2 * size, LARGEST_READ_BYTES) if is_quick else CHUNK_BYTES
        yield block
        began = time.monotonic()


def _without_key(access: ApiAccess, headers: CaseInsensitiveDict[str]) -> CaseInsensitiveDict[str]:
    """Cut the key out of headers in case the server echoes it."""
    return type(headers)((name, access.api_key.cut(value)) for name, value in headers.items())


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "nowhere"
    except ValueError:
        return "an address that cannot be read"


class _Unlogged(threading.local):
    """Drops the log records of HTTP libraries in a thread that requests a result file."""

    is_on = False

    def __call__(self, _record: logging.LogRecord) -> bool:
        return not self.is_on


_unlogged_here: Final = _Unlogged()
_LOGGERS_OF_HTTP: Final = ("urllib3", "requests", "http.client", "charset_normalizer")


def _filter_loggers() -> None:
    """
    Make the loggers of the HTTP libraries drop the records of a thread inside ``_unlogged``.

    They log each path at DEBUG, and the whole URL at WARNING if a header cannot be read. The filter
    stays installed, because adding and removing one is not safe while another thread logs.
    """
    for name in [*logging.root.manager.loggerDict, *_LOGGERS_OF_HTTP]:
        if f"{name}.".startswith(tuple(f"{each}." for each in _LOGGERS_OF_HTTP)):
            logging.getLogger(name).addFilter(_unlogged_here)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep this thread's requests out of the HTTP libraries' logs, which contain the URL."""
    before, _unlogged_here.is_on = _unlogged_here.is_on, True
    try:
        yield
    finally:
        _unlogged_here.is_on = before


def _read_unlogged(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read a body ``_unlogged``; between chunks, the libraries may log again."""
    while True:
        with _unlogged():
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


def _cut(what: str, error: Exception) -> TransportError:
    return TransportError(
        f"{_advice(error, 'proxy')}: the connection failed or was cut off ({reason(error)}). "
        f"Tried to {what}.",
        transient=not is_untrusted(error),
    )


def new_async_session(access: ApiAccess) -> aiohttp.ClientSession:
    """
    Open an awaiting session for the API. It has no key; ``asend`` adds it.

    :return: a session to be closed in the event loop that it was opened in.
    :raises InvalidInput: if ``ca_bundle`` does not exist or contains no certificates.
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
        raise InvalidInput(
            f"The ca_bundle {bundle!r} contains no PEM certificates: use a file that does."
        ) from None


def _environment_proxy(base_url: str) -> str | None:
    """
    Return the proxy that the environment sets for a host.

    It is looked up once per session: aiohttp's own ``trust_env`` looks it up for each request, in a
    thread, which costs more than the request itself.
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
    :raises TransportError: if no whole answer arrived.
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
            data=request.body and request.body.content,
            headers=_without_none(
                {**headers, **_headers(access, request, headers), "Authorization": _bearer(access)}
            ),
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
        # For a malformed answer or address, aiohttp does not always raise an error of its own.
        failure = _failure(request, access, error)
    else:
        return _response(access, body)
    raise failure


def _awaiting_errors() -> tuple[type[Exception], ...]:
    """Return what aiohttp and asyncio raise; on Python 3.10, asyncio has its own TimeoutError."""
    import asyncio

    import aiohttp

    own = (aiohttp.ClientError, asyncio.TimeoutError)
    return (*own, OSError, ValueError, LookupError, ArithmeticError)


_READ_HEADERS: Final = (
    "Request-Id",
    "Content-Type",
    "Stripe-Should-Retry",
    "Retry-After",
    "Idempotent-Replayed",
)
"""The headers of an answer that are read."""


def _headers(
    access: ApiAccess, request: Request, shared: Mapping[str, str | bytes]
) -> dict[str, str | None]:
    """
    Return a request's own headers; the connection's version overrides the request's.

    :param shared: the headers that all requests of the session have.
    :return: None for one of those that the request does not have.
    """
    headers: dict[str, str | None] = dict(request.headers)
    if version := access.stripe_version or request.stripe_version:
        headers["Stripe-Version"] = version
    if request.body is not None:
        headers["Content-Type"] = request.body.content_type
    account = str(shared.get(STRIPE_CONTEXT) or "")
    # A path of several accounts, acct_1/acct_2, has no other header.
    if request.account_header != STRIPE_CONTEXT and account and "/" not in account:
        headers |= {request.account_header: account, STRIPE_CONTEXT: None}
    return headers


def _without_none(headers: Mapping[str, str | None]) -> dict[str, str]:
    """Leave out what aiohttp, unlike requests, would not."""
    return {name: value for name, value in headers.items() if value is not None}


def _response(access: ApiAccess, body: _Body) -> Response:
    """Make the response, and cut the key out of headers in case the server echoes it."""
    kept = {
        name: access.api_key.cut(value)
        for name in _READ_HEADERS
        if (value := body.headers.get(name)) is not None
    }
    return Response(status=body.status, headers=kept, body=body.whole(), api_key=access.api_key)


def _failure(request: Request, access: ApiAccess, error: Exception) -> TransportError:
    """
    Describe what went wrong without quoting the library.

    Raise the result outside of the ``except``, so the library's error is not chained to it: that
    may contain more than a log should.
    """
    return TransportError(
        f"{_advice(error, 'host and proxy')}: no whole answer from {access.base_url} "
        f"({reason(error)}). The request was {request.method} {request.path}.",
        transient=not is_untrusted(error),
    )


def _advice(error: Exception, fields: str) -> str:
    if any(type(each).__module__ == "ssl" for each in _causes(error)):
        return "Check the host's certificate, that it speaks TLS, and ca_bundle of the connection"
    return f"Check the connection's {fields}, and the network"


def is_untrusted(error: BaseException) -> bool:
    """
    Tell whether a certificate is not trusted or is for another host, which retries do not fix.

    Other TLS failures may pass, such as a connection that ends during the handshake. The classes of
    the libraries do not distinguish these cases reliably or in the same way.
    """
    import ssl

    names = {"CertificateError", "ClientConnectorCertificateError", "ServerFingerprintMismatch"}
    return any(
        isinstance(each, ssl.SSLCertVerificationError) or type(each).__name__ in names
        for each in _causes(error)
    )


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and all errors that it wraps, however its library stores them."""
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
    """Describe the innermost cause of a library's error: its class and the system's text."""
    cause: BaseException = error
    while True:
        inner = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
        # aiohttp's timeouts are caused by a CancelledError, which explains nothing; it is a
        # BaseException, so it ends the search here.
        if not isinstance(inner, Exception) or inner is cause:
            break
        cause = inner
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    name = type(cause).__name__
    return f"{name}: {words}" if words else name
