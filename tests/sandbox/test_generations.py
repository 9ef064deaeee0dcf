"""What holds in every generation of the API."""

from __future__ import annotations

import base64
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
from sandbox.clients import CLIENTS, V2DataQueriesClient, form

from airflow_provider_reportrun.sandbox import (
    Answer,
    Crash,
    Fault,
    Hold,
    LoseAnswer,
    Patch,
    Refuse,
    Sandbox,
)
from airflow_provider_reportrun.sandbox.generations import APIS, GENERATIONS

PAIRS = list(itertools.permutations(CLIENTS, 2))
WRONG_BASIC = base64.b64encode(b"rk_nobody:").decode()


@pytest.fixture
def client(each_client):
    """Return a client of each generation in turn."""
    return each_client


@pytest.fixture
def is_v1(client):
    """Whether this is v1, whose repeats get the saved answer."""
    return client.runs.startswith("/v1/")


@pytest.fixture
def is_query(client):
    """Whether these are query runs."""
    return client.runs.endswith("query_runs")


def test_each_has_a_client():
    """The tests here run against every generation that there is."""
    assert set(CLIENTS) == {each.name for each in GENERATIONS}


def test_life_of_a_run(client, sandbox):
    """A run is unfinished at first, then it has a file of the announced size."""
    created = client.create()
    assert created.status_code == 200
    run = created.json()
    assert run["status"] in {"running", "pending"}
    assert run["result"] is None
    assert client.run(run["id"]).json() == run
    sandbox.advance(3)
    ended = client.run(run["id"]).json()
    assert ended["status"] == "succeeded"
    file = client.download(client.url_of(ended))
    assert len(file.content) == int(client.size_of(ended)) > 20
    assert [each.status for each in sandbox.runs] == ["succeeded"]


def test_failed_run(client, sandbox):
    """A failed run says why, and has no result."""
    sandbox.fail_next(error_code="internal_error", message="Out of paper.")
    run = client.finished()
    assert run["status"] == "failed"
    assert run["result"] is None
    code, message = client.failure_of(run)
    assert code in {"internal_error", None}
    assert message == "Out of paper."
    assert client.finished()["status"] == "succeeded"


def test_canceled_run(client, sandbox):
    """Only v2.data has runs that end canceled; others leave the plan alone."""
    sandbox.cancel_next()
    run = client.finished()
    if "v2.data" in sandbox.runs[0].generation:
        assert run["status"] == sandbox.runs[0].status == "canceled"
        assert run["result"] is None
        assert run["status_details"]["canceled_at"] > run["created"]
        assert client.finished()["status"] == "succeeded"
    else:
        assert run["status"] == "succeeded"
        assert V2DataQueriesClient(sandbox).finished()["status"] == "canceled"


def test_own_content(client, sandbox):
    """A test may supply the result file of one run."""
    sandbox.deliver_next(b"a,b\n1,2\n", columns={"a": "bigint", "b": "varchar"})
    run = client.finished()
    assert client.download(client.url_of(run)).content == b"a,b\n1,2\n"
    assert int(client.size_of(run)) == 8


@pytest.mark.parametrize("size", [3_000, 123_456])
def test_size(client, size):
    """A given size holds to the byte."""
    with Sandbox(size=size, run_seconds=0) as sandbox:
        other = type(client)(sandbox)
        run = other.finished()
        assert int(other.size_of(run)) == size
        assert len(other.content_of(other.url_of(run))) == size


def test_limit(client, sandbox, is_query):
    """The limit of concurrent runs holds, and attaching needs no room."""
    first = client.create(key="k").json()["id"]
    sandbox.limit(1)
    refused = client.create(key="other")
    assert refused.status_code == 429
    assert client.create(key="k").json()["id"] == first
    sandbox.advance(3)
    assert client.create(key="other").status_code == 200
    assert [each.sql is not None for each in sandbox.runs] == [is_query, is_query]


def test_queries_have_a_limit_of_their_own(sandbox):
    """Report runs of all generations share one limit, and query runs another."""
    sandbox.limit(1)
    answers = {name: make(sandbox).create().status_code for name, make in CLIENTS.items()}
    reports = [status for name, status in answers.items() if "queries" not in name]
    queries = [status for name, status in answers.items() if "queries" in name]
    assert reports == [200, 429, 429]
    assert queries == [200, 429]


@pytest.mark.parametrize(("maker", "reader"), PAIRS)
def test_runs_belong_to_a_generation(sandbox, maker, reader):
    """A run of one generation is unknown to another."""
    run_id = CLIENTS[maker](sandbox).create().json()["id"]
    assert CLIENTS[maker](sandbox).run(run_id).status_code == 200
    assert CLIENTS[reader](sandbox).run(run_id).status_code == 404


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_keys_belong_to_a_generation(sandbox, first, second):
    """The same idempotency key is another one in another generation."""
    made = [CLIENTS[name](sandbox).create(key="k").json()["id"] for name in (first, second)]
    assert [run.id for run in sandbox.runs] == made


