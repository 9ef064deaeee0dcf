"""Results that are sent to a store while they are received."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from landing.sources import RUN_ID, Script, serving, stream
from support.cases import BODY

from airflow_provider_reportrun.errors import LandingFailed, ResultCorrupt, TransportError
from airflow_provider_reportrun.landing.uploads import CutOffError, Pipe, Upload

OLD = b"a,b\nold,0\n"
MIB = 1 << 20
LARGE = b"".join(b"%07d\n" % number for number in range(3 << 20))
"""24 MiB: an upload of several parts in every store."""
SENT = 18 * MIB
"""How much of it every store has received at least one part of."""
LIMIT = 180.0
"""The longest time that a step may take, in seconds."""
CUT = TransportError("cut off", transient=True)
KILLED = """
import sys, time
from landing.sources import RUN_ID, Script, stream
from airflow_provider_reportrun.landing.destination import Destination
from airflow_provider_reportrun.landing.land import land

def blocks():
    for _ in range(24):
        yield bytes(1 << 20)
    print("waits", flush=True)
    time.sleep(600)

uri, owner, spool = sys.argv[1:]
answer = stream()
object.__setattr__(answer, "chunks", blocks())
source = Script([lambda: answer], size=30 << 20)
land(Destination(uri=uri, spool_dir=spool, owner=owner), source, RUN_ID)
"""


def blocks(body: bytes) -> list[bytes]:
    """Return a body in blocks of 1 MiB."""
    return [body[at : at + MIB] for at in range(0, len(body), MIB)]


@pytest.fixture(
    params=["s3", *(pytest.param(name, marks=pytest.mark.stores) for name in ("azure", "gcs"))]
)
def sending(request):
    """Return each kind of store that results are sent to at once."""
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Check that no thread is left."""
    ours = ("reportrun-sha256", "reportrun-upload")
    yield
    assert [each for each in threading.enumerate() if each.name.startswith(ours)] == []


# Stores


def test_a_kill_in_mid_download(sending, land):
    """A kill while parts are uploaded leaves the old file; the next try removes the parts."""
    sending.put("report.csv", OLD)
    arguments = [sending.destination("report.csv"), land.owner, str(land.spool)]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", KILLED, *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
    ) as process:
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        try:
            assert any(b"waits" in line for line in process.stdout)
        finally:
            timer.cancel()
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert sending.files() == {"report.csv": OLD}
    land(serving(BODY), RUN_ID, sending.destination("report.csv"))
    assert sending.files() == {"report.csv": BODY}
    assert sending.open_uploads() == 0


def test_nothing_is_written_to_the_disk(sending, land):
    """The spool stays empty, and the file is not visible before its end."""
    seen = []

    def body() -> Iterator[bytes]:
        for number, block in enumerate(blocks(LARGE)):
            if number % 6 == 5:
                seen.append((list(land.spool.iterdir()), sending.files()))
            yield block

    answer = stream()
    object.__setattr__(answer, "chunks", body())
    source = Script([lambda: answer], size=len(LARGE))
    landing = land(source, RUN_ID, sending.destination("report.csv"))
    assert seen == [([], {})] * 4
    assert sending.files() == {"report.csv": LARGE}
    assert landing.size == len(LARGE)


def test_a_resumed_download_continues_its_upload(sending, land):
    """A download that is cut off and resumed lands the whole file."""
    rest = f"bytes {SENT}-{len(LARGE) - 1}/{len(LARGE)}"
    source = Script(
        [
            lambda: stream(*blocks(LARGE[:SENT]), fails=CUT, ETag='"1"'),
            lambda: stream(*blocks(LARGE[SENT:]), status=206, ETag='"1"', Content_Range=rest),
        ],
        size=len(LARGE),
    )
    land(source, RUN_ID, sending.destination("report.csv"))
    assert sending.files() == {"report.csv": LARGE}
    assert sending.open_uploads() == 0


