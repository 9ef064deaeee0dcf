"""Tasks that speak ``/v1/reporting``: frozen answers, the list, intervals, accounts and keys."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from sandbox.clients import V1Client
from support.cases import (
    END,
    FAST,
    FAST_SENSOR,
    INTERVAL,
    MODES,
    PLACES,
    START,
    STORES,
    Advance,
    operations,
)
from support.task_instances import dag, first_event, run_sensor, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    DataNotAvailable,
    InvalidInput,
    InvalidRequest,
    PermissionDenied,
    ReportRunFailed,
    TransportError,
)
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.protocol.flows import LISTED_PAGES
from airflow_provider_reportrun.protocol.interval import format_instant
from airflow_provider_reportrun.sandbox import Answer, Crash, Fault, Hold, LoseAnswer, Patch
from airflow_provider_reportrun.sandbox.problems import Problem
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor
from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

DAY = 24 * 3600.0
REPORT = "balance.summary.1"
BY_ID = "payout_reconciliation.by_id.itemized.4"
ENDING = "ending_balance_reconciliation.summary.1"
PENDING = Patch({"status": "pending", "result": None})
ALL_PENDING = Patch(
    lambda page: page | {"data": [run | {"status": "pending"} for run in page["data"]]}
)
WAITS = {"wait_for_completion": True, **FAST}
every_mode = pytest.mark.parametrize("mode", MODES)
MARKS = pytest.mark.parametrize("marks", [True, False], ids=["marked", "not marked"])


@pytest.fixture
def reportrun_sandbox_api():
    """Let the connection speak v1."""
    return "v1"


class NotYet:
    """Refuses a create because of its data, although the definition has them; v1 keeps that."""

    async def play(self, _, exchange):
        """Refuse in the words of the API."""

        async def refuse():
            raise Problem(
                400,
                None,
                f"Data for the report type {REPORT} is only available through 2026-11-01 12:00:00 "
                "UTC; you requested `interval_end` = 2026-11-02 00:00:00 UTC.",
            )

        return await exchange.handle(at_start=refuse)


class CrashAmongOthers:
    """Crashes after the run was made, while many other runs are made."""

    def __init__(self, sandbox, count):
        self.client, self.count = V1Client(sandbox), count

    async def play(self, fault, exchange):
        """Make the run, then the others."""
        answer = await Crash(creates_run=True).play(fault, exchange)
        for _ in range(self.count):
            await asyncio.to_thread(self.client.another)
        return answer


class Unmarked:
    """Does not say that an answer is an old one."""

    async def play(self, _, exchange):
        """Handle, and take the mark away."""
        answer = await exchange.handle()
        if "Idempotent-Replayed" in answer.headers:
            del answer.headers["Idempotent-Replayed"]
        return answer


def make(kind=CreateReportRunOperator, **arguments):
    """An operator in a DAG of its own."""
    defaults = {"task_id": "create", "report": REPORT, "retries": 3}
    with dag():
        return kind(**defaults | arguments)


def landing(folder, **arguments):
    """An operator that does it all."""
    return make(ReportRunToStorageOperator, destination=f"{folder}/r.csv", **FAST | arguments)


class Tries:
    """
    The tries of one task instance, whose DAG run has just begun.

    :param keeps: whether Airflow keeps a store from try to try.
    """

    def __init__(self, sandbox, keeps=False, began=0.0):
        self.sandbox, self.store = sandbox, {} if keeps else None
        began_at = datetime.now(tz=timezone.utc) + timedelta(seconds=began)
        self.fields = {"start_date": began_at.isoformat()}
        self.number = 0

    def run(self, task, **arguments):
        """Run the next try, and forget the requests of earlier ones."""
        self.number += 1
        self.before = len(self.sandbox.requests)
        defaults = {"try_number": self.number, "run_fields": self.fields, "store": self.store}
        return run_task(task, **defaults | arguments)

    @property
    def operations(self):
        """What the last try asked for."""
        return operations(self.sandbox)[self.before :]


@pytest.fixture
def tries(sandbox):
    """Tries without a store."""
    return Tries(sandbox)


def succeeded(outcome):
    """Return the result of a task that succeeded."""
    assert outcome.state == "success", outcome.error
    return outcome.returned


def posts(sandbox):
    """The creates that arrived."""
    return [request for request in sandbox.requests if request.operation == "create"]


def keys(sandbox):
    """The idempotency keys, each named by its first use."""
    sent = [request.headers["idempotency-key"] for request in posts(sandbox)]
    names = list(dict.fromkeys(sent))
    return [names.index(key) for key in sent]


# What is sent


@PLACES
def test_creates_waits_and_lands(sandbox, tmp_path, deferrable):
    """As a form; the facts name the generation, and the interval as everywhere."""
    task = landing(tmp_path, deferrable=deferrable, stripe_context="acct_one")
    outcome = run_task(task)
    assert succeeded(outcome) == f"file://{tmp_path}/r.csv"
    facts = outcome.xcom["landing"]
    assert (facts["api"], facts["report"]) == ("v1", REPORT)
    assert (facts["interval_start"], facts["interval_end"]) == (START, END)
    assert facts["report_parameters"] == INTERVAL
    assert facts["report_run_id"] == sandbox.runs[0].id
    assert (tmp_path / "r.csv").read_bytes().startswith(b"category,")
    (create,) = posts(sandbox)
    assert create.form == {
        "report_type": REPORT,
        "parameters": {"interval_start": "1792972800", "interval_end": "1793577600"},
    }
    assert {"create", "get_report", "download"} <= set(operations(sandbox))
    for request in sandbox.requests:
        assert request.headers["stripe-account"] == "acct_one", request.operation
        assert "stripe-context" not in request.headers
        assert request.headers["stripe-version"]
        assert request.headers["authorization"] == f"Bearer {sandbox.api_key}"


@PLACES
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"interval_start": "2026-10-26T00:00:00.5Z"}, "interval_start"),
        ({"report_parameters": {"interval_end": "2026-10-27T00:00:00.001Z"}}, "interval_end"),
        ({"result_options": {"compress_file": True}}, "result_options"),
    ],
    ids=["start", "end", "options"],
)
def test_what_it_cannot_do_is_refused_by_name(sandbox, arguments, name, deferrable):
    """In one try, before any request."""
    outcome = run_task(make(deferrable=deferrable, **arguments))
    assert isinstance(outcome.error, InvalidInput)
    assert isinstance(outcome.error, AirflowFailException)
    assert name in str(outcome.error)[:100]
    assert sandbox.requests == []


# Types that take no interval, or only its end


@PLACES
@pytest.mark.parametrize("validate", [True, False], ids=["checked", "not checked"])
@pytest.mark.parametrize(
    ("report", "parameters", "sent"),
    [
        (BY_ID, {"payout": "po_1"}, {"payout": "po_1"}),
        (ENDING, {}, {"interval_end": "1793577600"}),
    ],
    ids=["no interval", "only its end"],
)
def test_default_bounds_are_left_out(sandbox, report, parameters, sent, validate, deferrable):
    """Whatever the type does not take; one report run, also over a retry."""
    task = {"report": report, "report_parameters": parameters, "validate": validate}
    made = Tries(sandbox)
    ids = {succeeded(made.run(make(**WAITS | task, deferrable=deferrable))) for _ in range(2)}
    assert [run.id for run in sandbox.runs] == [*ids]
    assert posts(sandbox)[-1].form["parameters"] == sent


@PLACES
@pytest.mark.parametrize("validate", [True, False], ids=["checked", "not checked"])
@pytest.mark.parametrize("waits", [True, False], ids=["waits for data", "does not"])
@pytest.mark.parametrize(
    ("report", "arguments"),
    [
        (BY_ID, {"interval_start": START}),
        (BY_ID, {"report_parameters": {"payout": "po_1", "interval_start": START}}),
        (ENDING, {"interval_start": START}),
    ],
)
def test_a_bound_of_the_user_is_never_left_out(
    sandbox, report, arguments, validate, waits, deferrable
):
    """The error names it; one try, and no report run."""
    arguments = (
        {"report_parameters": {"payout": "po_1"}} | arguments if report == BY_ID else arguments
    )
    task = make(
        report=report, validate=validate, wait_for_data=waits, deferrable=deferrable, **arguments
    )
    outcome = run_task(task)
    assert isinstance(outcome.error, InvalidRequest), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert "interval_start" in str(outcome.error)
    assert sandbox.runs == []


# Frozen replays


@STORES
@PLACES
@pytest.mark.parametrize("waits", [False, True], ids=["create only", "and wait"])
def test_a_retry_finds_the_same_report_run(sandbox, keeps, deferrable, waits):
    """A replay says pending for ever, so the run is looked up; a store knows its id."""
    made = Tries(sandbox, keeps)
    arguments = {"deferrable": deferrable, "wait_for_completion": waits, **FAST}
    first = succeeded(made.run(make(**arguments)))
    again = succeeded(made.run(make(**arguments)))
    assert [run.id for run in sandbox.runs] == [first] == [again]
    if keeps:
        assert made.operations == ["get_run"]
    else:
        assert made.operations[-1] == ("get_run" if waits else "create")
    assert "list_runs" not in made.operations


@PLACES
def test_a_lost_answer_makes_no_second_report_run(sandbox, deferrable):
    """It is asked for again under the same key."""
    sandbox.faults.add(Fault("create", LoseAnswer()))
    succeeded(run_task(make(deferrable=deferrable, **WAITS)))
    assert keys(sandbox) == [0, 0]
    assert len(sandbox.runs) == 1


@STORES
def test_a_try_without_any_answer_makes_no_second_report_run(sandbox, keeps):
    """Its run is found by the next one."""
    made = Tries(sandbox, keeps)
    sandbox.faults.add(Fault("create", LoseAnswer(reset=True), times=5))
    assert isinstance(made.run(make(**WAITS)).error, TransportError)
    succeeded(made.run(make(**WAITS)))
    assert set(keys(sandbox)) == {0}
    assert len(sandbox.runs) == 1


@STORES
@PLACES
def test_the_try_after_a_failed_run_creates_a_new_one(sandbox, keeps, deferrable):
    """And each later one finds that."""
    sandbox.fail_next(2)
    made = Tries(sandbox, keeps)
    task = {"deferrable": deferrable, **WAITS}
    outcomes = [made.run(make(**task)) for _ in range(4)]
    assert [type(each.error) for each in outcomes[:2]] == [ReportRunFailed] * 2
    assert succeeded(outcomes[2]) == succeeded(outcomes[3]) == sandbox.runs[2].id
    assert len(sandbox.runs) == 3


@PLACES
def test_a_key_in_use_is_waited_for(sandbox, deferrable):
    """While a first create of it is being handled, as after a kill of a worker."""
    task = make(deferrable=deferrable, **WAITS)
    succeeded(run_task(task))
    key = posts(sandbox)[0].headers["idempotency-key"]
    sandbox.reset()
    held = sandbox.faults.add(Fault("create", Hold(seconds=1.5, before="finishing")))
    bounds = {"interval_start": 1792972800, "interval_end": 1793577600}
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(lambda: V1Client(sandbox).create(key=key, **bounds))
        assert held.reached.wait(10)
        found = succeeded(run_task(task))
        assert killed.result().json()["id"] == found
    assert [run.id for run in sandbox.runs] == [found]
    assert 409 in {request.status for request in posts(sandbox)}
    assert keys(sandbox) == [0] * len(posts(sandbox))


# Errors that the API keeps


@STORES
@PLACES
def test_a_run_behind_an_error_is_found(sandbox, keeps, deferrable):
    """On a later page of the list, in the same try, and by later tries."""
    sandbox.faults.add(Fault("create", CrashAmongOthers(sandbox, 101)))
    zoned = Patch(lambda page: page | {"data": [_zoned(run) for run in page["data"]]})
    sandbox.faults.add(Fault("list_runs", zoned, times=None))
    made = Tries(sandbox, keeps)
    found = {succeeded(made.run(make(deferrable=deferrable, **WAITS))) for _ in range(2)}
    assert found == {sandbox.runs[0].id}
    assert len(sandbox.runs) == 102
    assert operations(sandbox).count("list_runs") >= 2


def _zoned(run):
    return run | {"parameters": run["parameters"] | {"timezone": "Etc/UTC"}}


@MARKS
@STORES
@PLACES
@pytest.mark.parametrize("should_retry", [None, False], ids=["no advice", "do not retry"])
def test_an_error_without_a_run_leads_to_another_key(
    sandbox, keeps, deferrable, marks, should_retry
):
    """In the same try, whatever the API advises for the same key; later ones find the run."""
    sandbox.faults.add(Fault("create", Crash(should_retry=should_retry)))
    if not marks:
        sandbox.faults.add(Fault("create", Unmarked(), times=None))
    made = Tries(sandbox, keeps)
    first = succeeded(made.run(make(deferrable=deferrable, **WAITS)))
    assert keys(sandbox) == [0, 0, 1]
    assert "list_runs" in made.operations
    assert succeeded(made.run(make(deferrable=deferrable, **WAITS))) == first
    assert [run.id for run in sandbox.runs] == [first]


@STORES
def test_an_error_of_a_gateway_leaves_the_key(sandbox, keeps):
    """So a later try finds the run under it."""
    sandbox.faults.add(Fault("create", Answer(status=503)))
    made = Tries(sandbox, keeps)
    first = succeeded(made.run(make(**WAITS)))
    assert succeeded(made.run(make(**WAITS))) == first
    assert keys(sandbox) in ([0, 0], [0, 0, 0])
    assert len(sandbox.runs) == 1


@MARKS
@STORES
@PLACES
def test_a_refusal_does_not_stick(sandbox, keeps, deferrable, marks):
    """Two tries are refused and the next one is not, because it has another key."""
    sandbox.faults.add(Fault("create", NotYet()))
    made = Tries(sandbox, keeps)
    if not marks:
        sandbox.faults.add(Fault("create", Unmarked()))
    sandbox.faults.add(Fault("create", NotYet(), after=int(marks)))
    if not marks:
        sandbox.faults.add(Fault("create", Unmarked(), times=None))
    for _ in range(2):
        outcome = made.run(make(deferrable=deferrable, **FAST))
        assert isinstance(outcome.error, DataNotAvailable), outcome.error
        assert outcome.state == "up_for_retry"
    found = succeeded(made.run(make(deferrable=deferrable, **FAST)))
    assert [run.id for run in sandbox.runs] == [found]
    assert keys(sandbox) == [0, 0, 1, 0, 1, 2]


@MARKS
@PLACES
def test_a_wait_for_data_does_not_stick(sandbox, deferrable, marks):
    """The definition is ahead of the data, and each refusal is kept."""
    for number in range(3):
        sandbox.faults.add(Fault("create", NotYet(), after=0 if number == 0 else number))
        if not marks:
            break
    if not marks:
        sandbox.faults.add(Fault("create", Unmarked(), times=None))
    task = make(deferrable=deferrable, wait_for_data=True, **WAITS)
    found = succeeded(run_task(task))
    assert [run.id for run in sandbox.runs] == [found]
    assert len(posts(sandbox)) > 2


@MARKS
@pytest.mark.parametrize("waits", [False, True], ids=["create only", "and wait"])
def test_a_trigger_passes_the_errors_of_earlier_tries(sandbox, waits, marks):
    """Although it does not know the first of them."""
    sandbox.faults.add(Fault("create", NotYet()))
    if not marks:
        sandbox.faults.add(Fault("create", Unmarked(), times=1, after=5))
    made = Tries(sandbox)
    arguments = {"deferrable": True, "wait_for_completion": waits, **FAST}
    assert isinstance(made.run(make(**arguments)).error, DataNotAvailable)
    sandbox.faults.clear()
    sandbox.faults.add(Fault("create", Answer(status=429), times=5))
    if not marks:
        sandbox.faults.add(Fault("create", Unmarked(), times=None))
    outcome = made.run(make(**arguments))
    assert succeeded(outcome) == sandbox.runs[0].id
    assert len(outcome.deferrals) >= 1
    assert keys(sandbox)[-2:] == [0, 1]


def test_an_older_run_is_not_attached_to(sandbox, tries):
    """It may lack data; the run of this DAG run is another one."""
    old = ReportRunHook().create_report_run(REPORT, INTERVAL)
    sandbox.runs[0].created_ns -= 3600 * 10**9
    sandbox.faults.add(Fault("create", Crash()))
    found = succeeded(tries.run(make(**WAITS)))
    assert [run.id for run in sandbox.runs] == [old.id, found]


@PLACES
def test_after_a_day_the_list_comes_first(sandbox, deferrable):
    """The API has forgotten the key."""
    made = Tries(sandbox, began=-DAY - 60)
    first = succeeded(made.run(make(deferrable=deferrable, **WAITS)))
    sandbox.advance(DAY + 60)
    assert succeeded(made.run(make(deferrable=deferrable, **WAITS))) == first
    assert made.operations[-1] == "list_runs"
    assert len(sandbox.runs) == 1


# Keys of the user, and clears


FAULTS = [None, LoseAnswer(), Crash(), Crash(creates_run=True), NotYet()]


@PLACES
@pytest.mark.parametrize("fault", FAULTS, ids=["none", "lost", "crash", "run behind", "not yet"])
def test_an_own_key_shares_a_report_run_between_dag_runs(sandbox, fault, deferrable):
    """Of the same interval."""
    if fault:
        sandbox.faults.add(Fault("create", fault))
    found = []
    for number in range(2):
        made = Tries(sandbox)
        own = {"task_id": f"create{number}", "idempotency_key": "shared-{{ ds }}"}
        task = {"deferrable": deferrable, **own, **WAITS}
        if deferrable and number:
            sandbox.faults.add(Fault("create", Answer(status=429), times=5))
        outcome = made.run(make(**task))
        if outcome.state == "up_for_retry":
            outcome = made.run(make(**task))
        found.append(succeeded(outcome))
        sandbox.runs[0].created_ns -= 60 * 10**9
    assert found == [sandbox.runs[0].id] * 2
    assert len(sandbox.runs) == 1


@STORES
@pytest.mark.parametrize("behind", [False, True], ids=["answered", "behind an error"])
@pytest.mark.parametrize("on_clear", ["new_run", "reuse"])
def test_a_clear(sandbox, keeps, on_clear, behind):
    """It asks for a new report run, or for the same one."""
    if behind:
        sandbox.faults.add(Fault("create", Crash(creates_run=True)))
    made = Tries(sandbox, keeps)
    first = succeeded(made.run(make(on_clear=on_clear, **WAITS)))
    sandbox.runs[0].created_ns -= 10 * 10**9
    made.fields["start_date"] = datetime.fromtimestamp(
        time.time() - 30, tz=timezone.utc
    ).isoformat()
    cleared = succeeded(made.run(make(on_clear=on_clear, **WAITS), max_tries=4))
    assert (cleared == first) is (on_clear == "reuse")
    assert len(sandbox.runs) == (1 if on_clear == "reuse" else 2)


# Data


@pytest.fixture
def late(sandbox):
    """An end of an interval that the data do not reach yet."""
    report = ReportRunHook().get_report(REPORT)
    sandbox.reset()
    return report.parameters["interval_end"].latest + timedelta(hours=12)


@PLACES
@pytest.mark.parametrize("validate", [True, False], ids=["checked", "not checked"])
def test_data_that_are_not_there_end_a_try(sandbox, late, validate, deferrable):
    """The next try may have them."""
    task = make(interval_end=format_instant(late), validate=validate, deferrable=deferrable)
    outcome = run_task(task)
    assert isinstance(outcome.error, DataNotAvailable)
    assert outcome.state == "up_for_retry"
    assert outcome.error.available_through == format_instant(late - timedelta(hours=12))
    assert (posts(sandbox) == []) is validate
    assert sandbox.runs == []


@PLACES
@pytest.mark.parametrize("validate", [True, False], ids=["checked", "not checked"])
def test_data_are_waited_for(sandbox, late, validate, deferrable):
    """Before the create, whatever is checked besides."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox, DAY / 2), after=2))
    end = format_instant(late)
    task = make(
        interval_end=end, validate=validate, deferrable=deferrable, wait_for_data=True, **WAITS
    )
    succeeded(run_task(task))
    (run,) = sandbox.runs
    assert run.report_parameters["interval_end"] == int(late.timestamp())
    assert keys(sandbox) == [0]


