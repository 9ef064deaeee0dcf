"""A throw-away Airflow home, set before Airflow is imported, and one sandbox for the session."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="reportrun-tests-"))
os.environ.update(
    {
        "AIRFLOW_HOME": str(_HOME),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "example_dags"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "false",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "REPORTRUN_LANDING": str(_HOME / "landing"),
    }
)

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox import Sandbox

AIRFLOWS_OWN_WARNINGS = {
    "3.0": [
        "ignore:Using Connection.get_connection_from_secrets",  # in BaseHook.get_connection
        "ignore:fully NULL primary key identity",  # SQLAlchemy, where dag.test() clears a run
        "ignore:datetime.datetime.utcnow",  # of libraries of its day, from Python 3.12 on
    ],
    "3.1": [
        "ignore:Using Connection.from_json from `airflow.models`",  # where connections are read
        "ignore:'HTTP_422_UNPROCESSABLE_ENTITY' is deprecated",  # Starlette's, in Airflow's API
    ],
    "3.2": [
        "ignore:SelectableGroups dict interface is deprecated",  # OpenTelemetry's, when imported
        "ignore:ProvidersManager.hooks is deprecated",  # in the service behind connection forms
    ],
}
"""By minor: what Airflow's own code gives rise to there."""
NO_SKIPS = bool(os.environ.get("REPORTRUN_NO_SKIPS"))
MISSING = pytest.StashKey[list[str]]()
OWN_COMMANDS = {"browser", "stores", "system"}
"""Markers of tests that run where ``-m`` names them alone: what they need takes a while."""


def pytest_configure(config: pytest.Config) -> None:
    """Let warnings that an Airflow gives about itself be no errors."""
    minor = ".".join(metadata.version("apache-airflow").split(".")[:2])
    for line in AIRFLOWS_OWN_WARNINGS.get(minor, []):
        config.addinivalue_line("filterwarnings", line)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests with a command of their own, and, by name, of what this Airflow has not."""
    commands = OWN_COMMANDS - set(re.findall(r"\w+", config.option.markexpr))
    _leave_out(config, items, lambda item: any(map(item.get_closest_marker, commands)))
    needs = {item: {mark.args[0] for mark in item.iter_markers("needs")} for item in items}
    asked_for = set().union(*needs.values())
    if not asked_for:
        return
    from support.versions import FEATURES

    missing = {name for name in asked_for if not FEATURES[name]}
    if _leave_out(config, items, lambda item: bool(needs[item] & missing)):
        config.stash[MISSING] = sorted(missing)


def _leave_out(
    config: pytest.Config, items: list[pytest.Item], is_unwanted: Callable[[pytest.Item], bool]
) -> bool:
    """Deselect tests; tell whether there were any."""
    left_out = [item for item in items if is_unwanted(item)]
    if left_out:
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)
    return bool(left_out)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Name what this Airflow does not have."""
    return [f"not in this Airflow: {name}" for name in config.stash.get(MISSING, [])]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, as the triggerer does."""
    return "asyncio"


@pytest.fixture(scope="session")
def reportrun_sandbox_options() -> dict[str, Any]:
    """Let report runs be finished when they are first asked for, and many go at once."""
    return {"run_seconds": 0.0, "concurrency": 100}


@pytest.fixture
def sandbox(reportrun_sandbox: Sandbox) -> Sandbox:
    """The sandbox, without anything of earlier tests, as the connection ``reportrun_default``."""
    return reportrun_sandbox


@pytest.fixture(scope="module")
def airflow_db() -> Path:
    """Migrate Airflow's database; return its file."""
    from airflow.utils.db import initdb

    initdb()
    return _HOME / "airflow.db"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Where nothing may be missing, make of a skip a failure with its reason."""
    report = yield
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {item.nodeid}: {call.excinfo}"
    return report


def pytest_sessionfinish() -> None:
    """Leave nothing behind."""
    import shutil

    shutil.rmtree(_HOME, ignore_errors=True)
