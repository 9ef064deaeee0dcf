"""Downloads that are cut, wrong, expired or led astray."""

from __future__ import annotations

import hashlib
import logging
import socket
from functools import partial

import pytest
from landing.sources import RUN_ID, URL, Script, stream

from airflow_provider_reportrun.connection import ApiAccess
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
"""3.2 MB, of which no two lines are alike."""
CUT = 2_500_000
LOOPBACK = ApiAccess(conn_id="c", api_key="rk_test_1", base_url="http://127.0.0.1:1")


@pytest.fixture
def path(tmp_path):
    """A file to download into."""
    return tmp_path / "staged"


@pytest.fixture
def download(waits):
    """Download without sleeping."""
    return partial(downloads_module.download, sleep=waits.append)


@pytest.fixture
def good(path):
    """Check that what was downloaded is whole."""

    def check(facts):
        assert path.read_bytes() == BODY
        assert (facts.size, facts.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())

    return check


def statuses(requests):
    """The statuses of requests."""
    return [request.status for request in requests]


# Cut off


def test_a_cut_is_resumed(sandbox, hook, result, download, path, good, downloads, waits):
    """The next request asks for the rest of the same file, with a fresh URL, once."""
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
    """A reset, which may take away what was sent before it, costs one more attempt."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT, reset=True)))
    good(download(hook, run_id, path))
    assert len(downloads()) == 2


@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
@pytest.mark.parametrize("after", [0, 1, 65_535, 1_048_576, len(BODY) - 1])
def test_a_cut_at_any_byte(sandbox, hook, result, download, path, good, downloads, after, reset):
    """Wherever the connection ends, from the first byte to the last but one, the file is whole."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=after, reset=reset)))
    good(download(hook, run_id, path))
    assert len(downloads()) == 2


def test_many_cuts_are_resumed(sandbox, hook, result, download, path, good, downloads, waits):
    """As long as each attempt brings more, attempts are not counted."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=300_000), times=None))
    good(download(hook, run_id, path))
    assert len(downloads()) == 11
    assert max(waits) <= 1.0


def test_a_cut_without_ranges_restarts(sandbox, hook, result, download, path, good, downloads):
    """A server that has no ETag is asked for all of it again."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT, ranges=False)))
    good(download(hook, run_id, path))
    assert ["range" in request.headers for request in downloads()] == [False, False]


def test_a_server_that_forgets_ranges_restarts(
    sandbox, hook, result, download, path, good, downloads
):
    """A whole answer to a request for a part is taken from the start."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    sandbox.faults.add(Fault("download", Delivery(ranges=False)))
    good(download(hook, run_id, path))
    assert statuses(downloads()) == [200, 200]


def test_another_file_in_between_restarts(sandbox, hook, result, download, path, good, downloads):
    """What arrived of a file that was changed since is thrown away."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT, corrupt_at=5, etag='"former"')))
    good(download(hook, run_id, path))
    first, second = downloads()
    assert second.headers["if-range"] == '"former"'
    assert (first.status, second.status) == (200, 200)


def test_a_weak_etag_proves_nothing(download, path):
    """After a cut of a file with a weak ETag, all of it is asked for again."""
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
    """A part that begins elsewhere than asked for is not put behind what arrived."""
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
    """Who calls says how often to try, and how to wait."""
    script = Script([lambda: stream(fails=TransportError("cut"))])
    policy = RetryPolicy(attempts=3, first_delay_seconds=2.0, longest_delay_seconds=2.0)
    with pytest.raises(TransportError):
        downloads_module.download(script, RUN_ID, path, policy=policy, sleep=waits.append)
    assert len(script.asked) == 3
    assert len(waits) == 2
    assert all(1.0 <= seconds <= 2.0 for seconds in waits)


def test_a_part_that_nobody_asked_for_is_no_file(download, path):
    """A first answer that holds a part is refused, even where no size was announced."""
    script = Script([lambda: stream(b"ab", status=206, Content_Range="bytes 0-1/4")])
    with pytest.raises(ReportRunError):
        download(script, RUN_ID, path)