def test_a_download_from_the_beginning_starts_its_upload_again(sending, land):
    """If a download cannot be resumed, what was uploaded of it is discarded."""
    other = bytes(reversed(LARGE))
    source = Script(
        [lambda: stream(*blocks(other[:SENT]), fails=CUT), lambda: stream(*blocks(LARGE))],
        size=len(LARGE),
    )
    land(source, RUN_ID, sending.destination("report.csv"))
    assert sending.files() == {"report.csv": LARGE}
    assert sending.open_uploads() == 0


def test_a_file_that_is_not_as_announced_is_discarded(sending, land):
    """If the size is wrong at the end, the old file is kept and no upload is open."""
    sending.put("report.csv", OLD)
    source = Script([lambda: stream(*blocks(LARGE[:-1]))], size=len(LARGE))
    with pytest.raises(ResultCorrupt):
        land(source, RUN_ID, sending.destination("report.csv"))
    assert sending.files() == {"report.csv": OLD}
    assert sending.open_uploads() == 0


def test_an_interrupted_download_is_discarded(sending, land):
    """If Airflow raises during a download, the old file is kept and no upload is open."""
    sending.put("report.csv", OLD)

    class TaskTimeout(BaseException):
        """Like Airflow's."""

    source = Script([lambda: stream(*blocks(LARGE[:SENT]), fails=TaskTimeout())], size=len(LARGE))
    with pytest.raises(TaskTimeout):
        land(source, RUN_ID, sending.destination("report.csv"))
    assert sending.files() == {"report.csv": OLD}
    assert sending.open_uploads() == 0


# Uploads and pipes


@contextmanager
def uploading(send: Callable[[Pipe], None]) -> Iterator[tuple[Upload, list[int]]]:
    """Return an upload with a function that sends, and the sizes that were checked."""
    sizes: list[int] = []
    with Upload("report.csv", send, sizes.append) as upload:
        yield upload, sizes


def test_a_store_that_fails_ends_the_download():
    """The error of the store is raised by a write, however much is still to come."""

    def send(source: Pipe) -> None:
        source.read(10)
        raise LandingFailed("full")

    def write_all(upload: Upload) -> None:
        for _ in range(1000):
            upload.write(b"0123456789")

    with uploading(send) as (upload, sizes), pytest.raises(LandingFailed, match="full"):
        write_all(upload)
    assert sizes == []


def test_a_store_that_fails_at_the_end():
    """The error of the store is raised by ``complete``."""

    def send(source: Pipe) -> None:
        source.read()
        raise LandingFailed("full")

    with uploading(send) as (upload, sizes):
        upload.write(b"0123456789")
        with pytest.raises(LandingFailed, match="full"):
            upload.complete(10)
    assert sizes == []


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 100, -1])
def test_a_pipe_is_a_file(size):
    """What is read is what was written, and only the last read is short."""
    read: list[bytes] = []

    def send(source: Pipe) -> None:
        while part := source.read(size):
            read.append(part)
        assert source.read(size) == b""

    with uploading(send) as (upload, sizes):
        for _ in range(25):
            upload.write(b"abcd")
        upload.complete(100)
    assert b"".join(read) == b"abcd" * 25
    assert {len(part) for part in read[:-1]} <= {size}
    assert sizes == [100]


def test_a_file_without_bytes():
    """A file of 0 bytes is sent too."""
    sent = []
    with uploading(lambda source: sent.append(source.read())) as (upload, sizes):
        upload.complete(0)
    assert (sent, sizes) == ([b""], [0])


def test_a_reader_never_sees_an_end_that_is_none():
    """The reader of a discarded upload fails, and what else is to cancel is canceled once."""
    ends: list[object] = []

    def send(source: Pipe) -> None:
        source.on_cut(lambda: ends.append("canceled"))
        try:
            ends.append(source.read())
        except CutOffError:
            ends.append("cut")
            raise

    with uploading(send) as (upload, sizes):
        upload.write(b"a")
        upload.restart()
        upload.write(b"b")
        upload.restart()
    assert sorted(ends) == ["canceled", "canceled", "cut", "cut"]
    assert sizes == []


def test_what_is_to_cancel_may_come_late():
    """A cut before ``on_cut`` cancels at once."""
    pipe, ends = Pipe(), []
    pipe.cut()
    pipe.on_cut(lambda: ends.append("canceled"))
    assert ends == ["canceled"]
