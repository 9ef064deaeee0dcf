"""Local folders: what readers see, what a kill leaves, permissions, space and unusual paths."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from landing.sources import RUN_ID, serving, zipped

from airflow_provider_reportrun.errors import (
    InvalidInput,
    LandingFailed,
    NotFound,
    ResultCorrupt,
)
from airflow_provider_reportrun.landing.destination import Destination
from airflow_provider_reportrun.landing.land import look
from airflow_provider_reportrun.landing.spool import Spool, owner_name, temporary_name
from airflow_provider_reportrun.sandbox import Answer, Delivery, Fault

BODY = b"".join(b"%07d\n" % number for number in range(400_000))
LIMIT = 20.0
"""The longest time that a step may take, in seconds."""

KILLED = """
import sys
from landing.sources import Script, stream
from airflow_provider_reportrun.landing.destination import Destination
from airflow_provider_reportrun.landing.land import land

def chunks():
    yield b"a" * (2 << 20)
    print("half", flush=True)
    sys.stdin.read()

answer = stream()
source = Script([lambda: type(answer)(status=200, headers={}, chunks=chunks())], size=3 << 20)
destination, owner = sys.argv[1:]
land(Destination(uri=destination, owner=owner), source, "reprun_1")
"""


def wait_until(happened):
    """Wait until a condition is true, up to a limit."""
    tick = threading.Event()
    for _ in range(int(LIMIT / 0.01)):
        if happened():
            return
        tick.wait(0.01)
    raise AssertionError("it did not happen")


# What readers may see


def test_nothing_is_seen_of_a_file_on_its_way(sandbox, land, result, hook, folder):
    """During a download, readers of *.csv see only the old file."""
    folder.put("report.csv", b"old")
    run_id = result(BODY)
    stall = Delivery(stall_at=2_500_000, stall_seconds=LIMIT)
    fault = sandbox.faults.add(Fault("download", stall))
    with ThreadPoolExecutor() as pool:
        landing = pool.submit(land, hook, run_id, folder.destination("report.csv"))
        try:
            wait_until(lambda: sum(map(len, folder.files().values())) > 1_000_000)
            assert not landing.done()
            assert [path.name for path in folder.folder.glob("*.csv")] == ["report.csv"]
            assert (folder.folder / "report.csv").read_bytes() == b"old"
            hidden = [name for name in folder.files() if name != "report.csv"]
            assert len(hidden) == 1
            assert hidden[0].startswith(".")
        finally:
            fault.release()
        landing.result(LIMIT)
    assert folder.files() == {"report.csv": BODY}


def test_a_reader_sees_the_file_whole_or_not_at_all(sandbox, land, result, hook, folder):
    """A reader that polls without a pause never sees a partial file."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(bytes_per_second=12_000_000)))
    seen: list[int] = []
    done = threading.Event()

    def watch():
        while not done.is_set():
            seen.append(sum(path.stat().st_size for path in folder.folder.glob("*.csv")))

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        try:
            land(hook, run_id, folder.destination("report.csv"))
            wait_until(lambda: seen and seen[-1] == len(BODY))
        finally:
            done.set()
        watching.result(LIMIT)
    assert set(seen) == {0, len(BODY)}


# What a kill leaves


@pytest.fixture
def killed(folder):
    """Return a function that kills a landing of an owner during the download."""

    def kill(owner, name="report.csv"):
        command = [sys.executable, "-c", KILLED, folder.destination(name), owner]
        paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        with subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        ) as process:
            watchdog = threading.Timer(LIMIT, process.kill)
            watchdog.start()
            try:
                assert b"half\n" in iter(process.stdout.readline, b"")  # after lines of the log
            finally:
                watchdog.cancel()
                process.kill()
        assert process.returncode == -signal.SIGKILL

    return kill


def test_a_kill_leaves_what_the_next_try_removes(land, folder, killed):
    """A killed landing leaves a hidden file, which the next try of the same owner removes."""
    folder.put("report.csv", b"old")
    killed(land.owner)
    (left,) = set(folder.files()) - {"report.csv"}
    assert left.startswith(".reportrun-")
    assert [path.name for path in folder.folder.glob("*.csv")] == ["report.csv"]
    assert folder.files()["report.csv"] == b"old"
    land(serving(BODY), RUN_ID, folder.destination("report.csv"))
    assert folder.files() == {"report.csv": BODY}


