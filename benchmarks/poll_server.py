"""
Answer polls and count them, as cheaply as possible, because the server shares the machine.

Every report run and every dbt Cloud job runs for ever. Every other path is missing, which makes
``HttpSensorTrigger`` wait. The server speaks TLS and never closes a connection.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from benchmarks.common import tell

RUN_PATH: Final = "/v2/reporting/report_runs/"
DBT_PATH: Final = "/api/v2/accounts/1/runs/"
_END: Final = b"\r\n\r\n"
_OK: Final = "200 OK"
_NOT_FOUND: Final = "404 Not Found"
_DBT_RUNNING: Final = 3


class Counts:
    """What happened since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.polls = 0
        self.connections = 0


class Polls(asyncio.Protocol):
    """One connection."""

    def __init__(self, counts: Counts, created: str) -> None:
        self._counts = counts
        self._created = created
        self._unread = b""
        self._numbers = itertools.count(1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for its type
        self._transport = transport
        self._counts.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer each whole request; a GET has no body."""
        self._unread += data
        while _END in self._unread:
            head, _, self._unread = self._unread.partition(_END)
            self._counts.polls += 1
            path = head.split(b" ", 2)[1].decode()
            self._transport.write(self._answer(path))

    def _answer(self, path: str) -> bytes:
        status, answer = self._found(path)
        body = json.dumps(answer).encode()
        head = (
            f"HTTP/1.1 {status}\r\n"
            f"Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"Cache-Control: no-cache, no-store\r\n"
            f"Request-Id: req_{next(self._numbers):014d}\r\n"
            f"Stripe-Version: 2026-04-22.dahlia\r\n"
            f"Strict-Transport-Security: max-age=63072000; includeSubDomains; preload\r\n\r\n"
        )
        return head.encode() + body

    def _found(self, path: str) -> tuple[str, Any]:
        if path.startswith(RUN_PATH):
            return _OK, self._run(path.removeprefix(RUN_PATH))
        if path.startswith(DBT_PATH):
            number = int(path.removeprefix(DBT_PATH).strip("/"))
            data = {"id": number, "status": _DBT_RUNNING, "is_complete": False, "finished_at": None}
            return _OK, {"status": {"code": 200, "is_success": True}, "data": data}
        return _NOT_FOUND, {"error": {"code": "not_found", "message": "There is no such thing."}}

    def _run(self, report_run_id: str) -> dict[str, Any]:
        return {
            "id": report_run_id,
            "object": "v2.reporting.report_run",
            "created": self._created,
            "livemode": False,
            "report": "balance_summary",
            "report_name": "Balance summary",
            "report_parameters": {
                "interval_start": "2026-10-26T00:00:00.000Z",
                "interval_end": "2026-11-02T00:00:00.000Z",
            },
            "result": None,
            "result_options": {"compress_file": False},
            "status": "running",
            "status_details": {},
        }


def serve(age_seconds: float) -> None:
    """
    Serve until standard input ends.

    :param age_seconds: how long ago the report runs were created.
    """
    asyncio.run(_serve(age_seconds))


async def _serve(age_seconds: float) -> None:
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    counts = Counts()
    created = datetime.now(timezone.utc) - timedelta(seconds=age_seconds)
    stamp = created.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Polls(counts, stamp), "127.0.0.1", 0, ssl=context, backlog=4096
    )
    with tempfile.NamedTemporaryFile(suffix=".pem") as bundle:
        authority.cert_pem.write_to_path(bundle.name)
        port = server.sockets[0].getsockname()[1]
        tell({"address": f"127.0.0.1:{port}", "ca_bundle": bundle.name})
        while question := await asyncio.to_thread(sys.stdin.readline):
            tell({"polls": counts.polls, "connections": counts.connections})
            if question.strip() == "reset":
                counts.reset()
        server.close()
