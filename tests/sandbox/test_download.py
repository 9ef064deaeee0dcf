"""Downloads of result files."""

from __future__ import annotations

import pytest


@pytest.fixture
def url(client):
    """Return the URL of a finished run's file."""
    return client.url()


def test_whole(client, url):
    """A file arrives whole, with length, type and a strong ETag."""
    answer = client.download(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert answer.headers["Content-Type"] == "text/csv"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"].startswith('"')


def test_head(client, url):
    """HEAD returns the same headers and no body."""
    head, answer = client.download(url, "HEAD"), client.download(url)
    assert head.content == b""
    for name in ("Content-Length", "ETag", "Content-Type"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(
    ("asked", "part", "described"),
    [
        ("bytes=0-9", slice(0, 10), "bytes 0-9/{}"),
        ("bytes=100-", slice(100, None), "bytes 100-{last}/{}"),
        ("bytes=-7", slice(-7, None), "bytes {seventh}-{last}/{}"),
        ("bytes=5-999999999", slice(5, None), "bytes 5-{last}/{}"),
    ],
)
def test_ranges(client, url, asked, part, described):
    """A range is answered 206."""
    whole = client.download(url).content
    answer = client.download(url, Range=asked)
    size = len(whole)
    assert answer.status_code == 206
    assert answer.content == whole[part]
    assert answer.headers["Content-Range"] == described.format(
        size, last=size - 1, seventh=size - 7
    )


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=9-3", "lines=1-2", "bytes=0-1,4-5", "bytes"])
def test_no_range(client, url, asked):
    """Anything but a single range is answered with the whole file."""
    assert client.download(url, Range=asked).status_code == 200


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_unsatisfiable(client, url, asked):
    """A range after the end is answered 416, with the size."""
    size = len(client.download(url).content)
    answer = client.download(url, Range=asked)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_if_range(client, url):
    """If-Range with another ETag returns the whole file."""
    etag = client.download(url, "HEAD").headers["ETag"]
    assert client.download(url, Range="bytes=1-", If_Range=etag).status_code == 206
    assert client.download(url, Range="bytes=1-", If_Range='"other"').status_code == 200


def test_every_url_is_another(client):
    """Each GET of the run issues a new URL; all of them work."""
    run = client.finished()
    urls = {client.run(run["id"]).json()["result"]["file"]["download_url"]["url"] for _ in range(3)}
    assert len(urls) == 3
    assert {client.download(each).status_code for each in urls} == {200}


def test_expiry(client, sandbox, url):
    """A URL is valid for five minutes, then 403; a new GET of the run returns a valid one."""
    run_id = sandbox.runs[0].id
    sandbox.advance(290)
    assert client.download(url).status_code == 200
    sandbox.advance(11)
    answer = client.download(url)
    assert answer.status_code == 403
    assert "<Code>AccessDenied</Code>" in answer.text
    assert answer.headers["Content-Type"] == "application/xml"
    renewed = client.run(run_id).json()["result"]["file"]["download_url"]["url"]
    assert client.download(renewed).status_code == 200


def test_wrong_signature(client, url):
    """A URL that was changed in any way is answered 403."""
    for wrong in (url[:-1] + "~", url.split("?")[0], url.replace("us-west", "us-east"), url + "&a"):
        answer = client.download(wrong)
        assert answer.status_code == 403
        assert "SignatureDoesNotMatch" in answer.text


def test_url_in_another_way(client, url):
    """The signature covers the values, not their encoding."""
    assert client.download(url.replace("%2F", "/")).status_code == 200


def test_expiry_is_signed(client, url):
    """The expiry cannot be changed."""
    token = url.partition("X-Amz-Security-Token=")[2].partition("-")[0]
    assert client.download(url.replace(token, f"9{token}")).status_code == 403


@pytest.mark.parametrize("name", ["Authorization", "Stripe-Version", "Stripe-Context"])
def test_headers_that_do_not_belong(client, sandbox, url, name):
    """The API's headers are refused, and the request is recorded."""
    answer = client.download(url, **{name: "Bearer x"})
    assert answer.status_code == 400
    assert sandbox.requests[-1].operation == "download"
    assert sandbox.requests[-1].status == 400
    assert name.lower() in sandbox.requests[-1].headers


def test_forgotten_run(client, sandbox, url):
    """The file of a forgotten run is gone."""
    sandbox.reset()
    assert client.download(url).status_code == 404


def test_other_methods(client, url):
    """Nothing can be written to it."""
    assert client.download(url, "PUT").status_code == 404


def test_urls_are_remembered(sandbox, client):
    """Each issued URL is remembered, whether it was requested or not."""
    issued = [client.url(), client.url()]
    assert [url for url in sandbox.urls if url in issued] == issued
    sandbox.reset()
    assert sandbox.urls == []
