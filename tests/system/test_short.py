"""A backfill in a real Airflow, with one kill: what CI has time for."""

from __future__ import annotations

from datetime import date

import pytest
from system.backfill import Backfill, HoldCreated, mondays, week_of
from system.cluster import wait_for

from airflow_provider_reportrun.sandbox import Fault

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
