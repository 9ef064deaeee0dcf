"""The contract of all stores: land completely or not at all, and report it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from landing.sources import RUN_ID, Meanwhile, Script, serving, stream, zipped
from support.cases import BODY

from airflow_provider_reportrun.errors import InvalidInput, LandingExists, ResultCorrupt
from airflow_provider_reportrun.sandbox import Delivery, Fault

OLD = b"a,b\nolder and longer than what comes,0\n"
NESTED = {
    "2026/10/summary.csv": b"a\n1\n",
    "zahlungen_\u00e4\u00f6\u00fc \u6771\u4eac.csv": b"a\n2\n",
    "top.csv": b"",
}
LARGE = b"".join(b"%07d\n" % number for number in range(2_621_440))
"""20 MiB: an upload of several parts in every store."""
MID_UPLOAD = 18 << 20
LIMIT = 180.0
"""The longest time that a step may take, in seconds."""
KILLED = """
import sys
from landing.sources import RUN_ID, serving
from airflow_provider_reportrun.landing.destination import Destination
from airflow_provider_reportrun.landing.land import land

uri, owner, spool = sys.argv[1:]
destination = Destination(uri=uri, spool_dir=spool, owner=owner)
land(destination, serving(bytes(20 << 20)), RUN_ID)
"""


def sha256(body):
    """Return the hash in hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()


def damaged(body):
    """Return a ZIP whose last member has a wrong checksum."""
    at = body.rindex(BODY)
    return body[:at] + b"X" + body[at + 1 :]


# One file


def test_lands_a_file_and_tells_about_it(store, land, result, hook):
    """The file contains the bytes, and the facts are those of the report run."""
    run_id = result(BODY)
    landing = land(hook, run_id, store.destination("report.csv"))
    assert store.files() == {"report.csv": BODY}
    assert landing.as_json() == {
        "uri": store.uri("report.csv"),
        "size": len(BODY),
        "sha256": sha256(BODY),
        "content_type": "csv",
        "report_run_id": run_id,
        "report": "balance_summary",
        "report_parameters": {
            "interval_start": "2026-10-26T00:00:00.000Z",
            "interval_end": "2026-11-02T00:00:00.000Z",
        },
        "stripe_context": None,
        "livemode": False,
        "api": "v2.reporting",
        "interval_start": "2026-10-26T00:00:00.000Z",
        "interval_end": "2026-11-02T00:00:00.000Z",
        "members": [],
        "skipped": False,
    }
    assert landing.returned == store.uri("report.csv")
    assert land.is_clean


def test_replaces_what_stands_there(store, land, result, hook):
    """By default the new file replaces the old one."""
    store.put("report.csv", OLD)
    land(hook, result(BODY), store.destination("report.csv"))
    assert store.files() == {"report.csv": BODY}


def test_lands_twice(store, land, result, hook):
    """A second try of the same task lands the same file again."""
    run_id = result(BODY)
    first = land(hook, run_id, store.destination("report.csv"))
    assert land(hook, run_id, store.destination("report.csv")) == first
    assert store.files() == {"report.csv": BODY}


def test_skip_keeps_what_stands_there(store, land, result, hook, sandbox):
    """With skip, an existing file is reported without a report run, and no request is sent."""
    store.put("report.csv", OLD)
    run_id = result(BODY)
    before = len(sandbox.requests)
    landing = land(hook, run_id, store.destination("report.csv"), if_exists="skip")
    assert store.files() == {"report.csv": OLD}
    assert landing.as_json() == {
        "uri": store.uri("report.csv"),
        "size": len(OLD),
        "sha256": None,
        "content_type": None,
        "report_run_id": None,
        "report": None,
        "report_parameters": None,
        "stripe_context": None,
        "livemode": None,
        "api": None,
        "interval_start": None,
        "interval_end": None,
        "members": [],
        "skipped": True,
    }
    assert len(sandbox.requests) == before


def test_fail_refuses_what_stands_there(store, land, result, hook, sandbox):
    """With fail, the error names the URI, and no request is sent."""
    store.put("report.csv", OLD)
    run_id = result(BODY)
    before = len(sandbox.requests)
    with pytest.raises(LandingExists, match=r"replace.*skip") as caught:
        land(hook, run_id, store.destination("report.csv"), if_exists="fail")
    assert caught.value.uri == store.uri("report.csv")
    assert store.files() == {"report.csv": OLD}
    assert len(sandbox.requests) == before


