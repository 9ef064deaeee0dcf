"""Downloads that are interrupted, wrong, expired or redirected."""

from __future__ import annotations

import hashlib
import logging
import random
import socket
from functools import partial

import pytest
from landing.sources import RUN_ID, URL, Script, Spoken, stream

from airflow_provider_reportrun.client.access import ApiAccess
from airflow_provider_reportrun.errors import (
    DownloadRefused,
    NotFound,
    ReportRunError,
    ReportRunFailed,
    ResultCorrupt,
    ServerError,
    TransportError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.landing import download as downloads_module
from airflow_provider_reportrun.protocol.retry import RetryPolicy
from airflow_provider_reportrun.sandbox import Answer, Delivery, Fault, LoseAnswer, Patch, Refuse

BODY = b"".join(b"%07d\n" % number for number in range(400_000))
"""3.2 MB without equal lines."""
CUT = 2_500_000
LOOPBACK = ApiAccess(conn_id="c", api_key="rk_test_1", base_url="http://127.0.0.1:1")


@pytest.fixture
def path(tmp_path):
    """Return a file to download to."""
    return tmp_path / "staged"


@pytest.fixture
def download(waits):
    """Return a function that downloads without pauses."""
    return partial(downloads_module.download, sleep=waits.append)


@pytest.fixture
def good(path):
    """Check that the downloaded file is complete."""

    def check(facts):
        assert path.read_bytes() == BODY
        assert (facts.size, facts.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())

    return check


def statuses(requests):
    """Return the statuses of requests."""
    return [request.status for request in requests]


# Cut off


def test_a_cut_is_resumed(sandbox, hook, result, download, path, good, downloads, waits):
    """The next request asks only for the rest of the same file, with a fresh URL."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    good(download(hook, run_id, path))
    first, second = downloads()
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={CUT}-"
    assert second.headers["if-range"].startswith('"')
    assert second.status == 206
    assert first.query != second.query
    assert len(waits) == 1


def test_a_reset_is_tried_again(sandbox, hook, result, download, path, good, downloads):
    """A connection reset, which may discard sent bytes, costs one more attempt."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT, reset=True)))
    good(download(hook, run_id, path))
    assert len(downloads()) == 2


@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
@pytest.mark.parametrize("after", [0, 1, 65_535, 1_048_576, len(BODY) - 1])
def test_a_cut_at_any_byte(sandbox, hook, result, download, path, good, downloads, after, reset):
    """The file is complete, at whichever byte the connection ends."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=after, reset=reset)))
    good(download(hook, run_id, path))
    assert len(downloads()) == 2


def test_many_cuts_are_resumed(sandbox, hook, result, download, path, good, downloads, waits):
    """Attempts with progress are not counted."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=300_000), times=None))
    good(download(hook, run_id, path))
    assert len(downloads()) == 11
    assert max(waits) <= 1.0


def test_a_cut_without_ranges_restarts(sandbox, hook, result, download, path, good, downloads):
    """Without an ETag, the whole file is requested again."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT, ranges=False)))
    good(download(hook, run_id, path))
    assert ["range" in request.headers for request in downloads()] == [False, False]


def test_a_server_that_forgets_ranges_restarts(
    sandbox, hook, result, download, path, good, downloads
):
    """If a server answers a request for a part with the whole file, the download starts again."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    sandbox.faults.add(Fault("download", Delivery(ranges=False)))
    good(download(hook, run_id, path))
    assert statuses(downloads()) == [200, 200]


def test_another_file_in_between_restarts(sandbox, hook, result, download, path, good, downloads):
    """If the file has changed, the received bytes are discarded."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT, corrupt_at=5, etag='"former"')))
    good(download(hook, run_id, path))
    first, second = downloads()
    assert second.headers["if-range"] == '"former"'
    assert (first.status, second.status) == (200, 200)


def test_a_weak_etag_proves_nothing(download, path):
    """With a weak ETag, the whole file is requested again."""
    script = Script(
        [
            lambda: stream(b"ab", fails=TransportError("cut"), ETag='W/"1"'),
            lambda: stream(b"abcd", ETag='W/"1"'),
        ],
        size=4,
    )
    assert download(script, RUN_ID, path).size == 4
    assert [headers for _, headers in script.asked] == [{}, {}]


def test_a_wrong_part_is_thrown_away(download, path):
    """A part with a wrong beginning is not appended."""
    script = Script(
        [
            lambda: stream(b"ab", fails=TransportError("cut"), ETag='"1"'),
            lambda: stream(b"bcd", status=206, Content_Range="bytes 1-3/4", ETag='"1"'),
            lambda: stream(b"abcd", ETag='"1"'),
        ],
        size=4,
    )
    facts = download(script, RUN_ID, path)
    assert path.read_bytes() == b"abcd"
    assert facts.sha256 == hashlib.sha256(b"abcd").hexdigest()
    assert [headers.get("Range") for _, headers in script.asked] == [None, "bytes=2-", None]


def test_the_policy_is_the_callers(path, waits):
    """The caller's policy decides the number of attempts and the pauses."""
    script = Script([lambda: stream(fails=TransportError("cut"))], size=4)
    policy = RetryPolicy(attempts=3, first_delay_seconds=2.0, longest_delay_seconds=2.0)
    with pytest.raises(TransportError):
        downloads_module.download(script, RUN_ID, path, policy=policy, sleep=waits.append)
    assert len(script.asked) == 3
    assert len(waits) == 2
    assert all(1.0 <= seconds <= 2.0 for seconds in waits)


def test_a_part_that_nobody_asked_for_is_no_file(download, path):
    """A partial first answer is refused, even if no size was announced."""
    script = Script([lambda: stream(b"ab", status=206, Content_Range="bytes 0-1/4")])
    with pytest.raises(ReportRunError):
        download(script, RUN_ID, path)


def test_an_unsatisfiable_range_restarts(sandbox, hook, result, download, path, good, downloads):
    """If the server says that nothing is left, the whole file is requested again."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(announce=len(BODY) + 10)))
    good(download(hook, run_id, path))
    assert statuses(downloads()) == [200, 416, 200]


@pytest.mark.parametrize("action", [LoseAnswer(), Refuse(reset=True)], ids=["lost", "reset"])
def test_no_answer_is_tried_again(sandbox, hook, result, download, path, good, action):
    """A connection that ends before an answer is repeated."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", action))
    good(download(hook, run_id, path))