def test_a_landed_file_has_the_rights_of_the_umask(land, folder):
    """A landed file has the permissions of any file there."""
    folder.put("other", b"")
    land(serving(BODY), RUN_ID, folder.destination("report.csv"))
    modes = {(folder.folder / name).stat().st_mode for name in ("other", "report.csv")}
    assert len(modes) == 1


def test_leftovers_of_others_are_left_alone(land, folder):
    """Temporary files of other owners and programs are kept."""
    with Spool(folder.folder, owner_name("dag", "run", "other", -1)) as spool:
        spool.new_file().write_bytes(b"going on")
        folder.put(f".reportrun-{land.owner}", b"not ours")
        before = folder.files()
        land(serving(BODY), RUN_ID, folder.destination("report.csv"))
        assert folder.files() == before | {"report.csv": BODY}


def test_leftovers_are_removed_though_the_next_try_fails(land, folder):
    """The next try removes leftovers even if it fails."""
    left = Spool(folder.folder, land.owner).new_file()
    left.write_bytes(b"half")
    source = serving(BODY)
    source.size = 1
    with pytest.raises(ResultCorrupt):
        land(source, RUN_ID, folder.destination("report.csv"))
    assert folder.files() == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("d", "r", "t", -1), ("d", "r", "t", 0)),
        (("d", "r", "t", 1), ("d", "r", "t1", -1)),
        (("d", "rt", "", -1), ("d", "r", "t", -1)),
    ],
)
def test_owners_differ(one, other):
    """Owners differ between task instances, and not between tries."""
    assert owner_name(*one) != owner_name(*other)
    assert owner_name(*one) == owner_name(*one)


# Rights and space


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_permissions_follow_the_umask(land, folder, umask, mode):
    """Landed files and unpacked members have the permissions of any new file."""
    before = os.umask(umask)
    try:
        land(serving(BODY), RUN_ID, folder.destination("x/report.csv"))
        source = serving(zipped({"y/a.csv": b"a"}), "zip")
        land(source, RUN_ID, folder.destination("x/"), decompress=True)
    finally:
        os.umask(before)
    for name in ("x/report.csv", "x/y/a.csv"):
        assert (folder.folder / name).stat().st_mode & 0o777 == mode
    assert (folder.folder / "x/y").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_folder_that_cannot_be_made(land, folder):
    """A file in the way of the folder raises LandingFailed before any download."""
    folder.put("taken", b"a file")
    source = serving(BODY)
    with pytest.raises(LandingFailed, match=r"spool_dir.*cannot use the folder.*taken"):
        land(source, RUN_ID, folder.destination("taken/report.csv"))
    assert folder.files() == {"taken": b"a file"}
    assert source.asked == []


def test_a_look_notices_a_folder_that_cannot_be_written(tmp_path, s3):
    """Also the spool_dir of a store; a folder that can be made is not made yet."""
    (tmp_path / "taken").write_text("a file")
    for uri, spool in (
        (f"{tmp_path}/taken/report.csv", None),
        ("/proc/sub/report.csv", None),
        (s3.destination("a.csv"), f"{tmp_path}/taken"),
    ):
        with pytest.raises(LandingFailed, match=r"cannot use the folder .*/(taken|proc/sub): "):
            look(Destination(uri=uri, owner="a", spool_dir=spool))
    assert look(Destination(uri=f"{tmp_path}/new/sub/report.csv", owner="a")) is None
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_a_folder_that_cannot_be_written(land):
    """A folder where nobody may write, not even root, raises LandingFailed."""
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc")
    with pytest.raises(LandingFailed, match="/proc"):
        land(serving(BODY), RUN_ID, "/proc/report.csv")


def test_a_full_disk(land, folder, small_files):
    """A full disk raises LandingFailed; the old file is kept and no file is left."""
    folder.put("report.csv", b"old")
    with small_files(1_000_000), pytest.raises(LandingFailed, match="space") as caught:
        land(serving(BODY), RUN_ID, folder.destination("report.csv"))
    assert caught.value.transient
    assert folder.files() == {"report.csv": b"old"}


def test_a_member_in_the_way_of_a_folder(land, folder):
    """The error names a member that cannot be published."""
    folder.put("x/sub", b"a file")
    source = serving(zipped({"sub/a.csv": b"a"}), "zip")
    with pytest.raises(LandingFailed, match=r"sub/a\.csv") as caught:
        land(source, RUN_ID, folder.destination("x/"), decompress=True)
    assert caught.value.uri == folder.uri("x/sub/a.csv")
    assert folder.files() == {"x/sub": b"a file"}


# Odd paths


