"""Planned faults."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_reportrun.sandbox import (
    Answer,
    Delivery,
    Fault,
    Hold,
    LoseAnswer,
    Patch,
    Refuse,
)


def raw(url, limit=None):
    """Fetch a URL over a plain socket, and return the head and all bytes after it."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as peer:
        target = f"{parts.path}?{parts.query}"
        peer.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        got = b""
        while limit is None or len(got) < limit:
            piece = peer.recv(65536)
            if not piece:
                break
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    return head.decode(), body


def test_answer(client, sandbox):
    """An answer may replace the API's, which then does nothing."""
    limited = Answer(status=429, headers={"Stripe-Rate-Limited-Reason": "endpoint-rate"})
    sandbox.faults.add(Fault("create", limited))
    answer = client.create()
    assert answer.status_code == 429
    assert answer.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.json()["error"]["code"] == "rate_limit"
    assert sandbox.runs == []
    assert sandbox.requests[-1].status == 429
    assert client.create().status_code == 200


@pytest.mark.parametrize(
    ("action", "status", "text"),
    [
        (Answer(status=500, headers={"Stripe-Should-Retry": "false"}), 500, '{"error": '),
        (Answer(status=503, body=b"busy", headers={"Retry-After": "3"}), 503, "busy"),
        (Answer(status=200, body="<html>", content_type="text/html"), 200, "<html>"),
        (Answer(status=200, body=[1, 2]), 200, "[1, 2]"),
        (Answer(status=204), 204, ""),
    ],
)
def test_kinds_of_answers(client, sandbox, action, status, text):
    """Bodies may be JSON values, text, bytes, or the sandbox's own."""
    sandbox.faults.add(Fault("any", action))
    answer = client.run("x")
    assert answer.status_code == status
    assert answer.text.startswith(text)
    for name, value in action.headers.items():
        assert answer.headers[name] == value


def test_redirect(client, sandbox):
    """An answer may redirect the client."""
    url = client.url()
    sandbox.faults.add(Fault("download", Answer(status=302, headers={"Location": url})))
    answer = client.download(url)
    assert [each.status_code for each in answer.history] == [302]
    assert answer.status_code == 200


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("kind", "runs"), [(LoseAnswer, 1), (Refuse, 0)])
def test_cut(client, sandbox, kind, runs, reset):
    """A connection may be cut without a byte, after or before the work."""
    sandbox.faults.add(Fault("create", kind(reset=reset)))
    with pytest.raises(requests.ConnectionError):
        client.create()
    assert len(sandbox.runs) == runs
    assert sandbox.requests[-1].status is None
    assert client.create().status_code == 200


def test_plan(client, sandbox):
    """A fault lets requests pass, fires a number of times, and is then spent."""
    fault = sandbox.faults.add(Fault("get_run", Answer(status=500), after=2, times=2))
    assert [client.run("x").status_code for _ in range(6)] == [404, 404, 500, 500, 404, 404]
    assert fault.fired == 2
    assert client.report("balance_summary").status_code == 200


def test_for_ever(client, sandbox):
    """A fault may fire until it is cleared."""
    sandbox.faults.add(Fault("any", Answer(status=500), times=None))
    assert {client.run("x").status_code for _ in range(4)} == {500}
    sandbox.faults.clear()
    assert client.run("x").status_code == 404


def test_match(client, sandbox):
    """A fault may affect only requests with a text in their path or body."""
    sandbox.faults.add(Fault("create", Answer(status=500), match='"gbp"', times=None))
    sandbox.faults.add(Fault("get_run", Answer(status=503), match="runs/two", times=None))
    assert client.create(currency="eur").status_code == 200
    assert client.create(currency="gbp").status_code == 500
    assert client.run("one").status_code == 404
    assert client.run("two").status_code == 503


def test_first_come(client, sandbox):
    """If several faults could fire, the first one does, one per request."""
    sandbox.faults.add(Fault("get_run", Answer(status=500)))
    sandbox.faults.add(Fault("any", Answer(status=503), times=None))
    assert [client.run("x").status_code for _ in range(3)] == [500, 503, 503]