def test_a_silent_server_is_given_up_on(sandbox, result, download, path, good, monkeypatch, waits):
    """A body that stalls for longer than request_timeout is resumed."""
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook

    run_id = result(BODY)
    monkeypatch.setenv("AIRFLOW_CONN_IMPATIENT", sandbox.connection_uri + "?request_timeout=0.3")
    fault = sandbox.faults.add(Fault("download", Delivery(stall_at=CUT, stall_seconds=20)))
    with ReportRunHook("impatient") as hook:
        good(download(hook, run_id, path))
    fault.release()
    assert len(waits) == 1


# Wrong


@pytest.mark.parametrize(
    "delivery",
    [Delivery(truncate_to=CUT), Delivery(extra=7), Delivery(announce=CUT), Delivery(announce=1)],
    ids=["fewer", "more", "announced fewer", "announced one"],
)
def test_a_wrong_size_is_fetched_anew(
    sandbox, hook, result, download, path, good, downloads, delivery
):
    """A file of another size than announced is discarded and requested again."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", delivery))
    good(download(hook, run_id, path))
    assert ["range" in request.headers for request in downloads()] == [False, False]


@pytest.mark.parametrize(
    ("delivery", "words"),
    [(Delivery(truncate_to=CUT), f"{CUT} bytes"), (Delivery(extra=7), "more than")],
    ids=["fewer", "more"],
)
def test_a_wrong_size_that_stays_is_refused(
    sandbox, hook, result, land, folder, downloads, delivery, words, waits
):
    """After six attempts the error names both sizes, and nothing is published."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", delivery, times=None))
    with pytest.raises(ResultCorrupt, match=words) as caught:
        land(hook, run_id, folder.destination("report.csv"))
    assert f"announced {len(BODY)}" in str(caught.value)
    assert "Check any proxy on the way if a retry does not help" in str(caught.value)
    assert folder.files() == {}
    assert len(downloads()) == 6
    assert len(waits) == 5


