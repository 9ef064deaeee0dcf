"""Results of each generation of the API: who gets the key, and what lands."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow.parquet
import pytest
from landing.servers import Recorder
from landing.sources import Script, stream, zipped
from landing.test_download import BODY, CUT, redirect, statuses
from support.cases import END, FAST, INTERVAL, START
from support.task_instances import dag, run_task

import airflow_provider_reportrun
from airflow_provider_reportrun.client.access import ApiAccess
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    DownloadRefused,
    NotFound,
    PermissionDenied,
    ReportRunError,
    ResultGone,
    TransportError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.landing import download as downloads_module
from airflow_provider_reportrun.operators.query_run import QueryRunToStorageOperator
from airflow_provider_reportrun.operators.report_run import DownloadReportResultOperator
from airflow_provider_reportrun.protocol.generations import NAMES, named, spoken_name
from airflow_provider_reportrun.sandbox import Answer, Delivery, Fault, Patch, Refuse

REPORTS = {
    "v2.reporting": "balance_summary",
    "v2.data": "name:balance.summary",
    "v1": "balance.summary.1",
}
CSV = b"id,net\ntxn_1,10.00\ntxn_2,-0.10\n"
COLUMNS = {"id": "varchar", "net": "double"}
V1 = named("v1")
OURS = str(Path(airflow_provider_reportrun.__file__).parent)
of_every_generation = pytest.mark.parametrize("api", NAMES)


@pytest.fixture
def api() -> str:
    """Return the generation of the hook; tests of several override it."""
    return "v1"


@pytest.fixture
def connect(sandbox, monkeypatch, api):
    """Return a function that sets extras of the connection."""

    def change(**extra):
        values = json.loads(sandbox.connection_json_for(api))
        values["extra"] = {**values.get("extra", {}), **extra}
        monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", json.dumps(values))

    change()
    return change


@pytest.fixture
def hook(connect):
    """Return a hook whose generation is that of the connection."""
    with ReportRunHook() as hook:
        yield hook


@pytest.fixture
def result(sandbox, hook, api):
    """Return a function that creates a report run with given bytes as result, for its id."""

    def make(body=CSV, content_type="csv", columns=None, by=hook):
        sandbox.deliver_next(body, content_type, columns)
        return by.create_report_run(REPORTS[api], INTERVAL).id

    return make


@pytest.fixture
def download(waits):
    """Return a function that downloads without pauses."""
    return partial(downloads_module.download, sleep=waits.append)


@pytest.fixture
def path(tmp_path):
    """Return a file to download to."""
    return tmp_path / "staged"


@pytest.fixture
def elsewhere():
    """Run another server on another port, which records what it receives."""
    with Recorder() as server:
        yield server


def is_without_api_headers(headers):
    """Tell whether headers contain nothing that is meant for the API."""
    return not any(name == "authorization" or name.startswith("stripe-") for name in headers)


def has_key(request, sandbox):
    """Tell whether a request has the key."""
    return request.headers.get("authorization") == f"Bearer {sandbox.api_key}"


# Whole


@of_every_generation
def test_lands(hook, result, land, folder, api):
    """The facts are canonical, and name the generation as users write it."""
    run_id = result()
    landing = land(hook, run_id, folder.destination("report.csv"))
    assert folder.files() == {"report.csv": CSV}
    facts = landing.as_json()
    assert (facts["api"], facts["content_type"]) == (api, "csv")
    assert facts["report"] == hook.get_report_run(run_id).report != ""
    assert (facts["interval_start"], facts["interval_end"]) == (START, END)
    assert facts["report_parameters"] == INTERVAL
    assert (facts["size"], facts["sha256"]) == (len(CSV), hashlib.sha256(CSV).hexdigest())


@of_every_generation
def test_a_file_in_a_folder_is_named_after_its_report_run(hook, result, land, folder):
    """Its extension is the content type."""
    run_id = result()
    land(hook, run_id, folder.destination("x/"))
    assert folder.files() == {f"x/{run_id}.csv": CSV}


@of_every_generation
def test_a_task_tells_the_generation(hook, result, folder, api):
    """XCom has it."""
    with dag():
        task = DownloadReportResultOperator(
            task_id="land", report_run_id=result(), destination=folder.destination("r.csv")
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert outcome.xcom["landing"]["api"] == api


@pytest.mark.parametrize("if_empty", ["skip", "land"])
@of_every_generation
def test_a_result_without_rows_tells_the_generation(hook, result, land, folder, api, if_empty):
    """Whether it is landed or not."""
    landing = land(hook, result(b"id,net\n"), folder.destination("r.csv"), if_empty=if_empty)
    assert landing.api == api
    assert landing.skipped is (if_empty == "skip")


def test_a_kept_file_is_of_no_known_generation(hook, result, land, folder):
    """Another report run may have made it."""
    folder.put("r.csv", b"old\n")
    landing = land(hook, result(), folder.destination("r.csv"), if_exists="skip")
    assert landing.as_json()["api"] is None


@of_every_generation
def test_queries_have_the_name_of_their_generation(api):
    """Users write no other."""
    assert spoken_name(named(api)) == api
    if queries := named(api).queries:
        assert spoken_name(named(queries)) == api


@of_every_generation
def test_cuts_are_resumed(sandbox, hook, result, download, path, downloads, api):
    """Each request has the key where the generation needs it, and asks only for the rest."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT)))
    sandbox.faults.add(Fault("download", Delivery(cut_after=300_000, reset=True)))
    assert download(hook, run_id, path).sha256 == hashlib.sha256(BODY).hexdigest()
    assert path.read_bytes() == BODY
    assert statuses(downloads())[:2] == [200, 206]
    assert [has_key(request, sandbox) for request in downloads()] == [api == "v1"] * 3


