"""``make standalone``: a backfill from the dialog, another terminal, kills, and restarts."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys

import psutil
import pytest
from browser.conftest import ROOT, WAIT_SECONDS, settle, standalone, wait_for
from local_airflow.folder import held

pytestmark = pytest.mark.browser

DAG_ID = "weekly_report_single_task"
FIRST, LAST, WEEKS = "2026/01/05", "2026/07/27", 30
BACKFILL_SECONDS = 420.0
"""For 30 weeks; they take about a minute and a half if nothing else runs."""


def test_backfill_dialog(airflow, page, picture):
    """A backfill of 30 weeks, as the UI starts it, lands every week."""
    airflow.finished_run(DAG_ID)
    page.goto(f"/dags/{DAG_ID}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Backfill", exact=True).click()
    for day in (FIRST, LAST):
        dialog.get_by_text("Select date and time").first.click()
        date = page.get_by_placeholder("YYYY/MM/DD").filter(visible=True)
        date.fill(day)
        page.get_by_placeholder("HH:mm").filter(visible=True).fill("00:00")
        dialog.get_by_text("Date Range").click()
        # The fields of one bound fade out; only then those of the other can be told apart.
        date.wait_for(state="hidden")
    runs_at_once = dialog.locator("[name=max_active_runs]")
    assert runs_at_once.input_value() == "1"
    runs_at_once.fill("8")
    dialog.get_by_text(f"{WEEKS} runs will be triggered").wait_for()
    page.set_viewport_size({"width": 1280, "height": 960})
    settle(page)
    picture(page, "backfill-dialog")
    dialog.get_by_role("button", name="Run Backfill").click()

    def runs():
        found = airflow.api("GET", f"/dags/{DAG_ID}/dagRuns?limit=100")["dag_runs"]
        return [run for run in found if run["run_type"] == "backfill"]

    def ended():
        assert airflow.process.poll() is None, "".join(airflow.said)
        return sum(run["state"] in {"success", "failed"} for run in runs()) == WEEKS

    wait_for(ended, "the end of the backfill", seconds=BACKFILL_SECONDS)
    assert {run["state"] for run in runs()} == {"success"}
    landed = {path.name for path in (airflow.folder / "reports").rglob("*.csv")}
    starts = [run["data_interval_start"][:10] for run in runs()]
    assert sum(any(start in name for name in landed) for start in starts) == WEEKS
    assert not any("started again" in line for line in airflow.said)


def test_another_terminal(airflow):
    """The commands that the terminal shows work in another one: same keys, database and sandbox."""
    airflow.finished_run("weekly_report")
    commands = commands_of(airflow)
    assert [command.split()[:3] for command in commands] == [
        ["airflow", "dags", "test"],
        ["airflow", "connections", "get"],
        ["airflow", "backfill", "create"],
    ]
    ran = [in_terminal(airflow, command) for command in commands]
    assert "state=success" in ran[0]
    assert "rk_test_sandbox_0001" in ran[1]

    def ended():
        found = airflow.api("GET", "/backfills?dag_id=weekly_report")["backfills"]
        return found and all(each["completed_at"] for each in found)

    wait_for(ended, "the end of the backfill", seconds=BACKFILL_SECONDS)
    assert oct(airflow.folder.joinpath("env").stat().st_mode & 0o777) == "0o600"


def commands_of(airflow):
    """Return the commands that the terminal shows for another one."""
    lines = [line.strip() for line in "".join(airflow.said).splitlines()]
    assert f". {airflow.folder}/env" in lines
    return [line for line in lines if line.startswith("airflow ")]


def in_terminal(airflow, command):
    """Run a command in a shell that has read the file, and return what it printed."""
    script = f". {shlex.quote(str(airflow.folder / 'env'))} && {command}"
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", script],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_second_start(airflow, tmp_path):
    """A second start with the same folder or port is refused, and touches nothing."""
    other = tmp_path / "other"
    with held(other, "an earlier start"):
        (other / "mine").touch()
    pid = airflow.process.pid
    taken = airflow.url.rpartition(":")[2]
    before = sorted(path.name for path in airflow.folder.iterdir())
    for folder, port, words in (
        (airflow.folder, 1, f"is in use by process {pid} ({airflow.url}). Stop that one"),
        (other, taken, f"Port {taken} is in use by another program. Try PORT="),
    ):
        options = ["--fresh", "--port", str(port), "--folder", str(folder)]
        done = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, str(ROOT / "scripts" / "standalone.py"), *options],
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert done.returncode == 1
        assert words in done.stdout
    assert sorted(path.name for path in airflow.folder.iterdir()) == before
    assert (other / "mine").exists()


@pytest.mark.parametrize("component", ["triggerer", "postgresql"])
def test_component_that_dies(airflow, component):
    """A component that is killed is started again, the terminal says so, and DAGs run."""
    said = f"The {component} was killed by signal 9 (SIGKILL). It is started again"
    word = {"postgresql": "bin/postgres"}.get(component, component)
    children = psutil.Process(airflow.process.pid).children()
    (killed,) = (each for each in children if word in " ".join(each.cmdline()))
    killed.kill()
    wait_for(lambda: any(said in line for line in airflow.said), said)

    def triggered():
        try:
            return airflow.api("POST", "/dags/failing_report/dagRuns", {"logical_date": None})
        except OSError:  # while the database starts
            return None

    run_id = wait_for(triggered, "a new run")["dag_run_id"]

    def ended():
        try:
            run = airflow.api("GET", f"/dags/failing_report/dagRuns/{run_id}")
        except OSError:
            return False
        return run["state"] == "failed"

    wait_for(ended, "the end of a run")


def test_goes_on_after_kills(tmp_path):
    """
    After ``kill -9`` of the script, the next start ends what it left, and goes on.

    The report run that a task waited for is found again, so that there is one, and the run ends.
    """
    folder, dags = tmp_path / ("a-long-name" * 9) / "home", tmp_path / "dags"
    dags.mkdir()
    source = (ROOT / "example_dags" / "weekly_report_single_task.py").read_text()
    (dags / "weekly.py").write_text(source)
    with standalone(folder, dags, "--run-seconds", "60") as first:
        first.await_ready()
        wait_for(lambda: b"reprun_" in (folder / "sandbox").read_bytes(), "a report run")
        family = first.family()
        first.process.kill()
        first.process.wait()
        left = [each for each in family if each.is_running() and each.pid != first.process.pid]
        assert len(left) > 4
    with standalone(folder, dags) as second:
        second.await_ready()
        assert any("what was left of it is stopped" in line for line in second.said)
        assert not any(each.is_running() for each in left)
        run = second.finished_run(DAG_ID)
        assert run["state"] == "success"
        made = re.findall(rb"reprun_test_\d+", (folder / "sandbox").read_bytes())
        assert len(set(made)) == 1
        assert second.stop(signal.SIGINT) == []
        assert second.process.returncode == 0
    assert not (folder / "postgresql" / "postmaster.pid").exists()