@pytest.mark.parametrize(("before", "runs"), [("handling", 0), ("answering", 1)])
def test_hold(client, sandbox, before, runs):
    """A request may be held before it has an effect or before it is answered."""
    fault = sandbox.faults.add(Fault("create", Hold(before=before)))
    with ThreadPoolExecutor() as pool:
        held = pool.submit(client.create)
        assert fault.reached.wait(5)
        assert len(sandbox.runs) == runs
        assert sandbox.requests[-1].status is None
        assert client.report("balance_summary").status_code == 200
        assert not held.done()
        fault.release()
        assert held.result().status_code == 200
    assert sandbox.requests[0].status == 200


def test_hold_ends(client, sandbox):
    """A held request goes on after its seconds, or at a reset."""
    sandbox.faults.add(Fault("get_run", Hold(seconds=0.05)))
    assert client.run("x").status_code == 404
    fault = sandbox.faults.add(Fault("get_run", Hold()))
    with ThreadPoolExecutor() as pool:
        held = pool.submit(client.run, "x")
        assert fault.reached.wait(5)
        sandbox.reset()
        assert held.result().status_code == 404


def test_patch(client, sandbox):
    """A mapping or a function may change an answer."""
    run = client.finished()
    url = {"result": {"file": {"size": 7, "download_url": {"expires_at": None}}}, "more": {}}
    sandbox.faults.add(Fault("get_run", Patch(url)))
    sandbox.faults.add(Fault("get_run", Patch(lambda run: run | {"status": "queued"})))
    first, second = client.run(run["id"]).json(), client.run(run["id"]).json()
    assert first["result"]["file"]["size"] == 7
    assert first["result"]["file"]["download_url"]["expires_at"] is None
    assert first["result"]["file"]["download_url"]["url"]
    assert first["more"] == {}
    assert first["status"] == "succeeded"
    assert second["status"] == "queued"


def test_patch_with_half_an_emoji(client, sandbox):
    """JSON may contain one, so a patch may add one."""
    run = client.finished()
    sandbox.faults.add(Fault("get_run", Patch({"report_name": "\ud83d"})))
    assert client.run(run["id"]).json()["report_name"] == "\ud83d"


def test_patch_of_a_report(client, sandbox):
    """A patch may change a report's definition; it leaves errors unchanged."""
    change = {"parameters": {"interval_end": {"timestamp_details": None}}}
    sandbox.faults.add(Fault("get_report", Patch(change), times=None))
    parameters = client.report("balance_summary").json()["parameters"]
    assert parameters["interval_end"]["timestamp_details"] is None
    assert parameters["interval_start"]["timestamp_details"]
    assert client.report("nothing").status_code == 404


def test_cut_download(client, sandbox):
    """A download may be cut after an exact number of bytes, and resumed."""
    url = client.url()
    whole = client.download(url).content
    sandbox.faults.add(Fault("download", Delivery(cut_after=1000)))
    head, body = raw(url)
    assert f"content-length: {len(whole)}" in head
    assert body == whole[:1000]
    sandbox.faults.add(Fault("download", Delivery(cut_after=0)))
    assert raw(url)[1] == b""
    assert client.download(url, Range="bytes=1000-").content == whole[1000:]


def test_cut_download_by_reset(client, sandbox):
    """A download may be cut by a TCP reset."""
    url = client.url()
    sandbox.faults.add(Fault("download", Delivery(cut_after=1000, reset=True)))
    with pytest.raises(requests.RequestException, match="reset by peer"):
        client.download(url)


def test_slow(client, sandbox):
    """A download may be slow."""
    url = client.url()
    size = len(client.download(url).content)
    sandbox.faults.add(Fault("download", Delivery(bytes_per_second=size * 4)))
    started = time.monotonic()
    assert len(client.download(url).content) == size
    assert 0.2 < time.monotonic() - started < 3