def test_a_changed_file_restarts(sandbox, hook, result, download, path, downloads):
    """A URL that stays the same proves nothing about the file."""
    run_id = result(BODY)
    sandbox.faults.add(Fault("download", Delivery(cut_after=CUT, corrupt_at=5, etag='"former"')))
    download(hook, run_id, path)
    assert path.read_bytes() == BODY
    first, second = downloads()
    assert first.path == second.path
    assert second.headers["if-range"] == '"former"'
    assert second.status == 200


# What the request for a file says


@pytest.mark.parametrize("version", [None, "2026-09-30.dahlia"])
def test_a_file_of_v1_is_requested_as_from_the_api(hook, connect, result, downloads, version):
    """Key and version always; no account unless there is one."""
    run_id = result()
    connect(**{"stripe_version": version} if version else {})
    with (
        ReportRunHook() as other,
        other.open_result(other.get_report_run(run_id).file.url, {}, with_key=True),
    ):
        pass
    (request,) = downloads()
    assert request.headers["authorization"].startswith("Bearer ")
    assert request.headers["stripe-version"] == (version or V1.stripe_version)
    assert not {"stripe-account", "stripe-context"} & set(request.headers)
    assert request.headers["accept-encoding"] == "identity"
    assert "content-type" not in request.headers


@pytest.mark.parametrize("where", ["connection", "task"])
def test_the_account_is_named_for_the_file_too(connect, result, download, path, downloads, where):
    """By the header of v1 alone."""
    if where == "connection":
        connect(stripe_context="acct_one")
    with ReportRunHook(stripe_context="acct_one" if where == "task" else None) as hook:
        assert download(hook, result(by=hook), path).size == len(CSV)
    (request,) = downloads()
    assert request.headers["stripe-account"] == "acct_one"
    assert "stripe-context" not in request.headers


def test_an_account_of_an_organisation_is_a_context(result, download, path, downloads):
    """A path of accounts has no other header."""
    with ReportRunHook(stripe_context="acct_one/acct_two") as hook:
        download(hook, result(by=hook), path)
    (request,) = downloads()
    assert request.headers["stripe-context"] == "acct_one/acct_two"
    assert "stripe-account" not in request.headers


