"""What is special about SFTP: how a file takes the place of another, and what is left alone."""

from __future__ import annotations

import pytest
from landing import servers
from landing.sources import RUN_ID, serving
from landing.stores import SftpStore, sftp_connection

from airflow_provider_reportrun.errors import LandingFailed
from airflow_provider_reportrun.landing.spool import owner_name, temporary_name

pytestmark = pytest.mark.stores
OLD = b"a,b\nold,0\n"
BODY = b"a,b\n1,2\n"


@pytest.fixture
def old_sftp(tmp_path, monkeypatch):
    """Give a folder of a server that cannot rename over what stands there."""
    keys, folder = tmp_path / "keys", tmp_path / "old"
    keys.mkdir()
    folder.mkdir()
    with servers.sshd(keys, "-P posix-rename") as port:
        connection = sftp_connection(port, keys / "client_key")
        conn_id = f"sftp_old_{port}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        yield SftpStore(folder, conn_id=conn_id)


def test_a_server_without_posix_rename(old_sftp, land):
    """There the old file is removed first, and what is landed is whole all the same."""
    land(serving(BODY), RUN_ID, old_sftp.destination("new.csv"))
    old_sftp.put("report.csv", OLD)
    land(serving(BODY), RUN_ID, old_sftp.destination("report.csv"))
    assert old_sftp.files() == {"new.csv": BODY, "report.csv": BODY}


def test_leftovers_of_others_are_left_alone(sftp, land):
    """Only what an earlier try of the same task instance left is removed."""
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
