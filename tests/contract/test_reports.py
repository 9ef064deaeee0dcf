"""The lists of reports of each generation, through the hook."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_provider_reportrun.errors import (
    InvalidInput,
    NotFound,
    PermissionDenied,
    ServerError,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol import finding
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.sandbox import Answer, Fault
from airflow_provider_reportrun.sandbox.catalog import CATALOG, FIRST_DATA_AT
from airflow_provider_reportrun.sandbox.generations.v1_types import REPORT_TYPES
from airflow_provider_reportrun.sandbox.generations.v2_data import REPORTS

TYPES = Path(__file__).parents[1] / "data" / "v1_report_types.json"
KNOWN = named("v2.reporting").known_reports


def operations(sandbox):
    """What was asked for."""
    return [each.operation for each in sandbox.requests]


def listed(api):
    """The reports of the account."""
    with ReportRunHook(api=api) as hook:
        return hook.list_reports()


def test_v1_lists_what_the_account_may_run(sandbox):
    """With the window of the data, from one request."""
    found = listed("v1")
    live_only = {"all_fees.balance_transaction_created.itemized.2"}
    assert [each.id for each in found] == sorted(set(REPORT_TYPES) - live_only)
    assert found.is_complete
    assert operations(sandbox) == ["list_reports"]
    by_id = {each.id: each for each in found}
    balance = by_id["balance.summary.1"]
    assert (balance.name, balance.data_start) == ("Balance summary", FIRST_DATA_AT)
    assert balance.data_end > FIRST_DATA_AT
    assert by_id["payout_reconciliation.by_id.itemized.4"].data_end is None


def test_v2_data_lists_all_pages(sandbox, monkeypatch):
    """To the end; its reports have no window."""
    module = "airflow_provider_reportrun.protocol.generations.v2_data"
    monkeypatch.setattr(f"{module}._PAGE", {"limit": "3"})
    found = listed("v2.data")
    assert [each.id for each in found] == sorted(each.id for each in REPORTS)
    assert found.is_complete
    assert operations(sandbox) == ["list_reports"] * -(-len(REPORTS) // 3)
    assert {each.data_end for each in found} == {None}


def test_a_list_without_an_end_is_cut(sandbox, monkeypatch):
    """And says so."""
    module = "airflow_provider_reportrun.protocol.generations.v2_data"
    monkeypatch.setattr(f"{module}._PAGE", {"limit": "1"})
    monkeypatch.setattr(finding, "MOST_PAGES", 2)
    found = listed("v2.data")
    assert len(found) == 2
    assert not found.is_complete


def test_v2_reporting_has_no_list(sandbox):
    """Those that are known are checked one by one, and the result says that there may be others."""
    found = listed("v2.reporting")
    accessible = {name for name, each in CATALOG.items() if each.accessible}
    assert [each.id for each in found] == sorted(set(KNOWN) & accessible)
    assert len(found) > 5
    assert not found.is_complete
    assert operations(sandbox) == ["get_report"] * len(KNOWN)


def test_the_known_reports_are_the_families_of_v1():
    """In the spelling of v2."""
    types = json.loads(TYPES.read_text())["report_types"]
    families = {re.sub(r"\.\d+$", "", each).replace(".", "_") for each in types}
    assert sorted(families) == list(KNOWN)


def test_a_key_that_may_read_no_report_is_told(sandbox):
    """An empty list would say that there are none."""
    sandbox.faults.add(Fault("get_report", Answer(status=403), times=None))
    with pytest.raises(PermissionDenied):
        listed("v2.reporting")


def test_an_outage_is_told(sandbox):
    """A report that cannot be looked up is not left out."""
    answer = Answer(status=500, headers={"Stripe-Should-Retry": "false"})
    sandbox.faults.add(Fault("get_report", answer, times=None))
    with pytest.raises(ServerError):
        listed("v2.reporting")


def test_a_path_that_is_not_known_is_told(sandbox):
    """The version or the account has no such API."""
    error = {"error": {"message": "Unrecognized request URL (GET: /v2/reporting/reports/x)."}}
    answer = Answer(status=404, body=json.dumps(error))
    sandbox.faults.add(Fault("get_report", answer, times=None))
    with pytest.raises(NotFound) as raised:
        listed("v2.reporting")
    assert raised.value.unknown_path


def test_queries_have_no_reports(sandbox):
    """Before any request."""
    with ReportRunHook() as hook, pytest.raises(InvalidInput, match="has no list of reports"):
        hook.for_queries().list_reports()
    assert sandbox.requests == []
