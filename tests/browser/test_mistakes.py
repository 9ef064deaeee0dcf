"""Mistake and fix are seen in the log as it opens: not scrolled, not unfolded, not wrapped."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse

import pytest
from browser.conftest import wait_for
from support.mistakes import ELLIPSIS, connections, documented

pytestmark = pytest.mark.browser

SIZE = {"width": 1440, "height": 900}
RUN_SECONDS = 300.0
"""For all runs of the mistakes together; a minute where nothing else runs."""
DAGS = ("mistakes", "mistake_plain_cron", "mistake_zone", "mistake_no_interval", "mistake_warnings")
MANUAL = ("mistake_no_interval", "mistake_warnings")
LOG_SECONDS = 30.0
"""For the log of one task."""
PICTURE = "restricted_key"
CLIP = {"x": 360, "y": 60, "width": 1080, "height": 374}
"""Of the picture: without the traceback, which has the paths of the machine."""
VISIBLE = """
(parts) => {
  const nodes = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let all = "";
  while (walker.nextNode()) {
    nodes.push([all.length, walker.currentNode]);
    all += walker.currentNode.data;
  }
  const place = (at) => nodes.findLast(([start]) => start <= at);
  const isSeen = (at) => {
    const [start, node] = place(at), range = document.createRange();
    range.setStart(node, at - start);
    range.setEnd(node, at - start + 1);
    const box = range.getBoundingClientRect();
    const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
    const isInside = box.left >= 0 && box.right <= innerWidth;
    const topmost = isInside && y > 0 && y < innerHeight && document.elementFromPoint(x, y);
    return Boolean(topmost) && (topmost.contains(node) || node.parentElement.contains(topmost));
  };
  const found = [];
  for (let at = all.indexOf(parts[0]); at >= 0; at = all.indexOf(parts[0], at + 1)) {
    const ends = parts.map((part) => all.indexOf(part, at) + part.length - 1);
    found.push(isSeen(at) && ends.every(isSeen));
  }
  return found.some(Boolean);
}
"""
"""Whether first and last letter of a text are drawn, where nothing clips or covers them."""


@pytest.fixture(scope="module")
def runs(airflow):
    """The finished runs, by DAG; all run at once."""
    host = airflow.api("GET", "/connections/reportrun_default")["host"]
    for name, fields in connections(host).items():
        airflow.api("POST", "/connections", {"connection_id": name, **fields})
    for dag_id in DAGS:
        wait_for(lambda: parsed(airflow, dag_id), dag_id)  # noqa: B023 - waits within the loop
        airflow.api("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        if dag_id in MANUAL:
            airflow.api("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None})
    return {dag_id: airflow.finished_run(dag_id, seconds=RUN_SECONDS) for dag_id in DAGS}


def parsed(airflow, dag_id):
    """Tell whether Airflow knows a DAG."""
    try:
        return airflow.api("GET", f"/dags/{dag_id}")
    except urllib.error.HTTPError:
        return None


def path_of(run):
    """The path of a run in the API."""
    return f"/dags/{run['dag_id']}/dagRuns/{urllib.parse.quote(run['dag_run_id'], safe='')}"


def instances(airflow, runs):
    """Every task instance, by task; of a mapped task the first."""
    found = {}
    for run in runs.values():
        for each in airflow.api("GET", f"{path_of(run)}/taskInstances")["task_instances"]:
            found.setdefault(each["task_id"], each)
    return found


def cleared(airflow, instance):
    """Clear a task, and wait until it is finished again."""
    path = path_of(instance)
    airflow.api(
        "POST",
        f"/dags/{instance['dag_id']}/clearTaskInstances",
        {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": instance["dag_run_id"],
            "task_ids": [instance["task_id"]],
        },
    )

    def look():
        now = airflow.api("GET", f"{path}/taskInstances/{instance['task_id']}")
        return now["state"] == "success" and now["try_number"] > 1

    wait_for(look, "the cleared task")


def go(page, path):
    """Follow a path inside the page, as its links do, without loading the page again."""
    page.evaluate("(path) => history.pushState({}, '', path)", path)
    page.evaluate("() => dispatchEvent(new PopStateEvent('popstate'))")


def test_logs(airflow, runs, page, picture):
    """Of every mistake that fails or warns, on one screen."""
    from playwright.sync_api import TimeoutError as TooLate

    page.set_viewport_size(SIZE)
    tasks = instances(airflow, runs)
    cleared(airflow, tasks["kept_after_clear"])
    page.goto("/")
    page.get_by_role("link", name="Dags").first.wait_for()
    unseen = []
    for name, text in documented("error", "warning").items():
        instance = tasks[name]
        run = urllib.parse.quote(instance["dag_run_id"], safe="")
        mapped = f"/mapped/{instance['map_index']}" if instance["map_index"] >= 0 else ""
        go(page, f"/dags/{instance['dag_id']}/runs/{run}/tasks/{name}{mapped}")
        try:
            page.wait_for_function(VISIBLE, arg=text.split(ELLIPSIS), timeout=LOG_SECONDS * 1000)
        except TooLate:
            unseen.append(name)
        if name == PICTURE:
            picture(page, "mistake-log", clip=CLIP)
    assert unseen == []


def test_mistakes_fail_for_good(airflow, runs):
    """Tasks with retries have used none."""
    tasks = instances(airflow, runs)
    for name in ("missing_sql", "wrong_template", "template_without_interval"):
        assert (tasks[name]["state"], tasks[name]["try_number"]) == ("failed", 1)


def test_import_error(airflow, page):
    """A mistake that is known from the file is counted on the home page; a click shows it."""
    page.set_viewport_size(SIZE)
    (text,) = documented("import error").values()
    page.goto("/")
    page.get_by_text(re.compile("import error", re.IGNORECASE)).first.click()
    page.get_by_text("mistake_in_file.py").first.click()
    page.wait_for_function(VISIBLE, arg=[text])
