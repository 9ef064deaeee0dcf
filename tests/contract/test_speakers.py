"""Who is speaking, and what comes through: gateways, odd text and columns in brackets."""

from __future__ import annotations

import csv
import json

import msgspec
import pytest
from airflow.triggers.base import TriggerEvent
from support.cases import INTERVAL
from support.task_instances import first_event

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol.checks import check_parameters
from airflow_provider_reportrun.sandbox import Answer, Fault
from airflow_provider_reportrun.triggers.report_run import CreateReportRunTrigger, ReportRunTrigger

FAST = {"poll_interval": 0.02, "max_poll_interval": 0.05}


@pytest.mark.parametrize(
    "body",
    [
        {"message": "no Route matched with those values"},
        {"error": "not found"},
        {"error": {"code": 404, "message": "Not found", "status": "NOT_FOUND"}},
        {"error": {"code": "ResourceNotFound", "message": "Resource not found"}},
        {"error": {"message": "Unrecognized request URL (GET: /v2/x).", "code": "not_found"}},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_the_connection_test_takes_no_404_of_others_for_a_known_key(sandbox, body):
    """Only what Stripe alone would say of the report run that is asked for proves the key."""
    sandbox.faults.add(Fault("any", Answer(status=404, body=body), times=None))
    known, words = ReportRunHook().test_connection()
    assert known is False
    assert "host" in words


def test_the_connection_test_takes_stripes_own(sandbox):
    """In v2's form, and in v1's."""
    assert ReportRunHook().test_connection()[0] is True
    v1 = {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No."}}
    sandbox.faults.add(Fault("any", Answer(status=404, body=v1), times=None))
    assert ReportRunHook().test_connection()[0] is True


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_wait_rides_out_what_a_gateway_refuses(sandbox, status):
    """It passes, as an outage does."""
    run = ReportRunHook().create_report_run("balance_summary", INTERVAL)
    no_route = Answer(status=status, body={"message": "no Route matched"})
    sandbox.faults.add(Fault("get_run", no_route, times=3))
    event = first_event(ReportRunTrigger(report_run_id=run.id, **FAST))
    assert event["outcome"] == "done"


ODD = "No luck \ud83d\0\nfor you" * 1000
FAILED = {
    "id": "reprun_1",
    "status": "failed",
    "status_details": {"failed": {"error_code": "\udc00", "error_message": ODD}},
}
KINDS = ["InvalidRequest", "UnexpectedAnswer", "ReportRunFailed"]


@pytest.mark.parametrize(
    ("kind", "fault"),
    list(
        zip(
            KINDS,
            [
                Fault(
                    "create", Answer(status=400, body={"error": {"message": ODD, "code": "\ud83d"}})
                ),
                Fault(
                    "create", Answer(status=200, body={"id": "reprun_\ud83d", "status": "running"})
                ),
                Fault("create", Answer(status=200, body=FAILED)),
            ],
            strict=True,
        )
    ),
    ids=["refusal", "id", "failure"],
)
def test_an_event_with_odd_text_can_be_sent_and_stored(sandbox, kind, fault):
    """By the triggerer to its supervisor, and into the database."""
    fault.times, fault.fired = None, 0
    sandbox.faults.add(fault)
    trigger = CreateReportRunTrigger(
        report="balance_summary",
        report_parameters=INTERVAL,
        idempotency_key="k",
        wait_for_completion=True,
        outage_tolerance=0.0,
        **FAST,
    )
    event = first_event(trigger)
    assert event["error"]["kind"] == kind
    encoded = msgspec.msgpack.encode(TriggerEvent(event).payload)
    assert event == msgspec.msgpack.decode(encoded)
    assert "\\u0000" not in json.dumps(event)
    assert len(json.dumps(event, ensure_ascii=False).encode()) < 4000


@pytest.mark.parametrize("name", ["payment_metadata[order_id]", "payment_metadata[order id]"])
def test_columns_in_brackets_come_through(sandbox, tmp_path, name):
    """No definition lists them, so the checks leave them to the API; the file has them."""
    hook = ReportRunHook()
    report = "balance_change_from_activity_itemized"
    parameters = {**INTERVAL, "columns": ["net", name]}
    check_parameters(hook.get_report(report), parameters)
    run = hook.create_report_run(report, parameters)
    hook.download_result(run.id, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        assert next(csv.reader(file)) == ["net", name]