def test_no_more_is_read_than_announced(download, path):
    """A body without end is abandoned after the announced size."""
    read = []

    def endless():
        def chunks():
            while True:
                read.append(1)
                yield b"12345"

        answer = stream()
        return type(answer)(status=200, headers={}, chunks=chunks())

    with pytest.raises(ResultCorrupt, match="more than"):
        download(Script([endless], size=12), RUN_ID, path)
    assert len(read) == 6 * 3


def test_no_announced_size(sandbox, hook, result, download, path, good):
    """Without an announced size, a complete answer is accepted."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"result": {"file": {"size": None}}})))
    good(download(hook, run_id, path))


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = {
    "length": OK + b"Content-Length: 4\r\n\r\nabcd",
    "length, and more": OK + b"Content-Length: 4\r\n\r\nabcdefgh",
    "chunks": CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
    "chunks and a trailer": CHUNKED + b"4;x=y\r\nabcd\r\n0\r\nA: b\r\n\r\n",
}
UNTIL_IT_CLOSES = {
    "1.1": OK + b"\r\nabcd",
    "1.0": b"HTTP/1.0 200 OK\r\n\r\nabcd",
    "no number": OK + b"Content-Length: four\r\n\r\nabcd",
    "below zero": OK + b"Content-Length: -4\r\n\r\nabcd",
}
CUT_SHORT = {
    "length": OK + b"Content-Length: 4\r\n\r\nabc",
    "no last chunk": CHUNKED + b"4\r\nabcd\r\n",
    "chunk cut": CHUNKED + b"4\r\nabc",
    "chunk without an end": CHUNKED + b"4\r\nabcd",
    "no size of a chunk": CHUNKED + b"4\r\nabcd\r\nxyz\r\n",
    "chunk below zero": CHUNKED + b"-4\r\nabcd\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
}


def spoken(answers, size=None):
    """Return a source with the answers of a server; by default it announces no size."""
    return Spoken(spoken=list(answers), size=size, access=LOOPBACK)


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_a_body_whose_end_is_certain_is_whole(download, path, caplog, answer):
    """Without an announced size the file's host decides its end, and the log says so."""
    assert download(spoken([answer]), RUN_ID, path).size == 4
    assert path.read_bytes() == b"abcd"
    assert "whose size the API did not announce" in caplog.text


@pytest.mark.parametrize("answer", UNTIL_IT_CLOSES.values(), ids=UNTIL_IT_CLOSES)
def test_a_body_that_ends_when_the_connection_does(download, path, waits, answer):
    """A body whose end is uncertain is accepted only if a size was announced."""
    source = spoken([answer])
    with pytest.raises(ResultCorrupt, match="does not say where it ends") as caught:
        download(source, RUN_ID, path)
    assert caught.value.transient
    assert len(waits) == 5
    assert download(spoken([answer], size=4), RUN_ID, path).size == 4


@pytest.mark.parametrize("size", [None, 4], ids=["nothing announced", "announced"])
@pytest.mark.parametrize("answer", CUT_SHORT.values(), ids=CUT_SHORT)
def test_a_body_that_was_cut_is_never_whole(download, path, answer, size):
    """After an interruption the next attempt succeeds; without one, the download fails."""
    assert download(spoken([answer, WHOLE["length"]], size), RUN_ID, path).size == 4
    assert path.read_bytes() == b"abcd"
    with pytest.raises(TransportError):
        download(spoken([answer]), RUN_ID, path)


