"""What those who run Airflow see: metrics on a socket, spans of a real SDK, lines of the log."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from support.observed import SPANS
from support.versions import TALK_OF_AIRFLOW

from airflow_provider_reportrun.client import telemetry
from airflow_provider_reportrun.landing import metrics as of_landing
from airflow_provider_reportrun.protocol import metrics
from airflow_provider_reportrun.protocol.messages import Request

GUIDE = (Path(__file__).parents[1] / "docs" / "observability.md").read_text(encoding="utf-8")
SCRIPT = Path(__file__).parent / "support" / "observed.py"
BACKENDS = {
    "statsd": {"STATSD_ON": "true"},
    "influxdb": {"STATSD_ON": "true", "STATSD_INFLUXDB_ENABLED": "true"},
    "datadog": {"STATSD_DATADOG_ENABLED": "true", "STATSD_DATADOG_TAGS": ""},
}
LIMIT_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What came of a run."""

    lines: list[str]
    """The metrics of ours, in order."""
    spans: list[dict]
    log: str

    @property
    def forms(self) -> set[str]:
        """The metrics without their numbers."""
        return {re.sub(r":[0-9.]+\|", ":N|", line) for line in self.lines}


@cache
def watched(backend: str, what: str) -> Watched:
    """Run the script in an Airflow whose metrics go to a socket here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        settings = BACKENDS[backend] | {
            "STATSD_HOST": "127.0.0.1",
            "STATSD_PORT": str(receiver.getsockname()[1]),
        }
        packets: list[bytes] = []

        def receive() -> None:
            while packet := receiver.recv(65535):
                packets.append(packet)

        receiving = threading.Thread(target=receive, daemon=True)
        receiving.start()
        folder = Path(os.environ["AIRFLOW_HOME"]) / f"observed-{backend}-{what}"
        paths = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(  # noqa: S603 - ours
            [sys.executable, str(SCRIPT), str(folder), what],
            env=os.environ
            | {f"AIRFLOW__METRICS__{name}": value for name, value in settings.items()}
            | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", receiver.getsockname())
        receiving.join(LIMIT_SECONDS)
    lines = b"\n".join(packets).decode().splitlines()
    log, _, spans = done.stdout.partition(SPANS)
    return Watched(
        lines=[line for line in lines if line.startswith("airflow.reportrun.")],
        spans=json.loads(spans.splitlines()[0]),
        log=log,
    )


def block(heading: str, language: str) -> list[str]:
    """The lines of the first block of a language after a heading of the guide."""
    _, _, section = GUIDE.partition(f"## {heading}\n")
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return found[1].splitlines()


def shape(line: str) -> str:
    """A line of the log without what differs from run to run."""
    _, _, said = line.partition("] ")
    said = re.sub(r" \[[\w.]+\].*", "", said)
    said = re.sub(r"file://\S+/", "file:///", said)
    return re.sub(r"[0-9]+", "N", said).strip()


# Metrics


def test_a_report_is_counted_and_timed_from_its_create_to_its_file():
    """Each thing that happens arrives once, also from the wait in the trigger."""
    names = Counter(line.partition(":")[0] for line in watched("statsd", "task").lines)
    prefix = "airflow.reportrun."
    assert {name.removeprefix(prefix): count for name, count in names.items()} == {
        "creates_refused": 2,
        "creates": 1,
        "attaches": 1,
        "capacity_wait": 2,
        "data_wait": 1,
        "polls": 3,
        "report_wait": 1,
        "landings": 2,
        "landed_bytes": 2,
    }


def test_bytes_are_bytes_and_times_are_milliseconds():
    """As StatsD counts (``c``) and times (``ms``)."""
    lines = dict(line.split(":") for line in watched("statsd", "task").lines)
    assert re.fullmatch(r"[0-9]{3,}\|c", lines["airflow.reportrun.landed_bytes"])
    milliseconds, _, unit = lines["airflow.reportrun.report_wait"].partition("|")
    assert unit == "ms"
    assert 40 < float(milliseconds) < LIMIT_SECONDS * 1000


def test_sensors_that_wait_in_place_are_measured_too():
    """Each look, and how the wait ended: well, in an error, or at its timeout."""
    prefix = "airflow.reportrun."
    lines = [re.sub(r":[0-9.]+\|.*", "", line) for line in watched("influxdb", "sensors").lines]
    waits = [line.removeprefix(prefix) for line in lines if "_wait," in line]
    assert waits == [
        "report_wait,report=balance_summary,outcome=done",
        "report_wait,report=balance_summary,outcome=ReportRunFailed",
        "data_wait,report=balance_summary,outcome=done",
        "data_wait,report=balance_summary,outcome=DeadlinePassed",
    ]
    looks = Counter(line.removeprefix(prefix + "polls,") for line in lines if "polls" in line)
    assert looks["kind=report_run,outcome=not_yet"] == 1
    assert looks["kind=report_run,outcome=done"] == 2
    assert looks["kind=data,outcome=done"] == 1
    assert looks["kind=data,outcome=not_yet"] >= 1


@pytest.mark.parametrize("backend", ["statsd", "influxdb", "datadog"])
def test_the_guide_shows_metrics_as_they_arrive(backend):
    """Its examples are lines of a real run, with their tags where the backend has tags."""
    arrived = watched(backend, "task" if backend == "statsd" else "trigger")
    shown = {re.sub(r":[0-9.]+\|", ":N|", line) for line in block("Metrics", backend)}
    assert shown == arrived.forms


def test_the_guide_names_every_metric_and_its_tags():
    """Its table holds what the package measures, and nothing else."""
    values = {"CAPACITY", "RATE", "DONE", "NOT_YET", "ERROR", "REPORT_RUN", "DATA", "UNKNOWN"}
    known = {**vars(metrics), **vars(of_landing)}
    names = {known[name] for name in known if name.isupper() and name not in values}
    told = set(re.findall(r"^\| `reportrun\.(\w+)`", GUIDE, re.MULTILINE))
    assert told == names


def test_neither_ids_nor_secrets_are_in_metrics():
    """Nor anything else of which there are ever more."""
    for backend, what in (("statsd", "task"), ("influxdb", "trigger"), ("datadog", "trigger")):
        for line in watched(backend, what).lines:
            assert not re.search(r"reprun_|req_|rk_|sk_|http", line)


# Spans


def test_each_call_has_a_span():
    """By method and template, so that spans of one operation come together."""
    names = Counter(span["name"] for span in watched("statsd", "task").spans)
    assert names == {
        "GET /v2/reporting/reports/{report}": 2,
        "POST /v2/reporting/report_runs": 4,
        "GET /v2/reporting/report_runs/{report_run_id}": 4,
        "GET": 2,
    }


def test_the_guide_shows_a_span_as_it_is_exported():
    """Its attributes are those of a poll that was answered."""
    shown = json.loads("\n".join(block("Spans", "json")))
    span = [s for s in watched("statsd", "task").spans if s["name"] == shown["name"]][-1]
    assert shown["kind"] == span["kind"]
    assert set(shown["attributes"]) == set(span["attributes"])
    assert shown["attributes"]["url.template"] == span["attributes"]["url.template"]


def test_a_refusal_is_an_error_of_its_span():
    """With the status as its type, as the conventions have it."""
    span = next(s for s in watched("statsd", "task").spans if s["name"].startswith("POST"))
    assert span["status"]["status_code"] == "ERROR"
    assert span["attributes"]["http.response.status_code"] == 429
    assert span["attributes"]["error.type"] == "429"


def test_a_result_url_is_in_no_span():
    """It is a credential: of its download only the host is told."""
    spans = watched("statsd", "task").spans
    (one, _) = [span for span in spans if span["name"] == "GET"]
    assert set(one["attributes"]) == {
        "http.request.method",
        "server.address",
        "server.port",
        "http.response.status_code",
    }


@pytest.mark.parametrize("what", ["task", "trigger"])
def test_neither_key_nor_signature_is_in_spans_or_logs(what):
    """Whatever is watched."""
    run = watched("statsd" if what == "task" else "influxdb", what)
    key = re.search(r"^KEY (\S+)$", run.log, re.MULTILINE)
    assert key is not None
    told = [line for line in run.log.splitlines() if not TALK_OF_AIRFLOW.search(line)]
    seen = json.dumps(run.spans) + "\n".join(told).replace(key[0], "")
    assert key[1] not in seen
    assert "signature" not in seen.lower()


def test_a_trigger_by_itself_is_traced_and_measured():
    """Its process has no task runner that would have set anything up."""
    run = watched("influxdb", "trigger")
    assert {span["name"].partition(" ")[0] for span in run.spans} == {"POST", "GET"}
    assert any(line.startswith("airflow.reportrun.polls,kind=report_run") for line in run.lines)


def test_tracing_costs_nothing_while_it_is_off():
    """Without OpenTelemetry in the process it is not imported, and all calls share one answer."""
    code = (
        "import sys\n"
        "from airflow_provider_reportrun.client import telemetry\n"
        "from airflow_provider_reportrun.protocol.messages import Request\n"
        "request = Request(method='GET', path='/')\n"
        "assert telemetry.api_call(request, 'https://x') is telemetry.download_call('https://x')\n"
        "heavy = ('opentelemetry', 'airflow.')\n"
        "assert not [name for name in sys.modules if name.startswith(heavy)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - ours


def test_tracing_is_off_until_a_provider_is_set():
    """The API of OpenTelemetry alone, which Airflow loads anyway, makes no spans."""
    import opentelemetry.trace  # noqa: F401 - loaded, and nothing more

    call = telemetry.api_call(Request(method="GET", path="/"), "https://x")
    assert call is telemetry.download_call("https://x/y")


# Lines of the log


@pytest.mark.needs("logs without a worker")
def test_the_guide_shows_the_lines_of_a_report():
    """In their order, from the refused create to the landed file and the next try."""
    ours = [
        line
        for line in watched("statsd", "task").log.splitlines()
        if "airflow_provider_reportrun" in line and "[info" in line
    ]
    assert [shape(line) for line in block("Log", "text")] == [shape(line) for line in ours]