@every_mode
def test_the_sensor_waits_for_data(sandbox, late, mode):
    """Of the report type's window."""
    sandbox.faults.add(Fault("get_report", Advance(sandbox, DAY / 2), after=2))
    with dag():
        task = ReportDataSensor(
            task_id="data", report=REPORT, interval_end=late, **FAST_SENSOR | MODES[mode]
        )
    assert run_sensor(task).state == "success"
    assert len(sandbox.requests) >= 3


@every_mode
def test_the_sensor_waits_for_a_run(sandbox, mode):
    """By itself, or in a triggerer by the list."""
    run = ReportRunHook().create_report_run(REPORT, INTERVAL)
    sandbox.faults.add(Fault("get_run", PENDING, times=2))
    sandbox.faults.add(Fault("list_runs", ALL_PENDING, times=2))
    with dag():
        task = ReportRunSensor(task_id="w", report_run_id=run.id, **FAST_SENSOR | MODES[mode])
    outcome = run_sensor(task)
    assert outcome.state == "success", outcome.error
    assert outcome.returned["report_parameters"] == INTERVAL
    assert ("list_runs" in operations(sandbox)) is (mode == "deferrable")


# Keys of the API


@PLACES
def test_a_wrong_key_ends_it(sandbox, monkeypatch, tmp_path, deferrable):
    """In one try."""
    use(monkeypatch, sandbox, "rk_test_nobody")
    outcome = run_task(landing(tmp_path, deferrable=deferrable))
    assert isinstance(outcome.error, AuthenticationError)
    assert isinstance(outcome.error, AirflowFailException)


