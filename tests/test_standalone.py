"""What ``make standalone`` is made of; ``tests/browser`` starts all of it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from local_airflow.components import MOST_EXITS, Components, end_left_over
from local_airflow.failure import Failure
from local_airflow.folder import Folder, free_port, held
from local_airflow.postgresql import PostgreSQL
from local_airflow.settings import environment, settings, write_env

ROOT = Path(__file__).parents[1]
WAIT_SECONDS = 60.0
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]

pytestmark = pytest.mark.needs("PostgreSQL")


def wait_for(look, what):
    """Look until there is something to see, and return it."""
    until = time.monotonic() + WAIT_SECONDS
    while not (seen := look()):
        assert time.monotonic() < until, f"Waited in vain for {what}."
        time.sleep(0.05)
    return seen


@pytest.fixture
def folder(tmp_path):
    """Return a prepared folder, whose name is longer than that of a socket may be."""
    made = Folder(tmp_path / ("a-long-name" * 10))
    made.path.mkdir()
    made.prepare()
    return made


@pytest.fixture
def said():
    """Return what was said to the user."""
    return []


@pytest.fixture
def components(folder, said):
    """Return the components of the folder, and stop what the test leaves."""
    all_of_them = Components(folder, said.append)
    yield all_of_them
    all_of_them.stop(["one", "two"])


def sessions_in(folder):
    """Return what is written of the processes in a folder."""
    return json.loads(folder.sessions.read_text())


def process_in(folder):
    """Return the only process in a folder."""
    (pid,) = sessions_in(folder)
    return psutil.Process(pid)


@contextmanager
def sleeping_in(path):
    """Start a process that is none of the folder's, and kill it at the end."""
    with subprocess.Popen(SLEEP, cwd=path, start_new_session=True) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.kill()


# -- components ----------------------------------------------------------------------------


def test_component_is_started_again(components, folder, said):
    """A component that was killed is started again, with its children ended before."""
    child = f"import subprocess, sys, time; subprocess.Popen({SLEEP}); time.sleep(600)"
    components.start("one", [sys.executable, "-c", child], os.environ)
    first = process_in(folder)
    (below,) = wait_for(first.children, "a child")
    first.kill()

    def tended():
        components.tend()
        return sessions_in(folder) != [first.pid]

    wait_for(tended, "another process")
    assert not below.is_running()
    assert len(said) == 1
    assert "The one was killed by signal 9 (SIGKILL). It is started again" in said[0]


def test_component_that_does_not_keep_running(components, folder, said):
    """A component that exits at each start is an error, with the end of its log."""
    components.start("one", [sys.executable, "-c", "print('No ink.'); exit(3)"], os.environ)
    components.start("two", SLEEP, os.environ)

    def tended():
        components.tend()

    with pytest.raises(Failure) as raised:
        wait_for(tended, "the error")
    assert f"The one does not keep running: it exited with code 3, {MOST_EXITS} times" in str(
        raised.value
    )
    assert str(raised.value).endswith("\nNo ink.\nNo ink.\nNo ink.\nNo ink.\nNo ink.")
    assert len(said) == MOST_EXITS - 1


def test_stop(components, folder):
    """A component that ignores the signal is killed."""
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    components.start("one", [sys.executable, "-c", f"{stubborn}; time.sleep(600)"], os.environ)
    process = process_in(folder)
    wait_for(lambda: folder.log_of("one").read_bytes(), "a process that ignores SIGTERM")
    components.stop(["one"], seconds=0.2)
    assert not process.is_running()
    assert sessions_in(folder) == []


def test_left_over(components, folder, tmp_path):
    """What an earlier start left is ended, and nothing else that works in the folder."""
    components.start("one", SLEEP, os.environ)
    left = process_in(folder)
    with sleeping_in(folder.path) as shell, sleeping_in(tmp_path) as elsewhere:
        folder.sessions.write_text(json.dumps([left.pid, elsewhere.pid]))
        assert end_left_over(folder)
        assert not left.is_running()
        assert shell.poll() is None
        assert elsewhere.poll() is None
        assert not end_left_over(folder)


# -- the folder ----------------------------------------------------------------------------


def test_folder_is_held_by_one(tmp_path):
    """A second holder is refused by a message that names the first, until that one is gone."""
    with held(tmp_path / "one", "process 7 (http://127.0.0.1:8080)"):
        with (
            pytest.raises(Failure, match=r"in use by process 7 \(http://127.0.0.1:8080\)\. Stop"),
            held(tmp_path / "one", "process 8"),
        ):
            pass
        with held(tmp_path / "two", "process 8"):
            pass
    with held(tmp_path / "one", "process 8") as folder:
        folder.prepare()
        folder.empty()
        assert [path.name for path in folder.path.iterdir()] == ["lock"]


