"""Whatever ends a wait, the log says that the report run goes on at Stripe, with its id."""

from __future__ import annotations

from datetime import date

import pytest
from system.backfill import Backfill, mondays
from system.cluster import halt, wait_for

from airflow_provider_reportrun.sandbox import Fault, Patch

pytestmark = pytest.mark.system
local = pytest.mark.parametrize("cluster", ["LocalExecutor"], indirect=True)
celery = pytest.mark.parametrize("cluster", ["CeleryExecutor"], indirect=True)

SECONDS = 180.0
"""How long anything that is waited for may take."""


@local
def test_waits_in_the_triggerer(cluster, sandbox):
    """A wait that is marked failed, cleared, or shut down with its triggerer."""
    sandbox.faults.add(Fault("get_run", Patch({"status": "running"}), times=None))
    failed, cleared, kept = starts = mondays(date(2025, 11, 3), 3)
    backfill = Backfill(cluster, sandbox, "stopped", starts)
    backfill.create(max_active_runs=3)
    wait_for(
        lambda: backfill.waiting() == 3 and all(polled(sandbox, r) for r in sandbox.runs),
        "three report runs that are waited for",
        seconds=SECONDS,
    )
    backfill.verify_slots_are_free()
    runs = {week: backfill.run_of(week).id for week in starts}
    for week in starts:
        log = cluster.log(backfill.instance_of(week), 1)
        assert f"Waiting for report run {runs[week]} in the triggerer" in log

    cluster.mark_failed(backfill.instance_of(failed))
    backfill.clear("report", week=cleared)
    for week in (failed, cleared):
        await_said(backfill, week, stops(runs[week]))
    assert stops(runs[kept]) not in cluster.log(backfill.instance_of(kept), 1)

    cluster.end_component("triggerer-1")
    assert stops(runs[kept]) in cluster.log(backfill.instance_of(kept), 1)
    cluster.start_component("triggerer-1")
    sandbox.faults.clear()
    wait_for(lambda: len(backfill.runs_of(cleared)) == 2, "a new report run", seconds=SECONDS)
    backfill.await_end(seconds=SECONDS)

    states = {week: backfill.instance_of(week)["state"] for week in starts}
    assert states == {failed: "failed", cleared: "success", kept: "success"}
    counts = {week: len(backfill.runs_of(week)) for week in starts}
    assert counts == {failed: 1, cleared: 2, kept: 1}


@local
def test_wait_in_place(cluster, sandbox):
    """A task that waits on its worker says so when Airflow ends it."""
    sandbox.faults.add(Fault("get_run", Patch({"status": "running"}), times=None))
    (week,) = mondays(date(2025, 11, 3), 1)
    backfill = Backfill(cluster, sandbox, "stopped_in_place", [week])
    backfill.create(max_active_runs=1)
    wait_for(
        lambda: any(polled(sandbox, r) for r in sandbox.runs), "the first poll", seconds=SECONDS
    )
    run = backfill.run_of(week)
    cluster.mark_failed(backfill.instance_of(week))
    await_said(backfill, week, f"Report run {run.id} goes on at Stripe")
    backfill.await_end(seconds=SECONDS)
    assert backfill.instance_of(week)["state"] == "failed"


@celery
def test_wait_that_another_triggerer_takes(cluster, sandbox):
    """A triggerer that was out for a while says so; the other one goes on with the wait."""
    sandbox.faults.add(Fault("get_run", Patch({"status": "running"}), times=None))
    (week,) = mondays(date(2025, 11, 3), 1)
    backfill = Backfill(cluster, sandbox, "stopped", [week])
    backfill.create(max_active_runs=1)
    wait_for(lambda: any(polled(sandbox, r) for r in sandbox.runs), "a poll", seconds=SECONDS)
    run = backfill.run_of(week)
    runner = backfill.process_of(polled(sandbox, run)[-1])
    assert cluster.component_of(runner).startswith("triggerer")
    out = halt(runner.parent())
    before = len(polled(sandbox, run))
    wait_for(lambda: len(polled(sandbox, run)) > before + 1, "polls by another", seconds=SECONDS)
    assert stops(run.id) not in cluster.log(backfill.instance_of(week), 1)
    for process in out:
        process.resume()
    await_said(backfill, week, stops(run.id))
    sandbox.faults.clear()
    backfill.await_end(seconds=SECONDS)
    assert backfill.instance_of(week)["state"] == "success"
    assert len(sandbox.runs) == 1
    backfill.verify_files()


def polled(sandbox, run):
    """List the times that a report run has been asked for."""
    return [
        each for each in sandbox.requests if each.operation == "get_run" and run.id in each.path
    ]


def stops(report_run_id):
    """Say what a trigger says when it is cancelled."""
    return f"The wait for report run {report_run_id} stops; the report run goes on at Stripe"


def await_said(backfill, week, line):
    """Wait until the log of the first try has a line."""
    wait_for(
        lambda: line in backfill.cluster.log(backfill.instance_of(week), 1),
        repr(line),
        seconds=SECONDS,
        every=1.0,
    )
