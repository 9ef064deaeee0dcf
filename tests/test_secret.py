"""Values of the package wherever a task may put them: no key, and no URL of a result."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import importlib.util
import json
import pickle
import sqlite3
import traceback
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import pendulum
import pytest
from support.cases import INTERVAL

import airflow_provider_reportrun
from airflow_provider_reportrun.errors import InvalidInput, ReportRunError
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.landing.download import download
from airflow_provider_reportrun.protocol import asking, calls
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.models import ReportRun, ResultFile
from airflow_provider_reportrun.protocol.retry import RetryPolicy
from airflow_provider_reportrun.sandbox import Answer, Delivery, Fault, Patch
from airflow_provider_reportrun.sandbox.faults import merged
from airflow_provider_reportrun.secret import Secret

OURS = str(Path(airflow_provider_reportrun.__file__).parent)
VALUES = Path(__file__).parent / "support" / "values"
RUN_DAY = pendulum.datetime(2026, 11, 2)
URL = "https://files.stripe.com/r.csv?X-Amz-Signature=5ec4e7"


@pytest.fixture
def hook(sandbox):
    """A hook to the sandbox."""
    with ReportRunHook() as opened:
        yield opened


@pytest.fixture
def finished(hook):
    """A finished report run, with its URL."""
    run = hook.create_report_run("balance_summary", INTERVAL)
    run = hook.wait_for_report_run(run.id, poll_interval=0.05, timeout=60)
    assert run.file.url.reveal().startswith(hook.access.base_url)
    return run


def secrets_of(sandbox):
    """What must not be found: the key, and of each URL the signature."""
    return {sandbox.api_key, *(url.rpartition("=")[2] for url in sandbox.urls)}


def found(sandbox, *texts):
    """Tell which secrets stand in texts."""
    return {secret for secret in secrets_of(sandbox) for text in texts if secret in text}


# In XCom


def pushed(database, dag_id):
    """What the tasks of a DAG have written into the metadata database, as it stands there."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT task_id, value FROM xcom WHERE dag_id = ?", (dag_id,))
        return {task_id: str(value) for task_id, value in rows}