def test_folder_of_something_else(tmp_path):
    """A folder with other files is refused before anything is removed from it, or added."""
    (tmp_path / "mine").touch()
    with pytest.raises(Failure, match="has other files: choose"), held(tmp_path, "process 7"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    below = tmp_path / "mine" / "below"
    with pytest.raises(Failure, match=r"Cannot use .*: Not a dir"), held(below, "process 7"):
        pass


def test_keys_and_ports_are_kept(folder):
    """The next start has the same keys and ports; a port that is in use is replaced."""
    kept = folder.prepare()
    assert folder.prepare() == kept
    assert (folder.path / "kept.json").stat().st_mode & 0o777 == 0o600
    with running_server(folder, kept):
        again = folder.prepare()
    assert again.postgresql_port != kept.postgresql_port
    assert again.sandbox_port == kept.sandbox_port
    assert again.fernet_key == kept.fernet_key


def test_env_can_be_sourced(folder, monkeypatch):
    """A shell that reads the file has exactly the settings of the components."""
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "true")
    variables = settings(
        folder, folder.prepare(), dags=Path("/da gs'"), port=8080, database="postgresql://x"
    )
    assert environment(folder, variables)["AIRFLOW__CORE__LOAD_EXAMPLES"] == "false"
    write_env(folder, variables)
    assert folder.env.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", "-euc", f". {shlex.quote(str(folder.env))}; env; command -v airflow"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_SECONDS,
    )
    lines = done.stdout.splitlines()
    assert {f"{name}={value}" for name, value in variables.items()} <= set(lines)
    assert lines[-1] == str(Path(sys.executable).parent / "airflow")


# -- PostgreSQL ----------------------------------------------------------------------------


@contextmanager
def running_server(folder, kept):
    """Run a server in the folder, and stop it as the script does."""
    server = PostgreSQL(
        folder.postgresql, port=kept.postgresql_port, password=kept.postgresql_password
    )
    server.prepare()
    components = Components(folder, pytest.fail)
    components.start("postgresql", server.command, os.environ)
    try:
        wait_for(server.is_ready, "PostgreSQL")
        yield server
    finally:
        components.stop(["postgresql"], signal.SIGINT, WAIT_SECONDS)


def rows_of(server, sql):
    """Run SQL, and return its rows if there are any."""
    import psycopg2

    connection = psycopg2.connect(server.url.replace("+psycopg2", ""))
    connection.autocommit = True
    try:
        cursor = connection.cursor()
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def test_database(folder):
    """It listens on 127.0.0.1 only, wants its password, and keeps its data over a restart."""
    import psycopg2

    kept = folder.prepare()
    with running_server(folder, kept) as server:
        rows_of(server, "create table kept as select 42 as answer")
        process = process_in(folder)
        listening = {each.laddr.ip for each in process.net_connections() if each.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        assert process.uids().real != 0
        wrong = server.url.replace("+psycopg2", "").replace(kept.postgresql_password, "wrong")
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(wrong)
    assert not (folder.postgresql / "postmaster.pid").exists()
    with running_server(folder, kept) as server:
        assert rows_of(server, "select answer from kept") == [(42,)]


def test_database_after_a_kill(folder):
    """After a kill of everything, the next start ends the old server, and goes on with its data."""
    kept = folder.prepare()
    lost = PostgreSQL(
        folder.postgresql, port=kept.postgresql_port, password=kept.postgresql_password
    )
    lost.prepare()
    process = subprocess.Popen(  # noqa: S603
        lost.command, cwd=folder.path, start_new_session=True, stderr=subprocess.DEVNULL
    )
    folder.sessions.write_text(json.dumps([process.pid]))
    wait_for(lost.is_ready, "PostgreSQL")
    rows_of(lost, "create table kept as select 42 as answer")
    assert end_left_over(folder)
    assert process.wait(WAIT_SECONDS) == 0
    (folder.postgresql / "postmaster.pid").write_text(f"{os.getpid()}\n{folder.postgresql}\n")
    end_left_over(folder)
    with running_server(folder, kept) as server:
        assert rows_of(server, "select answer from kept") == [(42,)]


def test_data_of_another_version(folder):
    """Data that the server cannot read are refused, and kept."""
    folder.postgresql.mkdir()
    (folder.postgresql / "PG_VERSION").write_text("9\n")
    with pytest.raises(Failure, match=r"cannot read the data of PostgreSQL 9: .*FRESH=1"):
        PostgreSQL(folder.postgresql, port=free_port(), password="x").prepare()  # noqa: S106
    assert (folder.postgresql / "PG_VERSION").exists()


# -- the command ---------------------------------------------------------------------------


def test_options_of_make():
    """Each variable of ``make standalone`` is an option of the script."""
    values = {
        "PORT": "8081",
        "FOLDER": "/x y",
        "FAIL_NEXT": "3",
        "CONCURRENCY": "2",
        "RUN_SECONDS": "9.5",
        "DATA_LAG": "12",
    }
    given = [f"{name}={value}" for name, value in values.items()]
    done = subprocess.run(  # noqa: S603
        ["make", "--no-print-directory", "-n", "standalone", "FRESH=1", "ARGS=--seed 4", *given],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_SECONDS,
    )
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[1:] == [
        *("scripts/standalone.py", "--fresh", "--port", "8081", "--folder", "/x y"),
        *("--fail-next", "3", "--concurrency", "2", "--run-seconds", "9.5", "--data-lag", "12"),
        *("--seed", "4"),
    ]
    wrong = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, ROOT / "scripts" / "standalone.py", "--fail-next", "-1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert wrong.returncode == 2
    assert "--fail-next" in wrong.stderr
