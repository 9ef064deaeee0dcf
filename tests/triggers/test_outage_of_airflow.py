"""Waits and tasks while Airflow cannot look up a connection."""

from __future__ import annotations

import asyncio
import json

import pytest
from airflow.secrets.environment_variables import EnvironmentVariablesBackend
from support.cases import INTERVAL
from support.task_instances import first_event

from airflow_provider_reportrun.client import session
from airflow_provider_reportrun.errors import InvalidInput, TransportError, from_json
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.triggers.report_run import (
    CreateReportRunTrigger,
    ReportRunTrigger,
)


@pytest.fixture
def outage(monkeypatch):
    """Let the secrets backend fail for so many look-ups, which Airflow tells as not found."""
    looked, answer = [], EnvironmentVariablesBackend.get_connection

    def begin(times):
        def get_connection(self, conn_id, *args, **named):
            looked.append(conn_id)
            if len(looked) <= times:
                raise ConnectionError("no vault")
            return answer(self, conn_id, *args, **named)

        monkeypatch.setattr(EnvironmentVariablesBackend, "get_connection", get_connection)
        return looked

    return begin


@pytest.fixture
def report_run(sandbox):
    """A report run that has succeeded."""
    with ReportRunHook() as hook:
        return hook.create_report_run("balance_summary", INTERVAL)


def test_a_wait_rides_out_an_outage_at_its_first_look(sandbox, report_run, outage):
    """It looks the connection up again, and ends well."""
    looked = outage(6)
    event = first_event(ReportRunTrigger(report_run_id=report_run.id, poll_interval=0.01))
    assert event["outcome"] == "done"
    assert len(looked) > 6


def test_a_create_rides_out_an_outage_at_its_first_look(sandbox, outage):
    """Before it stands in line."""
    outage(6)
    trigger = CreateReportRunTrigger(
        report="balance_summary",
        report_parameters=INTERVAL,
        idempotency_key="k1",
        poll_interval=0.01,
    )
    assert first_event(trigger)["outcome"] == "done"


def test_an_outage_that_lasts_is_transient(sandbox, report_run, outage):
    """The task may be retried, and the error names both causes."""
    outage(10**6)
    trigger = ReportRunTrigger(
        report_run_id=report_run.id, poll_interval=0.01, outage_tolerance=0.05
    )
    error = from_json(first_event(trigger)["error"])
    assert isinstance(error, TransportError)
    assert error.transient
    assert "secrets backend" in str(error)
    assert "create a connection" in str(error)


def test_every_wait_outlives_an_outage(sandbox, report_run, outage, monkeypatch):
    """What the connection said before holds, each time that it is looked up again."""
    monkeypatch.setattr(session, "LOOK_UP_SECONDS", 0.0)
    hook = ReportRunHook()

    async def polls():
        async with session.shared_session("reportrun_default", hook.aread_access) as shared:
            await shared.current()
            outage(10**6)
            return [(await hook.aget_report_run(report_run.id)).id for _ in range(5)]

    assert asyncio.run(polls()) == [report_run.id] * 5


def test_a_missing_connection_is_told_to_a_trigger(sandbox):
    """At once, and transient: the operator has read it before."""
    trigger = ReportRunTrigger(report_run_id="reprun_1", reportrun_conn_id="nowhere")
    error = from_json(first_event(trigger)["error"])
    assert isinstance(error, InvalidInput)
    assert error.transient
    assert "no Airflow connection 'nowhere'" in str(error)


def test_a_missing_connection_is_permanent_on_the_worker(sandbox):
    """All who could have it answered that they have not."""
    with pytest.raises(InvalidInput, match="no Airflow connection 'nowhere'") as raised:
        assert ReportRunHook("nowhere").access
    assert not raised.value.transient


def test_an_outage_is_transient_on_the_worker(sandbox, outage):
    """A secrets backend that fails is no missing connection."""
    outage(10**6)
    with pytest.raises(TransportError, match="could not look up the connection") as raised:
        assert ReportRunHook().access
    assert raised.value.transient
    assert json.dumps(raised.value.facts) == "{}"
