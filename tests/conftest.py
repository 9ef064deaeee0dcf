"""A throw-away Airflow home, set before Airflow is imported, and one sandbox for the session."""

from __future__ import annotations

import os
import tempfile
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

NO_SKIPS = bool(os.environ.get("REPORTRUN_NO_SKIPS"))


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
