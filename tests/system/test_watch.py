"""A DAG that is scheduled on new data, in a real Airflow whose triggerer is killed."""

from __future__ import annotations

import pytest
from system.backfill import FINISHED
from system.cluster import wait_for

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol.interval import format_instant, last_midnight

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("cluster", ["LocalExecutor"], indirect=True),
]

DAG_ID = "watched"
REPORT = "payouts_itemized"
DAY_SECONDS = 24 * 3600
LOOK_SECONDS = 240.0
"""Two of the watcher's looks, and the run that follows, many times over."""


def test_each_new_day_is_landed_once(cluster, sandbox, monkeypatch):
    """One run, one report run and one file for each day, though the triggerer is killed."""
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json)
    through = ReportRunHook().get_report(REPORT).parameters["interval_end"].latest

    def await_runs(count):
        def are_finished():
            states = [run["state"] for run in cluster.dag_runs(DAG_ID)]
            return len(states) >= count and set(states) <= FINISHED

        wait_for(are_finished, f"{count} runs", seconds=LOOK_SECONDS, every=1.0)

    def looks():
        requests = [each for each in sandbox.requests if each.operation == "get_report"]
        return sum(each.path.endswith(REPORT) for each in requests)  # other DAGs have watchers, too

    with cluster.unpaused(DAG_ID):
        await_runs(1)
        before = looks()
        # The watermark is stored after the next look, and certainly before the one that follows.
        wait_for(lambda: looks() > before + 1, "two looks", seconds=LOOK_SECONDS)
        cluster.kill_component("triggerer-1")
        sandbox.advance(DAY_SECONDS)
        cluster.start_component("triggerer-1")
        await_runs(2)

    assert {run["state"] for run in cluster.dag_runs(DAG_ID)} == {"success"}
    intervals = [
        (run.report_parameters["interval_start"], run.report_parameters["interval_end"])
        for run in sandbox.runs
    ]
    assert len(intervals) == len(set(intervals)) == 2
    assert intervals[0][1] == intervals[1][0] == format_instant(last_midnight(through))
    files = sorted(file.name for file in (cluster.landing / DAG_ID).iterdir())
    assert files == [f"{start[:10]}.csv" for start, _ in intervals]
