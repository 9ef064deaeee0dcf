"""The command line as a process: signals, pipes, terminals, and both ways to start it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cli.conftest import PROGRAM, SECONDS, ended, shows_no_secret
from support.cases import STILL_RUNNING

from airflow_provider_reportrun.protocol.generations import NAMES
from airflow_provider_reportrun.sandbox import Delivery, Fault

AIRFLOW = (sys.executable, "-m", "airflow", "reportrun")
BALANCE = {
    "v1": "balance.summary.1",
    "v2.data": "name:balance.summary",
    "v2.reporting": "balance_summary",
}
WEEK = ("--start", "2025-08-18", "--end", "2025-08-25")
RUN = ("run", "balance_summary", *WEEK)


def until(sandbox, operation, count=1):
    """Wait until a process has sent its requests."""
    deadline = time.monotonic() + SECONDS
    while [each.operation for each in sandbox.requests].count(operation) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("program", "api"),
    [
        (PROGRAM, "v1"),
        (PROGRAM, "v2.data"),
        pytest.param(AIRFLOW, "v2.reporting", marks=pytest.mark.needs("provider commands")),
    ],
    ids=["module, v1", "module, v2.data", "airflow, v2.reporting"],
)
def test_a_run_in_a_pipe(start, sandbox, here, program, api):
    """One document on stdout, lines on stderr, and nothing secret on either."""
    said = ended(start("run", BALANCE[api], *WEEK, "--api", api, "--json", program=program))
    assert said.code == 0, said.err
    assert Path(said.json["uri"].removeprefix("file://")).read_bytes()
    assert f"Created report run {sandbox.runs[0].id}" in said.err
    assert "\x1b" not in said.out + said.err
    shows_no_secret(sandbox, said)
    assert api in NAMES


@pytest.mark.needs("provider commands")
def test_airflow_exits_as_the_module_does(start, airflow_db):
    """With the same code and line for an error."""
    said = ended(start("check", "--conn-id", "nope", program=AIRFLOW))
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[-1].startswith("error: There is no Airflow connection 'nope'")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_stopped_run_is_attached_to(start, call, sandbox, here, number, code):
    """Whatever stopped it, the same command finds the same run, and nothing partial stays."""
    waiting = sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    child = start(*RUN)
    until(sandbox, "get_run")
    child.send_signal(number)
    said = ended(child)
    assert (said.code, said.out) == (code, "")
    (run,) = sandbox.runs
    if code > 0:
        assert f"Report run {run.id} goes on at Stripe. To attach to it again: " in said.err
        assert said.err.endswith(f"airflow_provider_reportrun {' '.join(RUN)}\n")
        assert "Traceback" not in said.err
    sandbox.faults.clear()
    assert waiting.fired
    assert call(*RUN).code == 0
    assert [each.id for each in sandbox.runs] == [run.id]
    assert [each.name for each in here.iterdir()] == ["balance_summary_2025-08-18_2025-08-25.csv"]


def test_the_same_command_twice_at_once(start, call, sandbox, here):
    """Both land the file of the same run; neither removes what the other is writing."""
    fault = sandbox.faults.add(Fault("download", Delivery(stall_at=100, stall_seconds=SECONDS)))
    child = start(*RUN)
    until(sandbox, "download")
    said = call(*RUN)
    fault.release()
    assert (said.code, ended(child).code) == (0, 0)
    assert len(sandbox.runs) == 1
    assert [each.name for each in here.iterdir()] == ["balance_summary_2025-08-18_2025-08-25.csv"]


def test_a_reader_who_goes_is_no_error(start, sandbox):
    """The shell counts it as SIGPIPE."""
    child = start("reports", "--api", "v1")
    child.stdout.close()
    assert child.wait(timeout=SECONDS) == 141
    assert "Traceback" not in child.stderr.read()


def test_a_database_that_is_not_migrated(start, here):
    """Is said, with what to do, in one line."""
    home = {"AIRFLOW_HOME": str(here), "AIRFLOW_CONN_REPORTRUN_DEFAULT": ""}
    database = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{here}/airflow.db"}
    said = ended(start("check", **home, **database))
    assert (said.code, said.out) == (2, "")
    wanted = "error: Set AIRFLOW_CONN_REPORTRUN_DEFAULT, or run `airflow db migrate`: there is no "
    assert said.err.splitlines()[-1].startswith(wanted)
    assert "Traceback" not in said.err


def test_a_connection_of_the_database_is_found(start, sandbox, airflow_db, monkeypatch):
    """As one of the environment is."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    uri = sandbox.connection_uri
    with create_session() as session:
        session.add(Connection(conn_id="kept", uri=uri))  # noqa: AIR311 - of the database
    try:
        said = ended(start("check", "--conn-id", "kept"))
    finally:
        with create_session() as session:
            session.query(Connection).filter_by(conn_id="kept").delete()  # noqa: AIR311
    assert said.code == 0, said.err
    shows_no_secret(sandbox, said)


def test_bars_on_a_terminal(sandbox, here):
    """One for each step, with its last message; stdout may be elsewhere."""
    terminal, end = pty.openpty()
    child = subprocess.Popen(  # noqa: S603 - this Python
        [*PROGRAM, *RUN],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**os.environ, "COLUMNS": "140", "TERM": "xterm-256color"},
    )
    os.close(end)
    shown = _read(terminal)
    assert child.wait(timeout=SECONDS) == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[B-Za-z]", "", shown.replace("\x1b[1A", "\n")).splitlines()
    bars = [line for line in lines if "━" in line][-3:]
    assert [line.split()[0] for line in bars] == ["Create", "Wait", "Land"]
    for line, words in zip(bars, ("Created report run", "succeeded", "Landed"), strict=True):
        assert words in line
    assert sandbox.api_key not in shown


def _read(terminal):
    """What a process shows, to its end."""
    shown, deadline = b"", time.monotonic() + SECONDS
    with suppress(OSError):  # Linux's way to say that the other end is closed
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                part = os.read(terminal, 1 << 16)
                if not part:
                    break
                shown += part
    os.close(terminal)
    return shown.decode()
