"""
Start a real Airflow with its UI, the example DAGs and the sandbox: ``make standalone``.

It needs no account and no network: the sandbox serves Stripe's Reporting API from this process, and
Airflow's components are its child processes. Everything listens on 127.0.0.1. All files are in one
folder, which is emptied at each start, because the sandbox starts empty too. SIGINT (Ctrl-C) and
SIGTERM stop everything.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
CONN_ID = "reportrun_default"
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
"""Without log servers, which would listen on all interfaces; the UI reads the log files."""
QUIET = {
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "py.warnings=ERROR",
}
"""For this process, which creates the database; the components log as usual."""
RUN_SECONDS = 2
"""Duration of a report run in the sandbox; Stripe needs minutes."""
DATA_LAG_HOURS = 0
"""Without a lag, last week's data is there on a Monday morning too."""
START_SECONDS = 300.0
"""How long Airflow may take to become healthy; on an idle machine it takes 20 s."""
STOP_SECONDS = 5.0
"""How long the components may take to exit before they are killed."""
LOG_LINES = 30
"""How many lines of a log are shown if its component exits unexpectedly."""


class Failure(Exception):
    """Airflow does not run; the text says why."""


def main() -> int:
    """
    Run until stopped.

    :return: the exit code, 0 if a signal stopped it.
    """
    options = arguments()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    url = f"http://{HOST}:{options.port}"
    try:
        must_be_free(options.port)
        prepare(options.folder, dags=options.dags, url=url)
        say("Starting Airflow and the sandbox (about half a minute) ...")
        from airflow_provider_reportrun.sandbox import Sandbox

        with Sandbox(run_seconds=RUN_SECONDS, data_lag_hours=DATA_LAG_HOURS) as sandbox:
            make_database(sandbox.connection_json)
            with components(options.folder) as running:
                watch(running, options.folder, stopped, url)
    except Failure as failure:
        say(str(failure))
        return 1
    say("Stopped.")
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make standalone")
    add = parser.add_argument
    add("--port", type=int, default=8080, help="port of the UI (default: %(default)s)")
    add("--folder", type=Path, default=ROOT / ".standalone", help="emptied at each start")
    add("--dags", type=Path, default=ROOT / "example_dags")
    return parser.parse_args()


def must_be_free(port: int) -> None:
    """
    Refuse a port that is in use.

    :raises Failure: names the port and the fix.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            message = f"Cannot listen on port {port}: {error.strerror}. Try PORT=8081."
            raise Failure(message) from None


def prepare(folder: Path, *, dags: Path, url: str) -> None:
    """Set up an empty Airflow home and the DAGs, without settings of any other Airflow."""
    shutil.rmtree(folder, ignore_errors=True)
    for each in (folder / "airflow", folder / "logs", folder / "tmp"):
        each.mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    settings = {
        "API__BASE_URL": url,
        "API__HOST": HOST,
        "API__PORT": url.rpartition(":")[2],
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
        "CORE__DAGS_FOLDER": str(dags.resolve()),
        "CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "CORE__LOAD_EXAMPLES": "false",
        "CORE__PARALLELISM": "4",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
        "CORE__TEST_CONNECTION": "Enabled",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "WORKERS__EXECUTION_API_TIMEOUT": "60",  # a busy machine is slow just after the start
    }
    os.environ |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
    os.environ |= {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "REPORTRUN_LANDING": str(folder / "reports"),
        "TMPDIR": str(folder / "tmp"),
        **QUIET,
    }


def make_database(connection: str) -> None:
    """
    Create Airflow's database with the connection to the sandbox.

    The connection also has the port in its own field, because the Test button of Airflow 3.3.1 and
    3.3.2 refuses a connection without one.
    """
    from airflow.models.connection import Connection
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    values = json.loads(connection)
    values["port"] = urlsplit(values["host"]).port
    with create_session() as session:
        session.add(Connection.from_json(json.dumps(values), conn_id=CONN_ID))


@contextmanager
def components(folder: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start Airflow's components, and stop all their processes at the end."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    try:
        for name, command in COMPONENTS.items():
            with log_of(folder, name).open("wb") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, "-m", "airflow", *command],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that Ctrl-C reaches only this process
                )
        yield running
    finally:
        end(list(running.values()))


def end(started: list[subprocess.Popen[bytes]]) -> None:
    """Terminate every component, and kill those and their children that do not exit."""
    left = family(started)
    for component in started:
        component.terminate()
    until = time.monotonic() + STOP_SECONDS
    for component in started:
        with suppress(subprocess.TimeoutExpired):
            component.wait(max(until - time.monotonic(), 0))
    left |= family(started)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left)
    for component in started:
        component.wait()


def family(started: list[subprocess.Popen[bytes]]) -> set[psutil.Process]:
    """Return the started processes and all their descendants."""
    found = set()
    for component in started:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(component.pid)
            found |= {process, *process.children(recursive=True)}
    return found


def watch(
    running: dict[str, subprocess.Popen[bytes]], folder: Path, stopped: threading.Event, url: str
) -> None:
    """
    Print a message when Airflow is ready, and return when it should stop.

    :raises Failure: if a component exits unexpectedly, or if Airflow does not become healthy.
    """
    until = time.monotonic() + START_SECONDS
    ready = False
    while not stopped.wait(0.5):
        for name, component in running.items():
            if component.poll() is not None:
                raise Failure(f"{name} exited unexpectedly:\n{tail(log_of(folder, name))}")
        if not ready and is_healthy(url):
            ready = True
            say(welcome(url, folder))
        if not ready and time.monotonic() > until:
            raise Failure(f"Airflow is not healthy after {START_SECONDS:.0f} s; see {folder}/logs.")
    say("Stopping ...")


def is_healthy(url: str) -> bool:
    """Tell whether every component reports that it is healthy."""
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - ours
            health = json.load(answer)
    except (OSError, ValueError):
        return False
    parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    return all((health.get(part) or {}).get("status") == "healthy" for part in parts)


def welcome(url: str, folder: Path) -> str:
    """Describe where everything is, and what to try."""
    return f"""
Airflow is ready: {url}

  {url}/dags/weekly_report
      has started for last week. Open one of its tasks to see its log, its XCom, and in its
      details the link "Stripe report run". The files land in {shown(folder)}/reports.
  {url}/connections
      {CONN_ID} points to the sandbox. Edit and test it, or add one of type "Stripe Reporting".

The DAGs are those of example_dags; Airflow reloads them seconds after a change.
The logs are in {shown(folder)}/logs. Stop everything with Ctrl-C.
"""


def shown(path: Path) -> str:
    """Shorten a path inside the clone."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def log_of(folder: Path, name: str) -> Path:
    """Return the path of a component's log."""
    return folder / "logs" / f"{name}.log"


def tail(log: Path) -> str:
    """Return the end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def say(line: str) -> None:
    """Print without buffering."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
