"""DAGs whose tasks return what the hook gave them, to the next task or in vain."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, task

from airflow_provider_reportrun.hooks.report_run import ReportRunHook

WEEK = {"interval_start": "2026-10-26T00:00:00Z", "interval_end": "2026-11-02T00:00:00Z"}
START = pendulum.datetime(2026, 1, 1)


@task
def created() -> str:
    """Make a report run."""
    return ReportRunHook().create_report_run("balance_summary", WEEK).id


@task
def run(report_run_id: str) -> Any:
    """Return a report run."""
    return ReportRunHook().wait_for_report_run(report_run_id, poll_interval=0.05, timeout=60)


@task
def file(report_run_id: str) -> Any:
    """Return what the API says of a file."""
    return ReportRunHook().get_result_file(report_run_id)


@task
def nested(report_run_id: str) -> Any:
    """Return a report run among others."""
    return {"runs": [ReportRunHook().get_report_run(report_run_id)]}


@task
def report() -> Any:
    """Return a report's definition."""
    return ReportRunHook().get_report("balance_summary")


@task
def facts(report_run_id: str) -> Any:
    """Return what a download verified."""
    path = Path(os.environ["REPORTRUN_LANDING"]) / "r.csv"
    return ReportRunHook().download_result(report_run_id, path)


@task
def read(given: dict[str, Any]) -> None:
    """Note what comes of them in the next task."""
    kinds = {name: type(value).__name__ for name, value in given.items()}
    told = json.dumps({"kinds": kinds, "values": given})
    (Path(os.environ["REPORTRUN_LANDING"]) / "read.json").write_text(told)


with DAG("returning", schedule=None, start_date=START) as returning:
    known = created()
    of_run = {each.function.__name__: each(known) for each in (run, file, nested, facts)}
    read({**of_run, "report": report()})


@task
def refused(what: str, report_run_id: str) -> Any:
    """Return what must not leave the task."""
    hook = ReportRunHook()
    found = hook.get_report_run(report_run_id)
    return [
        {
            "access": lambda: hook.access,
            "key": lambda: hook.access.api_key,
            "url": lambda: found.file and found.file.url,
            "fields": lambda: dataclasses.asdict(found),
            "access_fields": lambda: dataclasses.asdict(hook.access),
        }[what]()
    ]


with DAG("refused", schedule=None, start_date=START) as refusing:
    known = created()
    for each in ("access", "key", "url", "fields", "access_fields"):
        refused.override(task_id=each)(each, known)
