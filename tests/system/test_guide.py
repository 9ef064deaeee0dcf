"""Every command of docs/backfills.md runs, in order, and prints what the guide says."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from system.cluster import wait_for
from system.conftest import GUIDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("cluster", ["LocalExecutor"], indirect=True),
]

SECONDS = 400.0
DAY_SECONDS = 24 * 3600
BLOCKS = re.compile(r"```(bash|text)\n(.*?)```", re.DOTALL)
DAGS = ("weekly_report_single_task", "weekly_report", "weekly_new_york", "weekly_partitioned")


def test_commands_run_in_order(cluster, sandbox):
    """Each block runs when what those before it began has ended; each output is as shown."""
    sandbox.limit(50)
    sandbox.advance(DAY_SECONDS)  # on a Monday the data of the week before are not there yet
    for dag_id in DAGS:
        cluster.await_dag(dag_id)
    said = ""
    with hurried(sandbox):
        for kind, block in BLOCKS.findall(GUIDE.read_text(encoding="utf-8")):
            if kind == "bash":
                said = cluster.run(["bash", "-euo", "pipefail", "-c", block], seconds=SECONDS)
                wait_for(
                    lambda: is_quiet(cluster), f"the end of {block}", seconds=SECONDS, every=2.0
                )
            else:
                assert [line for line in block.splitlines() if line not in said] == []
    states = Counter(run["state"] for dag_id in DAGS for run in cluster.dag_runs(dag_id))
    assert set(states) == {"success"}


def is_quiet(cluster):
    """Tell whether no run of the guide's DAGs is under way, and every backfill has ended."""
    runs = [run for dag_id in DAGS for run in cluster.dag_runs(dag_id)]
    listed = (cluster.api("GET", f"/backfills?dag_id={dag_id}") for dag_id in DAGS)
    backfills = [backfill for page in listed for backfill in page["backfills"]]
    return all(run["state"] in {"success", "failed"} for run in runs) and all(
        backfill["completed_at"] for backfill in backfills
    )


@contextmanager
def hurried(sandbox) -> Iterator[None]:
    """Let the sandbox's time pass fast, so that report runs end before they are asked for."""
    done = threading.Event()

    def hurry():
        while not done.wait(0.1):
            sandbox.advance(1.0)

    thread = threading.Thread(target=hurry)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
