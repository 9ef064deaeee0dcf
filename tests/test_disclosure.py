"""What whole DAG runs leave behind, well and ill: what they shall tell, and none of the secrets."""

from __future__ import annotations

import json
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet
from packaging.version import Version
from support.task_instances import first_event
from support.versions import TALK_OF_AIRFLOW

from airflow_provider_reportrun import errors
from airflow_provider_reportrun.client import transport
from airflow_provider_reportrun.client.access import read_connection
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.sandbox import Answer, Delivery, Fault
from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

pytestmark = pytest.mark.xdist_group("disclosure")  # one process makes the runs for all of them
SUPPORT = Path(__file__).parent / "support"
LEAKING = "FROM HERE ON SECRETS ARE TOLD"
SUCCEED = {"landed", "three_tasks", "in_place", "no_room", "data_landed", "v1_landed"}
RUN_SECONDS = 600.0
"""A limit for all of the runs together."""
OPENLINEAGE = Version(metadata.version("apache-airflow-providers-openlineage"))
TELLS_FULL_TASKS = Version("2.20") <= OPENLINEAGE
"""Before, the provider fails where it is to tell all of a task, and tells nothing."""
KNOWN = re.compile(rf"msg=MaskSecret\(|ConnectionResult\(|{TALK_OF_AIRFLOW.pattern}")
"""Lines of ``dag.test()`` itself at DEBUG: it plays the supervisor, who knows the connections."""


