"""The place that serves result files by pre-signed URLs, as S3 does; and the files themselves."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from airflow_provider_reportrun.sandbox.answers import FileAnswer, FileRequest
from airflow_provider_reportrun.sandbox.clock import NANOSECONDS, instant
from airflow_provider_reportrun.sandbox.faults import expired_file, s3_error
from airflow_provider_reportrun.sandbox.files import ResultFiles, content_type_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from airflow_provider_reportrun.sandbox.generations.interface import Call
    from airflow_provider_reportrun.sandbox.state import Run, State

_MEDIA_TYPES = {"csv": "text/csv", "zip": "application/zip"}


class SignedUrls:
    """
    Issues pre-signed URLs, and serves the files behind them.

    :param state: the runs, the clock and the settings.
    :param files: the result files.
    """

    PATH = "/files/{path:path}"

    def __init__(self, state: State, files: ResultFiles) -> None:
        self._state = state
        self._files = files
        self._secret = secrets.token_bytes(32)
        self._numbers = itertools.count(1)

    def issue(self, request: Request, run: Run) -> tuple[str, int]:
        """
        Issue a new URL for the file of a run, and remember it.

        :param request: the request to answer, whose address the URL has.
        :return: the URL, and its expiry in nanoseconds since the epoch.
        """
        issued_ns = self._state.clock.now_ns()
        seconds = self._state.settings.url_seconds
        expires_ns = issued_ns + int(seconds * NANOSECONDS)
        path = f"/files/us-west-2/{run.id}/{run.report or 'query'}.{content_type_of(run)}"
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"SANDBOX/{instant(issued_ns):%Y%m%d}/us-west-2/s3/aws4_request",
            "X-Amz-Date": f"{instant(issued_ns):%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": str(max(1, round(seconds))),
            # The expiry in nanoseconds, and a number that makes each URL unique.
            "X-Amz-Security-Token": f"{expires_ns}-{next(self._numbers)}",
            "X-Amz-SignedHeaders": "host",
        }
        signature = self._signature(path, query)
        address = f"{request.url.scheme}://{request.url.netloc}"
        url = f"{address}{path}?{urlencode(query)}&X-Amz-Signature={signature}"
        self._state.remember_url(url)
        return url, expires_ns

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        # Of the decoded values, as S3 does: clients may encode the same URL differently.
        signed = f"{path}?{urlencode(sorted(query.items()))}".encode()
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()

    async def download(self, call: Call) -> Response:
        """Serve the file of a URL, or refuse it as S3 does."""
        request = call.request
        if "authorization" in request.headers:
            return s3_error(
                400,
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
                "Signature query string parameter or the Authorization header should be specified",
            )
        if any(name.startswith("stripe-") for name in request.headers):
            return s3_error(400, "InvalidRequest", "Stripe headers are not allowed here")
        query = dict(request.query_params)
        signature = query.pop("X-Amz-Signature", "")
        genuine = self._signature(request.url.path, query)
        if not hmac.compare_digest(genuine.encode(), signature.encode()):
            return s3_error(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            )
        expires_ns = int(query["X-Amz-Security-Token"].partition("-")[0])
        if self._state.clock.now_ns() >= expires_ns:
            return expired_file()
        run = self._state.run(request.url.path.split("/")[3])
        if run is None:
            return s3_error(404, "NoSuchKey", "The specified key does not exist.")
        return await serve(call, self._files, self, run)


async def serve(call: Call, files: ResultFiles, urls: SignedUrls, run: Run) -> FileAnswer:
    """Serve the file of a run, or the range of it that was requested."""
    headers = call.request.headers
    wanted = FileRequest(
        path=await asyncio.to_thread(files.path_of, run),
        etag=f'"{files.digest(run)[:32]}"',
        media_type=_MEDIA_TYPES.get(content_type_of(run), "binary/octet-stream"),
        range=headers.get("range"),
        if_range=headers.get("if-range"),
        is_head=call.request.method == "HEAD",
        connection=call.connection,
        signed_url=lambda: urls.issue(call.request, run)[0],
    )
    return FileAnswer(wanted)
