"""Runs that the command line creates, finds again and lands, in every generation of the API."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pyarrow.parquet
import pytest
from support.cases import DAY_SECONDS, STILL_RUNNING, Advance, operations

from airflow_provider_reportrun.cli import running
from airflow_provider_reportrun.protocol.generations import NAMES
from airflow_provider_reportrun.protocol.retry import Pace
from airflow_provider_reportrun.sandbox import Answer, Fault, Sandbox
from airflow_provider_reportrun.testing import CONNECTION

BALANCE = {
    "v1": "balance.summary.1",
    "v2.data": "name:balance.summary",
    "v2.reporting": "balance_summary",
}
WEEK = ("--start", "2025-08-18", "--end", "2025-08-25")
RUN = ("run", "balance_summary", *WEEK)
WITH_QUERIES = [name for name in NAMES if name != "v1"]
OF_EACH = pytest.mark.parametrize(
    "run", [("run", BALANCE[api], *WEEK, "--api", api) for api in NAMES], ids=NAMES
)


@OF_EACH
def test_a_run_lands_in_the_current_folder(call, sandbox, here, run):
    """Under the name of report and interval; stdout has the path alone."""
    said = call(*run)
    name = f"{run[1].replace(':', '_')}_2025-08-18_2025-08-25.csv"
    assert (said.code, said.out) == (0, f"{here / name}\n")
    assert [each.name for each in here.iterdir()] == [name]
    for words in ("Created report run", "succeeded", "Downloading", "Landed file://"):
        assert words in said.err
    assert sandbox.runs[0].id in said.err


@OF_EACH
def test_a_second_call_attaches(call, sandbox, run):
    """The key is made of what is asked for, however it is written."""
    first = call(*run, "--json").json
    sandbox.advance(DAY_SECONDS / 2)
    again = [each if each != "2025-08-18" else "2025-08-18T02:00:00+02:00" for each in run]
    second = call(*again, "--json", "--to", "other/")
    assert second.json["report_run_id"] == first["report_run_id"]
    assert second.json["sha256"] == first["sha256"]
    assert len(sandbox.runs) == 1


def test_another_request_is_another_run(call, sandbox):
    """Another interval, parameter or key."""
    for more in (
        (),
        ("--end", "2025-08-26"),
        ("--parameter", "currency=eur"),
        ("--idempotency-key", "again"),
        ("--idempotency-key", "again"),
    ):
        assert call(*RUN, *more).code == 0
    assert len(sandbox.runs) == 4


@pytest.mark.parametrize("api", NAMES)
def test_after_failed_runs_a_call_creates_a_new_one(call, monkeypatch, api):
    """One for each call, as operators do for each try."""
    monkeypatch.setattr(running, "PACE", Pace(shortest_seconds=0.1, longest_seconds=0.1))
    run = ("run", BALANCE[api], *WEEK)
    with Sandbox(run_seconds=0.5) as slow:
        monkeypatch.setenv(CONNECTION, slow.connection_uri_for(api))
        slow.fail_next(2)
        for count in (1, 2):
            said = call(*run)
            assert (said.code, said.out, len(slow.runs)) == (1, "", count)
            assert said.err.splitlines()[-1].startswith("error: A new report run may succeed")
        for _ in range(2):
            assert call(*run).code == 0
            assert len(slow.runs) == 3


def test_a_run_that_is_too_large_is_not_created_again(call, sandbox):
    """No new one would succeed."""
    for _ in range(2):
        said = call("run", "card_transactions_itemized", *WEEK)
        assert (said.code, "shorter interval" in said.err) == (1, True)
    assert len(sandbox.runs) == 1


def test_a_canceled_run_is_left_alone(call, sandbox):
    """Somebody meant it; the error says how to get another."""
    sandbox.cancel_next()
    for _ in range(2):
        said = call("run", "name:balance.summary", *WEEK, "--api", "v2.data")
        assert (said.code, "another --idempotency-key" in said.err) == (1, True)
    assert len(sandbox.runs) == 1


def test_a_file_that_is_gone_is_made_again(call, sandbox):
    """By a new run, if the file was one of an earlier call."""
    call(*RUN)
    sandbox.faults.add(Fault("download", Answer(status=404)))
    assert call(*RUN).code == 0
    assert len(sandbox.runs) == 2


def test_an_error_that_v1_keeps_does_not_stick(call, sandbox):
    """The API repeats it under the same key, and the next call goes on under another."""
    answer = Answer(status=500, headers={"Stripe-Should-Retry": "false"})
    sandbox.faults.add(Fault("create", answer, times=4))
    run = ("run", BALANCE["v1"], *WEEK, "--api", "v1")
    while call(*run).code:
        assert sandbox.runs == []
    assert len(sandbox.runs) == 1


def test_data_are_waited_for(call, sandbox, monkeypatch):
    """As by the operator that lands."""
    monkeypatch.setattr(running, "PACE", Pace(shortest_seconds=0.05, longest_seconds=0.1))
    sandbox.advance(-500 * DAY_SECONDS)
    sandbox.faults.add(Fault("get_report", Advance(sandbox, 500 * DAY_SECONDS), after=1))
    assert call(*RUN).code == 0
    assert operations(sandbox)[:3] == ["get_report", "get_report", "create"]


# Arguments


def test_parameters_of_all_kinds(call, sandbox):
    """Text, lists by repetition and as JSON; brackets are no JSON."""
    run = ("run", "balance_change_from_activity_itemized", *WEEK)
    call(*run, "--parameter", "columns=net", "--parameter", "columns=fee")
    call(*run, "--parameter", 'columns=["net"]', "--parameter", "currency=eur")
    call(*run, "--parameter", "columns=net", "--parameter", "columns=payment_metadata[a=b]")
    given = [each.report_parameters for each in sandbox.runs]
    columns = [["net", "fee"], ["net"], ["net", "payment_metadata[a=b]"]]
    assert [each["columns"] for each in given] == columns
    assert given[1]["currency"] == "eur"


def test_dates_are_those_of_the_zone(call, sandbox):
    """UTC by default; a file's name has the instants that are sent."""
    said = call(*RUN, "--timezone", "Europe/Berlin")
    (run,) = sandbox.runs
    assert run.report_parameters["interval_start"] == "2025-08-17T22:00:00.000Z"
    assert "balance_summary_2025-08-17T220000.000Z_" in said.out