@pytest.mark.parametrize("size", ["", "four", "-4", "4.0", 4.5, True, [4], "9" * 5_000, "\u0664"])
def test_a_size_that_cannot_be_read_is_none(sandbox, hook, result, download, path, size, caplog):
    """With an invalid size, the file is complete, and the log says what decided that."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"result": {"file": {"size": size}}}), times=None))
    assert download(hook, run_id, path).size == len(BODY)
    assert "whose size the API did not announce" in caplog.text
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    assert download(hook, run_id, path).size == len(BODY)


@pytest.mark.parametrize("size", [len(BODY), str(len(BODY))], ids=["number", "text"])
def test_a_size_is_a_number_or_a_text(sandbox, hook, result, download, path, good, size):
    """Older versions of the API send a number."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"result": {"file": {"size": size}}})))
    good(download(hook, run_id, path))


def test_a_size_of_zero(sandbox, hook, result, download, path):
    """With an announced size of 0, an empty file is complete, and any other is refused."""
    assert download(hook, result(b""), path).size == 0
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"result": {"file": {"size": 0}}}), times=None))
    with pytest.raises(ResultCorrupt, match="announced 0"):
        download(hook, run_id, path)


FIRST = OK + b'Content-Length: 4\r\nETag: "1"\r\n\r\nab'
REST = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n"
OTHER_PARTS = {
    "another entity": REST + b'ETag: "2"\r\nContent-Range: bytes 2-3/4\r\n\r\nXY',
    "a weak one": REST + b'ETag: W/"1"\r\nContent-Range: bytes 2-3/4\r\n\r\nXY',
    "no entity": REST + b"Content-Range: bytes 2-3/4\r\n\r\nXY",
    "another total": REST + b'ETag: "1"\r\nContent-Range: bytes 2-3/5\r\n\r\nXY',
    "an unknown total": REST + b'ETag: "1"\r\nContent-Range: bytes 2-3/*\r\n\r\nXY',
    "no range": REST + b'ETag: "1"\r\n\r\nXY',
    "another start": REST + b'ETag: "1"\r\nContent-Range: bytes 1-3/4\r\n\r\nXY',
    "not the rest": REST + b'ETag: "1"\r\nContent-Range: bytes 2-2/4\r\n\r\nXY',
    "digits without end": REST
    + b'ETag: "1"\r\nContent-Range: bytes 2-3/%s\r\n\r\nXY' % (b"4" * 5000),
    "other units": REST + b'ETag: "1"\r\nContent-Range: items 2-3/4\r\n\r\nXY',
}


@pytest.mark.parametrize("size", [None, 4], ids=["nothing announced", "announced"])
@pytest.mark.parametrize("part", OTHER_PARTS.values(), ids=OTHER_PARTS)
def test_a_part_of_another_file_is_thrown_away(download, path, part, size):
    """A download is resumed only if entity and total size are the same."""
    source = spoken([FIRST, part, WHOLE["length"]], size)
    assert download(source, RUN_ID, path).size == 4
    assert path.read_bytes() == b"abcd"
    assert [b"Range: bytes=2-" in request for request in source.requests] == [False, True, False]


@pytest.mark.parametrize("size", [None, 4], ids=["nothing announced", "announced"])
def test_the_rest_of_the_same_file_is_taken(download, path, size):
    """The unit of a range may be uppercase."""
    part = REST + b'ETag: "1"\r\nContent-Range: Bytes 2-3/4\r\n\r\ncd'
    assert download(spoken([FIRST, part], size), RUN_ID, path).size == 4
    assert path.read_bytes() == b"abcd"