@pytest.mark.parametrize("if_exists", ["skip", "fail"])
def test_lands_where_nothing_stands(store, land, result, hook, if_exists):
    """With skip and fail, a result lands if no file exists."""
    landing = land(hook, result(BODY), store.destination("report.csv"), if_exists=if_exists)
    assert store.files() == {"report.csv": BODY}
    assert landing.skipped is False


def test_skip_looks_again_before_publishing(store, land, result, hook):
    """With skip, a file that appears during the download is kept and reported as kept."""
    source = Meanwhile(hook, lambda: store.put("report.csv", OLD))
    landing = land(source, result(BODY), store.destination("report.csv"), if_exists="skip")
    assert store.files() == {"report.csv": OLD}
    assert (landing.size, landing.sha256) == (len(OLD), None)
    assert landing.skipped is True
    assert landing.report_run_id is None


def test_fail_looks_again_before_publishing(store, land, result, hook):
    """With fail, a file that appears during the download is kept and raises an error."""
    source = Meanwhile(hook, lambda: store.put("report.csv", OLD))
    with pytest.raises(LandingExists):
        land(source, result(BODY), store.destination("report.csv"), if_exists="fail")
    assert store.files() == {"report.csv": OLD}
    assert land.is_clean


def test_makes_folders(store, land, result, hook):
    """Missing folders are created."""
    land(hook, result(BODY), store.destination("2026/11/02/report.csv"))
    assert store.files() == {"2026/11/02/report.csv": BODY}


def test_folder_destination(store, land, result, hook):
    """In a folder, the file is named after the report run."""
    run_id = result(BODY)
    landing = land(hook, run_id, store.destination("reports/"))
    assert store.files() == {f"reports/{run_id}.csv": BODY}
    assert landing.returned == store.uri(f"reports/{run_id}.csv")


def test_folder_destination_skip(store, land, result, hook):
    """In a folder too, skip keeps an existing file and reports it as kept."""
    run_id = result(BODY)
    store.put(f"reports/{run_id}.csv", OLD)
    landing = land(hook, run_id, store.destination("reports/"), if_exists="skip")
    assert store.files() == {f"reports/{run_id}.csv": OLD}
    assert landing.uri == store.uri(f"reports/{run_id}.csv")
    assert landing.skipped is True
    assert landing.report_run_id is None


def test_folder_destination_fail(store, land, result, hook):
    """In a folder too, fail refuses an existing file."""
    run_id = result(BODY)
    store.put(f"reports/{run_id}.csv", OLD)
    with pytest.raises(LandingExists):
        land(hook, run_id, store.destination("reports/"), if_exists="fail")
    assert store.files() == {f"reports/{run_id}.csv": OLD}


def test_unicode_name(store, land, result, hook):
    """Names may contain letters of any script, and blanks."""
    name = "\u00dcbersicht \u6771\u4eac 50%.csv"
    landing = land(hook, result(BODY), store.destination(name))
    assert store.files() == {name: BODY}
    assert landing.uri == store.uri(name)


@pytest.mark.parametrize("name", ["report.csv", "\u00dcbersicht 1%20.csv"])
def test_what_is_told_can_be_opened(store, land, result, hook, name):
    """Airflow's ObjectStoragePath reads the landed bytes from the reported URI."""
    from airflow.sdk import ObjectStoragePath

    landing = land(hook, result(BODY), store.destination(name))
    conn_id = getattr(store, "conn_id", None)
    assert ObjectStoragePath(landing.uri, conn_id=conn_id).read_bytes() == BODY


def test_empty_result(store, land, result, hook):
    """A result of 0 bytes lands as a file of 0 bytes and replaces an existing file."""
    store.put("report.csv", OLD)
    landing = land(hook, result(b""), store.destination("report.csv"))
    assert store.files() == {"report.csv": b""}
    assert (landing.size, landing.sha256) == (0, sha256(b""))
    assert store.open_uploads() == 0


def test_a_prefix_is_no_file(store, land, result, hook):
    """A file with a longer name that begins the same is not an existing file."""
    store.put("report.csv.old", OLD)
    land(hook, result(BODY), store.destination("report.csv"), if_exists="fail")
    assert store.files() == {"report.csv.old": OLD, "report.csv": BODY}