def test_a_folder_without_a_slash(land, folder):
    """A destination that is an existing folder is refused before any download, with the fix."""
    folder.put("reports/other.csv", b"other")
    source = serving(BODY)
    for if_exists in ("replace", "skip", "fail"):
        with pytest.raises(InvalidInput, match=r"is a folder\. End it in /"):
            land(source, RUN_ID, folder.destination("reports"), if_exists=if_exists)
    assert source.asked == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("./report.csv", "report.csv"),
        ("./x/report.csv", "x/report.csv"),
        ("./x/../report.csv", "report.csv"),
        ("../landed/report.csv", "report.csv"),
    ],
)
def test_a_relative_path(land, folder, monkeypatch, path, name):
    """A relative path is relative to the working folder, and reported in full."""
    monkeypatch.chdir(folder.folder)
    landing = land(serving(b"abc"), RUN_ID, path)
    assert folder.files() == {name: b"abc"}
    assert landing.uri == folder.uri(name)


def test_a_file_uri_with_a_host(land, folder, tmp_path, monkeypatch):
    """file://localhost/... is a local file."""
    monkeypatch.chdir(tmp_path)
    land(serving(b"abc"), RUN_ID, f"file://localhost{folder.folder}/report.csv")
    assert folder.files() == {"report.csv": b"abc"}


@pytest.mark.parametrize("uri", ["file://elsewhere/report.csv", "file://report.csv", "file://"])
def test_a_file_uri_of_another_machine(land, uri):
    """A host other than this machine is refused before any download, with the fix."""
    source = serving(b"abc")
    with pytest.raises(InvalidInput, match="file:///folder"):
        land(source, RUN_ID, uri)
    assert source.asked == []


