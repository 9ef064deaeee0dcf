"""
Start a real Airflow with its UI, the example DAGs and the sandbox: ``make standalone``.

It needs no account and no network: the sandbox serves Stripe's Reporting API from this process;
PostgreSQL, from a wheel, and Airflow's components are its child processes, which are started again
if they exit. Everything listens on 127.0.0.1. All files are in one folder, and the next start goes
on with them. SIGINT (Ctrl-C) and SIGTERM stop everything.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from local_airflow.components import Components, end_left_over
from local_airflow.failure import Failure
from local_airflow.folder import HOST, Folder, Kept, held, is_free
from local_airflow.postgresql import PostgreSQL
from local_airflow.settings import environment, settings, write_env

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox import Sandbox

ROOT = Path(__file__).resolve().parent.parent
CONN_ID = "reportrun_default"
DATABASE = "postgresql"
COMPONENTS = {
    "api-server": ["api-server"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
}
"""Without log servers, which would listen on all interfaces; the UI reads the log files."""
QUIET = {
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "py.warnings=ERROR",
}
"""For this process, which creates the database; the components log as usual."""
RUN_SECONDS = 4.0
"""
Longer than a loop of Airflow's scheduler on a machine with nothing else to do.

A task that is resumed within one loop is taken for killed ("state mismatch"), and tried again.
"""
DATA_LAG_HOURS = 0.0
"""Without a lag, last week's data is there on a Monday morning too."""
START_SECONDS = 300.0
"""How long each step of the start may take; on an idle machine all of them take 25 s."""
DATABASE_STOP_SECONDS = 30.0
"""How long PostgreSQL may take to write what it holds in memory."""


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
        with held(options.folder.resolve(), f"process {os.getpid()} ({url})") as folder:
            run(folder, options, stopped)
    except Failure as failure:
        say(str(failure))
        return 1
    say("Stopped.")
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    from airflow_provider_reportrun.sandbox.options import add_options

    parser = argparse.ArgumentParser(
        prog="make standalone", description="Start an Airflow with its UI and the sandbox."
    )
    add = parser.add_argument
    add("--port", type=int, default=8080, help="port of the UI (default: %(default)s)")
    add(
        "--folder",
        type=Path,
        default=ROOT / ".standalone",
        help="where all files are (default: %(default)s)",
    )
    add("--fresh", action="store_true", help="begin anew: remove what is in the folder")
    add("--dags", type=Path, default=ROOT / "example_dags")
    add_options(parser, run_seconds=RUN_SECONDS, data_lag=DATA_LAG_HOURS)
    return parser.parse_args()


def run(folder: Folder, options: argparse.Namespace, stopped: threading.Event) -> None:
    """
    Run everything in the folder until stopped.

    :raises Failure: if it does not run.
    """
    if end_left_over(folder):
        say("An earlier start was killed; what was left of it is stopped.")
    if not is_free(options.port):
        raise Failure(f"Port {options.port} is in use by another program. Try PORT=8081.")
    if options.fresh:
        folder.empty()
    goes_on = folder.env.exists()
    kept = folder.prepare()
    say(
        f"Starting Airflow and the sandbox in {shown(folder.path)} (about half a minute) ..."
        + ("\nIt goes on where it stopped; FRESH=1 begins anew." if goes_on else "")
    )
    database = PostgreSQL(
        folder.postgresql, port=kept.postgresql_port, password=kept.postgresql_password
    )
    variables = settings(
        folder, kept, dags=options.dags.resolve(), port=options.port, database=database.url
    )
    inherited = environment(folder, variables)
    os.environ.clear()
    os.environ.update(inherited | QUIET)
    components = Components(folder, say)
    with sandbox_of(folder, kept, options) as sandbox:
        try:
            start_database(components, database, stopped)
            if stopped.is_set():
                return
            prepare_database(sandbox.connection_json)
            # `airflow dags test` finds no connection of the database in its triggers.
            connection = {f"AIRFLOW_CONN_{CONN_ID.upper()}": sandbox.connection_json}
            write_env(folder, variables | connection)
            start_airflow(components, inherited, stopped)
            if not stopped.is_set():
                say(welcome(folder, options.port, sandbox))
            while not stopped.wait(0.5):
                components.tend()
            say("Stopping ...")
        finally:
            components.stop(COMPONENTS)
            components.stop([DATABASE], signal.SIGINT, DATABASE_STOP_SECONDS)


@contextmanager
def sandbox_of(folder: Folder, kept: Kept, options: argparse.Namespace) -> Iterator[Sandbox]:
    """Serve the API, with the report runs of earlier starts."""
    from airflow_provider_reportrun.sandbox.options import sandbox_from

    sandbox = sandbox_from(options, port=kept.sandbox_port, journal=folder.sandbox)
    with sandbox:
        yield sandbox