def test_a_size_that_changes_between_attempts(download, path):
    """If the announced size changes, the download starts again."""
    rest = REST + b'ETag: "1"\r\nContent-Range: bytes 2-3/4\r\n\r\nXY'
    longer = OK + b"Content-Length: 6\r\n\r\nabcdef"
    source = spoken([FIRST, rest, longer], size=6)
    assert download(source, RUN_ID, path).size == 6
    assert path.read_bytes() == b"abcdef"


def test_an_encoding_of_the_transfer_is_refused(download, path):
    """A compressed answer is refused."""
    packed = OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
    with pytest.raises(UnexpectedAnswer, match="in encoding gzip"):
        download(spoken([packed], size=4), RUN_ID, path)


HEADER_PARTS = (
    "", " ", "bytes", "bytes=", "-", "/", "*", "0", "2", "3", "4", "-1", "9" * 5_000, '"', '"1"',
    "W/", "\x00", "\x7f", "\xff", "\u0661", ",", ";", "gzip", "chunked", "identity", "text/html",
)  # fmt: skip
FUZZED = ("Content-Range", "ETag", "Content-Length", "Content-Encoding", "Content-Type",
          "Transfer-Encoding", "Location")  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_whatever_headers_say(tmp_path, seed):
    """Thousands of answers with random headers are complete, or raise an error of this package."""
    rng = random.Random(seed)  # noqa: S311 - made-up headers
    path = tmp_path / "staged"
    whole = 0

    def headers():
        some = rng.sample(FUZZED, rng.randint(0, 3))
        return {name: "".join(rng.choices(HEADER_PARTS, k=rng.randint(0, 4))) for name in some}

    def answer():
        status = rng.choice([200, 200, 206, 206, 302, 416])
        body = rng.choice([b"abcd", b"ab", b"cd", b""])
        fails = rng.choice([None, TransportError("cut")])
        good = {"ETag": '"1"', "Content-Range": "bytes 2-3/4"} if rng.random() < 0.5 else {}
        return stream(body, status=status, fails=fails, **good | headers())

    for _ in range(400):
        size = rng.choice([None, 4])
        source = Script([answer], size=size)
        try:
            facts = downloads_module.download(source, RUN_ID, path, sleep=lambda _: None)
        except ReportRunError:
            continue
        whole += 1
        assert facts.size == path.stat().st_size == (size or facts.size)
    assert whole


@pytest.mark.parametrize("seed", range(2))
def test_whatever_a_host_speaks(tmp_path, seed):
    """Answers with changed bytes are complete, or raise an error of this package."""
    rng = random.Random(seed)  # noqa: S311 - made-up answers
    path = tmp_path / "staged"
    good = [*WHOLE.values(), *CUT_SHORT.values(), *OTHER_PARTS.values(), FIRST]
    policy = RetryPolicy(attempts=3)

    def mutated(answer):
        answer = bytearray(answer)
        for _ in range(rng.randint(0, 3)):
            at = rng.randrange(len(answer))
            answer[at : at + rng.randint(0, 2)] = rng.choices(b'\r\n:;"/-0149aX \x00\xff', k=1)
        return bytes(answer)

    for _ in range(150):
        answers = [mutated(rng.choice(good)) for _ in range(3)]
        source = spoken(answers, size=4)
        try:
            downloads_module.download(source, RUN_ID, path, policy=policy, sleep=lambda _: None)
        except ReportRunError:
            continue
        assert len(path.read_bytes()) == 4


HTML = Answer(status=200, body="<html>proxy</html>", content_type="text/html; charset=utf-8")


