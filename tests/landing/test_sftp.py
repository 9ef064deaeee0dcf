"""SFTP: how a file replaces another, and which files are kept."""

from __future__ import annotations

import logging

import pytest
from landing import servers
from landing.sources import RUN_ID, serving
from landing.stores import SftpStore, sftp_connection
from support.cases import BODY

from airflow_provider_reportrun.errors import LandingFailed
from airflow_provider_reportrun.landing.spool import owner_name, temporary_name

pytestmark = pytest.mark.stores
OLD = b"a,b\nold,0\n"


@pytest.fixture
def old_sftp(tmp_path, monkeypatch):
    """Return a folder of a server that cannot replace a file by a rename."""
    keys, folder = tmp_path / "keys", tmp_path / "old"
    keys.mkdir()
    folder.mkdir()
    with servers.sshd(keys, "-P posix-rename") as port:
        connection = sftp_connection(port, keys / "client_key")
        conn_id = f"sftp_old_{port}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        yield SftpStore(folder, conn_id=conn_id)


def test_a_server_without_posix_rename(old_sftp, land):
    """The old file is removed first, and the landed one is complete."""
    land(serving(BODY), RUN_ID, old_sftp.destination("new.csv"))
    old_sftp.put("report.csv", OLD)
    land(serving(BODY), RUN_ID, old_sftp.destination("report.csv"))
    assert old_sftp.files() == {"new.csv": BODY, "report.csv": BODY}


def test_leftovers_of_others_are_left_alone(sftp, land):
    """Only leftovers of the same task instance are removed."""
    other = temporary_name(owner_name("dag", "run", "other", -1))
    sftp.put(f"x/{other}", b"going on")
    sftp.put(f"x/{temporary_name(land.owner)}", b"left")
    land(serving(BODY), RUN_ID, sftp.destination("x/report.csv"))
    assert sftp.files() == {"x/report.csv": BODY, f"x/{other}": b"going on"}


def test_a_folder_in_the_place_of_a_file(sftp, land):
    """A folder is not replaced by a file, and the temporary file is gone."""
    sftp.put("report.csv/other.csv", OLD)
    with pytest.raises(LandingFailed, match=r"report\.csv"):
        land(serving(BODY), RUN_ID, sftp.destination("report.csv"))
    assert sftp.files() == {"report.csv/other.csv": OLD}


def test_a_leftover_that_is_a_folder(sftp, land, caplog):
    """A leftover that cannot be removed is logged and does not stop a landing."""
    odd = temporary_name(land.owner)
    sftp.put(f"x/{odd}/y", b"odd")
    sftp.put(f"x/{temporary_name(land.owner)}", b"left")
    land(serving(BODY), RUN_ID, sftp.destination("x/report.csv"))
    assert sftp.files() == {"x/report.csv": BODY, f"x/{odd}/y": b"odd"}
    assert "by hand" in caplog.text


def test_a_server_without_fsync(tmp_path, monkeypatch, land):
    """If the server cannot sync a file, the landed file is still complete."""
    keys, folder = tmp_path / "keys", tmp_path / "unsynced"
    keys.mkdir()
    folder.mkdir()
    with servers.sshd(keys, "-P fsync") as port:
        conn_id = f"sftp_unsynced_{port}"
        connection = sftp_connection(port, keys / "client_key")
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        store = SftpStore(folder, conn_id=conn_id)
        land(serving(BODY), RUN_ID, store.destination("report.csv"))
        assert store.files() == {"report.csv": BODY}


def test_the_server_is_asked_to_sync(sftp, land, caplog):
    """The server syncs the file before it is renamed."""
    asyncssh = logging.getLogger("asyncssh.sftp")
    with caplog.at_level(logging.DEBUG, asyncssh.name):
        land(serving(BODY), RUN_ID, sftp.destination("report.csv"))
    talk = [record.getMessage() for record in caplog.records if record.name == asyncssh.name]
    (synced,) = [at for at, line in enumerate(talk) if "Sending fsync" in line]
    (renamed,) = [at for at, line in enumerate(talk) if "rename request" in line]
    assert synced < renamed