def test_the_file_of_another_account_is_not_there(sandbox, hook, result, download, path, downloads):
    """Neither is its report run; where only the file is refused, it is requested once."""
    with ReportRunHook(stripe_context="acct_one") as other:
        theirs = result(by=other)
        url = other.get_report_run(theirs).file.url.reveal()
    with pytest.raises(NotFound):
        download(hook, theirs, path)
    assert downloads() == []
    run_id = result()
    sandbox.faults.add(Fault("get_run", Patch({"result": {"url": url}}), match=run_id))
    with pytest.raises(ResultGone, match="no longer exists"):
        download(hook, run_id, path)
    assert statuses(downloads()) == [404]


# Refused


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDenied)])
def test_a_refused_key_is_final(
    sandbox, hook, result, land, folder, downloads, status, kind, waits
):
    """The error begins with the permission, and the file is requested once."""
    run_id = result()
    answer = Answer(status=status, headers={"Request-Id": "req_file"})
    sandbox.faults.add(Fault("download", answer, times=None))
    with pytest.raises(kind, match="reportrun_default") as caught:
        land(hook, run_id, folder.destination("report.csv"))
    assert V1.permissions.file in str(caught.value)[:100]
    assert f"HTTP {status}" in str(caught.value)[:100]
    assert not caught.value.transient
    assert (caught.value.status, caught.value.request_id) == (status, "req_file")
    assert len(downloads()) == 1
    assert (waits, folder.files()) == ([], {})


def test_a_key_without_the_permission(sandbox, connect, hook, result, download, path, monkeypatch):
    """It creates and polls, but does not download."""
    values = json.loads(sandbox.connection_json_for("v1"))
    values["password"] = sandbox.keyring.without_files.value
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", json.dumps(values))
    with ReportRunHook() as limited:
        run_id = result(by=limited)
        assert limited.get_report_run(run_id).file
        with pytest.raises(PermissionDenied, match=r"Files \(read\)"):
            download(limited, run_id, path)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("api", ["v2.data", "v2.reporting"])
def test_a_refused_url_is_requested_anew(sandbox, hook, result, download, path, downloads, status):
    """Without a key, the URL has expired."""
    run_id = result()
    sandbox.faults.add(Fault("download", Answer(status=status)))
    assert download(hook, run_id, path).size == len(CSV)
    assert statuses(downloads()) == [status, 200]


def test_a_url_that_expires_behind_a_redirect(sandbox, connect, result, download, path, downloads):
    """There no key was refused, so the next attempt begins again."""
    connect(download_hosts="localhost")
    with ReportRunHook() as hook:
        run_id = result(by=hook)
        sandbox.faults.add(
            Fault("download", Delivery(redirect="localhost"), times=None, match="/v1/")
        )
        sandbox.faults.add(Fault("download", Delivery(expired=True), match="/files/us"))
        assert download(hook, run_id, path).size == len(CSV)
    assert statuses(downloads()) == [302, 403, 302, 200]


@pytest.mark.parametrize("answer", [Answer(status=500), Answer(status=429), Refuse()])
def test_what_may_pass_is_tried_again(sandbox, hook, result, download, path, answer, waits):
    """As for other files."""
    run_id = result()
    sandbox.faults.add(Fault("download", answer))
    assert download(hook, run_id, path).size == len(CSV)
    assert len(waits) == 1


# Redirected


def test_a_redirect_to_another_host_goes_without_the_key(
    sandbox, connect, result, download, path, downloads
):
    """A host of download_hosts never gets it, even if it is another name of the API's."""
    connect(download_hosts="localhost", stripe_context="acct_one")
    with ReportRunHook() as hook:
        run_id = result(by=hook)
        sandbox.faults.add(Fault("download", Delivery(redirect="localhost")))
        assert download(hook, run_id, path).size == len(CSV)
    first, second = downloads()
    assert has_key(first, sandbox)
    assert is_without_api_headers(second.headers)
    assert second.headers["host"].startswith("localhost:")