@PLACES
def test_a_key_without_permission_ends_it(sandbox, monkeypatch, tmp_path, deferrable):
    """In one try; the error names the permission."""
    use(monkeypatch, sandbox, sandbox.keyring.powerless.value)
    outcome = run_task(landing(tmp_path, deferrable=deferrable))
    assert isinstance(outcome.error, PermissionDenied)
    assert isinstance(outcome.error, AirflowFailException)
    assert "report_runs_and_report_types_read" in str(outcome.error)


@PLACES
def test_a_key_without_files_ends_it(sandbox, monkeypatch, tmp_path, deferrable):
    """In one try, at the download; the error names the permission."""
    use(monkeypatch, sandbox, sandbox.keyring.without_files.value)
    outcome = run_task(landing(tmp_path, deferrable=deferrable))
    assert isinstance(outcome.error, PermissionDenied), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert "Files" in str(outcome.error)
    assert len(sandbox.runs) == 1


def use(monkeypatch, sandbox, key, **extra):
    """Use another key, and further fields of the connection."""
    connection = json.loads(sandbox.connection_json_for("v1"))
    fields = connection.get("extra") or {}
    fields = json.loads(fields) if isinstance(fields, str) else fields
    connection |= {"password": key, "extra": fields | extra}
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", json.dumps(connection))


