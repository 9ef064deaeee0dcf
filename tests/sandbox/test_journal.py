"""A sandbox that goes on with the runs of an earlier one."""

from __future__ import annotations

import pytest
from sandbox.clients import CLIENTS, Client

from airflow_provider_reportrun.sandbox import Sandbox


@pytest.mark.parametrize("generation", CLIENTS)
def test_goes_on(tmp_path, generation):
    """Runs, their files, their keys and their numbers go on; another body is refused as before."""
    journal = tmp_path / "journal"
    with Sandbox(run_seconds=0, journal=journal) as before:
        client = CLIENTS[generation](before)
        first = client.create(key="one").json()["id"]
        file = client.content_of(client.url_of(client.run(first).json()))
    with Sandbox(run_seconds=0, journal=journal) as after:
        client = CLIENTS[generation](after)
        assert [run.id for run in after.runs] == [first]
        run = client.run(first).json()
        assert run["status"] == "succeeded"
        assert client.content_of(client.url_of(run)) == file
        assert client.create(key="one").json()["id"] == first
        assert client.another(key="one").status_code in {400, 409}
        second = client.create(key="two").json()["id"]
        assert [run.id for run in after.runs] == [first, second]
        assert first != second


def test_unfinished_run(tmp_path):
    """A run ends at the time at which it would have ended, failed if that was its end."""
    journal = tmp_path / "journal"
    with Sandbox(run_seconds=3600, concurrency=1, journal=journal) as before:
        before.fail_next()
        run_id = Client(before).create().json()["id"]
    with Sandbox(run_seconds=3600, concurrency=1, journal=journal) as after:
        client = Client(after)
        assert client.run(run_id).json()["status"] == "running"
        assert client.create().status_code == 429
        after.advance(4000)
        assert client.run(run_id).json()["status"] == "failed"


def test_refused_create(tmp_path):
    """v1 repeats a saved refusal after the start too; the other generations keep none."""
    journal = tmp_path / "journal"
    with Sandbox(journal=journal) as before:
        answer = CLIENTS["v1"](before).create(key="one", interval_end=None)
        assert answer.status_code == 400
    with Sandbox(journal=journal) as after:
        assert after.runs == []
        again = CLIENTS["v1"](after).create(key="one", interval_end=None)
        assert (again.status_code, again.json()) == (400, answer.json())


@pytest.mark.parametrize("left", [-1, -20])
def test_torn_record(tmp_path, left):
    """A record that a kill has cut is dropped, and the next one is read again."""
    journal = tmp_path / "journal"
    with Sandbox(journal=journal) as before:
        ids = [Client(before).create().json()["id"] for _ in range(2)]
    journal.write_bytes(journal.read_bytes()[:left])
    with Sandbox(journal=journal) as after:
        assert [run.id for run in after.runs] == ids[:1]
        ids[1] = Client(after).create().json()["id"]
    with Sandbox(journal=journal) as last:
        assert [run.id for run in last.runs] == ids


@pytest.mark.parametrize("content", [b"", b"\x80nonsense", b"N."])
def test_other_file(tmp_path, content):
    """A file that this version has not written is begun anew."""
    journal = tmp_path / "journal"
    journal.write_bytes(content)
    with Sandbox(journal=journal) as before:
        run_id = Client(before).create().json()["id"]
    with Sandbox(journal=journal) as after:
        assert [run.id for run in after.runs] == [run_id]


def test_reset(tmp_path):
    """A reset forgets what is in the file too."""
    journal = tmp_path / "journal"
    with Sandbox(journal=journal) as before:
        Client(before).create()
        before.reset()
    with Sandbox(journal=journal) as after:
        assert after.runs == []
