"""A temporary Airflow for tests of DAGs; its home must be set before Airflow is imported."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

DAGS = Path(__file__).parents[1]
HOME = Path(tempfile.mkdtemp(prefix="dag-tests-"))
LANDING = HOME / "landing"
os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "REPORTRUN_LANDING": str(LANDING),
    }
)
sys.path.insert(0, str(DAGS))


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Create the database that ``dag.test()`` writes to."""
    from airflow.utils.db import initdb

    initdb()