@PLACES
def test_secrets_are_nowhere(sandbox, tmp_path, deferrable, caplog, capsys):
    """Neither in what Airflow keeps, nor in the log."""
    caplog.set_level("DEBUG")
    echo = {"error": {"type": "api_error", "message": f"Key {sandbox.api_key} is unlucky."}}
    sandbox.faults.add(Fault("create", Answer(status=500, body=echo)))
    sandbox.faults.add(Fault("create", Answer(status=429, body=echo), times=6))
    unfinished = Fault("list_runs", ALL_PENDING) if deferrable else Fault("get_run", PENDING)
    sandbox.faults.add(unfinished)
    made = Tries(sandbox, keeps=True)
    outcome = made.run(landing(tmp_path, deferrable=deferrable))
    succeeded(outcome)
    kept = [outcome.xcom, outcome.rendered, outcome.events, outcome.deferrals, made.store]
    written = capsys.readouterr()
    assert sandbox.api_key not in repr(kept) + caplog.text + written.out + written.err
    assert outcome.xcom["landing"]["report_run_id"] in repr(kept)


# Many waits


def test_many_waits_share_their_polls(sandbox, monkeypatch):
    """A hundred and fifty of them: two pages of the list for each poll of them all."""
    use(monkeypatch, sandbox, sandbox.api_key, max_requests_per_second=1000)
    ids = [V1Client(sandbox).create().json()["id"] for _ in range(150)]
    began = len(sandbox.requests)
    sandbox.faults.add(Fault("list_runs", ALL_PENDING, times=6))
    events = asyncio.run(_events([waiting(each, poll_interval=0.5) for each in ids]))
    assert [event["report_run_id"] for event in events] == ids
    asked = operations(sandbox)[began:]
    assert set(asked) == {"list_runs"}
    assert 8 <= len(asked) <= 20


def test_a_run_that_is_not_listed_any_more_is_polled_by_itself(sandbox, monkeypatch):
    """There are many newer ones."""
    use(monkeypatch, sandbox, sandbox.api_key, max_requests_per_second=1000)
    ids = [V1Client(sandbox).create().json()["id"] for _ in range(100 * LISTED_PAGES + 1)]
    began = len(sandbox.requests)
    assert first_event(waiting(ids[0]))["report_run_id"] == ids[0]
    assert operations(sandbox)[began:] == ["list_runs"] * LISTED_PAGES + ["get_run"]


def waiting(report_run_id, poll_interval=0.05):
    """A trigger that waits for a report run of v1."""
    return ReportRunTrigger(
        report_run_id=report_run_id,
        api="v1",
        poll_interval=poll_interval,
        max_poll_interval=poll_interval,
        deadline=time.time() + 30,
    )


async def _events(triggers):
    """Run triggers beside each other, as the triggerer does."""
    first = [anext(trigger.run()) for trigger in triggers]
    return [event.payload for event in await asyncio.gather(*first)]
