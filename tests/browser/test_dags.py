"""What is seen of DAG runs: the grid, the graph, a log, and the button to the report run."""

from __future__ import annotations

import re
import signal
import urllib.parse

import psutil
import pytest
from browser.conftest import ROOT, settle, standalone, wait_for

pytestmark = pytest.mark.browser

BUTTON = "Stripe report run"


def run_page(run):
    """The page of a DAG run."""
    return f"/dags/{run['dag_id']}/runs/{urllib.parse.quote(run['dag_run_id'], safe='')}"


def test_weekly_report(airflow, page, picture):
    """The weekly example has run and landed by itself; all tasks lead to one report run."""
    run = airflow.finished_run("weekly_report")
    assert run["state"] == "success"
    landed = sorted(path.name for path in (airflow.folder / "reports").glob("activity_*"))
    assert landed == [f"activity_{run['data_interval_start'][:10]}.csv"]
    (link,) = {airflow.links(run, task)[BUTTON] for task in ("create", "wait", "land")}
    report_run_id = report_run_shown(page, link, "succeeded")

    page.goto(run_page(run))
    page.get_by_role("link", name=re.compile("^land")).first.wait_for()
    settle(page)
    picture(page, "weekly-run-grid")

    page.get_by_role("button", name=re.compile("^show graph", re.IGNORECASE)).click()
    page.locator(".react-flow__node").filter(has_text="land").first.wait_for()
    settle(page)
    picture(page, "weekly-run-graph")

    page.get_by_role("button", name=re.compile("^show grid", re.IGNORECASE)).click()
    page.goto(f"{run_page(run)}/tasks/wait")
    page.get_by_text(f"Report run {report_run_id} succeeded").first.wait_for()
    page.keyboard.press("w")  # wraps long lines
    settle(page)
    picture(page, "task-log")

    page.goto(f"{run_page(run)}/tasks/create/details")
    assert page.get_by_role("link", name=BUTTON).get_attribute("href") == link


def test_failed_report_run(airflow, page):
    """A sensor that fails with its report run leads there, too."""
    run = airflow.finished_run("failing_report")
    assert run["state"] == "failed"
    link = airflow.links(run, "wait")[BUTTON]
    page.goto(f"{run_page(run)}/tasks/wait/details")
    with page.expect_popup() as opened:
        page.get_by_role("link", name=BUTTON).click()
    opened.value.wait_for_load_state()
    assert opened.value.url == link
    assert "file_size_above_limit" in opened.value.inner_text("table")


def test_sigterm_while_starting(tmp_path):
    """Leaves no process behind, whenever it comes."""
    with standalone(tmp_path / "home", ROOT / "example_dags") as starting:
        wait_for(lambda: len(starting.family()) > 4, "Airflow's components")
        family = starting.family()
        assert starting.stop(signal.SIGTERM) == []
        assert starting.process.returncode == 0
    assert [each for each in family if psutil.pid_exists(each.pid)] == []


def report_run_shown(page, link, status):
    """Open the page of a report run, and return its id."""
    page.goto(link)
    shown = page.locator("h1").inner_text()
    report_run_id, _, seen = shown.partition(" ")
    assert seen == status
    return report_run_id