@dataclass(frozen=True)
class Remains:
    """
    What is left of DAG runs.

    :param home: the Airflow home, with the database.
    :param log: what was logged.
    """

    home: Path
    log: str
    fernet: Fernet

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(f"SELECT * FROM {table}")]  # noqa: S608

    @property
    def tables(self) -> list[str]:
        """The tables of the database."""
        return [row["name"] for row in self.rows("sqlite_master") if row["type"] == "table"]

    @property
    def triggers(self) -> list[str]:
        """The arguments of triggers, as those read them who have the Fernet key."""
        kept = [row["kwargs"] for row in self.rows("trigger")]
        return [
            each if each.startswith("{") else self.fernet.decrypt(each.encode()).decode()
            for each in kept
        ]

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """The events of OpenLineage."""
        lines = (self.home / "openlineage.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def texts(self) -> dict[str, str]:
        """Everything, by where it is to be found."""
        files = {
            f"file {path.relative_to(self.home)}": path.read_bytes().decode(errors="replace")
            for path in self.home.rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        tables = {f"table {table}": repr(self.rows(table)) for table in self.tables}
        own = [line for line in self.log.splitlines() if not KNOWN.search(line)]
        return files | tables | {"log": "\n".join(own), "triggers": "\n".join(self.triggers)}

    def places_of(self, secret: str) -> set[str]:
        """Where a secret is to be found."""
        return {where for where, text in self.texts().items() if secret in text}


@dataclass(frozen=True)
class Disclosed:
    """All that came of the runs of ``support/disclosing_runs.py``."""

    states: dict[str, str]
    secrets: set[str]
    leaked_url: str
    keys: list[str]
    sound: Remains
    leaky: Remains


@pytest.fixture(scope="module")
def disclosed(tmp_path_factory) -> Disclosed:
    """Run the DAGs, with everything logged and nothing masked by Airflow."""
    folder = tmp_path_factory.mktemp("disclosed")
    home, key = folder / "leaky", Fernet.generate_key()
    home.mkdir()  # Airflow 3.0 makes it too late
    lineage = {"type": "file", "log_file_path": f"{home}/openlineage.jsonl", "append": True}
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",  # lines in their order, wherever they go
        "DISCLOSING_FOLDER": str(folder),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(SUPPORT / "dags"),
        "AIRFLOW__CORE__FERNET_KEY": key.decode(),
        "AIRFLOW__CORE__HIDE_SENSITIVE_VAR_CONN_FIELDS": "false",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(lineage),
        "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD": "true",
        "AIRFLOW__OPENLINEAGE__INCLUDE_FULL_TASK_INFO": str(TELLS_FULL_TASKS),
    }
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, SUPPORT / "disclosing_runs.py"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    told = json.loads((folder / "told.json").read_text())
    sound, _, leaky = done.stdout.partition(LEAKING)
    fernet = Fernet(key)
    return Disclosed(
        states=told["states"],
        secrets={*told["keys"], *told["urls"], *map(signature, told["urls"]), told["unsigned"]},
        leaked_url=told["leaked_url"],
        keys=told["keys"],
        sound=Remains(folder / "sound", sound, fernet),
        leaky=Remains(home, leaky, fernet),
    )


def signature(url: str) -> str:
    """What of a URL makes it good."""
    found = re.search("X-Amz-Signature=([0-9a-f]{64})", url)
    assert found
    return found[1]


def test_the_runs_went_as_planned(disclosed):
    """Those that should fail failed, each by its own error, and the others did not."""
    succeeded = {name for name, state in disclosed.states.items() if state == "success"}
    assert succeeded == SUCCEED | {"leaky"}
    assert set(disclosed.states.values()) == {"success", "failed"}
    raised = set(re.findall(r"airflow_provider_reportrun\.errors\.(\w+): ", disclosed.sound.log))
    assert raised >= {
        "AuthenticationError",
        "DownloadRefused",
        "InvalidInput",
        "LandingFailed",
        "PermissionDenied",
        "ReportRunCanceled",
        "ReportRunFailed",
        "ResultCorrupt",
        "TransportError",
        "UnexpectedAnswer",
    }
    assert "# property: report_parameters" in disclosed.sound.log  # of `airflow tasks render`
    assert "Trying again in" in disclosed.sound.log
    assert "Starting new HTTP connection" in disclosed.sound.log  # DEBUG of urllib3


def test_no_secret_is_told(disclosed):
    """No key, URL or signature is in the log, the database, trigger rows or lineage."""
    assert len(disclosed.secrets) > 20
    texts = disclosed.sound.texts().items()
    assert [(where, s) for where, text in texts for s in disclosed.secrets if s in text] == []


def test_what_is_told_would_be_found(disclosed):
    """A task that tells its secrets on purpose is caught in each of the places."""
    places = {"log", "triggers", "file airflow.db", "file openlineage.jsonl"}
    tables = {"asset_event", "rendered_task_instance_fields", "task_state_store", "xcom"}
    places |= {f"table {table}" for table in tables if table in disclosed.leaky.tables}
    for secret in (disclosed.leaked_url, signature(disclosed.leaked_url)):
        assert places - disclosed.leaky.places_of(secret) == set()
        assert disclosed.sound.places_of(secret) == set()
    assert disclosed.leaky.places_of(disclosed.keys[0]) >= {"log", "table xcom"}


def test_the_keys_are_where_they_belong(disclosed):
    """The connections hold them, encrypted, in the database that was looked through."""
    kept = [row["password"] for row in disclosed.sound.rows("connection")]
    decrypt = disclosed.sound.fernet.decrypt
    assert {decrypt(each.encode()).decode() for each in kept} <= set(disclosed.keys)


def test_the_places_were_not_empty(disclosed):
    """There were trigger rows, XComs, asset events and lineage to look through."""
    sound = disclosed.sound
    assert any("report_run_id" in each for each in sound.triggers)
    assert any("idempotency_key" in each for each in sound.triggers)
    assert {row["key"] for row in sound.rows("xcom")} >= {"return_value", "landing"}
    assert sound.lineage


def test_asset_events_hold_the_facts_of_the_landing(disclosed):
    """The metadata database has for each landing an event with what XCom says of it."""
    sound = disclosed.sound
    landings = {
        row["dag_id"]: json.loads(row["value"])
        for row in sound.rows("xcom")
        if row["key"] == "landing"
    }
    events = {row["source_dag_id"]: json.loads(row["extra"]) for row in sound.rows("asset_event")}
    assert set(events) == SUCCEED
    assert events == landings


def test_openlineage_events_of_whole_runs(disclosed):
    """The completing event names the file, its size and the report run; a failing one no file."""
    sound = disclosed.sound
    events = {
        (event["job"]["name"], event["eventType"]): event
        for event in sound.lineage
        if event["job"]["name"].endswith((".report", ".land", ".create"))
    }
    landing = json.loads(
        next(
            row["value"]
            for row in sound.rows("xcom")
            if (row["dag_id"], row["key"]) == ("landed", "landing")
        )
    )
    event = events["landed.report", "COMPLETE"]
    (output,) = event["outputs"]
    assert (output["namespace"], output["name"]) == ("file", landing["uri"].removeprefix("file://"))
    assert output["outputFacets"]["outputStatistics"]["size"] == landing["size"]
    query = event["run"]["facets"]["externalQuery"]
    assert (query["source"], query["externalQueryId"]) == ("stripe", landing["report_run_id"])
    (output,) = events["three_tasks.land", "COMPLETE"]["outputs"]
    created = events["three_tasks.create", "COMPLETE"]["run"]["facets"]["externalQuery"]
    landed = events["three_tasks.land", "COMPLETE"]["run"]["facets"]["externalQuery"]
    assert created["externalQueryId"] == landed["externalQueryId"]
    failed = events["no_zip.report", "FAIL"]
    assert failed["outputs"] == []
    assert failed["run"]["facets"]["externalQuery"]["source"] == "stripe"
    assert "errorMessage" in failed["run"]["facets"]


PROXY = "http://user:proxy-password@127.0.0.1:1"


def test_nothing_shows_the_key_when_printed(sandbox, monkeypatch):
    """Hook, access and sessions can be printed and logged; Airflow's own Connection cannot."""
    uri = f"{sandbox.connection_uri}?proxy={quote(PROXY, safe='')}"
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", uri)
    with ReportRunHook() as hook:
        access = read_connection(hook.get_connection("reportrun_default"))
        session = hook.get_conn()
        things = [hook, vars(hook), access, session, session.auth, transport.api_headers(access)]
    assert (access.api_key, access.proxy) == (sandbox.api_key, PROXY)
    assert access.api_key.reveal() == sandbox.api_key  # so it would be found
    for thing in things:
        for text in (repr(thing), str(thing), f"{thing}"):
            assert sandbox.api_key not in text
            assert "proxy-password" not in text


def test_the_triggerer_keeps_the_password_of_a_proxy(sandbox, monkeypatch, caplog):
    """A proxy that is not there ends the wait with an event that names no password."""
    uri = f"{sandbox.connection_uri}?proxy={quote(PROXY, safe='')}"
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", uri)
    caplog.set_level("DEBUG")
    trigger = ReportRunTrigger(
        report_run_id="reprun_1",
        reportrun_conn_id="reportrun_default",
        poll_interval=0.05,
        max_poll_interval=0.1,
        outage_tolerance=0.2,
        deadline=time.time() + 60,
    )
    event = first_event(trigger)
    assert event["error"]["kind"] == "TransportError"
    assert "ClientProxyConnectionError" in repr(event) or "ConnectionRefused" in repr(event)
    assert "proxy-password" not in repr(event) + repr(trigger.serialize()) + caplog.text


def test_errors_take_no_secret_along(sandbox, tmp_path):
    """Pickled, as JSON or printed, with all that led to them, errors hold neither key nor URL."""
    echo = {"error": {"message": f"Key {sandbox.api_key} is unlucky."}}
    raised = []
    with ReportRunHook() as hook:
        run = hook.create_report_run(
            "balance_summary",
            {"interval_start": "2026-10-26T00:00:00Z", "interval_end": "2026-11-02T00:00:00Z"},
        )
        for fault in (
            Fault("get_run", Answer(status=401, body=echo)),
            Fault("get_run", Answer(status=400, body=echo)),
            Fault(
                "download", Answer(status=302, headers={"Location": "https://evil.example/?a=b"})
            ),
            Fault("download", Answer(status=404)),
            Fault("download", Delivery(truncate_to=3), times=None),
        ):
            sandbox.faults.add(fault)
            with pytest.raises(errors.ReportRunError) as caught:
                hook.download_result(run.id, tmp_path / "r.csv")
            raised.append(caught.value)
    assert len({type(error) for error in raised}) > 3
    secrets = {sandbox.api_key, *sandbox.urls, *map(signature, sandbox.urls)}
    assert len(secrets) > 5
    for error in raised:
        texts = [pickle.dumps(error).decode("latin-1"), json.dumps(errors.to_json(error))]
        inner: BaseException | None = error
        while inner is not None:
            texts += [repr(inner), str(inner)]
            inner = inner.__cause__ or inner.__context__
        assert not [(s, t) for s in secrets for t in texts if s in t]