def test_a_member_that_is_not_published_leaves_no_marker(land, folder, monkeypatch):
    """If a member cannot be published, the marker is not published either."""
    source = serving(zipped({"a.csv": b"a", "sub/a.csv": b"a"}), "zip")
    really_rename = os.replace

    def rename(old, new):
        if os.fspath(new).endswith("sub/a.csv"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really_rename(old, new)

    monkeypatch.setattr(os, "replace", rename)
    with pytest.raises(LandingFailed, match="No space left"):
        land(source, RUN_ID, folder.destination("x/"), decompress=True, marker="_SUCCESS")
    assert folder.files() == {"x/a.csv": b"a"}


@pytest.mark.parametrize(
    ("there", "in_the_way", "name"),
    [
        ("x/sub", "file x/sub", "sub/b.csv"),
        ("x/sub/b.csv/other", "folder x/sub/b.csv", "sub/b.csv"),
        ("x/_SUCCESS/other", "folder x/_SUCCESS", "_SUCCESS"),
    ],
)
@pytest.mark.parametrize("if_exists", ["replace", "skip", "fail"])
def test_what_is_in_the_way_is_seen_before_any_member_is_published(
    land, folder, there, in_the_way, name, if_exists
):
    """If one name is blocked, nothing is published; the error names what to remove."""
    folder.put(there, b"other")
    source = serving(zipped({"a.csv": b"a", "sub/b.csv": b"b"}), "zip")
    options = {"decompress": True, "marker": "_SUCCESS", "if_exists": if_exists}
    with pytest.raises(LandingFailed) as caught:
        land(source, RUN_ID, folder.destination("x/"), **options)
    kind, _, path = in_the_way.partition(" ")
    assert f"Remove {folder.folder}/{path}, which is a {kind} in the way" in str(caught.value)
    assert (caught.value.uri, caught.value.transient) == (folder.uri(f"x/{name}"), True)
    assert folder.files() == {there: b"other"}


def test_a_link_that_leads_nowhere_is_in_the_way(land, folder):
    """A dangling link in the place of a folder is in the way."""
    (folder.folder / "sub").symlink_to("nowhere")
    source = serving(zipped({"a.csv": b"a", "sub/b.csv": b"b"}), "zip")
    with pytest.raises(LandingFailed, match=r"Remove .*/sub, which"):
        land(source, RUN_ID, folder.destination(""), decompress=True)
    assert folder.files() == {}


def test_a_folder_in_the_place_of_a_file(land, folder):
    """A folder is neither kept as a file nor replaced by one."""
    folder.put(f"x/{RUN_ID}.csv/other.csv", b"other")
    for if_exists in ("replace", "skip", "fail"):
        with pytest.raises(LandingFailed, match=f"{RUN_ID}.csv, which is a folder"):
            land(serving(b"abc"), RUN_ID, folder.destination("x/"), if_exists=if_exists)
    assert folder.files() == {f"x/{RUN_ID}.csv/other.csv": b"other"}


def test_a_link_to_a_folder_is_followed(land, folder):
    """A link to a folder is followed, and reported unresolved."""
    (folder.folder / "real").mkdir()
    (folder.folder / "link").symlink_to("real")
    landing = land(serving(b"abc"), RUN_ID, folder.destination("link/report.csv"))
    assert (folder.folder / "real/report.csv").read_bytes() == b"abc"
    assert landing.uri == folder.uri("link/report.csv")


@pytest.mark.parametrize("destination", ["", "  ", None, 5])
def test_no_destination(land, destination):
    """An empty destination is refused, naming the argument."""
    with pytest.raises(InvalidInput, match="destination must be"):
        land.to(destination)


def test_an_unknown_if_exists(land):
    """if_exists accepts three values."""
    with pytest.raises(InvalidInput, match=r"replace, skip, fail.*'overwrite'"):
        land.to("./x.csv", if_exists="overwrite")


# What a loss of power leaves


@pytest.fixture
def disk_calls(monkeypatch):
    """
    Record syncs and renames in their order.

    Only a power loss shows the effect of a sync, so this wraps functions of the standard library,
    which still do their work.
    """
    calls: list[tuple[str, str]] = []
    really_sync, really_rename = os.fsync, os.replace

    def fsync(descriptor):
        calls.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        really_sync(descriptor)

    def rename(old, new):
        calls.append(("rename", os.fspath(new)))
        really_rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    return calls


def steps_of(calls, path):
    """Return the steps around the rename of a file: the one before, and the one after."""
    (renamed,) = [at for at, call in enumerate(calls) if call == ("rename", str(path))]
    return [calls[renamed - 1][0], calls[renamed + 1]]


def test_a_file_and_its_folder_are_synced_around_the_rename(land, folder, disk_calls):
    """The file is synced before the rename, and its folder after it."""
    land(serving(b"abc"), RUN_ID, folder.destination("x/y/report.csv"))
    target = folder.folder / "x/y"
    (before, after) = steps_of(disk_calls, target / "report.csv")
    assert (before, after) == ("sync", ("sync", str(target)))
    body = disk_calls[-3][1]
    assert Path(body).parent == target
    assert body.endswith(".part")
    # A new folder is a name in its parent.
    made = [("sync", str(folder.folder)), ("sync", str(folder.folder / "x"))]
    assert [call for call in disk_calls if call in made] == made


def test_a_marker_comes_after_all_files_are_synced(land, folder, disk_calls):
    """The marker is published after all other files are synced."""
    source = serving(zipped({"a.csv": b"a", "sub/b.csv": b"b"}), "zip")
    land(source, RUN_ID, folder.destination("x/"), decompress=True, marker="_SUCCESS")
    target = folder.folder / "x"
    names = [Path(path).name for what, path in disk_calls if what == "rename"]
    assert names == ["a.csv", "b.csv", "_SUCCESS"]
    for path in (target / "a.csv", target / "sub/b.csv", target / "_SUCCESS"):
        assert steps_of(disk_calls, path) == ["sync", ("sync", str(path.parent))]


def test_the_hook_syncs_too(hook, result, folder, disk_calls):
    """A download by the hook syncs too."""
    path = folder.folder / "report.csv"
    hook.download_result(result(b"abc"), path)
    assert steps_of(disk_calls, path) == ["sync", ("sync", str(folder.folder))]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync(land, folder, monkeypatch, number):
    """A file system that cannot sync does not stop a landing."""

    def fsync(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    land(serving(b"abc"), RUN_ID, folder.destination("report.csv"))
    assert folder.files() == {"report.csv": b"abc"}


def test_a_disk_that_fails_to_sync(land, folder, monkeypatch):
    """A disk that fails to sync raises LandingFailed, and the old file is kept."""

    def fsync(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    folder.put("report.csv", b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(LandingFailed, match="Input/output error"):
        land(serving(b"abc"), RUN_ID, folder.destination("report.csv"))
    assert folder.files() == {"report.csv": b"old"}


# Leftovers that cannot be removed


def test_a_leftover_that_is_a_folder(land, folder, caplog):
    """A leftover that is a folder is logged and does not stop a landing."""
    odd = temporary_name(land.owner)
    folder.put(f"{odd}/x", b"odd")
    land(serving(b"abc"), RUN_ID, folder.destination("report.csv"))
    assert folder.files() == {"report.csv": b"abc", f"{odd}/x": b"odd"}
    assert f"Could not remove {folder.folder / odd}" in caplog.text


def test_a_spool_that_holds_a_folder(land, s3, caplog):
    """A leftover folder in the spool of a store does not stop a landing."""
    odd = land.spool / temporary_name(land.owner)
    odd.mkdir(parents=True)
    land(serving(b"abc"), RUN_ID, s3.destination("report.csv"))
    assert s3.files() == {"report.csv": b"abc"}
    assert f"Could not remove {odd}" in caplog.text


AS_NOBODY = """
import os, sys
from pathlib import Path
from airflow_provider_reportrun.landing.spool import Spool
if os.geteuid() == 0:
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
with Spool(Path(sys.argv[1]), sys.argv[2]) as spool:
    spool.new_file().write_text("mine")
    print(sorted(path.read_text() for path in spool.folder.iterdir() if os.access(path, os.R_OK)))
"""


def test_a_leftover_of_another_user(land):
    """Leftovers that another user owns are ignored."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as shared:
        Path(shared).chmod(0o1777)
        left = Path(shared) / temporary_name(land.owner)
        left.write_text("theirs")
        left.chmod(0o644)
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", AS_NOBODY, shared, land.owner],
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
        )
        if os.geteuid() == 0:
            assert done.stdout.splitlines()[-1] == "['mine', 'theirs']"
            assert f"Could not remove {left}" in done.stdout + done.stderr
            assert [path.name for path in Path(shared).iterdir()] == [left.name]
        else:  # no file of another user can be made: this one is removed
            assert done.stdout.splitlines()[-1] == "['mine']"


def test_a_spool_that_is_a_file(land, s3, tmp_path):
    """A spool_dir that is a file, or is below one, raises LandingFailed, which names it."""
    (tmp_path / "file").write_bytes(b"x")
    for spool in (tmp_path / "file", tmp_path / "file/sub"):
        with pytest.raises(LandingFailed, match=f"cannot use the folder {spool}"):
            land(serving(b"abc"), RUN_ID, s3.destination("a.csv"), spool_dir=str(spool))


# The hook by itself


def test_the_hook_downloads_to_a_file(hook, result, folder):
    """download_result creates folders, replaces a file, and returns verified facts."""
    folder.put("x/report.csv", b"old")
    facts = hook.download_result(result(BODY), folder.destination("x/report.csv"))
    assert folder.files() == {"x/report.csv": BODY}
    assert (facts.size, facts.report) == (len(BODY), "balance_summary")


def test_the_hook_leaves_the_old_file(hook, result, folder, sandbox):
    """A failed download leaves only the old file."""
    folder.put("report.csv", b"old")
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Answer(status=404)))
    with pytest.raises(NotFound):
        hook.download_result(run_id, folder.folder / "report.csv")
    assert folder.files() == {"report.csv": b"old"}


def test_the_hook_verifies_a_zip(hook, result, folder):
    """A ZIP that cannot be read is not published."""
    run_id = result(b"no zip", "zip")
    with pytest.raises(ResultCorrupt):
        hook.download_result(run_id, folder.folder / "report.zip")
    assert folder.files() == {}


def test_the_hook_refuses_a_folder(hook, result, folder):
    """A path that is a folder raises InvalidInput, and no file is left."""
    (folder.folder / "x").mkdir()
    with pytest.raises(InvalidInput, match="is a folder"):
        hook.download_result(result(BODY), folder.folder / "x")
    assert folder.files() == {}


def test_two_hooks_download_the_same_result(hook, result, folder, sandbox):
    """Two simultaneous downloads into one folder do not remove each other's files."""
    run_id = result(BODY)
    fault = sandbox.faults.add(Fault("download", Delivery(stall_at=2_500_000, stall_seconds=LIMIT)))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(hook.download_result, run_id, folder.folder / "one.csv")
        try:
            wait_until(lambda: sum(map(len, folder.files().values())) > 1_000_000)
            hook.download_result(run_id, folder.folder / "two.csv")
        finally:
            fault.release()
        first.result(LIMIT)
    assert folder.files() == {"one.csv": BODY, "two.csv": BODY}


@pytest.mark.parametrize(
    "path", ["s3://finance/a.csv", Path("s3://finance/a.csv"), "~/a.csv", "file:///a.csv", "/a\n"]
)
def test_the_hook_downloads_to_local_paths(hook, monkeypatch, tmp_path, path):
    """A path that is not local is refused before any request, and no folder is created."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput):
        hook.download_result("reprun_1", path)
    assert list(tmp_path.iterdir()) == []
