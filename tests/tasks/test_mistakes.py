"""The mistakes that the page on failures lists: each begins as the page says."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from support.mistakes import SEEN, as_pattern, connections, documented
from support.task_instances import WEEK, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    DataNotAvailable,
    InvalidInput,
    LandingFailed,
    TransportError,
)

DAGS = Path(__file__).parents[1] / "browser/dags"
INTERVALS = {"mistake_plain_cron": (WEEK[0], WEEK[0]), "mistake_no_interval": None}
ERRORS = documented("error")
TRANSIENT = (DataNotAvailable, LandingFailed, TransportError)


def load(name):
    """Import a DAG file."""
    spec = importlib.util.spec_from_file_location(name, DAGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Every task of the mistakes, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTRUN_LANDING", str(tmp_path_factory.mktemp("landing")))
        module = load("mistakes")
    dags = (module.mistakes, module.plain_cron, module.zone, module.no_interval, module.warnings)
    return {task.task_id: task for dag in dags for task in dag.tasks}


def outcome_of(task, sandbox, monkeypatch):
    """Run a task with the connections of the mistakes."""
    for name, fields in connections(sandbox.url).items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
    return run_task(task, interval=INTERVALS.get(task.dag_id, WEEK))


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_begins_as_the_page_says(sandbox, monkeypatch, tasks, name):
    """With mistake and fix in what the UI shows of a line; no retry mends a mistake."""
    assert len(ERRORS[name]) <= SEEN
    if name == "file_exists":
        assert outcome_of(tasks["there"], sandbox, monkeypatch).state == "success"
    outcome = outcome_of(tasks[name], sandbox, monkeypatch)
    assert re.match(as_pattern(ERRORS[name]), str(outcome.error))
    is_final = not isinstance(outcome.error, TRANSIENT)
    assert isinstance(outcome.error, AirflowFailException) is is_final
    assert outcome.state == ("failed" if is_final else "up_for_retry")


def test_every_mistake_is_on_the_page(tasks):
    """And the page lists no other."""
    helpers = {"there", "wait", "land"}
    assert set(documented("error", "warning")) == set(tasks) - helpers
    assert len(ERRORS) > 20


def test_a_mistake_in_a_file_begins_as_the_page_says():
    """The file cannot be imported."""
    (text,) = documented("import error").values()
    with pytest.raises(InvalidInput, match=as_pattern(text)):
        load("mistake_in_file")


def test_a_file_that_is_kept_after_a_clear_is_warned_of(
    sandbox, monkeypatch, tasks, capsys, caplog
):
    """A retry keeps its own file without a warning."""
    task, text = tasks["kept_after_clear"], documented("warning")["kept_after_clear"]
    assert outcome_of(task, sandbox, monkeypatch).state == "success"
    run_task(task, try_number=2)
    assert text not in capsys.readouterr().out + caplog.text
    run_task(task, try_number=2, max_tries=3)
    assert text in capsys.readouterr().out + caplog.text
    assert len(text) <= SEEN
