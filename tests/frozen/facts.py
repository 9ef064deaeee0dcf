"""
What must not change between two releases, as plain values: what is sent, stored and told.

Each case runs real task instances against the sandbox. What differs from one run to the next (the
port, ids of report runs, instants, folders) is replaced by its name.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from support.task_instances import dag, deserialize, first_event, run_task

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sandbox import Answer, Fault, Patch
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor

REPORT = "balance_summary"
INTERVAL = {
    "interval_start": "2026-10-26T00:00:00.000Z",
    "interval_end": "2026-11-02T00:00:00.000Z",
}
FAR_WEEK = ("2999-12-02T00:00:00+00:00", "2999-12-09T00:00:00+00:00")
"""Whose data no sandbox has, whenever the tests run."""
PACE = {"poll_interval": 1.0, "max_poll_interval": 2.0}
WORDS = {"message", "error_message"}
"""Names of what is said to people."""
NOT_HEADERS = {"host", "connection", "content-length"}
"""Headers of the HTTP library's own."""


class Case:
    """One case: the sandbox, a folder to land in, and what has happened so far."""

    def __init__(self, sandbox: Any, folder: Any, set_connection: Any) -> None:
        self.sandbox = sandbox
        self.folder = folder
        self.set_connection = set_connection
        self.told: list[Any] = []

    def run(self, operator: Any, **arguments: Any) -> Any:
        """Run a task instance and note all that it stores and tells."""
        outcome = run_task(operator, **arguments)
        self.told.append(
            {
                "state": outcome.state,
                "xcom": outcome.xcom,
                "sent": {name: outcome.rendered.get(name) for name in INTERVAL},
                "deferrals": [self.deferral(each) for each in outcome.deferrals],
                "events": outcome.events,
            }
        )
        return outcome

    @staticmethod
    def deferral(message: Any) -> dict[str, Any]:
        """What a deferral stores: the trigger's row, and how the task is resumed."""
        fields = message.model_dump()
        return {
            "classpath": message.classpath,
            "trigger_kwargs": deserialize(fields["trigger_kwargs"]),
            "next_method": message.next_method,
            "next_kwargs": deserialize(fields["next_kwargs"]),
        }

    def make(self, kind: Any, **arguments: Any) -> Any:
        """Make an operator in a DAG of its own."""
        with dag():
            return kind(**{"task_id": "task"} | arguments)

    def requests(self) -> list[dict[str, Any]]:
        """What arrived, byte by byte."""
        return [
            {
                "method": request.method,
                "path": request.path,
                "headers": {
                    name: value
                    for name, value in sorted(request.headers.items())
                    if name not in NOT_HEADERS
                },
                "body": bytes(request.body).decode(),
            }
            for request in self.sandbox.requests
        ]

    def keys_after_failure(self, requests: list[dict[str, Any]]) -> dict[str, str]:
        """
        Name the keys that depend on a report run's id, which depends on the tests run before.

        The formula is repeated here, so that a key of another formula differs from the frozen name.
        """
        keys = {request["headers"].get("idempotency-key") for request in requests} - {None}
        return {
            f"<SHA-256 of {key} and report run {number}>": hashlib.sha256(
                f'["{key}","{run.id}"]'.encode()
            ).hexdigest()
            for key in sorted(keys)
            for number, run in enumerate(self.sandbox.runs, 1)
        }

    def facts(self) -> Any:
        """All that was sent, stored and told, without what differs from run to run."""
        requests = self.requests()
        text = json.dumps({"told": self.told, "requests": requests}, default=str)
        for name, key in self.keys_after_failure(requests).items():
            text = text.replace(key, name)
        for number, run in enumerate(self.sandbox.runs, 1):
            text = text.replace(run.id, f"<report run {number}>")
        text = text.replace(str(self.folder), "<folder>").replace(self.sandbox.url, "<url>")
        text = re.sub(r"/files/[^\"?]*\?[^\"]*", "/files/<signed>", text)
        text = re.sub(r"airflow-provider-reportrun/[^\"]+", "<user agent>", text)
        text = re.sub(r'"(deadline|created)": [^,}]+', r'"\1": "<\1>"', text)
        text = re.sub(
            r'"return_value": "\d{4}-[^"]+Z"', '"return_value": "<end of the data>"', text
        )
        return _without_words(json.loads(text))


