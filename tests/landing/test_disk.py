"""Full disks, and what killed tasks leave on them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from landing.sources import RUN_ID, serving, zipped

from airflow_provider_reportrun.errors import LandingFailed

OLD = b"a,b\nold,0\n"
DISK_BYTES = 4 << 20
TOO_LARGE = b"".join(b"%07d\n" % number for number in range(1 << 20))
"""8 MiB."""


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Mount a file system of 4 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    told = subprocess.run(mount, capture_output=True, text=True, check=False)  # noqa: S603
    if told.returncode:
        pytest.skip(f"a small disk: mount is not permitted here ({told.stderr.strip()})")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)  # noqa: S603, S607


def free_bytes(path):
    """Return the free bytes."""
    told = os.statvfs(path)
    return told.f_bavail * told.f_frsize


def test_a_full_destination(land, small_disk):
    """The error names the file and the fix; the old file is kept, and no space is lost."""
    report = small_disk / "report.csv"
    report.write_bytes(OLD)
    before = free_bytes(small_disk)
    with pytest.raises(LandingFailed, match=r"No space left on device.*Nothing was") as caught:
        land(serving(TOO_LARGE), RUN_ID, str(report))
    assert str(small_disk) in str(caught.value)
    assert caught.value.transient
    assert [path.name for path in small_disk.iterdir()] == ["report.csv"]
    assert report.read_bytes() == OLD
    assert free_bytes(small_disk) == before


def test_a_full_spool(land, small_disk, s3):
    """The error names a full spool and the argument to change it; nothing is uploaded."""
    s3.put("report.zip", OLD)
    before = free_bytes(small_disk)
    source = serving(TOO_LARGE, "zip")
    with pytest.raises(LandingFailed, match=r"spool_dir.*No space left on device") as caught:
        land(source, RUN_ID, s3.destination("report.zip"), spool_dir=str(small_disk))
    assert str(small_disk) in str(caught.value)
    assert list(small_disk.iterdir()) == []
    assert free_bytes(small_disk) == before
    assert s3.files() == {"report.zip": OLD}
    assert s3.open_uploads() == 0


def test_no_room_for_the_members_of_a_zip(land, small_disk):
    """If a ZIP fits on the disk but its members do not, none is published."""
    source = serving(zipped({"a.csv": TOO_LARGE[: 1 << 20], "b.csv": TOO_LARGE}), "zip")
    with pytest.raises(LandingFailed, match="No space left on device"):
        land(source, RUN_ID, f"{small_disk}/x/", decompress=True)
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_the_next_try_has_room_again(land, small_disk):
    """After space is freed, the same task lands."""
    other = small_disk / "other"
    other.write_bytes(bytes(3 << 20))
    body = TOO_LARGE[: 2 << 20]
    with pytest.raises(LandingFailed):
        land(serving(body), RUN_ID, f"{small_disk}/report.csv")
    other.unlink()
    land(serving(body), RUN_ID, f"{small_disk}/report.csv")
    assert (small_disk / "report.csv").read_bytes() == body