def test_an_unsatisfiable_range_restarts(sandbox, hook, result, download, path, good, downloads):
    """Nothing is left behind what arrived, so all of it is asked for again."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(announce=len(BODY) + 10)))
    good(download(hook, run_id, path))
    assert statuses(downloads()) == [200, 416, 200]


@pytest.mark.parametrize("action", [LoseAnswer(), Refuse(reset=True)], ids=["lost", "reset"])
def test_no_answer_is_tried_again(sandbox, hook, result, download, path, good, action):
    """A connection that ends before an answer is opened again."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", action))
    good(download(hook, run_id, path))


def test_a_silent_server_is_given_up_on(sandbox, result, download, path, good, monkeypatch, waits):
    """A body that stops coming for longer than request_timeout is resumed."""
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
    """Bytes that do not add up to what the API announced are thrown away, once."""
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
    """After six attempts the error names both sizes, and nothing was published."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", delivery, times=None))
    with pytest.raises(ResultCorrupt, match=words) as caught:
        land(hook, run_id, folder.destination("report.csv"))
    assert f"announced {len(BODY)}" in str(caught.value)
    assert "Nothing was published; download it anew" in str(caught.value)
    assert folder.files() == {}
    assert len(downloads()) == 6
    assert len(waits) == 5


def test_no_more_is_read_than_announced(download, path):
    """A host that goes on without end is left after what was announced."""
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
    """Where the API announces no size, what came whole is taken."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"result": {"file": {"size": None}}})))
    good(download(hook, run_id, path))


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
    """Each attempt has a URL of its own, so that an expired one is no matter."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", answer))
    good(download(hook, run_id, path))
    first, second = downloads()
    assert first.query != second.query
    assert len(waits) == 1


def test_a_url_that_expires_during_the_download(
    sandbox, hook, result, download, path, good, downloads
):
    """After a cut and a 403 the download goes on where it was."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    sandbox.faults.add(Fault("download", Delivery(expired=True)))
    good(download(hook, run_id, path))
    assert statuses(downloads()) == [200, 403, 206]
    assert downloads()[2].headers["range"] == f"bytes={CUT}-"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Delivery(expired=True), UnexpectedAnswer, "403.*five minutes.*Check any proxy"),
        (Answer(status=500), ServerError, "500.*download its result later"),
        (HTML, UnexpectedAnswer, "text/html.*proxy"),
        (Answer(status=400), UnexpectedAnswer, "400.*Check any proxy"),
        (Refuse(), TransportError, "127.0.0.1"),
    ],
    ids=["403", "500", "html", "400", "cut"],
)
def test_what_does_not_pass_is_refused(
    sandbox, hook, result, land, folder, downloads, answer, kind, words
):
    """After six attempts the error says what came, and nothing was published."""
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
    """A result that is no longer there ends the download at once, with advice."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Answer(status=status)))
    with pytest.raises(NotFound, match="Clear the task"):
        download(hook, run_id, path)
    assert len(downloads()) == 1


# Led astray


def local_name(sandbox, url):
    """The same URL under another name of this machine."""
    return url.replace(f"127.0.0.1:{sandbox.port}", f"localhost:{sandbox.port}")


def redirect(sandbox, url, times=1):
    """Plan a redirect."""
    answer = Answer(status=302, headers={"Location": url})
    sandbox.faults.add(Fault("download", answer, times=times))


def test_a_redirect_to_the_same_host_is_followed(
    sandbox, hook, result, download, path, good, downloads
):
    """A redirect, a relative one too, leads on, without the key."""
    run_id = result(BODY)
    url = hook.get_report_run(run_id).file.url
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
        redirect(sandbox, local_name(sandbox, hook.get_report_run(run_id).file.url))
        good(download(hook, run_id, path))


def test_a_redirect_to_another_host_is_refused(sandbox, hook, result, download, path, downloads):
    """The host is named, the URL is not, and nobody asks there."""
    run_id = result(BODY)
    redirect(sandbox, local_name(sandbox, hook.get_report_run(run_id).file.url))
    with pytest.raises(DownloadRefused, match=r"localhost.*download_hosts") as caught:
        download(hook, run_id, path)
    assert caught.value.host == "localhost"
    assert "X-Amz" not in str(caught.value)
    assert len(downloads()) == 1


def test_a_url_of_another_host_is_refused(sandbox, hook, result, download, path, downloads):
    """What the API itself names is checked as well."""
    run_id = result(BODY)
    elsewhere = {"download_url": {"url": "https://stripe.com.example/r.csv"}}
    sandbox.faults.add(Fault("get_run", Patch({"result": {"file": elsewhere}})))
    with pytest.raises(DownloadRefused, match=r"stripe\.com\.example"):
        download(hook, run_id, path)
    assert downloads() == []


def test_redirects_come_to_an_end(sandbox, hook, result, download, path, downloads):
    """A circle of redirects is refused."""
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
    """Nothing is opened but https at a host of result files."""
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
    """An allowed host that is to be asked over http is named, and is not asked."""
    script = Script([lambda: stream(status=302, Location="http://files.stripe.com/r.csv")], size=1)
    with pytest.raises(DownloadRefused, match=r"files\.stripe\.com over http, not https") as caught:
        download(script, RUN_ID, path)
    assert caught.value.host == "files.stripe.com"
    assert {url for url, _ in script.asked} == {URL}


@pytest.mark.parametrize("location", ["http://[::1/x", "https://files.stripe.com:port/", ""])
def test_a_redirect_to_nowhere_is_refused(download, path, location):
    """A redirect that cannot be read ends in an error of ours."""
    script = Script([lambda: stream(status=302, Location=location)], size=1)
    with pytest.raises(DownloadRefused):
        download(script, RUN_ID, path)
    assert {url for url, _ in script.asked} == {URL}


def test_plain_http_is_for_the_sandbox_alone(download, path):
    """With an API on plain loopback, its own host may serve files over http."""
    script = Script([lambda: stream(b"a")], size=1, url="http://127.0.0.1:2/f", access=LOOPBACK)
    assert download(script, RUN_ID, path).size == 1


def test_two_readings_of_a_url_are_no_way_around(sandbox, result, download, path, monkeypatch):
    """A redirect that requests would read as another host than the check is refused."""
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
    """No request for a file carries the key, a header of the API, or a login of a netrc."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    url = hook.get_report_run(run_id).file.url
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
    """The error gives the API's own reason, and no file is asked for."""
    sandbox.fail_next(error_code="internal_error")
    run_id = result(BODY)
    with pytest.raises(ReportRunFailed, match="internal_error"):
        download(hook, run_id, path)