# ZIPs


def test_a_zip_is_kept_as_it_is(store, land, result, hook):
    """Without decompress, a ZIP lands byte for byte."""
    body = zipped({"a.csv": BODY})
    landing = land(hook, result(body, "zip"), store.destination("report.zip"))
    assert store.files() == {"report.zip": body}
    assert (landing.content_type, landing.size, landing.sha256) == ("zip", len(body), sha256(body))
    assert landing.members == []


def test_a_zip_in_a_folder_is_named_zip(store, land, result, hook):
    """A ZIP in a folder is named after the report run and ends in .zip."""
    run_id = result(zipped({"a.csv": BODY}), "zip")
    land(hook, run_id, store.destination("reports/"))
    assert list(store.files()) == [f"reports/{run_id}.zip"]


def test_decompresses_into_a_folder(store, land, result, hook):
    """Members keep their names, also in subfolders; a list of their URIs is returned."""
    body = zipped(NESTED | {"empty/": b""})
    landing = land(hook, result(body, "zip"), store.destination("x/"), decompress=True)
    assert store.files() == {f"x/{name}": member for name, member in NESTED.items()}
    assert landing.returned == [store.uri(f"x/{name}") for name in NESTED]
    assert landing.uri == store.uri("x/")
    assert (landing.size, landing.sha256) == (sum(map(len, NESTED.values())), None)
    assert landing.as_json()["members"] == [
        {
            "uri": store.uri(f"x/{name}"),
            "name": name,
            "size": len(member),
            "sha256": sha256(member),
        }
        for name, member in NESTED.items()
    ]
    assert land.is_clean


def test_decompresses_one_member_into_a_folder(store, land, result, hook):
    """For a folder a list is returned, whatever the number of members."""
    body = zipped({"a.csv": BODY})
    landing = land(hook, result(body, "zip"), store.destination("x/"), decompress=True)
    assert store.files() == {"x/a.csv": BODY}
    assert landing.returned == [store.uri("x/a.csv")]


def test_decompresses_into_a_file(store, land, result, hook):
    """A ZIP with one member lands as the destination, whatever the member's name."""
    body = zipped({"deep/inside.csv": BODY})
    landing = land(hook, result(body, "zip"), store.destination("report.csv"), decompress=True)
    assert store.files() == {"report.csv": BODY}
    assert landing.returned == store.uri("report.csv")
    assert (landing.size, landing.sha256) == (len(BODY), sha256(BODY))
    assert [member.uri for member in landing.members] == [store.uri("report.csv")]


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({}, ResultCorrupt, "contains no file"),
        ({"a.csv": BODY, "b.csv": BODY}, InvalidInput, r"End the destination in / for a folder"),
    ],
    ids=["none", "two"],
)
def test_refuses_to_decompress_other_than_one_into_a_file(
    store, land, result, hook, members, error, words
):
    """A ZIP without exactly one member is refused for a file; nothing is published."""
    store.put("report.csv", OLD)
    run_id = result(zipped(members), "zip")
    with pytest.raises(error, match=words):
        land(hook, run_id, store.destination("report.csv"), decompress=True)
    assert store.files() == {"report.csv": OLD}
    assert land.is_clean


@pytest.mark.parametrize(("name", "returned"), [("report.csv", str), ("x/", list)])
def test_decompress_leaves_a_csv_alone(store, land, result, hook, name, returned):
    """With decompress, a CSV lands unchanged and is reported as the only member."""
    landing = land(hook, result(BODY), store.destination(name), decompress=True)
    assert list(store.files().values()) == [BODY]
    assert isinstance(landing.returned, returned)
    assert [member.sha256 for member in landing.members] == [sha256(BODY)]


@pytest.mark.parametrize(
    ("name", "decompress"), [("report.zip", False), ("report.csv", True), ("x/", True)]
)
def test_refuses_a_damaged_zip(store, land, result, hook, name, decompress):
    """One wrong checksum prevents the publication of all members."""
    body = damaged(zipped({"good.csv": b"g", "bad.csv": BODY}, method=0))
    run_id = result(body, "zip")
    store.put("report.zip", OLD)
    with pytest.raises(ResultCorrupt, match=r"bad\.csv"):
        land(hook, run_id, store.destination(name), decompress=decompress)
    assert store.files() == {"report.zip": OLD}
    assert land.is_clean