def test_an_inclusive_end_is_warned_of(call):
    """Intervals are half-open."""
    said = call("run", "balance_summary", "--start", "2025-08-18", "--end", "2025-08-24T23:59:59Z")
    assert "pass 2025-08-25T00:00:00.000Z" in said.err


def test_a_report_without_an_interval_is_named_after_its_run(call, sandbox, here):
    """As in every folder."""
    said = call("run", "payout_reconciliation_by_id_itemized", "--parameter", "payout=po_1")
    (run,) = sandbox.runs
    assert said.out == f"{here / run.id}.csv\n"


@pytest.mark.parametrize("to", ["a.parquet", "deep/a.parquet", None])
def test_parquet(call, here, to):
    """By default too, the name says so."""
    where = () if to is None else ("--to", to)
    path = Path(call(*RUN, "--output-format", "parquet", *where).out.strip())
    assert path.suffix == ".parquet"
    assert to is None or path == here / to
    assert pyarrow.parquet.read_table(path).num_rows > 0


def test_columns_are_renamed_and_files_compressed(call):
    """By the names that the operators' arguments have."""
    said = call(*RUN, "--output-format", "csv.gz", "--column-names", "snake")
    assert (said.code, said.out.endswith(".csv.gz\n")) == (0, True)


def test_a_file_that_exists(call, sandbox, here):
    """Is kept or refused before a run is created, if that is asked for."""
    (here / "a.csv").write_text("mine")
    to = (*RUN, "--to", "a.csv", "--if-exists")
    said = call(*to, "skip", "--json")
    assert (said.code, said.json["skipped"]) == (0, True)
    said = call(*to, "fail")
    assert (said.code, "exists, and if_exists is 'fail'" in said.err) == (1, True)
    assert (sandbox.runs, (here / "a.csv").read_text()) == ([], "mine")
    assert call(*to, "replace").code == 0
    assert (here / "a.csv").read_text() != "mine"


def test_a_destination_that_cannot_be_written(call, sandbox, here):
    """A local one is refused before a run is created."""
    (here / "file").write_text("")
    for to in ("file/a.csv", "/proc/a.csv"):
        said = call(*RUN, "--to", to)
        folder = Path(here, to).parent
        assert said.code == 1
        assert said.err.startswith("error: Choose another destination or spool_dir, or grant")
        assert f"cannot use the folder {folder}: " in said.err
    assert sandbox.runs == []
    assert call(*RUN).code == 0
    assert len(sandbox.runs) <= 1


def test_a_destination_may_be_a_uri(call, here):
    """The path is shown as other programs open it."""
    assert call(*RUN, "--to", f"file://{here}/a.csv").out == f"{here}/a.csv\n"


# Queries


@pytest.mark.parametrize("api", WITH_QUERIES)
def test_a_query(call, sandbox, here, api):
    """Lands under the name of its run, and is found again."""
    Path("q.sql").write_text("select id from balance_transactions")
    said = call("query", "q.sql", "--api", api)
    (run,) = sandbox.runs
    assert said.out == f"{here / run.id}.csv\n"
    with Path(said.out.strip()).open() as file:
        assert next(csv.reader(file)) == ["id"]
    assert call("query", "q.sql", "--api", api, "--json").json["query_run_id"] == run.id
    assert len(sandbox.runs) == 1


# How a run ends


def test_a_stop_says_how_to_go_on(call, sandbox, monkeypatch):
    """With the run, if one is known."""

    def stop(_):
        raise KeyboardInterrupt

    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    monkeypatch.setattr("airflow_provider_reportrun.hooks.report_run.time.sleep", stop)
    said = call(*RUN, "--json")
    (run,) = sandbox.runs
    last = said.err.splitlines()[-1]
    assert said.code == 130
    assert last.startswith(f"Stopped. Report run {run.id} goes on at Stripe. To attach to it again")
    assert last.endswith(f"reportrun {' '.join(RUN)} --json")
    assert said.json["error"]["facts"] == {"report_run_id": run.id}


def test_the_log_is_as_it_was_after_a_command(call):
    """Whoever calls ``main`` keeps their own handlers."""
    logger = logging.getLogger("airflow_provider_reportrun")
    before = logger.handlers[:], logger.level, logger.propagate
    call(*RUN)
    assert (logger.handlers, logger.level, logger.propagate) == before
