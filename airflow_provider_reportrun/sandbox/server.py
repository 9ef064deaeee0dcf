"""``Sandbox``: the API behind a real socket, in its own thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import uvicorn

from airflow_provider_reportrun.sandbox.app import Api, build_app
from airflow_provider_reportrun.sandbox.catalog import Column, ColumnType
from airflow_provider_reportrun.sandbox.clock import Clock
from airflow_provider_reportrun.sandbox.connections import Connections, protocol_for
from airflow_provider_reportrun.sandbox.faults import Faults
from airflow_provider_reportrun.sandbox.files import ResultFiles
from airflow_provider_reportrun.sandbox.generations import APIS, DEFAULT_API
from airflow_provider_reportrun.sandbox.journal import Journal
from airflow_provider_reportrun.sandbox.keys import Keyring
from airflow_provider_reportrun.sandbox.state import (
    Content,
    Run,
    SeenRequest,
    Settings,
    State,
    failure_of,
)

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from typing_extensions import Self

HOST = "127.0.0.1"
DEFAULT_API_KEY = "rk_test_sandbox_0001"
"""Only sandboxes accept it."""
START_SECONDS = 30
"""How long ``start`` waits for the server."""
KEEP_ALIVE_SECONDS = 600
"""Longer than clients pause between polls, so that they can keep their connections."""


class Sandbox:
    """
    An offline server of Stripe's Reporting API in all its generations, result files included.

    It listens on 127.0.0.1 only. Every attribute and method may be used from any thread.

    :param port: 0 takes a free one.
    :param run_seconds: how long a report run takes, plus or minus a tenth; with 0 it is
        finished at the first poll.
    :param concurrency: how many report runs of one API key may run at once, and how many query
        runs besides.
    :param size: bytes of a CSV before compression; None for as many as its rows need. A size
        below that of the header and one row is only approximate.
    :param data_lag_hours: hours from the end of a half day (UTC) until its data is
        available.
    :param seed: another seed makes other rows and other run times.
    :param api_key: the key with every permission; see ``keyring`` for the others. A key such as
        ``rk_live_...`` is one of live mode.
    :param url_seconds: how long a download URL is valid.
    :param zip_members: how many files a ZIP holds.
    :param certfile: PEM certificate; with one the server speaks TLS.
    :param keyfile: PEM key of the certificate.
    :param journal: a file that keeps the runs and their idempotency keys for the next sandbox that
        is given it, with the same seed and size; None keeps them in memory only. Its folder must be
        private, because the file is trusted.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        run_seconds: float = 2.0,
        concurrency: int = 4,
        size: int | None = None,
        data_lag_hours: float = 12.0,
        seed: int = 0,
        api_key: str = DEFAULT_API_KEY,
        url_seconds: float = 300.0,
        zip_members: int = 1,
        certfile: str | Path | None = None,
        keyfile: str | Path | None = None,
        journal: str | Path | None = None,
    ) -> None:
        settings = Settings(
            run_seconds=run_seconds,
            concurrency=concurrency,
            size=size,
            data_lag_hours=data_lag_hours,
            seed=seed,
            url_seconds=url_seconds,
            zip_members=zip_members,
        )
        self.keyring = Keyring(api_key)
        """
        The keys: ``main``, ``second``, ``read_only``, ``without_files``, ``powerless`` and
        ``organization``.
        """
        self.faults = Faults()
        self._clock = Clock()
        kept = None if journal is None else Journal(Path(journal), self._clock)
        self._state = State(settings, self._clock, kept)
        self._files = ResultFiles(settings)
        self._connections = Connections()
        api = Api(
            self._state,
            keyring=self.keyring,
            files=self._files,
            faults=self.faults,
            connections=self._connections,
        )
        self.app: Starlette = build_app(api)
        """The same API as an ASGI application, for calls within the process."""
        self._port = port
        self._certfile = certfile
        self._keyfile = keyfile
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Listen, and return when the server accepts requests.

        :raises OSError: if the port is in use or the certificate cannot be read.
        :raises RuntimeError: if the sandbox is running already.
        """
        if self._server is not None:
            raise RuntimeError("This sandbox is running already.")
        config = uvicorn.Config(
            self.app,
            http=protocol_for(self._connections),
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._certfile,
            ssl_keyfile=None if self._keyfile is None else str(self._keyfile),
        )
        config.load()
        server = _Server(config, self._connections, self._port)
        server.launch()
        self._port = server.port
        self._server = server

    def stop(self) -> None:
        """End every request, close every connection and remove the result files."""
        self.faults.clear()
        if self._server is not None:
            self._server.finish()
            self._server = None
        self._files.clear()

    def reset(self) -> None:
        """
        Forget runs, requests, faults and plans; restore the limit and the clock.

        Connections stay open, and their count restarts at zero.
        """
        self.faults.clear()
        self._clock.reset()
        self._state.reset()
        self._files.clear()
        self._connections.accepted = 0

    @property
    def port(self) -> int:
        """The port that it listens on; 0 before the start if none was given."""
        return self._port

    @property
    def scheme(self) -> str:
        """``http``, or ``https`` with a certificate."""
        return "http" if self._certfile is None else "https"

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{self.scheme}://{HOST}:{self._port}"

    @property
    def api_key(self) -> str:
        """The key with every permission."""
        return self.keyring.main.value

    @property
    def connection_uri(self) -> str:
        """The Airflow connection to v2.reporting, as a URI."""
        return self.connection_uri_for(DEFAULT_API)

    @property
    def connection_json(self) -> str:
        """The Airflow connection to v2.reporting, as JSON."""
        return self.connection_json_for(DEFAULT_API)

    def connection_uri_for(self, api: str) -> str:
        """
        Return the Airflow connection to one generation of the API, as a URI.

        :param api: ``v2.reporting``, ``v2.data`` or ``v1``.
        :raises ValueError: for any other.
        """
        key = quote(self.api_key, safe="")
        uri = f"reportrun://:{key}@{HOST}:{self._port}/{self.scheme}"
        extra = _extra_for(api)
        return f"{uri}?{urlencode(extra)}" if extra else uri

    def connection_json_for(self, api: str) -> str:
        """
        Return the Airflow connection to one generation of the API, as JSON.

        :param api: ``v2.reporting``, ``v2.data`` or ``v1``.
        :raises ValueError: for any other.
        """
        values = {"conn_type": "reportrun", "host": self.url, "password": self.api_key}
        extra = _extra_for(api)
        return json.dumps({**values, "extra": extra} if extra else values)

    @property
    def runs(self) -> list[Run]:
        """The report runs and query runs of all generations, in the order of creation."""
        return self._state.runs

    @property
    def requests(self) -> list[SeenRequest]:
        """The latest hundred thousand requests, in order of arrival."""
        return self._state.requests

    @property
    def urls(self) -> list[str]:
        """The latest hundred thousand URLs of result files, in order of issue."""
        return self._state.urls

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted so far."""
        return self._connections.accepted

    @property
    def open_connections(self) -> int:
        """How many TCP connections are open now."""
        return self._connections.open

    def fail_next(
        self, n: int = 1, error_code: str = "internal_error", message: str | None = None
    ) -> None:
        """
        Let the next runs that are created fail.

        :param n: how many.
        :param error_code: ``internal_error``, ``file_size_above_limit`` or, for queries,
            ``query_run_invalid_sql``; v1 shows the message only.
        :param message: None for the documented one.
        """
        self._state.plan_failures(n, failure_of(error_code, message))

    def cancel_next(self, n: int = 1) -> None:
        """
        Let the next runs that are created end canceled.

        Only v2.data has that status; runs of other generations leave the plan as it is.

        :param n: how many.
        """
        self._state.plan_cancellations(n)

    def deliver_next(
        self,
        body: bytes,
        content_type: str = "csv",
        columns: Mapping[str, ColumnType] | None = None,
    ) -> None:
        """
        Let the next run that is created deliver these bytes in place of made-up rows.

        :param body: the whole file.
        :param content_type: ``csv`` or ``zip``, regardless of the request.
        :param columns: names and types in the result's schema; None for the report's own.
        """
        told = None if columns is None else tuple(Column(*each) for each in columns.items())
        self._state.plan_content(Content(body, content_type, told))

    def limit(self, n: int) -> None:
        """Change how many runs of one API key may run at once."""
        self._state.limit = n

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clock: runs end, URLs expire, keys age, data becomes available."""
        self._clock.advance(seconds)


def _extra_for(api: str) -> dict[str, str]:
    """Return the extras of a connection; without any it reaches the default generation."""
    if api not in APIS:
        raise ValueError(f"api must be one of {', '.join(APIS)}, not {api!r}.")
    return {} if api == DEFAULT_API else {"api": api}


class _Server(uvicorn.Server):
    """uvicorn in a daemon thread, with a socket that is already bound."""

    def __init__(self, config: uvicorn.Config, connections: Connections, port: int) -> None:
        super().__init__(config)
        self._connections = connections
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        # With its protocol named, because asyncio sets TCP_NODELAY on no other.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((HOST, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._main, name="reportrun-sandbox", daemon=True)

    def launch(self) -> None:
        """Start the thread, and wait until the server accepts requests."""
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or not self.started:
            self.should_exit = True
            raise RuntimeError("The sandbox did not start; see the log of uvicorn.error.")

    def finish(self) -> None:
        """Stop the server, and wait for the thread."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._connections.cut_all)
        self._thread.join()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell the other thread that the server accepts requests."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._ready.set()

    def _main(self) -> None:
        try:
            asyncio.run(self.serve(sockets=[self._socket]))
        finally:
            self._ready.set()
