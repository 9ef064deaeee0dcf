"""What assets, references and aliases among outlets are told, in Airflow's own database."""

from __future__ import annotations

import importlib.util
import json
from importlib.util import find_spec
from pathlib import Path

import pendulum
import pytest
from landing.sources import zipped
from sqlalchemy import select
from support.cases import BODY

from airflow_provider_reportrun._compat import hashes_alias_extras
from airflow_provider_reportrun.task.outlets import landed_asset

DAGS = Path(__file__).parents[1] / "support/outlet_dags"
RUN_DAY = pendulum.datetime(2026, 11, 2)


@pytest.fixture
def told(airflow_db, sandbox, tmp_path, monkeypatch):
    """Run a DAG of ``outlet_dags``; give the events of what it landed, and the facts in XCom."""
    bundle = {
        "name": "outlets",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS)},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    monkeypatch.setenv("REPORTRUN_LANDING", str(tmp_path))

    def run(name):
        spec = importlib.util.spec_from_file_location("told", DAGS / "told.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        know_the_assets(bundle["name"])
        dag_run = module.DAGS[name].test(logical_date=RUN_DAY)
        assert dag_run.state == "success"
        return kept_of(dag_run)

    return run


def know_the_assets(bundle):
    """Write the assets of the DAGs to the database, which ``dag.test()`` does from 3.1 on."""
    if find_spec("airflow.dag_processing.dagbag"):  # from Airflow 3.1 or 3.2 on
        return
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models.dagbag import DagBag

    if hasattr(DagBag, "sync_to_db"):  # Airflow 3.0
        DagBundlesManager().sync_bundles_to_db()
        DagBag(DAGS, include_examples=False).sync_to_db(bundle, None)


def kept_of(dag_run):
    """What the database holds: URI, aliases and extra of each event, and the facts in XCom."""
    from airflow.models.asset import AssetEvent
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        events = session.scalars(
            select(AssetEvent).where(
                AssetEvent.source_run_id == dag_run.run_id,
                AssetEvent.source_dag_id == dag_run.dag_id,
                AssetEvent.source_task_id == "land",
            )
        ).unique()
        found = [
            (event.asset.uri, sorted(alias.name for alias in event.source_aliases), event.extra)
            for event in events
        ]
        facts = session.scalar(
            select(XComModel.value).where(
                XComModel.dag_id == dag_run.dag_id,
                XComModel.run_id == dag_run.run_id,
                XComModel.key == "landing",
            )
        )
    return found, XComModel.deserialize_value(type("Row", (), {"value": facts}))


def of_alias(facts):
    """The facts on the event of an alias."""
    if not hashes_alias_extras():
        return facts
    return {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in facts.items()}


@pytest.mark.parametrize("name", ["by_name", "by_uri"])
def test_a_reference_is_told(sandbox, told, name):
    """Its event is that of the asset, with the facts."""
    sandbox.deliver_next(BODY)
    events, facts = told(name)
    assert events == [("x-report://weekly", [], facts)]
    assert facts["report_run_id"] == sandbox.runs[0].id


def test_an_alias_is_resolved_to_the_file(sandbox, told, tmp_path):
    """The landed URI becomes an asset, and its event names the alias."""
    sandbox.deliver_next(BODY)
    events, facts = told("to_file")
    assert events == [((tmp_path / "r.csv").as_uri(), ["stripe"], of_alias(facts))]


def test_an_alias_is_resolved_to_the_folder(sandbox, told, tmp_path):
    """Several files are one landing, so they are one asset and one event."""
    sandbox.deliver_next(zipped({"a.csv": BODY, "b.csv": BODY}), "zip")
    events, facts = told("to_folder")
    assert events == [((tmp_path / "week").as_uri(), ["stripe"], of_alias(facts))]
    assert len(facts["members"]) == 2


def test_all_kinds_at_once(sandbox, told, tmp_path):
    """Each is told the same, and two aliases share an event."""
    sandbox.deliver_next(BODY)
    events, facts = told("all_kinds")
    assert sorted((uri, aliases) for uri, aliases, _ in events) == [
        ((tmp_path / "r.csv").as_uri(), ["one", "two"]),
        ("x-report://plain", []),
        ("x-report://weekly", []),
    ]
    for _, aliases, extra in events:
        assert extra == (of_alias(facts) if aliases else facts)


def test_what_was_kept_is_told_too(told, tmp_path):
    """With the facts that say so."""
    (tmp_path / "r.csv").write_bytes(b"old\n")
    events, facts = told("kept")
    assert events == [((tmp_path / "r.csv").as_uri(), ["stripe"], of_alias(facts))]
    assert facts["skipped"] is True


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("file:///srv/r.csv", "file:///srv/r.csv"),
        ("file:///srv/week/", "file:///srv/week"),
        ("file:///srv/#1 ü?.csv", "file:///srv/%231 %C3%BC%3F.csv"),
        ("s3://bucket/a b/r.csv", "s3://bucket/a b/r.csv"),
        ("gs://bucket/r.csv", "gs://bucket/r.csv"),
        ("sftp://host/r.csv", "sftp://host/r.csv"),
        ("abfs://container/r.csv", "abfs://container/r.csv"),
    ],
)
def test_the_asset_of_a_landed_uri(uri, expected):
    """No part of a name is taken for a fragment or a query."""
    assert landed_asset(uri).uri == expected
