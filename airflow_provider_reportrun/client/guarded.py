"""
Blocking sessions whose requests can be aborted at any moment, and that follow no redirect.

The timeout of the requests library applies to each read. A server that sends one byte now and then
can keep a request open for ever: in the body, the status line, a header or the TLS handshake. So a
``Watch`` shuts the sockets down when the time is over. Only ``transport.py`` imports this module,
when it opens the first session.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from typing_extensions import Self


class _Sockets:
    """The sockets of a session, so that another thread can shut them down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._left: set[socket.socket] = set()
        self.are_shut = False
        self._are_watched = False

    def watch(self) -> None:
        """Start watching a request."""
        self.are_shut, self._are_watched = False, True

    def unwatch(self) -> None:
        """Stop watching, and close the sockets that the request left behind."""
        with self._lock:
            self._are_watched = False
            for sock in self._left:
                sock.close()
            self._left.clear()

    def add(self, sock: socket.socket) -> socket.socket:
        # A duplicate, because wrapping the socket in TLS detaches the original's descriptor.
        same = sock.dup()
        with self._lock:
            self._open.add(same)
            if self.are_shut:
                _shut(same)
        return same

    def remove(self, sock: socket.socket | None) -> None:
        if sock is None:
            return
        with self._lock:
            self._open.discard(sock)
            if self._are_watched:
                # A body that ends with its connection is still read after the library closed the
                # connection, so the socket stays known until the watch ends.
                self._left.add(sock)
            else:
                sock.close()

    def shut(self) -> None:
        with self._lock:
            self.are_shut = True
            for sock in self._open | self._left:
                _shut(sock)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _pools(sockets: _Sockets) -> dict[str, type[HTTPConnectionPool]]:
    """Make connection pools that register their sockets."""

    class Guarded(HTTPConnection):
        guarded: socket.socket | None = None

        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            sockets.remove(self.guarded)
            self.guarded = sockets.add(sock)
            return sock

        def close(self) -> None:
            super().close()
            sockets.remove(self.guarded)
            self.guarded = None

    class GuardedTls(Guarded, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Guarded

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = GuardedTls

    return {"http": Pool, "https": TlsPool}


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, sockets: _Sockets) -> None:
        self._pools = _pools(sockets)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._pools
        return manager


class GuardedSession(requests.Session):
    """A session for one request at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets = _Sockets()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _GuardedAdapter(self.sockets))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Report no redirect: requests would read the body of one and parse its address."""


class Watch:
    """
    Shuts the sockets of a session down when the time of its request is over.

    :param seconds: the time of the request.
    """

    def __init__(self, sockets: _Sockets, seconds: float) -> None:
        self._sockets = sockets
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._came = 0
        self._changed = threading.Condition()
        self._is_over = False
        self.error: TimeoutError | None = None
        self._thread = threading.Thread(target=self._run, name="reportrun-watch", daemon=True)

    def __enter__(self) -> Self:
        self._sockets.watch()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join()
        self._sockets.unwatch()

    def _run(self) -> None:
        with self._changed:
            while not self._is_over:
                left = self._until - time.monotonic()
                if left <= 0:
                    self.error = TimeoutError(0, f"it took longer than {self._seconds:g} s")
                    self._sockets.shut()
                    return
                # Wake up now and then, because ``resting`` moves the time for every chunk without
                # notifying this thread.
                self._changed.wait(min(left, self._seconds / 4, threading.TIMEOUT_MAX))

    @contextmanager
    def resting(self, count: int, *, least: int, seconds: float) -> Iterator[None]:
        """
        Stop the clock while the caller works on received bytes.

        The time starts again from ``seconds`` once ``least`` bytes have been received; until then,
        the rest of it goes on.

        :param count: bytes that were just received.
        :param least: bytes that must be received in ``seconds``.
        """
        with self._changed:
            self._came += count
            # A slow reader, such as a full disk, must not use up the server's time, so the clock
            # stops until the reader comes back for more.
            left = self._until - time.monotonic()
            if self._came >= least:
                self._came, left = 0, seconds
            self._until = float("inf")
        yield
        with self._changed:
            self._until = time.monotonic() + left


def watched(session: requests.Session, seconds: float) -> Watch:
    """Watch one request of a session; use it as a context manager."""
    sockets = session.sockets if isinstance(session, GuardedSession) else _Sockets()
    return Watch(sockets, seconds)


def library_errors() -> tuple[type[Exception], ...]:
    """
    Return the exceptions that the HTTP libraries raise.

    For a malformed answer or address they do not always raise an error of their own: a bad host
    raises UnicodeError, a chunk with a negative size ValueError.
    """
    from http.client import HTTPException

    return (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        HTTPException,
        OSError,
        ValueError,
        LookupError,
        ArithmeticError,
    )
