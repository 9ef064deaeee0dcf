"""
What is sent, stored and told is what it was: running deployments stand on it.

Requests byte by byte, idempotency keys, rows of triggers, the events that resume tasks, and XComs.
After a change that is meant, ``REPORTRUN_FREEZE=1 pytest tests/frozen`` writes the facts anew; the
difference then belongs into the changelog.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from frozen.facts import CASES, Case

FACTS = Path(__file__).parents[1] / "data" / "frozen"


@pytest.fixture
def case(sandbox, tmp_path, monkeypatch):
    """A case on the sandbox, whose connection it may change."""

    def set_connection(extra):
        connection = json.loads(sandbox.connection_json) | {"extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", json.dumps(connection))

    return Case(sandbox, tmp_path, set_connection)


@pytest.mark.parametrize("name", CASES)
def test_is_as_it_was(case, name):
    """The facts of a case are the frozen ones."""
    CASES[name](case)
    found = case.facts()
    file = FACTS / f"{name}.json"
    if os.environ.get("REPORTRUN_FREEZE"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=2) + "\n")
    assert json.loads(file.read_text()) == found


def test_each_file_belongs_to_a_case():
    """No facts are kept that nothing compares."""
    assert sorted(CASES) == sorted(path.stem for path in FACTS.glob("*.json"))
