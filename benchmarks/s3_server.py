"""
Receive objects as S3 does, and keep only their sizes.

A server on this machine that stored them would need more CPU than the clients, and make all ways
equally slow, which S3 itself does not. This one knows the requests of boto3's transfers. It speaks
plain HTTP on loopback, with one thread per connection.
"""

from __future__ import annotations

import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.common import MIB, tell

_UPLOAD_ID: Final = "upload"
_ETAG: Final = '"0"'


class _S3(ThreadingHTTPServer):
    """The sizes of objects, and of the parts of open uploads, in bytes by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.sizes: dict[str, int] = {}
        self.parts: dict[str, dict[str, int]] = {}


class _Answers(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: _S3

    def setup(self) -> None:
        super().setup()
        self._waste = memoryview(bytearray(MIB))

    def do_GET(self) -> None:
        """List the open uploads, of which a try finds none."""
        self._answer(HTTPStatus.OK, "<ListMultipartUploadsResult></ListMultipartUploadsResult>")

    def do_PUT(self) -> None:
        """Receive an object or a part."""
        size = self._drained()
        if "partNumber" in self._query:
            self.server.parts[self._path][self._query["partNumber"][0]] = size
        else:
            self.server.sizes[self._path] = size
        self._answer(HTTPStatus.OK, ETag=_ETAG)

    def do_POST(self) -> None:
        """Begin or complete an upload."""
        self._drained()
        if "uploads" in self._query:
            self.server.parts[self._path] = {}
            kind, told = "InitiateMultipartUpload", f"<UploadId>{_UPLOAD_ID}</UploadId>"
        else:
            self.server.sizes[self._path] = sum(self.server.parts.pop(self._path).values())
            kind, told = "CompleteMultipartUpload", f"<ETag>{_ETAG}</ETag>"
        self._answer(HTTPStatus.OK, f"<{kind}Result>{told}</{kind}Result>")

    def do_HEAD(self) -> None:
        """Tell the size of an object."""
        size = self.server.sizes.get(self._path)
        if size is None:
            self._answer(HTTPStatus.NOT_FOUND)
        else:
            self._answer(HTTPStatus.OK, Content_Length=str(size))

    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""

    @property
    def _path(self) -> str:
        return urlsplit(self.path).path

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    def _drained(self) -> int:
        """Read the body, and return its size."""
        size = left = int(self.headers.get("Content-Length", 0))
        while left:
            left -= self.rfile.readinto(self._waste[:left])  # type: ignore[attr-defined]
        return size

    def _answer(self, status: HTTPStatus, body: str = "", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body.encode())


def serve() -> None:
    """Serve S3 until standard input ends."""
    with _S3() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tell({"endpoint": "http://{}:{}".format(*server.server_address)})
        sys.stdin.read()
        server.shutdown()