def test_keys_belong_to_an_account(client, sandbox):
    """A key is separate for each account, and shared by the API keys of an account."""
    own = client.create(key="k").json()["id"]
    assert client.create(key="k", context="acct_one").json()["id"] != own
    second = sandbox.keyring.second.value
    assert client.create(key="k", api_key=second).json()["id"] == own


def test_repeat(client, sandbox, is_v1):
    """A repeat creates nothing: v2 answers with the status of now, v1 with that of then."""
    first = client.create(key="k")
    sandbox.advance(3)
    again = client.create(key="k")
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["status"] == ("pending" if is_v1 else "succeeded")
    assert again.headers.get("Idempotent-Replayed") == ("true" if is_v1 else None)
    assert again.headers["Idempotency-Key"] == "k"
    assert (len(sandbox.runs), sandbox.runs[0].attached) == (1, 1)


def test_other_parameters(client, sandbox, is_v1):
    """The same key with another body is refused, with the type that the SDK knows."""
    client.create(key="k")
    refused = client.another(key="k")
    assert refused.status_code == (400 if is_v1 else 409)
    assert refused.json()["error"]["type"] == "idempotency_error"
    assert len(sandbox.runs) == 1


def test_window_of_a_key(client, sandbox, is_v1):
    """A key is forgotten after 24 hours in v1, and after 30 days in v2."""
    day = 24 * 3600
    window = day if is_v1 else 30 * day
    first = client.create(key="k").json()["id"]
    sandbox.advance(window - 60)
    assert client.create(key="k").json()["id"] == first
    sandbox.advance(120)
    assert client.create(key="k").json()["id"] != first


@pytest.mark.parametrize("length", [0, 256])
def test_length_of_a_key(client, length):
    """A key has 1 to 255 characters."""
    assert client.create(key="k" * length).status_code == 400
    assert client.create(key="k" * 255).status_code == 200


def test_key_in_use(client, sandbox, is_v1):
    """A repeat while the first request is in progress is 409, and attaches later."""
    fault = sandbox.faults.add(Fault("create", Hold(before="finishing")))
    with ThreadPoolExecutor() as pool:
        held = pool.submit(client.create, key="k")
        assert fault.reached.wait(5)
        assert len(sandbox.runs) == 1
        refused = client.create(key="k")
        other = client.create(key="other")
        fault.release()
        first = held.result().json()["id"]
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert error["code"] == ("idempotency_key_in_use" if is_v1 else "idempotency_conflict")
    assert error["type"] == "idempotency_error"
    assert refused.headers["Stripe-Should-Retry"] == "true"
    assert other.status_code == 200
    assert client.create(key="k").json()["id"] == first
    assert len(sandbox.runs) == 2


@pytest.mark.parametrize("creates_run", [False, True])
def test_crash(client, sandbox, is_v1, creates_run):
    """v1 replays a 500 of the API itself; v2 executes the request again, or attaches."""
    crash = Crash(creates_run=creates_run, should_retry=False)
    sandbox.faults.add(Fault("create", crash))
    first = client.create(key="k")
    again = client.create(key="k")
    assert first.status_code == 500
    assert first.headers["Stripe-Should-Retry"] == "false"
    assert first.json()["error"]["type"] == "api_error"
    if is_v1:
        assert again.status_code == 500
        assert again.content == first.content
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers["Stripe-Should-Retry"] == "false"
        assert len(sandbox.runs) == (1 if creates_run else 0)
        assert client.create(key="salted").status_code == 200
    else:
        assert again.status_code == 200
        assert len(sandbox.runs) == 1
        assert sandbox.runs[0].attached == (1 if creates_run else 0)


def test_faults_before_the_api(client, sandbox):
    """A 503 of a gateway is never saved; lost answers leave a run, refused ones none."""
    sandbox.faults.add(Fault("create", Answer(status=503)))
    refused = client.create(key="k")
    assert refused.status_code == 503
    assert refused.json()["error"]["message"]
    for action, runs in ((Refuse(), 0), (LoseAnswer(), 1)):
        sandbox.faults.add(Fault("create", action))
        with pytest.raises(OSError, match="Connection"):
            client.create(key="k")
        assert len(sandbox.runs) == runs
    assert client.create(key="k").status_code == 200
    assert len(sandbox.runs) == 1


def test_other_faults(client, sandbox):
    """Polls and downloads go wrong by the same names."""
    run = client.finished()
    sandbox.faults.add(Fault("get_run", Patch({"status": "queued"})))
    sandbox.faults.add(Fault("get_run", Crash()))
    sandbox.faults.add(Fault("download", Answer(status=500)))
    assert client.run(run["id"]).json()["status"] == "queued"
    assert client.run(run["id"]).status_code == 500
    assert client.run(run["id"]).status_code == 200
    assert client.download(client.url_of(run)).status_code == 500
    assert client.download(client.url_of(run)).status_code == 200


