"""
A pytest plugin for whoever tests DAGs with report runs in them: offline, in seconds.

pytest loads it by itself where this package is installed. What it provides is
``reportrun_sandbox``; see there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox import Sandbox

CONNECTION = "AIRFLOW_CONN_REPORTRUN_DEFAULT"


@pytest.fixture(scope="session")
def reportrun_sandbox_options() -> dict[str, Any]:
    """
    Give the arguments of the ``Sandbox``; override it in your ``conftest.py`` for others.

    Report runs are finished when they are first asked for, so that no test waits.
    """
    return {"run_seconds": 0.0}


@pytest.fixture(scope="session")
def _running_reportrun_sandbox(reportrun_sandbox_options: dict[str, Any]) -> Iterator[Sandbox]:
    from airflow_provider_reportrun.sandbox import Sandbox

    with Sandbox(**reportrun_sandbox_options) as sandbox:
        yield sandbox


@pytest.fixture
def reportrun_sandbox(
    _running_reportrun_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Sandbox:
    """
    Give a running sandbox of the API, with nothing in it of earlier tests.

    The connection ``reportrun_default`` leads to it. ``runs`` and ``requests`` tell what arrived;
    ``fail_next``, ``limit``, ``deliver_next``, ``advance`` and ``faults`` say what shall happen.
    One server serves all tests of a session, on a free port of 127.0.0.1.
    """
    from airflow_provider_reportrun.hooks.report_run import forget_definitions

    forget_definitions()
    _running_reportrun_sandbox.reset()
    monkeypatch.setenv(CONNECTION, _running_reportrun_sandbox.connection_uri)
    return _running_reportrun_sandbox