@pytest.mark.parametrize(
    "answer",
    [
        Delivery(expired=True),
        Answer(status=401),
        Answer(status=500),
        Answer(status=503, body="<html>", content_type="text/html"),
        Answer(status=429),
        HTML,
        Answer(status=200, body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    ],
    ids=["expired", "401", "500", "503", "429", "html", "gzip"],
)
def test_what_may_pass_is_tried_again(
    sandbox, hook, result, download, path, good, downloads, answer, waits
):
    """Each attempt has a fresh URL, so an expired one does no harm."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", answer))
    good(download(hook, run_id, path))
    first, second = downloads()
    assert first.query != second.query
    assert len(waits) == 1


def test_a_url_that_expires_during_the_download(
    sandbox, hook, result, download, path, good, downloads
):
    """After an interruption and a 403, the download is resumed."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    sandbox.faults.add(Fault("download", Delivery(expired=True)))
    good(download(hook, run_id, path))
    assert statuses(downloads()) == [200, 403, 206]
    assert downloads()[2].headers["range"] == f"bytes={CUT}-"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Delivery(expired=True), UnexpectedAnswer, "Check any proxy.*403.*five minutes"),
        (Answer(status=500), ServerError, "try again later.*500"),
        (HTML, UnexpectedAnswer, "proxy.*text/html"),
        (Answer(status=400), UnexpectedAnswer, "Check any proxy.*400"),
        (Refuse(), TransportError, "127.0.0.1"),
    ],
    ids=["403", "500", "html", "400", "cut"],
)
def test_what_does_not_pass_is_refused(
    sandbox, hook, result, land, folder, downloads, answer, kind, words
):
    """After six attempts the error names the answer, and nothing is published."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", answer, times=None))
    with pytest.raises(kind, match=words) as caught:
        land(hook, run_id, folder.destination("report.csv"))
    assert caught.value.transient
    assert "X-Amz" not in str(caught.value)
    assert folder.files() == {}
    assert len(downloads()) == 6


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_is_gone_is_not_asked_for_again(
    sandbox, hook, result, download, path, downloads, status
):
    """A result that no longer exists fails the download at once, with advice."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Answer(status=status)))
    with pytest.raises(NotFound, match="Clear the task"):
        download(hook, run_id, path)
    assert len(downloads()) == 1


# Led astray


def local_name(sandbox, url):
    """Return the same URL with another name of this machine."""
    return url.replace(f"127.0.0.1:{sandbox.port}", f"localhost:{sandbox.port}")


def redirect(sandbox, url, times=1):
    """Return a fault that redirects."""
    answer = Answer(status=302, headers={"Location": url})
    sandbox.faults.add(Fault("download", answer, times=times))


def test_a_redirect_to_the_same_host_is_followed(
    sandbox, hook, result, download, path, good, downloads
):
    """Redirects, also relative ones, are followed without the key."""
    run_id = result(BODY)
    url = hook.get_report_run(run_id).file.url.reveal()
    redirect(sandbox, "/" + url.split("/", 3)[3])
    good(download(hook, run_id, path))
    assert len(downloads()) == 2
    assert all("authorization" not in request.headers for request in downloads())


def test_a_redirect_to_an_allowed_host_is_followed(
    sandbox, result, download, path, good, monkeypatch
):
    """A host in download_hosts may serve result files."""
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook

    run_id = result(BODY)
    uri = f"{sandbox.connection_uri}?download_hosts=LOCALHOST"
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", uri)
    with ReportRunHook() as hook:
        redirect(sandbox, local_name(sandbox, hook.get_report_run(run_id).file.url.reveal()))
        good(download(hook, run_id, path))


def test_a_redirect_to_another_host_is_refused(sandbox, hook, result, download, path, downloads):
    """The error names the host but not the URL, and no request is sent there."""
    run_id = result(BODY)
    redirect(sandbox, local_name(sandbox, hook.get_report_run(run_id).file.url.reveal()))
    with pytest.raises(DownloadRefused, match=r"download_hosts.*localhost") as caught:
        download(hook, run_id, path)
    assert caught.value.host == "localhost"
    assert "X-Amz" not in str(caught.value)
    assert len(downloads()) == 1


def test_a_url_of_another_host_is_refused(sandbox, hook, result, download, path, downloads):
    """The host of the API's own URL is checked too."""
    run_id = result(BODY)
    elsewhere = {"download_url": {"url": "https://stripe.com.example/r.csv"}}
    sandbox.faults.add(Fault("get_run", Patch({"result": {"file": elsewhere}})))
    with pytest.raises(DownloadRefused, match=r"stripe\.com\.example"):
        download(hook, run_id, path)
    assert downloads() == []