def test_requests_are_remembered(client, sandbox):
    """Requests say which generation and operation they are about."""
    run = client.finished()
    client.download(client.url_of(run))
    generation = sandbox.runs[0].generation
    assert CLIENTS[generation] is type(client)
    files = generation if generation == "v1" else None
    assert [(each.operation, each.generation) for each in sandbox.requests] == [
        ("create", generation),
        ("get_run", generation),
        ("download", files),
    ]


def test_headers_of_answers(client):
    """Answers repeat the version, and have a Request-Id of their own."""
    answers = [client.create(), client.run("x")]
    assert {each.headers["Stripe-Version"] for each in answers} == {client.version}
    assert len({each.headers["Request-Id"] for each in answers}) == 2


def test_basic_authentication(client, sandbox):
    """The key may be the user name of Basic authentication."""
    run_id = client.create().json()["id"]
    url = f"{sandbox.url}{client.runs}/{run_id}"
    headers = {"Stripe-Version": client.version}
    right = requests.get(url, auth=(sandbox.api_key, ""), headers=headers, timeout=5)
    assert right.status_code == 200
    for value in (f"Basic {WRONG_BASIC}", "Basic ~", "Basic", "Digest x"):
        wrong = requests.get(url, headers=headers | {"Authorization": value}, timeout=5)
        assert wrong.status_code == 401


@pytest.mark.parametrize("name", ["Stripe-Account", "Stripe-Context"])
def test_account(client, name):
    """Both headers name the account of a request; two accounts at once are refused."""
    run_id = client.create(context="acct_one").json()["id"]
    assert client.run(run_id).status_code == 404
    assert client.run(run_id, **{name: "acct_one"}).status_code == 200
    assert client.run(run_id, **{name: "acct_two"}).status_code == 404
    assert client.run(run_id, **{name: "not an account"}).status_code == 403
    both = client.run(run_id, context="acct_one", Stripe_Account="acct_two")
    assert both.status_code == 400


def test_unknown_query(client):
    """A query parameter that the API does not know is refused."""
    run_id = client.create().json()["id"]
    for path in (f"{client.runs}/{run_id}?expnd=1", f"{client.runs}/{run_id}?include=sql"):
        assert client.get(path).status_code == 400
    url = f"{client.sandbox.url}{client.runs}?dry_run=true"
    headers = client.headers(Content_Type=client.content_type)
    assert requests.post(url, data="", headers=headers, timeout=5).status_code == 400


@pytest.mark.parametrize("version", ["latest", "2026-10-28 preview", "2026"])
def test_malformed_version(client, version):
    """A malformed version is refused."""
    answer = client.run("x", Stripe_Version=version)
    assert answer.status_code == 400
    assert "version" in answer.json()["error"]["message"].lower()


@pytest.mark.parametrize("version", ["2026-10-28.endive", "2025-08-27.preview", "2019-12-03"])
def test_version_without_these_paths(client, is_v1, version):
    """/v2/data wants a preview that has it; v1 takes any version there is."""
    if client.runs.startswith("/v2/data"):
        assert client.create(key="k").status_code == 200
        client.version = version
        refused = client.create(key="k")
        assert refused.status_code == 400
        assert "preview" in refused.json()["error"]["message"]
    elif is_v1:
        client.version = version
        assert client.create().status_code == 200


def test_powerless_key(client, sandbox):
    """A key without permissions is refused everywhere, and the message names what it lacks."""
    key = sandbox.keyring.powerless.value
    for answer in (client.create(api_key=key), client.run("x", api_key=key)):
        assert answer.status_code == 403
        assert "permission" in answer.json()["error"]["message"]


def test_inspector(client, sandbox):
    """The page of a run shows runs of every generation, without a URL."""
    run_id = client.finished()["id"]
    url = f"{sandbox.url}/workbench/inspector?object={run_id}"
    shown = requests.get(url, timeout=5)
    assert run_id in shown.text
    assert "Signature" not in shown.text


@pytest.mark.parametrize("api", APIS)
def test_connections(sandbox, api):
    """There is a connection for each generation that a connection may name."""
    by_uri = urlsplit(sandbox.connection_uri_for(api))
    by_json = json.loads(sandbox.connection_json_for(api))
    assert unquote(by_uri.password) == by_json["password"] == sandbox.api_key
    assert by_json["host"] == sandbox.url
    if api == "v2.reporting":
        assert sandbox.connection_uri_for(api) == sandbox.connection_uri
        assert sandbox.connection_json_for(api) == sandbox.connection_json
    else:
        assert by_json["extra"] == {"api": api}
        assert parse_qs(by_uri.query) == {"api": [api]}


def test_unknown_api(sandbox):
    """The error names the generations that there are."""
    for make in (sandbox.connection_uri_for, sandbox.connection_json_for):
        with pytest.raises(ValueError, match=r"v2\.reporting, v2\.data, v1"):
            make("v3")


def test_forms_are_encoded_as_the_sdk_does():
    """The client of v1 here writes what the SDK writes."""
    body = {"parameters": {"columns": ["a", "b c"], "interval_end": 2}}
    assert form(body) == (
        "parameters[columns][0]=a&parameters[columns][1]=b%20c&parameters[interval_end]=2"
    )