def test_another_name_of_the_api_is_another_host(sandbox, hook, result, download, path, downloads):
    """It is refused if nobody allows it."""
    run_id = result()
    sandbox.faults.add(Fault("download", Delivery(redirect="localhost")))
    with pytest.raises(DownloadRefused, match="localhost"):
        download(hook, run_id, path)
    assert len(downloads()) == 1


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_another_server_gets_no_key(
    sandbox, connect, result, download, path, downloads, elsewhere, name
):
    """By another port of the same host, or by another host."""
    connect(download_hosts="localhost", stripe_context="acct_one")
    elsewhere.answers.append((200, {"Content-Length": str(len(CSV))}, CSV))
    with ReportRunHook() as hook:
        run_id = result(by=hook)
        redirect(sandbox, f"http://{name}:{elsewhere.port}/f.csv")
        assert download(hook, run_id, path).size == len(CSV)
    (received,) = elsewhere.received
    assert is_without_api_headers(received)
    assert sandbox.api_key not in str(received)
    assert "acct_one" not in str(received)
    assert [has_key(request, sandbox) for request in downloads()] == [True]


def test_a_redirect_back_to_the_api_has_the_key_again(
    sandbox, hook, result, download, path, downloads, elsewhere
):
    """Each redirect is decided anew."""
    run_id = result()
    url = hook.get_report_run(run_id).file.url.reveal()
    elsewhere.answers.append((302, {"Location": url, "Content-Length": "0"}, b""))
    redirect(sandbox, f"http://127.0.0.1:{elsewhere.port}/f.csv")
    assert download(hook, run_id, path).size == len(CSV)
    assert [is_without_api_headers(received) for received in elsewhere.received] == [True]
    assert [has_key(request, sandbox) for request in downloads()] == [True, True]


@pytest.mark.parametrize("api", ["v2.data", "v2.reporting"])
def test_no_other_generation_sends_the_key(sandbox, hook, result, download, path, downloads):
    """Nor anything else of the API, not even to the API's own host."""
    run_id = result()
    redirect(sandbox, hook.get_report_run(run_id).file.url.reveal())
    download(hook, run_id, path)
    assert len(downloads()) == 2
    assert all(is_without_api_headers(request.headers) for request in downloads())


API = ApiAccess(conn_id="c", api_key="rk_test_1", download_hosts=frozenset({"files.internal"}))
PROXY = ApiAccess(conn_id="c", api_key="rk_test_1", base_url="https://stripe.internal:8443")
PLAIN = ApiAccess(conn_id="c", api_key="rk_test_1", base_url="http://10.0.0.5:9000")


@pytest.mark.parametrize(
    ("access", "url", "has_key"),
    [
        (API, "https://files.stripe.com/v1/files/file_1/contents", True),
        (API, "https://FILES.stripe.com:443/f", True),
        (API, "https://api.stripe.com/f", True),
        (API, "https://files.stripe.com:8443/f", False),
        (API, "https://api.stripe.com:8443/f", False),
        (API, "https://other.stripe.com/f", False),
        (API, "https://a.files.stripe.com/f", False),
        (API, "https://files.stripeusercontent.com/f", False),
        (API, "https://files.internal/f", False),
        (PROXY, "https://stripe.internal:8443/f", True),
        (PROXY, "https://files.stripe.com/f", True),
        (PROXY, "https://stripe.internal/f", False),
        (PROXY, "https://api.stripe.com/f", False),
        (PLAIN, "http://10.0.0.5:9000/f", True),
        (PLAIN, "https://10.0.0.5:9000/f", False),
    ],
)
def test_who_gets_the_key(download, path, access, url, has_key):
    """The API's own address and the host of files, and only for v1."""
    for api in map(named, NAMES):
        script = Script([lambda: stream(b"a")], size=1, url=url, access=access, api=api)
        if access is PLAIN and url.startswith("http:") and api is not V1:
            with pytest.raises(DownloadRefused, match="over http, not https"):
                download(script, "frr_1", path)
            continue
        download(script, "frr_1", path)
        assert script.keyed == ([url] if has_key and api is V1 else [])


