"""One Airflow at a time for all tests that ask for the same executor, and its sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("system.backfill")  # before anything imports it

from system.cluster import Cluster, missing  # noqa: E402 - see above

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "backfills.md"
RUN_SECONDS = 4.0
"""
Longer than a loop of the scheduler on a machine with nothing else to do.

A task that is resumed within one loop is taken for killed, when the executor's word of the part
before the deferral is read after the resume ("state mismatch" in the audit log), and tried again.
"""
FILE_BYTES = 200_000


@pytest.fixture(scope="session")
def system_sandbox() -> Iterator[Sandbox]:
    """The API, with report runs that take a while."""
    from airflow_provider_reportrun.sandbox import Sandbox

    with Sandbox(run_seconds=RUN_SECONDS, size=FILE_BYTES) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def cluster(
    request: pytest.FixtureRequest,
    system_sandbox: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """An Airflow with the executor that the test is parametrised by."""
    executor: str = request.param
    lacking = missing(executor)
    if lacking:
        pytest.skip(f"{executor} needs {lacking}")
    dags = [*Path(__file__).parent.glob("dags/*.py"), *(ROOT / "example_dags").glob("*.py")]
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for number, block in enumerate(blocks):
        dags.append(tmp_path_factory.mktemp("guide") / f"guide_{number}.py")
        dags[-1].write_text(block, encoding="utf-8")
    with Cluster(
        executor,
        dags=dags,
        environment={"AIRFLOW_CONN_REPORTRUN_DEFAULT": system_sandbox.connection_json},
        triggerers=2 if executor == "CeleryExecutor" else 1,
    ) as running:
        yield running


@pytest.fixture
def sandbox(system_sandbox: Sandbox, cluster: Cluster) -> Iterator[Sandbox]:
    """The sandbox without anything of earlier tests, whose tasks have all ended."""
    system_sandbox.reset()
    yield system_sandbox
    system_sandbox.faults.clear()
    cluster.settle()