def test_a_running_report_run_is_refused(sandbox, hook, download, path, result):
    """The error names status and remedy, and may pass."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None})))
    with pytest.raises(UnexpectedAnswer, match=r"'running'.*ReportRunSensor") as caught:
        download(hook, run_id, path)
    assert caught.value.transient
    assert caught.value.report_run_id == run_id


@pytest.mark.parametrize("result_", [None, {"file": None}, {"file": {"download_url": None}}])
def test_a_succeeded_report_run_without_a_file_is_refused(
    sandbox, hook, download, path, result, result_
):
    """A success that has nothing to download is an error, no crash."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("get_run", Patch({"result": result_})))
    with pytest.raises(UnexpectedAnswer, match="no result to download"):
        download(hook, run_id, path)


def test_an_unknown_report_run_is_refused(hook, download, path):
    """The API's own answer reaches the caller."""
    with pytest.raises(NotFound):
        download(hook, "reprun_none", path)


# What is written


def test_long_downloads_report_progress(caplog):
    """Every ten seconds at most, bytes, share and speed are logged."""
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
    """Where no size was announced, the share is left out."""
    caplog.set_level(logging.INFO)
    progress = downloads_module._Progress()
    progress._said -= downloads_module.PROGRESS_SECONDS
    progress.report(2_000_000, None)
    assert "of unknown" in caplog.text