def test_decompress_skip_keeps_the_members_that_stand_there(store, land, result, hook):
    """With skip, existing members are kept and the others land."""
    store.put("x/a.csv", OLD)
    run_id = result(zipped({"a.csv": BODY, "b.csv": BODY}), "zip")
    landing = land(hook, run_id, store.destination("x/"), decompress=True, if_exists="skip")
    assert store.files() == {"x/a.csv": OLD, "x/b.csv": BODY}
    assert [(member.size, member.sha256) for member in landing.members] == [
        (len(OLD), None),
        (len(BODY), sha256(BODY)),
    ]


def test_decompress_fail_publishes_no_member(store, land, result, hook):
    """With fail, one existing member prevents the publication of all, even if it is the last."""
    store.put("x/b.csv", OLD)
    run_id = result(zipped({"a.csv": BODY, "b.csv": BODY}), "zip")
    with pytest.raises(LandingExists) as caught:
        land(hook, run_id, store.destination("x/"), decompress=True, if_exists="fail")
    assert caught.value.uri == store.uri("x/b.csv")
    assert store.files() == {"x/b.csv": OLD}


# Markers


@pytest.mark.parametrize(("decompress", "content_type"), [(True, "zip"), (False, "csv")])
def test_a_marker_is_published_last(store, land, result, hook, caplog, decompress, content_type):
    """The marker is published after all files, and is not reported."""
    caplog.set_level("INFO")
    body = zipped({"a.csv": BODY, "z/b.csv": BODY}) if decompress else BODY
    run_id = result(body, content_type)
    landing = land(hook, run_id, store.destination("x/"), decompress=decompress, marker="_SUCCESS")
    names = ["a.csv", "z/b.csv"] if decompress else [f"{run_id}.csv"]
    assert store.files() == dict.fromkeys([f"x/{n}" for n in names], BODY) | {"x/_SUCCESS": b""}
    landed = [message for message in caplog.messages if message.startswith("Landed ")]
    uris = [store.uri(f"x/{name}") for name in [*names, "_SUCCESS"]]
    assert [message.partition(", ")[0] for message in landed] == [f"Landed {uri}" for uri in uris]
    assert landing.returned == (uris[:-1] if decompress else uris[0])
    assert "_SUCCESS" not in str(landing.as_json())
    assert land.is_clean


def test_a_marker_that_was_missing_is_added(store, land, result, hook):
    """With skip, a missing marker is added beside existing files."""
    run_id = result(BODY)
    store.put(f"x/{run_id}.csv", OLD)
    options = {"if_exists": "skip", "marker": "_SUCCESS"}
    landing = land(hook, run_id, store.destination("x/"), **options)
    assert store.files() == {f"x/{run_id}.csv": OLD, "x/_SUCCESS": b""}
    assert landing.skipped is True
    assert land(hook, run_id, store.destination("x/"), **options) == landing


def test_a_marker_that_stands_there_fails(store, land, result, hook):
    """With fail, an existing marker prevents the landing."""
    store.put("x/_SUCCESS", OLD)
    with pytest.raises(LandingExists, match="_SUCCESS"):
        land(hook, result(BODY), store.destination("x/"), if_exists="fail", marker="_SUCCESS")
    assert store.files() == {"x/_SUCCESS": OLD}


@pytest.mark.parametrize("member", ["_SUCCESS", "_SUCCESS/a.csv"])
def test_a_marker_in_the_way_of_a_member(store, land, result, hook, member):
    """A ZIP that contains the marker's name is refused; nothing is published."""
    run_id = result(zipped({"a.csv": BODY, member: BODY}), "zip")
    with pytest.raises(InvalidInput, match="another name"):
        land(hook, run_id, store.destination("x/"), decompress=True, marker="_SUCCESS")
    assert store.files() == {}


@pytest.mark.parametrize("marker", ["", ".", "..", "a/b", "/", 5])
def test_a_bad_marker(store, land, marker):
    """A marker that is not a file name is refused."""
    with pytest.raises(InvalidInput, match="marker must be"):
        land.to(store.destination("x/"), marker=marker)


