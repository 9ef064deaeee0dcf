"""Answer polls of ``/v1/reporting/report_runs``, one by one and as a list, and count them."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
import tempfile
import time
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.common import tell
from benchmarks.lists import run_id

PATH: Final = "/v1/reporting/report_runs"
_END: Final = b"\r\n\r\n"


class Runs:
    """The report runs, which finish one after the other once they are started."""

    def __init__(self, count: int) -> None:
        self.ids = [run_id(number) for number in reversed(range(count))]
        self.requests = 0
        self._created = int(time.time())
        self._ends: dict[str, float] = {}

    def start(self, first_seconds: float, last_seconds: float) -> None:
        """Let the first finish after some seconds and the last after some more; count from zero."""
        now, step = time.monotonic(), (last_seconds - first_seconds) / len(self.ids)
        order = random.Random(0).sample(self.ids, len(self.ids))  # noqa: S311 - no secret
        self._ends = {each: now + first_seconds + at * step for at, each in enumerate(order)}
        self.requests = 0

    def found(self, target: str) -> Any:
        """Answer a GET."""
        self.requests += 1
        url = urlsplit(target)
        if url.path != PATH:
            return self._run(url.path.removeprefix(f"{PATH}/"))
        query = parse_qs(url.query)
        after = query.get("starting_after")
        begin = self.ids.index(after[0]) + 1 if after else 0
        end = begin + int(query.get("limit", ["10"])[0])
        return {
            "object": "list",
            "url": PATH,
            "has_more": end < len(self.ids),
            "data": [self._run(each) for each in self.ids[begin:end]],
        }

    def _run(self, report_run_id: str) -> dict[str, Any]:
        is_done = time.monotonic() >= self._ends.get(report_run_id, float("inf"))
        return {
            "id": report_run_id,
            "object": "reporting.report_run",
            "created": self._created,
            "error": None,
            "livemode": False,
            "parameters": {"interval_start": 1_761_436_800, "interval_end": 1_762_041_600},
            "report_type": "balance.summary.1",
            "result": None,
            "status": "succeeded" if is_done else "pending",
            "succeeded_at": self._created if is_done else None,
        }


class Polls(asyncio.Protocol):
    """One connection."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it for the answers."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for its type
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request; a GET has no body."""
        self._unread += data
        while _END in self._unread:
            head, _, self._unread = self._unread.partition(_END)
            body = json.dumps(self._runs.found(head.split(b" ", 2)[1].decode())).encode()
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\nRequest-Id: req_1\r\n\r\n%b" % (len(body), body)
            )


def serve(runs: int) -> None:
    """
    Serve until standard input ends.

    :param runs: how many report runs there are.
    """
    asyncio.run(_serve(Runs(runs)))


async def _serve(runs: Runs) -> None:
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Polls(runs), "127.0.0.1", 0, ssl=context, backlog=4096
    )
    with tempfile.NamedTemporaryFile(suffix=".pem") as bundle:
        authority.cert_pem.write_to_path(bundle.name)
        tell(
            {"address": f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "ca_bundle": bundle.name}
        )
        while question := await asyncio.to_thread(sys.stdin.readline):
            command, *seconds = question.split()
            if command == "start":
                runs.start(*map(float, seconds))
            tell({"requests": runs.requests})
        server.close()
