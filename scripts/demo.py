"""
Run ``example_dags/weekly_report.py`` for last week, against the sandbox: ``make demo``.

``API=v1`` and ``API=v2.data`` run it on another generation of the API, which names the report
differently; nothing else changes.

It needs no account, no scheduler and no network: the sandbox serves Stripe's Reporting API from
this process, and ``dag.test()`` runs the DAG in it. It writes to ``.demo`` only.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import shutil
import signal
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import DAG

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
LANDING = DEMO / "reports"
DAGS = ROOT / "example_dags"
RUN_SECONDS = 3
"""How long a report run takes in the sandbox; Stripe takes minutes."""
DATA_LAG_HOURS = 12
"""Hours from the end of a half day until its data is available in the sandbox."""
REPORTS = {
    "v2.reporting": "balance_change_from_activity_itemized",
    "v2.data": "name:balance_change_from_activity.itemized",
    "v1": "balance_change_from_activity.itemized.1",
}
"""The name of the weekly report, by generation of the API."""
LINES_SHOWN = 4
LEVELS = "airflow.task.operators.airflow_provider_reportrun=INFO py.warnings=ERROR"
"""Shows what our tasks log, and warnings of everything else except Python's own."""


def main() -> int:
    """
    Run the demo.

    :return: the exit code, 0 if the report has landed.
    """
    signal.signal(signal.SIGINT, stop)
    api = arguments().api
    prepare()
    say("Starting Airflow and the sandbox, in this process (about ten seconds) ...")
    from airflow_provider_reportrun.sandbox import Sandbox

    with Sandbox(run_seconds=RUN_SECONDS, data_lag_hours=DATA_LAG_HOURS) as sandbox:
        os.environ["AIRFLOW_CONN_REPORTRUN_DEFAULT"] = sandbox.connection_json_for(api)
        state = run(weekly_report(REPORTS[api]), monday=last_monday_with_data())
    if state != "success":
        say(f"The DAG run ended as {state!r}, not as 'success'; the lines above say why.")
        return 1
    (landed,) = LANDING.iterdir()
    show(landed)
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--api", choices=REPORTS, default="v2.reporting", help="the generation")
    return parser.parse_args()


def prepare() -> None:
    """Give Airflow an empty home and the examples, and remove settings of any other Airflow."""
    shutil.rmtree(DEMO, ignore_errors=True)
    for folder in (DEMO / "airflow", DEMO / "tmp"):
        folder.mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": str(DEMO / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__LOGGING__LOG_FORMAT": "  %(message)s",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": LEVELS,
        "REPORTRUN_LANDING": str(LANDING),
        "TMPDIR": str(DEMO / "tmp"),
    }


def weekly_report(report: str) -> DAG:
    """Import the example, with the report's name, and a poll interval and retries for a demo."""
    sys.path.insert(0, str(DAGS))
    import weekly_report

    dag: DAG = weekly_report.dag
    for task in dag.tasks:
        task.retries = 0
    dag.get_task("create").report = report  # type: ignore[union-attr]
    dag.get_task("wait").poke_interval = 1  # type: ignore[union-attr]
    return dag


def last_monday_with_data() -> datetime:
    """Return the end (UTC) of the last whole week that the sandbox has data of."""
    ready = datetime.now(timezone.utc) - timedelta(hours=DATA_LAG_HOURS)
    midnight = ready.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=midnight.weekday())


def run(dag: DAG, *, monday: datetime) -> str:
    """
    Run a weekly DAG as a scheduler would on a Monday.

    :return: the state of the DAG run.
    """
    from airflow.utils.db import initdb

    initdb()
    week = f"{monday - timedelta(days=7):%Y-%m-%d} to {monday:%Y-%m-%d}"
    say(f"Running {dag.dag_id} for the week {week} ...")
    return str(dag.test(logical_date=monday).state)


def show(landed: Path) -> None:
    """Print what has landed, and what to do next."""
    content = landed.read_bytes()
    say(f"Landed {landed.relative_to(ROOT)}")
    say(f"  {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    for line in content.decode().splitlines()[:LINES_SHOWN]:
        say(f"  {line}")
    say("Next: read example_dags/weekly_report.py, which has just run, and README.md for the rest.")
    say("For any other Airflow: .venv/bin/python -m airflow_provider_reportrun.sandbox")


def say(line: str) -> None:
    """Print a line at once, in order with Airflow's log."""
    print(line, flush=True)


def stop(*_: object) -> None:
    """End at once on Ctrl-C; there is nothing outside this process to clean up."""
    os.write(sys.stderr.fileno(), b"\nStopped.\n")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
