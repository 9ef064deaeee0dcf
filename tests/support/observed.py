"""
One report, from a refused create to the landed file, in a fresh process whose Airflow is watched.

Run as a script with the environment of the watching Airflow; prints the spans as JSON at the end.
Arguments: a folder to land in, and ``task`` for real task instances, ``sensors`` for sensors that
wait in place, or ``trigger`` for a trigger by itself, as in a triggerer, which no task runner has
set up.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

INTERVAL = {
    "interval_start": "2026-10-26T00:00:00.000Z",
    "interval_end": "2026-11-02T00:00:00.000Z",
}
SPANS = "SPANS "
"""Begins the line of the spans."""


def watch_spans() -> Any:
    """Set OpenTelemetry up as Airflow does, but for what exports."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def run_report(sandbox: Any, folder: str) -> None:
    """Create, wait and land by real task instances; there is no room at first."""
    from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator
    from airflow_provider_reportrun.sandbox import Answer, Fault, Patch
    from support.task_instances import dag, run_task

    no_room = {"code": "report_run_rate_limit_exceeded", "message": "No room."}
    sandbox.faults.add(Fault("create", Answer(status=429, body={"error": no_room}), times=2))
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None}), times=1))
    with dag():
        task = ReportRunToStorageOperator(
            task_id="report",
            report="balance_summary",
            destination=f"{folder}/report.csv",
            poll_interval=0.05,
            max_poll_interval=0.05,
            retries=3,
        )
    first = run_task(task)
    assert first.state == "success", first.error
    sandbox.runs[0].created_ns -= 60 * 10**9
    again = run_task(task, try_number=2)
    assert again.state == "success", again.error


def run_sensors(sandbox: Any) -> None:
    """Wait in place for one report run that succeeds, for one that fails, and for data."""
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook
    from airflow_provider_reportrun.sandbox import Fault, Patch
    from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor
    from support.task_instances import dag, run_task

    with ReportRunHook() as hook:
        good = hook.create_report_run("balance_summary", INTERVAL)
        sandbox.fail_next()
        bad = hook.create_report_run("balance_summary", INTERVAL)
    sandbox.faults.add(Fault("get_run", Patch({"status": "running", "result": None}), times=1))
    with dag():
        common = {"poke_interval": 0.05, "deferrable": False}
        succeeds = ReportRunSensor(task_id="succeeds", report_run_id=good.id, **common)
        fails = ReportRunSensor(task_id="fails", report_run_id=bad.id, **common)
        data = ReportDataSensor(task_id="data", report="balance_summary", **common)
        late = ReportDataSensor(
            task_id="late",
            report="balance_summary",
            interval_end="2999-01-01T00:00:00Z",
            timeout=0.01,
            **common,
        )
    states = [run_task(task).state for task in (succeeds, fails, data, late)]
    assert states == ["success", "failed", "success", "failed"]


def run_trigger(sandbox: Any) -> None:
    """Wait in an event loop alone for a report run."""
    from airflow_provider_reportrun.triggers.report_run import CreateReportRunTrigger
    from support.task_instances import first_event

    event = first_event(
        CreateReportRunTrigger(
            report="balance_summary",
            report_parameters=INTERVAL,
            idempotency_key="k" * 64,
            wait_for_completion=True,
            reportrun_conn_id="reportrun_default",
            poll_interval=0.05,
            max_poll_interval=0.05,
            deadline=time.time() + 20,
        )
    )
    assert event["outcome"] == "done", event
    assert len(sandbox.runs) == 1


def main(folder: str, what: str) -> None:
    """Do what the arguments say."""
    import os

    from airflow_provider_reportrun.sandbox import Sandbox

    exporter = watch_spans()
    with Sandbox(run_seconds=0.0, concurrency=100) as sandbox:
        os.environ["AIRFLOW_CONN_REPORTRUN_DEFAULT"] = sandbox.connection_uri
        match what:
            case "task":
                run_report(sandbox, folder)
            case "sensors":
                run_sensors(sandbox)
            case _:
                run_trigger(sandbox)
        print(f"KEY {sandbox.api_key}")  # noqa: T201 - for whoever runs this
    spans = [json.loads(span.to_json(indent=None)) for span in exporter.get_finished_spans()]
    print(SPANS + json.dumps(spans))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