@pytest.fixture
def dags(airflow_db, sandbox, monkeypatch, tmp_path):
    """The DAGs of ``support/values``, in the folder that Airflow reads them from."""
    from airflow import settings

    monkeypatch.setattr(settings, "DAGS_FOLDER", str(VALUES))
    monkeypatch.setenv("REPORTRUN_LANDING", str(tmp_path))
    spec = importlib.util.spec_from_file_location("returning", VALUES / "returning.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_task_may_return_them_all(sandbox, airflow_db, dags, tmp_path):
    """The database holds their summaries, which the next task reads without an allow-list."""
    done = dags.returning.test(logical_date=RUN_DAY)
    assert done.state.value == "success"
    rows = pushed(airflow_db, "returning")
    assert set(rows) == {"created", "run", "file", "nested", "report", "facts"}
    assert found(sandbox, *rows.values()) == set()
    assert len(sandbox.urls) >= 4
    told = json.loads((tmp_path / "read.json").read_text())
    assert set(told["kinds"].values()) == {"dict"}
    values = told["values"]
    got = ReportRunHook().get_report_run(sandbox.runs[0].id)
    assert values["run"] == got.summary()
    assert values["run"]["report_run_id"] == got.id
    assert values["nested"] == {"runs": [got.summary()]}
    assert (values["file"]["content_type"], values["file"]["size"]) == ("csv", got.file.size)
    assert values["file"]["schema"][0].keys() == {"name", "type"}
    assert (values["facts"]["size"], len(values["facts"]["sha256"])) == (got.file.size, 64)
    assert values["report"]["parameters"]["interval_end"]["type"] == "timestamp"


def test_what_must_not_be_returned_is_refused(sandbox, airflow_db, dags):
    """Those tasks fail, and nothing of it is in the database."""
    done = dags.refusing.test(logical_date=RUN_DAY)
    states = {each.task_id: str(each.state) for each in done.get_task_instances()}
    assert states.pop("created") == "success"
    assert set(states.values()) == {"failed"}
    assert len(states) == 5
    rows = pushed(airflow_db, "refused")
    assert set(rows) == {"created"}
    assert found(sandbox, *rows.values()) == set()


def test_refusals_say_what_to_do(hook, finished):
    """Airflow's serialiser raises them in the task."""
    name = "airflow.sdk.serde" if find_spec("airflow.sdk.serde") else "airflow.serialization.serde"
    serialize = importlib.import_module(name).serialize
    for value, words in [
        (hook.access, "create a ReportRunHook in the task"),
        (hook.access.api_key, "must not go into an XCom"),
        (finished.file.url, "must not go into an XCom"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            serialize(value)
    with pytest.raises(InvalidInput, match=r"hook\.access cannot be returned"):
        pickle.dumps(hook.access)


# Copied, printed, written as JSON


def test_a_copy_is_whole(hook, finished):
    """Copies stay in the process, so that the URL stays in them."""
    for copied in (copy.copy(finished), copy.deepcopy(finished), dataclasses.replace(finished)):
        assert copied == finished
        assert copied.file.url.reveal() == finished.file.url.reveal()
        assert dict(copied) == finished.summary()
    assert copy.copy(hook.access) is copy.deepcopy(hook.access) is hook.access


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_leaves_the_url_out(sandbox, finished, protocol):
    """All else is kept; whoever wants the URL is told to ask for it again."""
    pickled = pickle.dumps(finished, protocol)
    assert found(sandbox, pickled.decode("latin-1")) == set()
    again = pickle.loads(pickled)  # noqa: S301 - ours
    assert (again.id, again.status, again.created_at) == (
        finished.id,
        finished.status,
        finished.created_at,
    )
    assert again.file.size == finished.file.size
    assert dict(again) == finished.summary()
    with pytest.raises(InvalidInput, match="left out when this value was pickled"):
        again.file.url.reveal()


def test_nothing_shows_in_any_form(sandbox, hook, finished, tmp_path):
    """Printed, as a dict of fields, as JSON."""
    facts = hook.download_result(finished.id, tmp_path / "r.csv")
    values = [finished, finished.file, facts, hook.get_report("balance_summary"), hook.access]
    texts = [form(value) for value in values for form in (repr, str, dataclasses.asdict)]
    texts += [json.dumps(value, default=str) for value in (*values, *texts[2::3])]
    assert found(sandbox, *map(str, texts)) == set()
    assert json.loads(json.dumps(finished)) == finished.summary()


def test_a_secret_is_blank():
    """Whichever way it is made a text of; only ``reveal`` and a comparison know the text."""
    texts = [form(Secret(URL)) for form in (repr, str, "{}".format, "%s".__mod__, "%r".__mod__)]
    assert set(texts) == {"***"}
    with pytest.raises(TypeError):
        json.dumps(Secret(URL))
    assert Secret(URL) == Secret(URL) == URL == Secret(URL).reveal()
    assert len({Secret(URL), Secret(URL), Secret("other")}) == 2
    assert Secret(URL) != Secret("other")


def test_plain_texts_become_secrets():
    """However a value is made, its key and its URL are hidden."""
    file = ResultFile(content_type="csv", size=1, url=URL, url_expires_at=None)
    run = ReportRun(id="reprun_1", status="succeeded", file=file)
    assert "5ec4e7" not in f"{vars_of(run)} {run} {dataclasses.asdict(run)} {json.dumps(run)}"
    assert run.file.url.reveal() == URL


def vars_of(value):
    """What a dataclass with slots holds."""
    return {name.name: getattr(value, name.name) for name in dataclasses.fields(value)}


# In the local variables under a traceback


def recorded(error):
    """The local variables of our frames, as a tracker of errors records them."""
    texts = []
    chain: BaseException | None = error
    while chain is not None:
        frames: TracebackType | None = chain.__traceback__
        for frame, _ in traceback.walk_tb(frames):
            if frame.f_code.co_filename.startswith(OURS):
                texts += [f"{name}={value!r}" for name, value in frame.f_locals.items()]
        whole = traceback.TracebackException.from_exception(chain, capture_locals=True)
        texts += [str(each.locals) for each in whole.stack if each.filename.startswith(OURS)]
        chain = chain.__cause__ or chain.__context__
    assert len(texts) > 3
    return texts


def elsewhere(location):
    """Redirect a download."""
    return Answer(status=302, headers={"Location": location})


LOSSES = {
    "refused": ("get_run", Answer(status=400, body={"error": {"message": "No."}})),
    "no run": ("get_run", Patch(lambda run: merged(run, {"status": None}))),
    "gone": ("download", Answer(status=404)),
    "a page": ("download", Answer(status=200, headers={"Content-Type": "text/html"})),
    "other host": ("download", elsewhere("https://evil.example/?s=5ec4e7")),
    "redirected": ("download", elsewhere("/other?s=5ec4e7")),
    "cut off": ("download", Delivery(cut_after=5)),
    "too short": ("download", Delivery(truncate_to=3)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_frames_hold_no_secret(sandbox, hook, finished, tmp_path, monkeypatch, name):
    """Neither key nor URL is a local variable of ours, whatever goes wrong."""
    sandbox.faults.add(Fault(*LOSSES[name], times=None))
    with pytest.raises(ReportRunError) as caught:
        download(hook, finished.id, tmp_path / "r.csv", policy=RetryPolicy(attempts=1))
    texts = recorded(caught.value)
    assert found(sandbox, *texts) == set()
    assert "5ec4e7" not in " ".join(texts)


@pytest.mark.parametrize("is_awaiting", [False, True])
def test_frames_hold_no_secret_where_nobody_answers(monkeypatch, is_awaiting):
    """Neither in the worker nor in the triggerer; the password of a proxy is one as well."""
    proxy = quote("http://user:5ec4e7@127.0.0.1:1", safe="")
    uri = f"reportrun://:rk_test_5ec4e7@127.0.0.1:1/http?proxy={proxy}"
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", uri)
    ask = asking.ask(
        calls.get_run(named("v2.reporting"), "reprun_1"), policy=RetryPolicy(attempts=1)
    )
    with ReportRunHook() as hook, pytest.raises(ReportRunError) as caught:
        asyncio.run(hook.aconverse(ask)) if is_awaiting else hook.converse(ask)
    assert "5ec4e7" not in " ".join(recorded(caught.value))


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": {"proxy": "5ec4e7"}},
        {"password": "sk_live_5ec4e7 5ec4e7"},
    ],
    ids=str,
)
def test_frames_hold_no_secret_where_a_connection_is_refused(monkeypatch, fields):
    """Airflow's own connection is no local variable either, for it shows its password."""
    given = {"conn_type": "reportrun", "password": "rk_test_5ec4e7"} | fields
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", json.dumps(given))
    with ReportRunHook() as hook, pytest.raises(InvalidInput) as caught:
        hook.get_report_run("reprun_1")
    assert "5ec4e7" not in " ".join(recorded(caught.value))
