"""
Serve one succeeded report run and its file, which the kernel sends (``socket.sendfile``).

A web server in C may not be installed; this one uses Python only for the head of an answer. It
speaks plain HTTP on loopback, with one thread per connection.
"""

from __future__ import annotations

import json
import socketserver
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.common import tell

RUN_ID: Final = "reprun_test_000000000001"
SMALL_RUN_ID: Final = "reprun_test_000000000002"
SMALL_BYTES: Final = 1 << 16
_LINE: Final = b"2026-10-26T00:00:00.000Z,ch_%020d,charge,eur,1234.56,-12.34,1222.22\n"


class Answers(socketserver.StreamRequestHandler):
    """One connection."""

    def __init__(self, *args: Any, files: dict[str, Path], **kwargs: Any) -> None:
        self.files = files
        super().__init__(*args, **kwargs)

    def handle(self) -> None:
        """Answer requests until the client leaves."""
        while line := self.rfile.readline():
            path = line.split(b" ")[1].decode().partition("?")[0]
            while self.rfile.readline().strip():
                pass
            name = path.rpartition("/")[2]
            if path.startswith("/files/"):
                file = self.files[name.removesuffix(".csv")]
                self._head("text/csv", file.stat().st_size)
                with file.open("rb") as source:
                    self.connection.sendfile(source)
            else:
                body = json.dumps(self._run(name)).encode()
                self._head("application/json", len(body))
                self.wfile.write(body)

    def _head(self, content_type: str, size: int) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
        self.wfile.write(head.encode())

    def _run(self, report_run_id: str) -> dict[str, Any]:
        host, port = self.connection.getsockname()
        return {
            "id": report_run_id,
            "object": "v2.reporting.report_run",
            "created": "2026-11-02T12:00:00.000Z",
            "livemode": False,
            "report": "balance_summary",
            "report_name": "Balance summary",
            "report_parameters": {},
            "result_options": {"compress_file": False},
            "status": "succeeded",
            "status_details": {},
            "result": {
                "type": "file",
                "file": {
                    "content_type": "csv",
                    "size": str(self.files[report_run_id].stat().st_size),
                    "download_url": {
                        "url": f"http://{host}:{port}/files/{report_run_id}.csv",
                        "expires_at": None,
                    },
                },
            },
        }


class _Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def serve(size: int) -> None:
    """Serve a CSV of ``size`` bytes until standard input ends."""
    import threading

    with tempfile.TemporaryDirectory(prefix="reportrun-bench-") as folder:
        files = {RUN_ID: Path(folder) / "large", SMALL_RUN_ID: Path(folder) / "small"}
        _write(files[RUN_ID], size)
        _write(files[SMALL_RUN_ID], SMALL_BYTES)
        with _Threads(("127.0.0.1", 0), partial(Answers, files=files)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            tell({"url": "http://{}:{}".format(*server.server_address)})
            sys.stdin.read()
            server.shutdown()


def _write(path: Path, size: int) -> None:
    block = b"".join(_LINE % number for number in range(16_384))
    with path.open("wb") as out:
        left = size
        while left:
            left -= out.write(block[:left])
