"""A backfill in a real Airflow, with one kill: what CI has time for."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest
from system.backfill import Backfill, HoldCreated, mondays, week_of
from system.cluster import wait_for

from airflow_provider_reportrun.links.report_run import ReportRunLink
from airflow_provider_reportrun.sandbox import Fault, Patch

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("cluster", ["LocalExecutor"], indirect=True),
]

LIMIT = 3
SECONDS = 180.0
"""How long anything that is waited for may take; a few seconds where nothing else runs."""


def test_worker_killed_in_a_create(cluster, sandbox):
    """Each week ends as one whole file of one report run, though a worker dies in a create."""
    sandbox.limit(LIMIT)
    # Up to the limit nothing is refused, so it is a worker that asks and not the triggerer.
    hold = HoldCreated(passed=LIMIT - 1)
    sandbox.faults.add(Fault("create", hold, times=None))
    backfill = Backfill(cluster, sandbox, "one_task", mondays(date(2025, 3, 3), 8))
    backfill.create(max_active_runs=8)
    assert hold.held.wait(SECONDS), "no create was held"
    request = backfill.request_held("create")
    killed = week_of(request)
    backfill.kill_worker(request)
    sandbox.limit(0)
    sandbox.faults.clear()
    wait_for(backfill.refused, "a create that has to wait for room", seconds=SECONDS)
    sandbox.limit(LIMIT)
    backfill.await_end(seconds=SECONDS)

    backfill.verify()
    assert backfill.run_of(killed).attached >= 1, "the next try found the report run again"
    assert backfill.instance_of(killed)["try_number"] >= 2

    # A clear asks for a new report run, and for one only.
    before = backfill.run_of(backfill.starts[0]).id
    first = backfill.starts[0]
    backfill.clear("report", week=first)
    wait_for(lambda: len(sandbox.runs) > 8, "a new report run", seconds=SECONDS)
    backfill.await_end(seconds=SECONDS)
    _, new = backfill.runs_of(first)
    landing = cluster.xcom(backfill.instance_of(first), "landing")
    assert landing["report_run_id"] == new.id != before
    assert len(sandbox.runs) == 9


@pytest.mark.needs("end_from_trigger")
def test_tasks_that_end_in_the_triggerer(cluster, sandbox):
    """No worker resumes them, and the next task reads what they return."""
    sandbox.limit(LIMIT)
    still_running = Fault("get_run", Patch({"status": "running", "result": None}), times=None)
    sandbox.faults.add(still_running)
    weeks = mondays(date(2025, 5, 5), 5)
    backfill = Backfill(cluster, sandbox, "three_tasks_ending", weeks)
    backfill.create(max_active_runs=5)

    def are_deferred() -> bool:
        waits = (ti for ti in cluster.task_instances(backfill.dag_id) if ti["task_id"] == "wait")
        return [ti["state"] for ti in waits] == ["deferred"] * len(weeks)

    wait_for(are_deferred, "all sensors to wait in the triggerer", seconds=SECONDS)
    sandbox.faults.clear()
    backfill.await_end(seconds=SECONDS)
    backfill.verify(task_id="land")
    events = cluster.api("GET", f"/eventLogs?dag_id={backfill.dag_id}&limit=1000")["event_logs"]
    begun = Counter(
        (each["task_id"], each["run_id"]) for each in events if each["event"] == "running"
    )
    for week in weeks:
        run = backfill.run_of(week)
        create, wait = (backfill.instance_of(week, task_id) for task_id in ("create", "wait"))
        assert cluster.xcom(create, "return_value") == run.id
        assert run.id in cluster.xcom(create, ReportRunLink().xcom_key)
        facts = cluster.xcom(wait, "return_value")
        assert (facts["report_run_id"], facts["status"]) == (run.id, "succeeded")
        for ti in (create, wait):
            if ti["try_number"] == 1:  # unless Airflow took it for killed
                assert begun[ti["task_id"], ti["dag_run_id"]] == 1, "a worker had it once"


@pytest.mark.parametrize("api", ["v1", "v2_data"])
def test_worker_killed_in_a_create_of_another_generation(cluster, sandbox, api):
    """One report run and one whole file per week there too, under a limit of report runs."""
    sandbox.limit(LIMIT)
    hold = HoldCreated(passed=LIMIT - 1)
    sandbox.faults.add(Fault("create", hold, times=None))
    backfill = Backfill(cluster, sandbox, f"one_task_{api}", mondays(date(2025, 3, 3), 5))
    backfill.create(max_active_runs=5)
    assert hold.held.wait(SECONDS), "no create was held"
    request = backfill.request_held("create")
    killed = week_of(request)
    backfill.kill_worker(request)
    sandbox.limit(0)
    sandbox.faults.clear()
    wait_for(backfill.refused, "a create that has to wait for room", seconds=SECONDS)
    sandbox.limit(LIMIT)
    backfill.await_end(seconds=SECONDS)
    backfill.verify()
    assert backfill.instance_of(killed)["try_number"] >= 2


def test_a_dag_that_is_scheduled_on_new_data(cluster, sandbox):
    """The example lands the day that an event of its asset tells of; see also ``test_watch.py``."""
    dag_id = "daily_on_new_data"
    day = {"interval_start": "2026-01-05T00:00:00.000Z", "interval_end": "2026-01-06T00:00:00.000Z"}
    cluster.await_dag(dag_id)
    found = cluster.api("GET", "/assets?name_pattern=stripe_activity_data")["assets"]
    (asset,) = (each for each in found if each["name"] == "stripe_activity_data")
    file = cluster.landing / "daily" / "activity_2026-01-05.csv"
    # The watcher runs as well, and tells of the last day that the sandbox has.
    with cluster.unpaused(dag_id):
        cluster.api("POST", "/assets/events", {"asset_id": asset["id"], "extra": {"payload": day}})
        wait_for(file.exists, "the file of the day", seconds=SECONDS)
    days = [run.report_parameters["interval_start"] for run in sandbox.runs]
    assert days.count(day["interval_start"]) == 1