def test_redirects_come_to_an_end(sandbox, hook, result, download, path, downloads):
    """Endless redirects are refused."""
    run_id = result(BODY)
    redirect(sandbox, "/files/circle", times=None)
    with pytest.raises(DownloadRefused, match="more than 5 times"):
        download(hook, run_id, path)
    assert len(downloads()) == 6


@pytest.mark.parametrize(
    "url",
    [
        "http://files.stripe.com/r.csv",
        "ftp://files.stripe.com/r.csv",
        "https://files.stripe.com.example/r.csv",
        "https://notstripe.com/r.csv",
        "https://files.stripe.com@example.com/r.csv",
        "https://example.com\\@files.stripe.com/r.csv",
        "https://files.stripe.com\\.example.com/r.csv",
        "https://example.com\t@files.stripe.com/r.csv",
        "https://files.stripe.com\n.example.com/r.csv",
        " https://files.stripe.com/r.csv",
        "https://somebody@files.stripe.com/r.csv",
        "https://files%2estripe.com/r.csv",
        "https://\uff46iles.stripe.com/r.csv",
        "https:files.stripe.com/r.csv",
        "https:///files.stripe.com/r.csv",
        "file:///etc/passwd",
        "//example.com/r.csv",
        "r.csv",
    ],
)
def test_urls_that_are_refused(download, path, url):
    """Only https URLs of allowed hosts are opened."""
    script = Script([lambda: stream(b"a")], size=1, url=url)
    with pytest.raises(DownloadRefused):
        download(script, RUN_ID, path)
    assert script.asked == []


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://FILES.STRIPE.COM/r.csv",
        "https://stripe.com/r.csv",
        "https://files.stripeusercontent.com/r.csv",
        "https://api.stripe.com:443/r.csv",
        "https://files.stripe.com?r=1",
        "HTTPS://files.stripe.com./r.csv",
    ],
)
def test_urls_that_are_followed(download, path, url):
    """Result files come from Stripe's own hosts."""
    script = Script([lambda: stream(b"a")], size=1, url=url)
    assert download(script, RUN_ID, path).size == 1


def test_a_redirect_away_from_https_is_refused(download, path):
    """An http URL of an allowed host is refused, and no request is sent."""
    script = Script([lambda: stream(status=302, Location="http://files.stripe.com/r.csv")], size=1)
    with pytest.raises(DownloadRefused, match=r"files\.stripe\.com over http, not https") as caught:
        download(script, RUN_ID, path)
    assert caught.value.host == "files.stripe.com"
    assert {url for url, _ in script.asked} == {URL}


@pytest.mark.parametrize("location", ["http://[::1/x", "https://files.stripe.com:port/", ""])
def test_a_redirect_to_nowhere_is_refused(download, path, location):
    """A redirect that cannot be read raises DownloadRefused."""
    script = Script([lambda: stream(status=302, Location=location)], size=1)
    with pytest.raises(DownloadRefused):
        download(script, RUN_ID, path)
    assert {url for url, _ in script.asked} == {URL}


def test_plain_http_is_for_the_sandbox_alone(download, path):
    """If the API is on loopback over http, its host may serve files over http."""
    script = Script([lambda: stream(b"a")], size=1, url="http://127.0.0.1:2/f", access=LOOPBACK)
    assert download(script, RUN_ID, path).size == 1