def _without_words(value: Any) -> Any:
    """Replace messages, whose wording may change."""
    if isinstance(value, list):
        return [_without_words(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: "<message>" if name in WORDS else _without_words(each) for name, each in value.items()
    }


def create(case: Case) -> None:
    """A create of the run's data interval, with all kinds of parameters."""
    case.run(
        case.make(
            CreateReportRunOperator,
            report="balance_change_from_activity_itemized",
            report_parameters={"currency": "usd", "columns": ["reporting_category", "gross"]},
            result_options={"compress_file": True},
        )
    )


def identities(case: Case) -> None:
    """The keys of a set of tasks: mapped, cleared, of an own key, for another account."""
    task = case.make(CreateReportRunOperator, report=REPORT, retries=2)
    case.run(task)
    case.run(task, map_index=3)
    case.run(task, try_number=4, max_tries=5)  # after a clear
    case.run(case.make(CreateReportRunOperator, report=REPORT, retries=2, on_clear="reuse"))
    case.run(case.make(CreateReportRunOperator, report=REPORT, idempotency_key="own"))
    case.run(case.make(CreateReportRunOperator, report=REPORT, task_id="another"))
    own = case.sandbox.keyring.main.account
    case.run(case.make(CreateReportRunOperator, report=REPORT, stripe_context=own))
    case.set_connection({"idempotency_namespace": "staging", "stripe_context": own})
    case.run(case.make(CreateReportRunOperator, report=REPORT))


def explicit_interval(case: Case) -> None:
    """An interval that the task names, and none at all."""
    case.run(
        case.make(
            CreateReportRunOperator,
            report=REPORT,
            interval_start="2026-10-01T02:00:00+02:00",
            interval_end="2026-10-02T00:00:00Z",
        )
    )
    case.run(
        case.make(
            CreateReportRunOperator,
            report=REPORT,
            interval_start=None,
            interval_end=None,
            report_parameters=INTERVAL,
        )
    )


def wait_for_room(case: Case) -> None:
    """A create that is refused at first, waits for room and then for its report."""
    no_room = {"code": "report_run_rate_limit_exceeded", "message": "No room."}
    case.sandbox.faults.add(Fault("create", Answer(status=429, body={"error": no_room}), times=1))
    case.run(
        case.make(
            CreateReportRunOperator,
            report=REPORT,
            wait_for_completion=True,
            deferrable=True,
            retries=1,
            **PACE,
        )
    )


def wait_for_report(case: Case) -> None:
    """A create that waits for its report in the triggerer."""
    case.sandbox.faults.add(Fault("create", Patch({"status": "running", "result": None}), times=1))
    case.run(
        case.make(
            CreateReportRunOperator,
            report=REPORT,
            wait_for_completion=True,
            deferrable=True,
            stripe_context=case.sandbox.keyring.main.account,
            **PACE,
        )
    )


def wait_for_data(case: Case) -> None:
    """A create whose data are not there yet when it is deferred."""
    task = case.make(
        CreateReportRunOperator, report=REPORT, wait_for_data=True, deferrable=True, **PACE
    )

    def event_after_data(trigger: Any) -> Any:
        far = datetime.fromisoformat(FAR_WEEK[1]) + timedelta(days=1)
        case.sandbox.advance((far - datetime.now(timezone.utc)).total_seconds())
        return first_event(trigger)

    case.run(task, interval=FAR_WEEK, event_of=event_after_data)


def failed_report(case: Case) -> None:
    """A report run that fails: the event, and the keys of two more tries."""
    case.sandbox.faults.add(Fault("create", Patch({"status": "running", "result": None}), times=2))
    case.sandbox.fail_next(2)
    task = case.make(
        CreateReportRunOperator,
        report=REPORT,
        wait_for_completion=True,
        deferrable=True,
        retries=3,
        **PACE,
    )
    for number in (1, 2, 3):
        case.run(task, try_number=number)


def sensors(case: Case) -> None:
    """Both sensors, deferred and in place."""
    with ReportRunHook() as hook:
        run = hook.create_report_run(REPORT, INTERVAL, idempotency_key="k")
    pace = {"poke_interval": 1.0, "max_wait": 2.0}
    still = Fault("get_run", Patch({"status": "running", "result": None}), times=1)
    case.sandbox.faults.add(still)
    case.run(case.make(ReportRunSensor, report_run_id=run.id, deferrable=True, **pace))
    case.run(case.make(ReportRunSensor, report_run_id=run.id, deferrable=False, **pace))
    case.run(case.make(ReportDataSensor, report=REPORT, deferrable=False, **pace))
    task = case.make(ReportDataSensor, report=REPORT, deferrable=True, **pace)

    def event_after_data(trigger: Any) -> Any:
        far = datetime.fromisoformat(FAR_WEEK[1]) + timedelta(days=1)
        case.sandbox.advance((far - datetime.now(timezone.utc)).total_seconds())
        return first_event(trigger)

    case.run(task, interval=FAR_WEEK, event_of=event_after_data)


def download(case: Case) -> None:
    """The result of a report run, landed as it is, unpacked, and kept."""
    with ReportRunHook() as hook:
        plain = hook.create_report_run(REPORT, INTERVAL, idempotency_key="k")
        zipped = hook.create_report_run(
            REPORT, INTERVAL, {"compress_file": True}, idempotency_key="z"
        )
    to_file = {"report_run_id": plain.id, "destination": f"{case.folder}/report.csv"}
    case.run(case.make(DownloadReportResultOperator, **to_file))
    case.run(case.make(DownloadReportResultOperator, **to_file, if_exists="skip"))
    case.run(
        case.make(
            DownloadReportResultOperator,
            report_run_id=zipped.id,
            destination=f"{case.folder}/unpacked/",
            decompress=True,
            marker="_SUCCESS",
        )
    )


def storage(case: Case) -> None:
    """The three in one task."""
    case.sandbox.faults.add(Fault("create", Patch({"status": "running", "result": None}), times=1))
    case.run(
        case.make(
            ReportRunToStorageOperator,
            report=REPORT,
            destination=f"{case.folder}/{{{{ data_interval_start | ds }}}}.csv",
            report_parameters={"currency": "usd"},
            **PACE,
        )
    )


def hook_calls(case: Case) -> None:
    """Each call of the hook, blocking and awaiting."""
    with ReportRunHook() as hook:
        run = hook.create_report_run(REPORT, INTERVAL, idempotency_key="k")
        hook.get_report_run(run.id)
        hook.get_report(REPORT)
        hook.get_result_file(run.id)
        hook.test_connection()

    async def calls() -> None:
        async_hook = ReportRunHook(stripe_context=case.sandbox.keyring.main.account)
        await async_hook.acreate_report_run(REPORT, INTERVAL, idempotency_key="k")
        await async_hook.aget_report_run(run.id)
        await async_hook.aget_report(REPORT)

    asyncio.run(calls())


CASES = {
    each.__name__: each
    for each in (
        create,
        identities,
        explicit_interval,
        wait_for_room,
        wait_for_report,
        wait_for_data,
        failed_report,
        sensors,
        download,
        storage,
        hook_calls,
    )
}
