"""Damaged ZIPs, and ZIPs with members that would land outside their folder."""

from __future__ import annotations

import random
import stat
import struct
import zipfile

import pytest
from landing.sources import zipped

from airflow_provider_reportrun.errors import (
    InvalidInput,
    LandingFailed,
    ReportRunError,
    ResultCorrupt,
)
from airflow_provider_reportrun.landing import archive
from airflow_provider_reportrun.landing.spool import Spool

BODY = b"".join(b"%07d\n" % number for number in range(2_000))
METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


def with_mode(mode):
    """Return a ZIP whose second member is not a plain file."""
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", BODY)
        member = zipfile.ZipInfo("b.csv")
        member.external_attr = mode << 16
        archive.writestr(member, b"/etc/passwd")
    return file.getvalue()


def encrypted():
    """Return a ZIP whose member is marked as encrypted."""
    body = bytearray(zipped({"a.csv": BODY}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = body.index(signature) + offset
        body[at : at + 2] = struct.pack("<H", 1)
    return bytes(body)


def changed(body, signature, offset, value):
    """Return a ZIP with a changed number in a header."""
    at = body.index(signature) + offset
    return body[:at] + struct.pack("<H", value) + body[at + 2 :]


def overwritten(body):
    """Return a ZIP with damaged data."""
    at = len(body) // 3
    return body[:at] + b"\xff" * 40 + body[at + 40 :]


def without_name():
    """Return a ZIP whose member has no name, neither in its header nor in the directory."""
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        member = zipfile.ZipInfo("a")
        member.filename = ""
        archive.writestr(member, BODY)
    return file.getvalue()


def overlapping(count=3):
    """Return a ZIP whose directory refers to the same bytes several times."""
    body = zipped({"a0.csv": b"\0" * 100_000})
    at, end = body.index(b"PK\x01\x02"), body.index(b"PK\x05\x06")
    entry = body[at:end]
    entries = b"".join(entry.replace(b"a0.csv", b"a%d.csv" % each) for each in range(count))
    tail = bytearray(body[end:])
    tail[8:20] = struct.pack("<HHLL", count, count, len(entries), at)
    return body[:at] + entries + bytes(tail)


HOSTILE = {
    "no name": without_name(),
    "a name of 300 letters": zipped({"a.csv": BODY, "b" * 300: BODY}),
    "a name of 100 letters and 300 bytes": zipped({"a.csv": BODY, "\u6771" * 100: BODY}),
    "a folder of 300 letters": zipped({"a.csv": BODY, f"{'b' * 300}/b.csv": BODY}),
    "a path of 1,000 letters": zipped({"a.csv": BODY, f"{'b/' * 500}b.csv": BODY}),
    "a line feed": zipped({"a.csv": BODY, "b\n2026 ERROR all is lost.csv": BODY}),
    "an escape": zipped({"a.csv": BODY, "\x1b[2Jb.csv": BODY}),
    "a C1 control": zipped({"a.csv": BODY, "\x9bb.csv": BODY}),
    "a line separator": zipped({"a.csv": BODY, "b\u2028.csv": BODY}),
    "a null": zipped({"a.csv": BODY, "bxcsv": BODY}).replace(b"bxcsv", b"b\0csv"),
    "overlapping": overlapping(),
    "parent": zipped({"a.csv": BODY, "../b.csv": BODY}),
    "parent inside": zipped({"a/../../b.csv": BODY}),
    "parent at the end": zipped({"a/..": BODY}),
    "absolute": zipped({"/var/b.csv": BODY}),
    "two slashes": zipped({"//var/b.csv": BODY}),
    "drive": zipped({"C:/b.csv": BODY}),
    "backslashes": zipped({"..\\b.csv": BODY}),
    "dot": zipped({".": BODY}),
    "symlink": with_mode(stat.S_IFLNK | 0o777),
    "device": with_mode(stat.S_IFCHR | 0o666),
    "pipe": with_mode(stat.S_IFIFO | 0o666),
    "twice": None,
    "twice in other words": zipped({"a.csv": BODY, "./a.csv": b"other"}),
    "twice by slashes": zipped({"x/a.csv": BODY, "x//a.csv": b"other"}),
    "file and folder": zipped({"a": BODY, "a/b.csv": BODY}),
    "encrypted": encrypted(),
}
DAMAGED = {
    "nothing": b"",
    "a csv": b"a,b\n1,2\n",
    "cut short": zipped({"a.csv": BODY})[:-10],
    "without a beginning": zipped({"a.csv": BODY})[200:],
    **{f"{name} data": overwritten(zipped({"a.csv": BODY}, m)) for name, m in METHODS.items()},
    "unknown method": changed(zipped({"a.csv": BODY}), b"PK\x01\x02", 10, 77),
    "later version": changed(zipped({"a.csv": BODY}), b"PK\x01\x02", 6, 99),
    "name that is no text": zipped({"\u00e9.csv": BODY}).replace(b"\xc3\xa9", b"\xff\xfe"),
}


@pytest.fixture
def twice():
    """Return a ZIP with a repeated name."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zipped([("a.csv", BODY), ("a.csv", b"other")])


@pytest.mark.parametrize("kind", HOSTILE)
def test_refuses_members_that_would_land_elsewhere(land, folder, request, kind, hook, result):
    """One untrusted member prevents the publication of the whole ZIP."""
    body = HOSTILE[kind] or request.getfixturevalue(kind)
    with pytest.raises(ResultCorrupt, match=r"^Inspect the ZIP, .* Nothing was published\.$"):
        land(hook, result(body, "zip"), folder.destination("x/"), decompress=True)
    assert folder.files() == {}
    assert sorted(path.name for path in folder.folder.parent.iterdir()) == ["landed"]


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize(("name", "decompress"), [("report.zip", False), ("x/", True)])
def test_refuses_what_cannot_be_read(land, folder, kind, name, decompress, hook, result):
    """A ZIP that cannot be read raises ResultCorrupt, and nothing is published."""
    run_id = result(DAMAGED[kind], "zip")
    with pytest.raises(ResultCorrupt):
        land(hook, run_id, folder.destination(name), decompress=decompress)
    assert folder.files() == {}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_unpacks_every_method(land, folder, method, hook, result):
    """All compression methods that Python supports are unpacked."""
    run_id = result(zipped({"a.csv": BODY}, method), "zip")
    land(hook, run_id, folder.destination("x/"), decompress=True)
    assert folder.files() == {"x/a.csv": BODY}


def test_a_damaged_zip_may_pass(land, folder, hook, result):
    """The error is transient, because the next download may be complete."""
    with pytest.raises(ResultCorrupt) as caught:
        land(hook, result(b"no zip", "zip"), folder.destination("report.zip"))
    assert caught.value.transient


def test_dots_and_spaces_in_names_are_fine(land, folder, hook, result):
    """Unusual but valid names are kept."""
    names = ["a..b.csv", "...", " .csv", "x/.hidden"]
    run_id = result(zipped(dict.fromkeys(names, BODY)), "zip")
    land(hook, run_id, folder.destination("x/"), decompress=True)
    assert sorted(folder.files()) == sorted(f"x/{name}" for name in names)


@pytest.mark.parametrize(("name", "decompress"), [("report.zip", False), ("x/", True)])
def test_a_bomb_is_refused(land, folder, name, decompress, hook, result):
    """A ZIP that declares too many bytes is refused before any is unpacked."""
    run_id = result(zipped({"a.csv": b"\0" * 600, "b.csv": b"\0" * 401}), "zip")
    options = {"decompress": decompress, "max_unpacked_bytes": 1_000}
    with pytest.raises(InvalidInput, match=r"max_unpacked_bytes=1000.*1001 bytes") as caught:
        land(hook, run_id, folder.destination(name), **options)
    assert not caught.value.transient
    assert folder.files() == {}


def test_as_much_as_is_allowed_is_unpacked(land, folder, hook, result):
    """The limit itself is allowed."""
    run_id = result(zipped({"a.csv": BODY}), "zip")
    options = {"decompress": True, "max_unpacked_bytes": len(BODY)}
    land(hook, run_id, folder.destination("x/"), **options)
    assert folder.files() == {"x/a.csv": BODY}


def test_a_bomb_that_lies_is_refused(land, folder, hook, result):
    """No more bytes are unpacked than the ZIP declares, and then the checksum fails."""
    body = changed(zipped({"a.csv": b"\0" * 50_000_000}), b"PK\x01\x02", 24, 1_000)
    body = changed(body, b"PK\x01\x02", 26, 0)
    with pytest.raises(ResultCorrupt, match=r"a\.csv"):
        land(hook, result(body, "zip"), folder.destination("x/"), decompress=True)
    assert folder.files() == {}


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "1", None])
def test_a_bad_bound(land, most):
    """The limit must be a whole number above 0."""
    with pytest.raises(InvalidInput, match="max_unpacked_bytes must be"):
        land.to("./x/", max_unpacked_bytes=most)


def test_no_room_to_unpack(land, folder, small_files, hook, result):
    """A disk that fills up while unpacking raises LandingFailed and leaves no file."""
    run_id = result(zipped({"a.csv": b"\0" * 3_000_000}), "zip")
    with small_files(1_000_000), pytest.raises(LandingFailed, match="space"):
        land(hook, run_id, folder.destination("x/"), decompress=True)
    assert folder.files() == {}


@pytest.mark.parametrize("kind", HOSTILE)
def test_errors_hold_no_bytes_of_a_name(land, folder, request, kind, hook, result):
    """Names in errors are escaped and limited, because errors are logged."""
    body = HOSTILE[kind] or request.getfixturevalue(kind)
    with pytest.raises(ResultCorrupt) as caught:
        land(hook, result(body, "zip"), folder.destination("x/"), decompress=True)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("name", "decompress"), [("report.zip", False), ("x/", True)])
@pytest.mark.parametrize("body", [zipped({}), zipped({"x/": b""})], ids=["none", "a folder"])
def test_a_zip_without_a_file_is_refused(land, folder, name, decompress, body, hook, result):
    """A ZIP without a file is refused."""
    with pytest.raises(ResultCorrupt, match=r"contains no file.*Nothing was published"):
        land(hook, result(body, "zip"), folder.destination(name), decompress=decompress)
    assert folder.files() == {}


@pytest.mark.parametrize(("name", "decompress"), [("report.zip", False), ("x/", True)])
def test_a_zip_of_many_members_is_refused(land, folder, name, decompress, hook, result):
    """The number of entries is limited."""
    body = zipped({f"{number}.csv": b"" for number in range(1_001)})
    run_id = result(body, "zip")
    with pytest.raises(InvalidInput, match=r"max_members=1000.*1001 entries") as caught:
        land(hook, run_id, folder.destination(name), decompress=decompress)
    assert not caught.value.transient
    assert folder.files() == {}
    land(hook, run_id, folder.destination(name), decompress=decompress, max_members=1_001)
    assert folder.files()


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "1", None])
def test_a_bad_bound_of_members(land, most):
    """The limit must be a whole number above 0."""
    with pytest.raises(InvalidInput, match="max_members must be"):
        land.to("./x/", max_members=most)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_size_that_is_told_is_of_what_was_written(land, folder, method, hook, result):
    """The reported size is that of the written bytes, whatever the ZIP declares."""
    body = changed(zipped({"a.csv": BODY}, method), b"PK\x01\x02", 24, len(BODY) + 500)
    try:
        landing = land(hook, result(body, "zip"), folder.destination("x/"), decompress=True)
    except ResultCorrupt:
        assert method == zipfile.ZIP_STORED  # there, as many bytes are missing
        return
    assert landing.size == landing.members[0].size == len(BODY)
    assert folder.files() == {"x/a.csv": BODY}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_zip_holds(tmp_path, seed):
    """Thousands of ZIPs with changed bytes are unpacked, or raise an error of this package."""
    rng = random.Random(seed)  # noqa: S311 - made-up damage
    small = b"id,net\n1,2.00\n" * 3
    seeds = [
        *(zipped({"a.csv": small, "x/b.csv": small}, method) for method in METHODS.values()),
        without_name(),
        zipped({"a" * 40: b"", "\u00e9/": b""}),
    ]
    path = tmp_path / "r.zip"
    unpacked, said = 0, []
    for _ in range(1_000):
        body = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(0, 4)):
            at = rng.randrange(len(body))
            if rng.random() < 0.2:
                del body[at : at + rng.randint(1, 40)]
            body[at : at + 1] = rng.choice([b"\0", b"\xff", b"\x01", b"/", rng.randbytes(4)])
        path.write_bytes(body)
        bounds = archive.Bounds(unpacked_bytes=100_000)
        try:
            archive.verify(path, bounds)
            with Spool(tmp_path / "spool", "o") as spool:
                files = archive.unpack(path, spool, bounds)
                assert all(file.size == file.path.stat().st_size for file in files)
        except ReportRunError as error:
            said.append(str(error))
        else:
            unpacked += 1
    assert all(each.isprintable() for each in said)
    assert unpacked