def test_two_readings_of_a_url_are_no_way_around(sandbox, result, download, path, monkeypatch):
    """A redirect that requests reads differently than the check does is refused."""
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook

    run_id = result(BODY)
    monkeypatch.setenv("AIRFLOW_CONN_IMPATIENT", sandbox.connection_uri + "?request_timeout=0.2")
    with (
        socket.create_server(("127.0.0.1", 0)) as elsewhere,
        ReportRunHook("impatient") as hook,
    ):
        port = elsewhere.getsockname()[1]
        redirect(sandbox, f"http://localhost:{port}\\@127.0.0.1:{sandbox.port}/x", times=None)
        with pytest.raises(DownloadRefused):
            download(hook, run_id, path)


# The key


def test_the_key_stays_away_from_the_file_host(
    sandbox, hook, result, download, path, good, downloads, monkeypatch, tmp_path
):
    """Requests for files contain no key, no header of the API and no login from a netrc file."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    url = hook.get_report_run(run_id).file.url.reveal()
    redirect(sandbox, url)
    good(download(hook, run_id, path))
    seen = [request.headers for request in downloads()]
    assert len(seen) == 3
    assert all(sandbox.api_key not in str(headers) for headers in seen)
    assert not any(
        name == "authorization" or name.startswith("stripe-")
        for headers in seen
        for name in headers
    )


# Report runs without a result


def test_a_failed_report_run_is_refused(sandbox, hook, download, path, result):
    """The error contains the API's reason, and no file is requested."""
    sandbox.fail_next(error_code="internal_error")
    run_id = result(BODY)
    with pytest.raises(ReportRunFailed, match="internal_error"):
        download(hook, run_id, path)


def test_a_running_report_run_is_refused(sandbox, hook, download, path, result):
    """The error names status and fix, and is transient."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None})))
    with pytest.raises(UnexpectedAnswer, match=r"sensor.*'running'") as caught:
        download(hook, run_id, path)
    assert caught.value.transient
    assert caught.value.report_run_id == run_id


@pytest.mark.parametrize("result_", [None, {"file": None}, {"file": {"download_url": None}}])
def test_a_succeeded_report_run_without_a_file_is_refused(
    sandbox, hook, download, path, result, result_
):
    """A succeeded report run without a file raises UnexpectedAnswer."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"result": result_})))
    with pytest.raises(UnexpectedAnswer, match="no result to download"):
        download(hook, run_id, path)


def test_another_report_run_is_refused(sandbox, hook, download, path, result, downloads, waits):
    """An answer about another report run, as from a cache, is repeated and never landed."""
    run_id, other = result(BODY), result(b"other")
    sandbox.faults.add(Fault("get_run", Patch({"id": other}), match=run_id, times=None))
    with pytest.raises(UnexpectedAnswer, match=f"another report run, '{other}'") as caught:
        download(hook, run_id, path)
    assert caught.value.transient
    assert downloads() == []
    sandbox.faults.clear()
    sandbox.faults.add(Fault("get_run", Patch({"id": other}), match=run_id))
    assert download(hook, run_id, path).report_run_id == run_id


def test_an_unknown_report_run_is_refused(hook, download, path):
    """The API's error reaches the caller."""
    with pytest.raises(NotFound):
        download(hook, "reprun_none", path)


# What is written


def test_long_downloads_report_progress(caplog):
    """Bytes, percentage and speed are logged every ten seconds at most."""
    caplog.set_level(logging.INFO)
    progress = downloads_module._Progress()
    progress.report(1_000_000, 4_000_000)
    assert caplog.messages == []
    progress._said -= downloads_module.PROGRESS_SECONDS
    progress._began -= downloads_module.PROGRESS_SECONDS
    progress.report(2_000_000, 4_000_000)
    progress.report(3_000_000, 4_000_000)
    assert caplog.messages == ["Downloaded 2.0 MB of 4.0 MB (50%), 0.2 MB/s"]


def test_progress_without_a_size(caplog):
    """Without an announced size, the percentage is left out."""
    caplog.set_level(logging.INFO)
    progress = downloads_module._Progress()
    progress._said -= downloads_module.PROGRESS_SECONDS
    progress.report(2_000_000, None)
    assert "of unknown" in caplog.text
