"""What all benchmarks share: fresh processes, servers, and the description of a result."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from typing_extensions import Self

FOLDER: Final = Path(__file__).resolve().parent
ROOT: Final = FOLDER.parent
RESULTS: Final = FOLDER / "results"
IMAGES: Final = FOLDER / "images"
DISTRIBUTIONS: Final = (
    "airflow-provider-reportrun",
    "apache-airflow",
    "apache-airflow-providers-databricks",
    "apache-airflow-providers-dbt-cloud",
    "apache-airflow-providers-google",
    "apache-airflow-providers-http",
    "aiohttp",
    "requests",
)
KIB: Final = 1024
MIB: Final = 1024 * KIB


def in_fresh_process(function: str, **arguments: Any) -> Any:
    """
    Call a function in its own interpreter, so earlier calls have no influence.

    :param function: its module and its name, ``benchmarks.polls:measure``.
    :param arguments: JSON values.
    :return: its result, through JSON.
    """
    with started(function, **arguments) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        lines = process.stdout.read().splitlines()
    if process.returncode or not lines:
        raise SystemExit(f"{function} with {arguments} ended with {process.returncode}.")
    return json.loads(lines[-1])


@contextmanager
def started(function: str, **arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """
    Start a function in its own interpreter, with its own Airflow home.

    Standard input and output are pipes. On exit, the process is stopped if it still runs.
    """
    with tempfile.TemporaryDirectory(prefix="reportrun-bench-") as home:
        process = subprocess.Popen(  # noqa: S603 - of our own making
            [sys.executable, "-m", "benchmarks.fresh", function, json.dumps(arguments)],
            cwd=ROOT,
            env=_environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
            process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _environment(home: str) -> dict[str, str]:
    """Return an environment without settings of another Airflow, proxies and CA bundles."""
    foreign = ("AIRFLOW_", "PYTHONDONTWRITEBYTECODE")
    network = {"http_proxy", "https_proxy", "all_proxy", "requests_ca_bundle", "curl_ca_bundle"}
    ours = {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and name.lower() not in network
    }
    return kept | {name: os.environ[name] for name in KEPT if name in os.environ} | ours


KEPT: Final = ("AIRFLOW_CONN_BENCH", "AIRFLOW_CONN_BENCH_HTTP", "AIRFLOW_CONN_BENCH_DBT")


class Server:
    """
    A server in its own process, which is controlled over its standard input and output.

    :param function: prints in JSON where it serves, and answers each line that it receives.
    """

    def __init__(self, function: str, **arguments: Any) -> None:
        self._starting = started(function, **arguments)
        self._function = function

    def __enter__(self) -> Self:
        self._process = self._starting.__enter__()
        self.facts: dict[str, Any] = self._read()
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        self._process.stdin.close()
        self._process.stdin = None
        self._starting.__exit__(None, None, None)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, question: str) -> Any:
        """Send a line and return the answer."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._function} has ended.")
        return json.loads(line)


def connection(host: str, api_key: str, **extra: Any) -> str:
    """Return a connection of type ``reportrun`` as an environment variable for Airflow."""
    return json.dumps({"conn_type": "reportrun", "host": host, "password": api_key, "extra": extra})


def resident_bytes() -> int:
    """Return the current resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise RuntimeError("This system does not tell the peak of resident memory.")


def children_cpu_seconds() -> float:
    """Return the CPU time of the processes that this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def keep(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Store the result of a benchmark, with time, machine and command."""
    result = {
        "command": f'make bench ONLY="{name}"',
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "versions": versions(),
        **facts,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def machine() -> dict[str, Any]:
    """Describe this machine and its load."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * resource.getpagesize() / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):  # some benchmarks need no other provider
            found[name] = metadata.version(name)
    return found


def tell(facts: Any) -> None:
    """Send facts to the process that started this one, as JSON."""
    say(json.dumps(facts))


def say(line: str) -> None:
    """Print progress."""
    print(line, flush=True)  # noqa: T201 - a command talks
