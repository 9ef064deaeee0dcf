"""
How fast a result of 1 GiB is landed on a local path, and how much memory that takes.

The landing is the one of ``DownloadReportResultOperator``: asked for, streamed, hashed, checked
against the size that the API announced, renamed into place. Beside it, in turn: ``curl -o`` of the
same file from the same server, which checks nothing. Right before each run as much is written and
removed again, so that all find memory in the same state: a virtual machine may have given free
memory back to its host, and the first to use it again pays seconds for that. A second round goes to
a file system in memory, where there is one, to tell what is the disk's and what is ours.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import file_server, landing_s3
from benchmarks.common import (
    MIB,
    Server,
    children_cpu_seconds,
    connection,
    in_fresh_process,
    keep,
    peak_resident_bytes,
    say,
)

SIZE: Final = 1024 * MIB
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - in a folder with a name of its own
BOUNDS: Final = {"of_curl": 0.75, "memory_mib": 64}


def land(url: str, folder: str) -> dict[str, Any]:
    """Land the file in this process, after a small one that takes the imports with it."""
    os.environ["AIRFLOW_CONN_BENCH"] = connection(url, "rk_test_benchmark_0001")
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook
    from airflow_provider_reportrun.landing.destination import Destination
    from airflow_provider_reportrun.landing.land import land as land_result

    def timed(report_run_id: str) -> float:
        destination = Destination(uri=f"{folder}/{report_run_id}.csv", owner="benchmark")
        with ReportRunHook("bench") as hook:
            began = time.perf_counter()
            land_result(destination, hook, report_run_id)
            return time.perf_counter() - began

    timed(file_server.SMALL_RUN_ID)
    _warm(folder)
    before, cpu = peak_resident_bytes(), time.process_time()
    seconds = timed(file_server.RUN_ID)
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "memory_mib": round((peak_resident_bytes() - before) / MIB, 1),
        "size": (Path(folder) / f"{file_server.RUN_ID}.csv").stat().st_size,
    }


def _warm(folder: str) -> None:
    """Leave the page cache with as much free memory that is in use as a run takes."""
    file, block = Path(folder) / "warm", bytes(MIB)
    with file.open("wb", buffering=0) as out:
        for _ in range(SIZE // MIB):
            out.write(block)
    file.unlink()
    os.sync()


def landing(url: str, folder: str) -> dict[str, Any]:
    """Land the file in a folder, in a process of its own."""
    landed: dict[str, Any] = in_fresh_process("benchmarks.landing:land", url=url, folder=folder)
    return landed


def curl(url: str, folder: str) -> dict[str, Any]:
    """Download the file with curl."""
    file = Path(folder) / "curl.csv"
    command = shutil.which("curl")
    if command is None:
        raise SystemExit("This benchmark needs curl.")
    _warm(folder)
    began, cpu = time.perf_counter(), children_cpu_seconds()
    subprocess.run(  # noqa: S603 - of our own making
        [
            command,
            "--silent",
            "--fail",
            "--noproxy",
            "*",
            "-o",
            str(file),
            f"{url}/files/{file_server.RUN_ID}.csv",
        ],
        check=True,
    )
    return {
        "seconds": round(time.perf_counter() - began, 3),
        "cpu_seconds": round(children_cpu_seconds() - cpu, 3),
        "size": file.stat().st_size,
    }


def main() -> None:
    """Measure on the disk and in memory, where there is such a file system."""
    with Server("benchmarks.file_server:serve", size=SIZE) as server:
        on_disk = _compared(server, Path(tempfile.gettempdir()), rounds=5)
        in_memory = _compared(server, MEMORY, rounds=5) if MEMORY.is_dir() else None
        in_s3 = landing_s3.compared(server, SIZE, rounds=5)
    keep(
        "landing",
        {
            "bounds": BOUNDS,
            "size": SIZE,
            "server": "Python, socket.sendfile, another process, plain HTTP on loopback",
            "curl": _curl_version(),
            "on_disk": on_disk,
            "in_memory": in_memory,
            "in_s3": in_s3,
        },
    )


def _compared(server: Server, where: Path, *, rounds: int) -> dict[str, Any]:
    """Measure in turn, so that what else the machine does falls on all alike."""
    ways = {"curl": curl, "landing": landing}
    url = server.facts["url"]
    raw: dict[str, list[dict[str, Any]]] = {"curl": [], "landing": []}
    for number in range(rounds):
        for way in ("curl", "landing") if number % 2 else ("landing", "curl"):
            with tempfile.TemporaryDirectory(prefix="reportrun-bench-", dir=where) as folder:
                cpu = server.cpu_seconds()
                facts = ways[way](url, folder)
                cpu = server.cpu_seconds() - cpu
                raw[way].append(facts | {"server_cpu_seconds": round(cpu, 3)})
        say(f"landing: {raw['curl'][-1]}, {raw['landing'][-1]}")
    if any(each["size"] != SIZE for runs in raw.values() for each in runs):
        raise SystemExit("A file is not whole.")
    seconds = {
        way: statistics.median(each["seconds"] for each in runs) for way, runs in raw.items()
    }
    return {
        "median_seconds": seconds,
        "mib_per_second": {way: round(SIZE / MIB / took) for way, took in seconds.items()},
        **{
            name: {way: statistics.median(each[name] for each in runs) for way, runs in raw.items()}
            for name in ("cpu_seconds", "server_cpu_seconds")
        },
        "of_curl": round(seconds["curl"] / seconds["landing"], 2),
        "memory_mib": max(each["memory_mib"] for each in raw["landing"]),
        "raw": raw,
    }


def _curl_version() -> str:
    told = subprocess.run(["curl", "--version"], check=True, capture_output=True, text=True)  # noqa: S607
    return " ".join(told.stdout.split()[:2])


if __name__ == "__main__":
    main()