def start_database(components: Components, server: PostgreSQL, stopped: threading.Event) -> None:
    """
    Start PostgreSQL, and return when it is ready.

    :raises Failure: if it does not start.
    """
    server.prepare()
    components.start(DATABASE, server.command, os.environ)
    wait_until(server.is_ready, "PostgreSQL is ready", components, stopped)


def prepare_database(connection: str) -> None:
    """
    Create or migrate Airflow's database, with the connection to the sandbox.

    A connection that is there keeps what a user has changed in it, unless it leads to a former
    address of the sandbox. The connection also has the port in its own field, because the Test
    button of Airflow 3.3.1 and 3.3.2 refuses a connection without one.

    :raises Failure: if another version of Airflow made the database, and it cannot be migrated.
    """
    from airflow import __version__
    from airflow.models.connection import Connection
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session
    from alembic.util import CommandError

    try:
        initdb()
    except (CommandError, SystemExit) as error:
        raise Failure(
            f"Airflow {__version__} cannot use the database of the last start: begin anew, with"
            f" FRESH=1. {error}"
        ) from None
    values = json.loads(connection)
    port = values["port"] = urlsplit(values["host"]).port
    with create_session() as session:
        found = session.query(Connection).filter(Connection.conn_id == CONN_ID).one_or_none()
        if found is None:
            session.add(Connection.from_json(json.dumps(values), conn_id=CONN_ID))
        elif found.host == f"http://{HOST}:{found.port}":
            found.host, found.port = values["host"], port


def start_airflow(
    components: Components, inherited: Mapping[str, str], stopped: threading.Event
) -> None:
    """
    Start Airflow's components, and return when all are healthy.

    The scheduler is the last, because tasks fail as long as the API server does not answer.

    :raises Failure: if a component does not keep running, or if they do not become healthy.
    """
    url = inherited["AIRFLOW__API__BASE_URL"]
    for name, command in COMPONENTS.items():
        if name == "scheduler":
            wait_until(
                lambda: health_of(url) is not None, "the API server answers", components, stopped
            )
        components.start(name, [sys.executable, "-m", "airflow", *command], inherited)
    wait_until(lambda: is_healthy(url), "Airflow is healthy", components, stopped)


def wait_until(
    look: Callable[[], bool], what: str, components: Components, stopped: threading.Event
) -> None:
    """
    Return when there is something to see, or when everything should stop.

    :raises Failure: if it takes too long, or if a component does not keep running.
    """
    until = time.monotonic() + START_SECONDS
    while not look() and not stopped.wait(0.2):
        components.tend()
        if time.monotonic() > until:
            raise Failure(f"Waited {START_SECONDS:.0f} s until {what}, in vain; see the logs.")


def health_of(url: str) -> dict[str, Any] | None:
    """Return what Airflow reports of its health, or None as long as it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - ours
            health: dict[str, Any] = json.load(answer)
    except (OSError, ValueError):
        return None
    return health


def is_healthy(url: str) -> bool:
    """Tell whether every component reports that it is healthy."""
    health = health_of(url) or {}
    parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    return all((health.get(part) or {}).get("status") == "healthy" for part in parts)


def welcome(folder: Folder, port: int, sandbox: Sandbox) -> str:
    """Describe where everything is, and what to try."""
    url = f"http://{HOST}:{port}"
    return f"""
Airflow is ready: {url}

  {url}/dags/weekly_report
      has started for last week. Open one of its tasks to see its log, its XCom, and in its
      details the link "Stripe report run". The files land in {shown(folder.reports)}.
      Then fetch many weeks at once: click "Trigger" and "Backfill", enter the range from
      2026-01-05 to 2026-07-27, and set "Max Active Runs" to 8.
  {url}/dags/parquet_to_table
      has loaded last week's report into a table of DuckDB, as soon as it had landed. The XCom of
      its task "totals" shows what is in the table.
  {url}/connections
      {CONN_ID} points to the sandbox. Edit and test it, or add one of type "Stripe Reporting".

In another terminal, this prepares a shell for the commands of this Airflow:

  . {shown(folder.env)}
  airflow dags test weekly_report 2026-01-12
  airflow connections get {CONN_ID}
  airflow backfill create --dag-id weekly_report --from-date 2026-01-05 --to-date 2026-02-23

The sandbox serves Stripe's API at {sandbox.url}; its key is {sandbox.api_key}.
The DAGs are those of example_dags; Airflow reloads them seconds after a change.
The logs are in {shown(folder.logs)}.
Stop everything with Ctrl-C; the next start goes on from there, and FRESH=1 begins anew.
"""


def shown(path: Path) -> str:
    """Shorten a path inside the clone."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def say(line: str) -> None:
    """Print without buffering."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
