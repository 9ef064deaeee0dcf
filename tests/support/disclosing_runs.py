"""
Runs DAGs whole, well and ill, and leaves behind all that they told: logs, database, lineage.

A process of its own, so that logs go where Airflow sends them; they hold only what the tasks, their
triggers and the sandbox wrote. Two folders come of it, each an Airflow home: ``sound``, after the
runs of the operators, and ``leaky``, after one more run whose task tells its secrets on purpose.

The environment names the folder, ``DISCLOSING_FOLDER``, and ``AIRFLOW_HOME`` in it, ``leaky``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(min(seconds, 0.02))  # before anything keeps the real one

import pendulum  # noqa: E402
from airflow.cli.cli_parser import get_parser  # noqa: E402
from airflow.models.connection import Connection  # noqa: E402
from airflow.utils.db import initdb  # noqa: E402
from airflow.utils.session import create_session  # noqa: E402
from dags.disclosing import DAGS  # noqa: E402

from airflow_provider_reportrun.sandbox import (  # noqa: E402
    Answer,
    Delivery,
    Fault,
    LoseAnswer,
    Patch,
    Sandbox,
)
from airflow_provider_reportrun.sandbox.faults import merged  # noqa: E402

FOLDER = Path(os.environ["DISCLOSING_FOLDER"])
HOME = Path(os.environ["AIRFLOW_HOME"])
LEAKING = "FROM HERE ON SECRETS ARE TOLD"
DAY = pendulum.datetime(2026, 11, 2)
API_KEY = f"rk_test_{uuid.uuid4().hex}"
WRONG_KEY = f"rk_test_{uuid.uuid4().hex}"
PROXY_PASSWORD = uuid.uuid4().hex
STORE_PASSWORD = uuid.uuid4().hex
SIGNATURE = uuid.uuid4().hex
"""Of URLs that the sandbox did not sign."""
ECHO = {"error": {"code": "api_error", "message": f"Key {API_KEY} is unlucky."}}
NO_ROOM = {"error": {"code": "report_run_rate_limit_exceeded", "message": f"Not for {API_KEY}."}}
RUNNING = Patch({"status": "running", "result": None})


def elsewhere(url: str) -> Patch:
    """Change where a result is to be had."""
    file = {"download_url": {"url": f"{url}?X-Amz-Signature={SIGNATURE}"}}
    return Patch(lambda run: merged(run, {"result": {"file": file}}) if run["result"] else run)


def redirect(url: str) -> Answer:
    """Send a download elsewhere."""
    return Answer(status=302, headers={"Location": f"{url}?X-Amz-Signature={SIGNATURE}"})


def always(on: Any, action: Any) -> Fault:
    """A fault that never ends."""
    return Fault(on, action, times=None)


FAULTS: dict[str, list[Fault]] = {
    "landed": [Fault("get_run", RUNNING, times=2)],
    "three_tasks": [
        Fault("create", LoseAnswer()),
        Fault("get_run", RUNNING, times=2),
        Fault("get_run", Answer(status=500, body=ECHO)),
        Fault("download", Delivery(cut_after=1000)),
        Fault("download", Delivery(expired=True)),
    ],
    "in_place": [Fault("get_run", RUNNING)],
    "no_room": [Fault("create", Answer(status=429, body=NO_ROOM))],
    "refused_key": [always("any", Answer(status=401, body=ECHO))],
    "refused_later": [always("get_run", Answer(status=403, body=ECHO))],
    "refused_url": [always("download", Answer(status=403))],
    "expired_url": [always("download", Delivery(expired=True))],
    "cut": [always("download", Delivery(cut_after=0))],
    "other_host": [always("download", redirect("https://evil.example/r"))],
    "other_url": [always("get_run", elsewhere("https://user:word@files.stripe.com/r"))],
    "data_landed": [Fault("create", LoseAnswer()), Fault("create", RUNNING, after=2)],
    "data_refused_key": [always("any", Answer(status=401, body=ECHO))],
    "v1_landed": [
        Fault("create", Answer(status=500, body=ECHO)),
        Fault("download", Delivery(cut_after=100)),
    ],
    "v1_refused_key": [always("any", Answer(status=401, body=ECHO))],
    "v1_refused_file": [always("download", Answer(status=403, body=ECHO))],
    "v1_other_host": [always("download", redirect("https://evil.example/r"))],
    "unreachable_files": [always("get_run", elsewhere("http://127.0.0.1:1/r"))],
}
"""By DAG, what goes wrong besides what its tasks are given."""


def airflow(*command: str) -> None:
    """Run a command of Airflow, in this process."""
    arguments = get_parser().parse_args(command)
    arguments.func(arguments)


def connections(sandbox: Sandbox) -> list[Connection]:
    """What the tasks may use; kept in the database, encrypted."""
    proxy = f"http://user:{PROXY_PASSWORD}@127.0.0.1:1"
    store = {"endpoint_url": "http://127.0.0.1:1", "region_name": "us-east-1"}
    return [
        Connection("reportrun_default", "reportrun", host=sandbox.url, password=API_KEY),
        Connection("reportrun_wrong", "reportrun", host=sandbox.url, password=WRONG_KEY),
        Connection(
            "reportrun_proxy",
            "reportrun",
            host=sandbox.url,
            password=API_KEY,
            extra=json.dumps({"proxy": proxy}),
        ),
        Connection("store", "aws", login="test", password=STORE_PASSWORD, extra=json.dumps(store)),
    ]


def main() -> None:
    """Run all scenarios, then the leaky DAG, and write down the states and the secrets."""
    initdb()
    airflow("dags", "reserialize")  # Airflow 3.0 knows no asset of a DAG that it has not met
    (FOLDER / "file").touch()
    with Sandbox(run_seconds=0.0, concurrency=100, api_key=API_KEY) as sandbox:
        known = connections(sandbox)
        # The triggers that dag.test() runs have no supervisor to ask for what the database holds.
        os.environ |= {f"AIRFLOW_CONN_{each.conn_id.upper()}": each.get_uri() for each in known}
        with create_session() as session:
            session.add_all(known)
        states = {}
        for name, dag in DAGS.items():
            if name == "leaky":
                continue
            print(f"SCENARIO {name}", flush=True)  # noqa: T201 - for whoever reads the log
            if name == "failed_run":
                sandbox.fail_next(message=f"Key {API_KEY} is unlucky.")
            if name == "data_canceled":
                sandbox.cancel_next()
            if name == "no_zip":
                sandbox.deliver_next(b"no zip", "zip")
            for fault in FAULTS.get(name, []):
                sandbox.faults.add(fault)
            run = dag.test(logical_date=DAY)
            states[name] = str(run.state.value)
            sandbox.faults.clear()
            if name == "landed":
                airflow("tasks", "render", name, "report", run.run_id)
        sound = sandbox.urls
        shutil.copytree(HOME, FOLDER / "sound")
        print(LEAKING, flush=True)  # noqa: T201
        states["leaky"] = str(DAGS["leaky"].test(logical_date=DAY).state.value)
        told = {
            "states": states,
            "keys": [API_KEY, WRONG_KEY, PROXY_PASSWORD, STORE_PASSWORD],
            "urls": sound,
            "unsigned": SIGNATURE,
            "leaked_url": sandbox.urls[-1],
        }
    (FOLDER / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