def test_stall(client, sandbox):
    """A download may stop, and go on when released."""
    url = client.url()
    whole = client.download(url).content
    fault = sandbox.faults.add(Fault("download", Delivery(stall_at=500)))
    with requests.get(url, stream=True, timeout=0.2) as answer:
        pieces = answer.iter_content(100)
        assert b"".join(next(pieces) for _ in range(5)) == whole[:500]
        with pytest.raises(requests.exceptions.ConnectionError):
            next(pieces)
    fault = sandbox.faults.add(Fault("download", Delivery(stall_at=500)))
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(client.download, url)
        assert fault.reached.wait(5)
        fault.release()
        assert slow.result().content == whole


def test_stall_at_the_end(client, sandbox):
    """A download may stop after the last byte, before it ends."""
    url = client.url()
    whole = client.download(url).content
    delay = Delivery(stall_at=len(whole), stall_seconds=0.1)
    sandbox.faults.add(Fault("download", delay))
    assert client.download(url).content == whole


def test_other_lengths(client, sandbox):
    """A file may be shorter or longer than its size, with a correct Content-Length."""
    url = client.url()
    whole = client.download(url).content
    sandbox.faults.add(Fault("download", Delivery(truncate_to=1234)))
    sandbox.faults.add(Fault("download", Delivery(truncate_to=1234)))
    sandbox.faults.add(Fault("download", Delivery(extra=5)))
    short = client.download(url)
    assert short.content == whole[:1234]
    assert short.headers["Content-Length"] == "1234"
    tail = client.download(url, Range="bytes=1200-")
    assert tail.headers["Content-Range"] == "bytes 1200-1233/1234"
    assert client.download(url).content == whole + b"#####"


def test_lying_length(client, sandbox):
    """A Content-Length may be larger or smaller than what is sent."""
    url = client.url()
    whole = client.download(url).content
    for announced, sent in ((len(whole) + 50, len(whole)), (2000, 2000 + 65536)):
        sandbox.faults.add(Fault("download", Delivery(announce=announced)))
        head, body = raw(url)
        assert f"content-length: {announced}" in head
        assert body == whole[:sent]


def test_expired(client, sandbox):
    """A URL may be reported as expired before it is."""
    url = client.url()
    sandbox.faults.add(Fault("download", Delivery(expired=True)))
    assert [client.download(url).status_code for _ in range(2)] == [403, 200]


def test_no_ranges(client, sandbox):
    """A download may ignore ranges."""
    url = client.url()
    sandbox.faults.add(Fault("download", Delivery(ranges=False)))
    answer = client.download(url, Range="bytes=5-")
    assert answer.status_code == 200
    assert "ETag" not in answer.headers
    assert "Accept-Ranges" not in answer.headers


def test_corrupt(client, sandbox):
    """One byte of a file may be wrong, whichever part is requested."""
    url = client.url()
    whole = client.download(url).content
    sandbox.faults.add(Fault("download", Delivery(corrupt_at=700), times=2))
    wrong = client.download(url).content
    assert [at for at in range(len(whole)) if whole[at] != wrong[at]] == [700]
    assert client.download(url, Range="bytes=690-710").content == wrong[690:711]


def test_changed(client, sandbox):
    """A file may look changed, so that no part of the old one is served."""
    url = client.url()
    etag = client.download(url, "HEAD").headers["ETag"]
    sandbox.faults.add(Fault("download", Delivery(etag='"new"'), times=2))
    answer = client.download(url, Range="bytes=5-", If_Range=etag)
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"new"'
    assert client.download(url, Range="bytes=5-", If_Range='"new"').status_code == 206


def test_error_of_a_faulty_download(client, sandbox):
    """A fault of the delivery leaves refusals unchanged."""
    url = client.url()
    sandbox.advance(1000)
    sandbox.faults.add(Fault("download", Delivery(cut_after=3)))
    assert client.download(url).status_code == 403
