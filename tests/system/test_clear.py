"""What a clear of a running task and an edit of its retries come to: report runs and files."""

from __future__ import annotations

from datetime import date

import pytest
from system.backfill import Backfill, HoldCreated, mondays
from system.cluster import wait_for

from airflow_provider_reportrun.sandbox import Delivery, Fault

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("cluster", ["LocalExecutor"], indirect=True),
]

SECONDS = 180.0
"""How long anything that is waited for may take."""


def test_clear_a_running_create(cluster, sandbox):
    """It asks for a new report run; with ``on_clear="reuse"`` for the same one again."""
    first, second = mondays(date(2025, 9, 1), 2)
    new_run = Backfill(cluster, sandbox, "cleared_create", [first])
    reuse = Backfill(cluster, sandbox, "cleared_create_reuse", [second])
    for backfill, week in ((new_run, first), (reuse, second)):
        hold = HoldCreated()
        sandbox.faults.add(Fault("create", hold, times=None, match=f'"interval_start":"{week}'))
        backfill.create(max_active_runs=1)
        assert hold.held.wait(SECONDS), "the create was not held"
        process = backfill.process_of(backfill.request_held("create"))
        backfill.clear("report", week=week)
        await_end(process)
        sandbox.faults.clear()
    for backfill in (new_run, reuse):
        backfill.await_end(seconds=SECONDS)

    before, after = new_run.runs_of(first)
    assert landed(new_run) == after.id, "the report run of the clear"
    assert (before.attached, after.attached) == (0, 0)
    (again,) = reuse.runs_of(second)
    assert landed(reuse) == again.id
    assert again.attached >= 1, "the report run was found again"
    for backfill in (new_run, reuse):
        backfill.verify_files()


def test_clear_a_running_download(cluster, sandbox):
    """Alone it fetches again without a create; in the one task a clear asks for a new report."""
    first, second = mondays(date(2025, 9, 15), 2)
    alone = Backfill(cluster, sandbox, "cleared_land", [first])
    in_one = Backfill(cluster, sandbox, "cleared_report", [second])
    for backfill, task_id in ((alone, "land"), (in_one, "report")):
        (week,) = backfill.starts
        stall = Fault("download", Delivery(stall_at=100_000, stall_seconds=SECONDS))
        sandbox.faults.add(stall)
        backfill.create(max_active_runs=1)
        assert stall.reached.wait(SECONDS), "the download did not begin"
        folder = cluster.landing / backfill.dag_id
        wait_for(lambda: list(folder.glob(".*.part")), "the file being written", seconds=SECONDS)  # noqa: B023 - called at once
        process = backfill.process_of(backfill.downloads()[-1])
        backfill.clear(task_id, week=week)
        await_end(process)
        assert not (folder / f"{week}.csv").exists(), "no reader sees half a file"
        sandbox.faults.clear()
        backfill.await_end(seconds=SECONDS)

    (only,) = alone.runs_of(first)
    assert (landed(alone, "land"), only.attached) == (only.id, 0)
    _, after = in_one.runs_of(second)
    assert landed(in_one) == after.id
    alone.verify_files(task_id="land")
    in_one.verify_files()


def test_edit_retries_between_two_tries(cluster, sandbox):
    """The next try finds the report run again, though the retries tell of another generation."""
    (week,) = mondays(date(2025, 10, 6), 1)
    backfill = Backfill(cluster, sandbox, "edited", [week])
    hold = HoldCreated()
    sandbox.faults.add(Fault("create", hold, times=None))
    backfill.create(max_active_runs=1)
    assert hold.held.wait(SECONDS), "the create was not held"

    file = cluster.dags / "edited.py"
    edited = file.with_suffix(".new")
    edited.write_text(file.read_text().replace("RETRIES = 4", "RETRIES = 9"))
    edited.replace(file)
    wait_for(
        lambda: cluster.api("GET", "/dags/edited/tasks/report")["retries"] == 9,
        "the edited DAG",
        seconds=SECONDS,
    )
    backfill.kill_worker(backfill.request_held("create"))
    sandbox.faults.clear()
    backfill.await_end(seconds=SECONDS)

    (run,) = backfill.runs_of(week)
    assert run.attached >= 1, "the report run was found again"
    assert len({each.headers["idempotency-key"] for each in backfill.creates()}) == 1
    assert backfill.instance_of(week)["try_number"] >= 2
    backfill.verify_files()


def await_end(process):
    """Wait until Airflow has ended the worker of a task that was cleared."""
    wait_for(lambda: not process.is_running(), "the end of the cleared task", seconds=SECONDS)


def landed(backfill, task_id="report"):
    """Name the report run whose file lies there."""
    (week,) = backfill.starts
    return backfill.cluster.xcom(backfill.instance_of(week, task_id), "landing")["report_run_id"]