@pytest.mark.parametrize(
    ("access", "url"),
    [
        (API, "http://files.stripe.com/f"),
        (API, "http://api.stripe.com/f"),
        (API, "http://api.stripe.com:443/f"),
        (API, "https://evil.example/f"),
        (API, "https://files.stripe.com.evil.example/f"),
        (API, "https://key@files.stripe.com/f"),
        (PROXY, "http://stripe.internal:8443/f"),
        (PLAIN, "http://10.0.0.5:9001/f"),
        (PLAIN, "http://files.stripe.com/f"),
        (PLAIN, "http://10.0.0.6:9000/f"),
    ],
)
@pytest.mark.parametrize("is_redirect", [False, True], ids=["url", "redirect"])
def test_addresses_that_are_refused(download, path, access, url, is_redirect):
    """No request is sent there, with the key or without."""
    first = "https://files.stripe.com/f"
    answers = [lambda: stream(status=302, Location=url)]
    script = Script(answers, size=1, url=first if is_redirect else url, access=access, api=V1)
    with pytest.raises(DownloadRefused):
        download(script, "frr_1", path)
    assert script.keyed == ([first] if is_redirect else [])
    assert len(script.asked) == len(script.keyed)


def test_whatever_redirects_say(tmp_path):
    """Of thousands of random addresses, only the two that may get the key do."""
    rng = random.Random(7)  # noqa: S311 - made-up addresses
    pieces = [
        "https://", "http://", "//", "/", "files.stripe.com", "api.stripe.com", "evil.example",
        ".", "@", ":443", ":80", ":8443", "\\", "%2e", "?", "#", "[::1]", "x", " ", "\t",
    ]  # fmt: skip
    good = ("https://files.stripe.com", "https://api.stripe.com")
    keyed = set()
    for _ in range(4000):
        location = "".join(rng.choices(pieces, k=rng.randint(1, 5)))
        answers = [lambda: stream(b"a")]
        answers.insert(0, lambda location=location: stream(status=302, Location=location))
        script = Script(answers, size=1, url="https://files.stripe.com/f", access=API, api=V1)
        with suppress(ReportRunError):
            downloads_module.download(script, "frr_1", tmp_path / "f", sleep=lambda _: None)
        keyed.update(script.keyed)
    assert len(keyed) > 10
    for url in keyed:
        origin = re.match(r"https://[^/?#]*", url)[0]
        assert origin.removesuffix(":443") in good, url


# Secrets