def test_a_marker_for_a_file(store, land):
    """A marker for a single file is refused, with advice."""
    with pytest.raises(InvalidInput, match=r"end the destination in /: marker='_SUCCESS'"):
        land.to(store.destination("report.csv"), marker="_SUCCESS")


# Large files


@pytest.mark.stores
def test_a_large_result(store, land, tmp_path):
    """300 MB land byte for byte."""
    line = b"2026-10-26T00:00:00.000Z,ch_%020d,charge,eur,1234.56,-12.34,1222.22\n"
    block = b"".join(line % number for number in range(16_384))
    blocks = 300_000_000 // len(block)
    size = blocks * len(block)
    source = Script([lambda: stream(*[block] * blocks)], size=size)
    landing = land(source, RUN_ID, store.destination("report.csv"))
    (body,) = store.files().values()
    assert (landing.size, len(body)) == (size, size)
    assert landing.sha256 == sha256(body)
    assert store.open_uploads() == 0
    assert land.is_clean


# What goes wrong


def visible(store):
    """Return what readers of ``*.csv`` find."""
    return {
        name: body for name, body in store.files().items() if not Path(name).name.startswith(".")
    }


def test_a_kill_in_mid_upload(remote, valve, land):
    """A killed upload is invisible; the next try of the same task removes its leftovers."""
    remote.put("report.csv", OLD)
    with valve(remote, MID_UPLOAD) as (way, gated):
        arguments = [gated.destination("report.csv"), land.owner, str(land.spool)]
        paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        with subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", KILLED, *arguments], env=os.environ | {"PYTHONPATH": paths}
        ) as process:
            try:
                assert way.shut.wait(LIMIT)
            finally:
                process.kill()
        assert process.returncode == -signal.SIGKILL
    assert visible(remote) == {"report.csv": OLD}
    land(serving(BODY), RUN_ID, remote.destination("report.csv"))
    assert remote.files() == {"report.csv": BODY}
    assert remote.open_uploads() == 0
    assert land.is_clean


def test_a_timeout_in_mid_upload(remote, valve, land):
    """If Airflow raises at the end of an upload, the old file remains or the new one is whole."""
    remote.put("report.csv", OLD)

    class TaskTimeout(BaseException):
        """Like Airflow's."""

    with valve(remote, MID_UPLOAD) as (way, gated):

        def interrupt(*_):
            way.open()
            raise TaskTimeout

        def watch():
            way.shut.wait(LIMIT)
            if not done.is_set():
                os.kill(os.getpid(), signal.SIGUSR1)

        done = threading.Event()
        before = signal.signal(signal.SIGUSR1, interrupt)
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with pytest.raises(TaskTimeout):
                land(serving(LARGE), RUN_ID, gated.destination("report.csv"))
        finally:
            done.set()
            way.shut.set()
            watcher.join(LIMIT)
            signal.signal(signal.SIGUSR1, before)
    assert remote.files() in ({"report.csv": OLD}, {"report.csv": LARGE})
    assert land.is_clean
    land(serving(BODY), RUN_ID, remote.destination("report.csv"))
    assert remote.files() == {"report.csv": BODY}
    assert remote.open_uploads() == 0


def test_a_first_try_looks_for_nothing(remote, land):
    """A first try does not look for leftovers."""
    land(serving(BODY), RUN_ID, remote.destination("x/report.csv"), is_first_try=True)
    assert remote.files() == {"x/report.csv": BODY}


def test_the_old_file_stays_when_the_download_fails(store, land, result, hook, sandbox):
    """A failure before the verification leaves the old file unchanged."""
    store.put("report.csv", OLD)
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(truncate_to=3), times=None))
    with pytest.raises(ResultCorrupt):
        land(hook, run_id, store.destination("report.csv"))
    assert store.files() == {"report.csv": OLD}
    assert land.is_clean


def test_an_interrupted_landing_leaves_nothing(store, land):
    """A timeout or a kill by Airflow, which raise during a download, leave no file."""
    store.put("report.csv", OLD)

    def interrupt():
        raise KeyboardInterrupt

    source = serving(BODY)
    source.answers[:] = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        land(source, "reprun_1", store.destination("report.csv"))
    assert store.files() == {"report.csv": OLD}
    assert land.is_clean
