"""
A pytest plugin to test DAGs with report runs, offline and in seconds.

pytest loads it automatically if this package is installed. It provides the fixture
``reportrun_sandbox``.
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
    Return the arguments of the ``Sandbox``; override this in your ``conftest.py`` to change them.

    By default, report runs are finished at the first poll, so no test waits.
    """
    return {"run_seconds": 0.0}


@pytest.fixture(scope="session")
def _running_reportrun_sandbox(reportrun_sandbox_options: dict[str, Any]) -> Iterator[Sandbox]:
    from airflow_provider_reportrun.sandbox import Sandbox

    with Sandbox(**reportrun_sandbox_options) as sandbox:
        yield sandbox


@pytest.fixture
def reportrun_sandbox_api() -> str:
    """
    Return the generation of the API that the connection uses; override this to change it.

    ``v2.reporting``, ``v2.data`` or ``v1``; the sandbox serves all of them.
    """
    return "v2.reporting"


@pytest.fixture
def reportrun_sandbox(
    _running_reportrun_sandbox: Sandbox,
    reportrun_sandbox_api: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Sandbox:
    """
    Return a running sandbox of the API, without anything from earlier tests.

    The connection ``reportrun_default`` points to it. ``runs`` and ``requests`` show what arrived.
    ``fail_next``, ``cancel_next``, ``limit``, ``deliver_next``, ``advance`` and ``faults`` control
    what happens.
    One server serves all tests of a session, on a free port of 127.0.0.1.
    """
    from airflow_provider_reportrun.hooks.report_run import forget_answers

    forget_answers()
    _running_reportrun_sandbox.reset()
    connection = _running_reportrun_sandbox.connection_uri_for(reportrun_sandbox_api)
    monkeypatch.setenv(CONNECTION, connection)
    return _running_reportrun_sandbox
