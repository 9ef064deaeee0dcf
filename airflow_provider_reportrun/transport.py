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

from airflow_provider_reportrun import __version__, telemetry
from airflow_provider_reportrun.errors import InvalidInput, TransportError
from airflow_provider_reportrun.protocol.messages import Request, Response

if TYPE_CHECKING:
    import aiohttp
    import requests

    from airflow_provider_reportrun.connection import ApiAccess
    from airflow_provider_reportrun.secret import Secret

CHUNK_BYTES: Final = 1 << 20
"""What is read at once of a result file."""
USER_AGENT: Final = f"airflow-provider-reportrun/{__version__}"
CONNECT_TIMEOUT_SECONDS: Final = 10.0
"""For the connection alone; an answer may take the connection's ``request_timeout``."""
IDLE_CONNECTION_SECONDS: Final = 900.0
"""How long an idle connection is kept: well above the longest wait between two polls."""
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
    """
    session = new_bare_session()

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = _bearer(access)
        return request

    session.auth = authorize
    session.headers.update(api_headers(access))
    return session


def new_bare_session() -> requests.Session:
    """Open a blocking session without the key, for result files."""
    import requests

    session = requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    session.auth = _no_netrc
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
    import requests

    try:
        answer = session.request(
            request.method,
            access.base_url + request.path,
            data=request.encoded_body(),
            headers=_headers(request),
            **network(access),
        )
    except requests.RequestException as error:
        failure = _failure(request, access, error, isinstance(error, requests.exceptions.SSLError))
    else:
        return _response(access, answer.status_code, answer.headers, answer.content)
    raise failure


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
    from http.client import HTTPException

    import requests
    import urllib3

    what = f"download a result file from {urlsplit(url.reveal()).hostname}"
    answer = failure = None
    try:
        with _unlogged():
            answer = session.get(
                url.reveal(),
                headers={**headers, "Accept-Encoding": "identity"},
                stream=True,
                **network(access),
            )
    except requests.RequestException as error:
        failure = _cut(what, error, transient=not isinstance(error, requests.exceptions.SSLError))
    if answer is None:
        raise failure or AssertionError

    def chunks() -> Iterator[bytes]:
        broken = None
        try:
            yield from _read_unlogged(answer.raw.stream(CHUNK_BYTES, decode_content=False))
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            # ValueError: a chunk of a size below zero.
            broken = _cut(what, error, transient=True)
        if broken is not None:
            raise broken

    try:
        length = answer.raw.length_remaining
        yield Stream(
            status=answer.status_code,
            headers=answer.headers,
            chunks=chunks(),
            length=length,
            is_end_certain=length is not None or answer.raw.chunked,
        )
    finally:
        with _unlogged():
            answer.close()


class _Unlogged(threading.local):
    """Drops what a thread lets the HTTP libraries log while it asks for a result file."""

    is_on = False

    def __call__(self, _record: logging.LogRecord) -> bool:
        return not self.is_on


_unlogged_here: Final = _Unlogged()
_LOGGERS_OF_HTTP: Final = ("urllib3", "requests", "http.client", "charset_normalizer")


@contextmanager
def _unlogged() -> Iterator[None]:
    """
    Keep what this thread asks for out of the logs of the HTTP libraries, which hold its URL.

    At DEBUG they log each path, and at WARNING the whole URL where a header cannot be read. The
    filter stays, for adding and removing one is not safe while another thread logs.
    """
    for name in [*logging.root.manager.loggerDict, *_LOGGERS_OF_HTTP]:
        if f"{name}.".startswith(tuple(f"{each}." for each in _LOGGERS_OF_HTTP)):
            logging.getLogger(name).addFilter(_unlogged_here)
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


def _cut(what: str, error: Exception, *, transient: bool) -> TransportError:
    return TransportError(
        f"Tried to {what}: the connection failed or was cut off ({reason(error)}).",
        transient=transient,
    )


def new_async_session(access: ApiAccess) -> aiohttp.ClientSession:
    """
    Open an awaiting session for the API; it holds no key, ``asend`` adds it.

    :return: to be closed in the event loop that it was opened in.
    :raises InvalidInput: when ``ca_bundle`` is not there.
    """
    import ssl

    import aiohttp

    bundle = ca_bundle(access)
    try:
        context = ssl.create_default_context(cafile=bundle) if bundle else True
    except (ssl.SSLError, OSError):
        raise InvalidInput(f"The ca_bundle {bundle!r} holds no certificates in PEM.") from None
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS,
        keepalive_timeout=IDLE_CONNECTION_SECONDS,
        ssl=context,
    )
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=CONNECT_TIMEOUT_SECONDS,
        sock_read=access.request_timeout_seconds,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        proxy=access.proxy.reveal() if access.proxy else _environment_proxy(access.base_url),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


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

    try:
        async with session.request(
            request.method,
            access.base_url + request.path,
            data=request.encoded_body(),
            headers={**headers, **_headers(request), "Authorization": _bearer(access)},
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        failure = _failure(request, access, error, isinstance(error, aiohttp.ClientSSLError))
    else:
        return _response(access, answer.status, answer.headers, body)
    raise failure


_READ_HEADERS: Final = ("Request-Id", "Content-Type", "Stripe-Should-Retry", "Retry-After")
"""What is read of an answer's headers."""


def _headers(request: Request) -> Mapping[str, str]:
    if request.body is None:
        return request.headers
    return {**request.headers, "Content-Type": "application/json"}


def _response(access: ApiAccess, status: int, headers: Mapping[str, str], body: bytes) -> Response:
    """Make the answer, without the key where the server repeats it back."""
    kept = {
        name: access.api_key.cut(value)
        for name in _READ_HEADERS
        if (value := headers.get(name)) is not None
    }
    return Response(status=status, headers=kept, body=body, api_key=access.api_key)


def _failure(request: Request, access: ApiAccess, error: Exception, is_tls: bool) -> TransportError:
    """
    Say what went wrong without quoting the library.

    Raised outside of the ``except``: the library's error may hold more than a log should.
    """
    return TransportError(
        f"Tried {request.method} {request.path} at {access.base_url}: no answer "
        f"({reason(error)}). "
        + (
            "Check that the host speaks TLS, its certificate, and ca_bundle of the connection."
            if is_tls
            else "Check the connection's host and proxy, and the network on the way."
        ),
        transient=not is_tls,
    )


def reason(error: BaseException) -> str:
    """Name the innermost cause of a library's error, by its class and the system's own words."""
    cause: BaseException = error
    while True:
        inner = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
        if not isinstance(inner, BaseException) or inner is cause:
            break
        cause = inner
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    name = type(cause).__name__
    return f"{name}: {words}" if words else name
