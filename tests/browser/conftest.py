"""The Airflow of ``make standalone`` for the session, and a browser in front of it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 360.0
"""Of the script; 25 s where nothing else runs."""
WAIT_SECONDS = 120.0
"""For whatever a test waits for."""
STOP_SECONDS = 60.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = [
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RUN_SECONDS = "6"
"""So that a task waits in the triggerer on a slow machine too, and its log shows it."""
SIZE = {"width": 1280, "height": 720}
COLOURS = 128
"""Of a picture; enough for a user interface, at a third of the bytes."""


def wait_for(look: Callable[[], Any], what: str, *, seconds: float = WAIT_SECONDS) -> Any:
    """
    Look until there is something to see.

    :return: the first result that is true.
    """
    until = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < until, f"Waited {seconds:.0f} s in vain for {what}."
        time.sleep(0.3)
    return seen


@dataclass
class Standalone:
    """``scripts/standalone.py`` as a process, and the REST API of its Airflow."""

    process: subprocess.Popen[str]
    folder: Path
    url: str
    said: list[str] = field(default_factory=list)

    def await_ready(self) -> None:
        """Wait until Airflow is ready."""

        def look() -> bool:
            assert self.process.poll() is None, "".join(self.said)
            return any("Airflow is ready" in line for line in self.said)

        wait_for(look, "Airflow", seconds=START_SECONDS)

    def family(self) -> list[psutil.Process]:
        """Every process below the script, and the script."""
        script = psutil.Process(self.process.pid)
        return [script, *script.children(recursive=True)]

    def stop(self, number: int) -> list[psutil.Process]:
        """
        Send a signal.

        :return: the processes that are left when the script has ended.
        """
        family = self.family()
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)
        return psutil.wait_procs(family, timeout=0)[1]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask Airflow's REST API, as the UI does."""
        request = urllib.request.Request(  # noqa: S310 - ours
            f"{self.url}/api/v2{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - ours
            return json.load(answer)

    def finished_run(self, dag_id: str, *, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """Wait for the end of the only run of a DAG."""

        def look() -> Any:
            try:
                runs = self.api("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]
            except urllib.error.HTTPError:  # not parsed yet
                return None
            return next((run for run in runs if run["state"] in {"success", "failed"}), None)

        return wait_for(look, f"a finished run of {dag_id}", seconds=seconds)

    def links(self, run: dict[str, Any], task_id: str) -> dict[str, str | None]:
        """Give the buttons of a task."""
        run_id = urllib.parse.quote(run["dag_run_id"], safe="")
        path = f"/dags/{run['dag_id']}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return self.api("GET", path)["extra_links"]


@contextmanager
def standalone(folder: Path, dags: Path, *more: str) -> Iterator[Standalone]:
    """
    Start the script; end what is left of it.

    :param more: options of the script.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "scripts" / "standalone.py")]
    options = ["--port", str(port), "--folder", str(folder), "--dags", str(dags)]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))
    }
    process = subprocess.Popen(  # noqa: S603 - our own script
        [*command, *options, *more],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Standalone(process, folder, f"http://127.0.0.1:{port}")
    reader = threading.Thread(target=lambda: running.said.extend(process.stdout))
    reader.start()
    try:
        yield running
    finally:
        if process.poll() is None:
            running.stop(signal.SIGTERM)
        reader.join(STOP_SECONDS)
        process.stdout.close()


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """Airflow with the weekly examples and a DAG that fails."""
    folder = tmp_path_factory.mktemp("standalone")
    dags = tmp_path_factory.mktemp("dags")
    examples = (ROOT / "example_dags").glob("weekly_report*.py")
    for file in (*examples, *Path(__file__).parent.glob("dags/*.py")):
        shutil.copy(file, dags)
    with standalone(folder, dags, "--run-seconds", RUN_SECONDS, "--concurrency", "8") as running:
        running.await_ready()
        yield running
        left = running.stop(signal.SIGINT)
        assert running.process.returncode == 0
        assert left == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("needs a browser (apt-get install chromium)")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs playwright (make browser-test installs it)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=BROWSER_OPTIONS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, airflow: Standalone) -> Iterator[Any]:
    """A page that may reach this machine alone."""
    context = browser.new_context(viewport=SIZE, base_url=airflow.url, timezone_id="UTC")
    context.set_default_timeout(WAIT_SECONDS * 1000)
    outside = re.compile(r"^https?://(?!127\.0\.0\.1[:/])")
    context.route(outside, lambda route: route.abort())
    yield context.new_page()
    context.close()


def settle(page: Any) -> None:
    """Let animations end and skeletons fill."""
    page.wait_for_load_state("networkidle")
    wait_for(lambda: page.locator("[class*=skeleton]").count() == 0, "a page without gaps")


@pytest.fixture
def picture() -> Callable[..., None]:
    """Keep what is seen under ``docs/images``, where ``make screenshots`` asks for it."""
    folder = os.environ.get("REPORTRUN_SCREENSHOTS")

    def take(seen: Any, name: str, **options: Any) -> None:
        if not folder:
            return
        from PIL import Image

        shot = Image.open(io.BytesIO(seen.screenshot(animations="disabled", **options)))
        target = ROOT / folder / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shot.convert("RGB").quantize(COLOURS).save(target, optimize=True)

    return take
