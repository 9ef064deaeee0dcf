"""Defaults that users read in several places are the same in all of them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from airflow_provider_reportrun.client import access
from airflow_provider_reportrun.get_provider_info import get_provider_info
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.protocol import generations
from airflow_provider_reportrun.protocol.retry import Pace
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor
from airflow_provider_reportrun.task.waiting import DAY_SECONDS
from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

DOCS = Path(__file__).parents[1] / "docs"
OF_CONNECTIONS = {
    "api": generations.DEFAULT,
    "stripe_version": "the generation's own",
    "max_requests_per_second": f"{access.DEFAULT_REQUESTS_PER_SECOND:g}",
    "request_timeout": f"{access.DEFAULT_REQUEST_TIMEOUT_SECONDS:g}",
}
OPERATORS = [CreateReportRunOperator, ReportRunToStorageOperator]
SENSORS = [ReportRunSensor, ReportDataSensor]


def defaults(kind):
    """The default of each argument, those of the bases included."""
    return {
        name: parameter.default
        for base in reversed(kind.__mro__)
        if "__init__" in vars(base)
        for name, parameter in inspect.signature(base.__init__).parameters.items()
    }


@pytest.mark.parametrize(("name", "value"), OF_CONNECTIONS.items())
def test_the_form_and_the_guide_name_the_defaults_of_a_connection(name, value):
    """As the code has them."""
    (of_type,) = get_provider_info()["connection-types"]
    assert f"Default: {value}." in of_type["conn-fields"][name]["description"]
    (row,) = re.findall(rf"^\| `{name}` \|.*$", (DOCS / "connection.md").read_text(), re.MULTILINE)
    assert row.split("|")[-2].strip(" `") == value


def test_the_form_offers_every_generation():
    """As a choice of those there are, or none."""
    (of_type,) = get_provider_info()["connection-types"]
    field = of_type["conn-fields"]["api"]
    assert tuple(field["schema"]["enum"]) == generations.NAMES
    assert all(f"{name} for /" in field["description"] for name in generations.NAMES)


@pytest.mark.parametrize("name", generations.NAMES)
def test_the_guide_names_the_facts_of_each_generation(name):
    """Its version and the permissions of a restricted key, in one row for each."""
    api = generations.named(name)
    guide = (DOCS / "generations.md").read_text()
    (row,) = re.findall(rf"^\| `{name}` \|.*$", guide, re.MULTILINE)
    for fact in (api.stripe_version, api.permissions.create, api.permissions.read):
        assert f"`{fact}`" in row


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        *((kind, ("poll_interval", "max_poll_interval", "timeout")) for kind in OPERATORS),
        *((kind, ("poke_interval", "max_wait", "timeout")) for kind in SENSORS),
        (ReportRunTrigger, ("poll_interval", "max_poll_interval", None)),
    ],
)
def test_all_waits_have_the_same_defaults(kind, names):
    """Half a minute, five minutes, a day."""
    found = defaults(kind)
    expected = (Pace().shortest_seconds, Pace().longest_seconds, DAY_SECONDS)
    for name, value in zip(names, expected, strict=True):
        if name is not None:
            assert found[name] == value


def test_the_hook_waits_as_the_tasks_do():
    """With the same shortest pause and the same timeout."""
    arguments = inspect.signature(ReportRunHook.wait_for_report_run).parameters
    assert arguments["poll_interval"].default == Pace().shortest_seconds
    assert arguments["timeout"].default == DAY_SECONDS
