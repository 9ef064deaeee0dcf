"""A backfill of 44 weeks through kill -9 of every part that works on it, with each executor."""

from __future__ import annotations

import time
from datetime import date

import pytest
from system.backfill import Backfill, HoldCreated, mondays
from system.cluster import wait_for

from airflow_provider_reportrun.sandbox import Delivery, Fault

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("cluster", ["LocalExecutor", "CeleryExecutor"], indirect=True),
]

WEEKS = 44
LIMIT = 4
ACTIVE = 16
SECONDS = 240.0
"""How long anything that is waited for in between may take."""
END_SECONDS = 600.0


def test_kills_of_workers_scheduler_and_triggerer(cluster, sandbox):
    """Each week ends as one whole file of one report run, whatever is killed on the way."""
    sandbox.limit(LIMIT)
    hold = HoldCreated(passed=LIMIT - 1)  # up to the limit it is a worker that asks
    sandbox.faults.add(Fault("create", hold, times=None))
    backfill = Backfill(cluster, sandbox, "one_task_reuse", mondays(date(2025, 1, 6), WEEKS))
    backfill.create(max_active_runs=ACTIVE)

    assert hold.held.wait(SECONDS), "no create was held"
    held = backfill.request_held("create")
    in_create = held.json["report_parameters"]["interval_start"][:10]
    gone = backfill.kill_worker(held)
    sandbox.faults.clear()
    backfill.say(f"killed {gone or 'a worker'} in the create of {in_create}")
    if gone:
        cluster.start_component(gone)

    cluster.kill_component("scheduler")  # and the workers that LocalExecutor has below it
    cluster.start_component("scheduler")
    backfill.say("killed the scheduler")
    in_download = kill_in_download(backfill, sandbox, number=14)
    backfill.say(f"killed a worker in the download of {in_download}")
    in_wait = kill_in_wait(backfill, sandbox)
    backfill.say(f"killed a triggerer in the create of {in_wait}, {backfill.waiting()} waiting")

    backfill.await_end(seconds=END_SECONDS)
    backfill.say("every run has ended")
    cluster.start_missing()
    backfill.verify()
    for week in (in_create, in_wait):
        assert backfill.run_of(week).attached >= 1, "the report run was found again"
    for week in (in_create, in_download):
        assert backfill.instance_of(week)["try_number"] >= 2

    # on_clear="reuse": the same report run is landed once more.
    landed = len(backfill.downloads())
    backfill.clear("report", week=backfill.starts[0])
    wait_for(lambda: len(backfill.downloads()) > landed, "another download", seconds=SECONDS)
    backfill.await_end(seconds=SECONDS)
    assert len(sandbox.runs) == WEEKS
    backfill.verify_files()


def test_clear_only_the_download(cluster, sandbox):
    """Clearing the landing task fetches again, and asks for no report run."""
    backfill = Backfill(cluster, sandbox, "three_tasks", mondays(date(2025, 6, 2), 3))
    backfill.create(max_active_runs=3)
    backfill.await_end(seconds=END_SECONDS)
    creates, landed = len(backfill.creates()), len(backfill.downloads())
    file = cluster.landing / "three_tasks" / f"{backfill.starts[1]}.csv"
    before = file.stat().st_ino

    backfill.clear("land", week=backfill.starts[1])
    wait_for(lambda: len(backfill.downloads()) > landed, "another download", seconds=SECONDS)
    backfill.await_end(seconds=SECONDS)

    assert len(sandbox.runs) == 3
    assert len(backfill.creates()) == creates
    assert file.stat().st_ino != before
    backfill.verify_files(task_id="land")


def kill_in_download(backfill, sandbox, *, number):
    """Kill the worker that downloads the result of the so-manieth report run; name its week."""
    run = wait_for(
        lambda: sandbox.runs[number] if len(sandbox.runs) > number else None,
        f"report run {number}",
        seconds=SECONDS,
        every=0.05,
    )
    stall = Delivery(stall_at=100_000, stall_seconds=SECONDS)
    fault = sandbox.faults.add(Fault("download", stall, match=run.id))
    assert fault.reached.wait(SECONDS), "the download did not begin"
    week = run.report_parameters["interval_start"][:10]
    folder = backfill.cluster.landing / backfill.dag_id
    wait_for(lambda: list(folder.glob(".*.part")), "the file being written", seconds=SECONDS)
    assert not (folder / f"{week}.csv").exists(), "no reader sees half a file"
    (request,) = (each for each in backfill.downloads() if run.id in each.path)
    gone = backfill.kill_worker(request)
    sandbox.faults.clear()
    assert list(folder.glob(".*.part")), "a killed process leaves what it was writing"
    assert not (folder / f"{week}.csv").exists()
    if gone:
        backfill.cluster.start_component(gone)
    return week


def kill_in_wait(backfill, sandbox):
    """Kill the triggerer in a create that had to wait for room, among others that wait."""
    sandbox.limit(0)
    to_come = set(backfill.starts) - backfill.created()
    most = min(ACTIVE, len(to_come))

    def wait_for_room():
        # Until then, tasks whose report run is of before the limit are resumed, or begun again.
        weeks = backfill.waiting_weeks()
        is_all = len(weeks) == most and weeks <= to_come & backfill.refused()
        return weeks if is_all and backfill.created() <= backfill.done_weeks() else None

    week = max(wait_for(wait_for_room, "nothing but waits for room", seconds=SECONDS, every=1.0))
    backfill.verify_slots_are_free()
    backfill.say(f"{most} tasks wait for room, and no worker works")
    hold = HoldCreated()
    sandbox.faults.add(Fault("create", hold, times=None, match=f'"interval_start":"{week}'))
    sandbox.limit(LIMIT)
    if not hold.held.wait(SECONDS):
        pytest.fail(f"the create of {week} was not held: {backfill.creates()[-1].body!r}")
    triggerer = backfill.cluster.component_of(backfill.process_of(backfill.request_held("create")))
    assert triggerer.startswith("triggerer"), triggerer
    backfill.cluster.kill_component(triggerer)
    sandbox.faults.clear()
    if "triggerer-2" not in backfill.cluster.components:
        time.sleep(2)
        backfill.cluster.start_component(triggerer)
    return week