def recorded(error):
    """Return the local variables of this package's frames, as error trackers record them."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = [str(each.locals) for each in whole.stack if each.filename.startswith(OURS)]
    assert len(texts) >= 3
    return " ".join(texts)


LOSSES = {
    "401": (Answer(status=401), AuthenticationError),
    "403": (Answer(status=403), PermissionDenied),
    "404": (Answer(status=404), ResultGone),
    "cut": (Delivery(cut_after=0), TransportError),
    "refused": (Refuse(), TransportError),
    "circle": (Answer(status=302, headers={"Location": "/x?{key}"}), ReportRunError),
    "host": (Answer(status=302, headers={"Location": "https://{key}.example/"}), DownloadRefused),
    "path": (Answer(status=302, headers={"Location": "https://x.example/{key}"}), DownloadRefused),
    "page": (Answer(status=200, headers={"Content-Type": "text/html {key}"}), UnexpectedAnswer),
    "encoding": (Answer(status=200, headers={"Content-Encoding": "{key}"}), UnexpectedAnswer),
    "request id": (Answer(status=403, headers={"Request-Id": "{key}"}), PermissionDenied),
}
"""What goes wrong with a file of v1; ``{key}`` is the key, which the host echoes."""


@pytest.mark.parametrize("name", LOSSES)
def test_the_key_is_told_nowhere(sandbox, hook, result, download, path, caplog, name):
    """Not in the log at any level, not in the error, not in local variables."""
    caplog.set_level(logging.DEBUG)
    answer, kind = LOSSES[name]
    if isinstance(answer, Answer):
        headers = {
            each: value.format(key=sandbox.api_key)
            for each, value in (answer.headers or {}).items()
        }
        answer = Answer(status=answer.status, headers=headers)
    run_id = result()
    sandbox.faults.add(Fault("download", answer, times=None))
    with pytest.raises(kind) as caught:
        download(hook, run_id, path)
    texts = f"{caplog.text} {caught.value} {caught.value.facts} {recorded(caught.value)}"
    assert sandbox.api_key.lower() not in texts.lower()


# ZIP and Parquet


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("2026-10-28.preview", {"compression": "zip"}),
        ("2026-10-14.preview", {"compress_file": True}),
    ],
)
@pytest.mark.parametrize("api", ["v2.data"])
def test_a_zip_of_v2_data(connect, land, folder, api, version, options):
    """As the API makes it, unchanged and unpacked."""
    connect(stripe_version=version)
    with ReportRunHook() as hook:
        run_id = hook.create_report_run(REPORTS[api], INTERVAL, options).id
        landing = land(hook, run_id, folder.destination("a/"))
        assert (landing.content_type, landing.api) == ("zip", api)
        unpacked = land(hook, run_id, folder.destination("b/"), decompress=True)
    files = folder.files()
    assert files.pop(f"a/{run_id}.zip").startswith(b"PK")
    ((name, body),) = files.items()
    assert body.startswith(b"category,")
    assert [member.name for member in unpacked.members] == [name.removeprefix("b/")]


@pytest.mark.parametrize("content_type", ["csv", "zip"])
@pytest.mark.parametrize("api", ["v2.data", "v2.reporting"])
def test_parquet_with_announced_types(hook, result, land, folder, content_type):
    """The columns of v2.data come by themselves."""
    body = zipped({"a.csv": CSV}) if content_type == "zip" else CSV
    run_id = result(body, content_type, COLUMNS)
    landing = land(
        hook,
        run_id,
        folder.destination("r.parquet"),
        output_format="parquet",
        decompress=content_type == "zip",
    )
    types = {column.name: column.type for column in landing.columns}
    assert types == {"id": "varchar", "net": "decimal(38,18)"}
    assert landing.rows == 2
    assert pyarrow.parquet.read_table(folder.folder / "r.parquet").num_rows == 2


@pytest.mark.parametrize("column_types", [None, {"net": "decimal(18,2)"}], ids=["text", "named"])
def test_parquet_of_v1(hook, result, land, folder, caplog, column_types):
    """Nothing is announced, so all columns are text unless ``column_types`` names others."""
    landing = land(
        hook,
        result(),
        folder.destination("r.parquet"),
        output_format="parquet",
        column_types=column_types,
    )
    types = {column.name: column.type for column in landing.columns}
    assert types == {"id": "varchar", "net": "varchar"} | (column_types or {})
    assert "land as text" in caplog.text
    rows = pyarrow.parquet.read_table(folder.folder / "r.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["txn_1", "txn_2"]


@of_every_generation
def test_made_up_reports_convert(sandbox, hook, land, folder, api):
    """The sandbox's rows fit the types that each generation announces, or none."""
    run_id = hook.create_report_run(REPORTS[api], INTERVAL).id
    landing = land(hook, run_id, folder.destination("r.parquet"), output_format="parquet")
    table = pyarrow.parquet.read_table(folder.folder / "r.parquet")
    assert table.num_rows == landing.rows > 0
    assert landing.api == api


@pytest.mark.parametrize("output_format", [None, "parquet"])
@pytest.mark.parametrize("api", ["v2.data", "v2.reporting"])
def test_a_query_run_lands(connect, folder, caplog, api, output_format):
    """Its facts name the generation as users write it, and its log calls it a query run."""
    caplog.set_level(logging.INFO)
    name = f"r.{output_format or 'csv'}"
    with dag():
        task = QueryRunToStorageOperator(
            task_id="land",
            sql="SELECT id, currency FROM balance_transactions LIMIT 3",
            destination=folder.destination(name),
            output_format=output_format,
            deferrable=False,
            **FAST,
        )
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    facts = outcome.xcom["landing"]
    assert (facts["api"], facts["content_type"]) == (api, "csv")
    if output_format:
        assert [column["name"] for column in facts["columns"]] == ["id", "currency"]
        assert facts["rows"] == 3
    else:
        assert folder.files()[name].startswith(b"id,currency\n")
    assert f"Downloading the result of query run {facts['report_run_id']}" in caplog.text
