"""
How fast a result is landed in S3, and how much memory that takes.

S3 is ``s3_server``, in another process. Beside the landing, in turn: ``curl -o`` followed by
boto3's ``upload_file``, which check nothing, and ``HttpToS3Operator``, which holds a result in
memory. Each way runs in a process of its own; its memory counts from after the imports.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks import file_server
from benchmarks.common import (
    MIB,
    Server,
    children_cpu_seconds,
    connection,
    in_fresh_process,
    peak_resident_bytes,
    say,
)

BUCKET: Final = "bench"
KEY: Final = "report.csv"
BOUNDS: Final = {"of_curl_and_boto3": 1.2, "memory_mib": 128}
WAYS: Final = ("landing", "curl_and_boto3", "http_to_s3")


def _client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="testtest",  # noqa: S106 - opens nothing
        region_name="us-east-1",
    )


def landing(url: str, endpoint: str, folder: str) -> dict[str, Any]:
    """Land the file as ``DownloadReportResultOperator`` does."""
    os.environ["AIRFLOW_CONN_BENCH"] = connection(url, "rk_test_benchmark_0001")
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook
    from airflow_provider_reportrun.landing.destination import Destination
    from airflow_provider_reportrun.landing.land import land as land_result

    destination = Destination(
        uri=f"s3://bench_s3@{BUCKET}/{KEY}", spool_dir=folder, owner="benchmark"
    )

    def land(report_run_id: str) -> None:
        with ReportRunHook("bench") as hook:
            land_result(destination, hook, report_run_id)

    return _measured(land, endpoint)


def curl_and_boto3(url: str, endpoint: str, folder: str) -> dict[str, Any]:
    """Download the file with curl, and upload it with boto3."""
    client = _client(endpoint)

    def fetch(report_run_id: str) -> None:
        path = f"{folder}/curl.csv"
        address = f"{url}/files/{report_run_id}.csv"
        command = ["curl", "--silent", "--fail", "--noproxy", "*", "-o", path, address]
        subprocess.run(command, check=True)  # noqa: S603 - of our own making
        client.upload_file(path, BUCKET, KEY)

    return _measured(fetch, endpoint)


def http_to_s3(url: str, endpoint: str, folder: str) -> dict[str, Any]:  # noqa: ARG001
    """Let Airflow's own operator do it."""
    from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

    parts = urlsplit(url)
    os.environ["AIRFLOW_CONN_BENCH_HTTP"] = json.dumps(
        {"conn_type": "http", "host": parts.hostname, "port": parts.port}
    )

    def transfer(report_run_id: str) -> None:
        HttpToS3Operator(
            task_id="transfer",
            endpoint=f"files/{report_run_id}.csv",
            http_conn_id="bench_http",
            aws_conn_id="bench_s3",
            s3_bucket=BUCKET,
            s3_key=KEY,
            replace=True,
        ).execute({})

    return _measured(transfer, endpoint)


def _measured(act: Callable[[str], None], endpoint: str) -> dict[str, Any]:
    """Measure an act on the large file, after a small one that takes the imports with it."""
    os.environ["AIRFLOW_CONN_BENCH_S3"] = json.dumps(
        {
            "conn_type": "aws",
            "login": "test",
            "password": "testtest",
            "extra": {"endpoint_url": endpoint, "region_name": "us-east-1"},
        }
    )
    act(file_server.SMALL_RUN_ID)
    before, began = peak_resident_bytes(), time.perf_counter()
    cpu = time.process_time() + children_cpu_seconds()
    act(file_server.RUN_ID)
    seconds = time.perf_counter() - began
    cpu = time.process_time() + children_cpu_seconds() - cpu
    memory = peak_resident_bytes() - before
    client = _client(endpoint)
    size = client.head_object(Bucket=BUCKET, Key=KEY)["ContentLength"]
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "memory_mib": round(memory / MIB, 1),
        "size": size,
    }


def compared(server: Server, size: int, *, rounds: int) -> dict[str, Any]:
    """Measure all ways in turn, so that what else the machine does falls on all alike."""
    raw: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS if number % 2 else reversed(WAYS):
            raw[way].append(once(way, server))
        say(f"landing in S3: {', '.join(f'{way} {runs[-1]}' for way, runs in raw.items())}")
    if any(each["size"] != size for runs in raw.values() for each in runs):
        raise SystemExit("An object is not whole.")
    seconds = {
        way: statistics.median(each["seconds"] for each in runs) for way, runs in raw.items()
    }
    return {
        "bounds": BOUNDS,
        "median_seconds": seconds,
        "mib_per_second": {way: round(size / MIB / took) for way, took in seconds.items()},
        **{
            name: {way: statistics.median(each[name] for each in runs) for way, runs in raw.items()}
            for name in ("cpu_seconds", "server_cpu_seconds")
        },
        "of_curl_and_boto3": round(seconds["curl_and_boto3"] / seconds["landing"], 2),
        "memory_mib": {way: max(each["memory_mib"] for each in runs) for way, runs in raw.items()},
        "raw": raw,
    }


def once(way: str, server: Server) -> dict[str, Any]:
    """Measure one way; the CPU of the servers is that of both."""
    with (
        Server("benchmarks.s3_server:serve") as s3,
        tempfile.TemporaryDirectory(prefix="reportrun-bench-") as folder,
    ):
        cpu = server.cpu_seconds() + s3.cpu_seconds()
        facts: dict[str, Any] = in_fresh_process(
            f"benchmarks.landing_s3:{way}",
            url=server.facts["url"],
            endpoint=s3.facts["endpoint"],
            folder=folder,
        )
        cpu = server.cpu_seconds() + s3.cpu_seconds() - cpu
        return facts | {"server_cpu_seconds": round(cpu, 3)}


def _main() -> None:
    """Try it with a smaller file: ``python -m benchmarks.landing_s3 64``."""
    size = int(sys.argv[1]) * MIB
    with Server("benchmarks.file_server:serve", size=size) as server:
        found = compared(server, size, rounds=1)
    say(json.dumps({key: value for key, value in found.items() if key != "raw"}))


if __name__ == "__main__":
    _main()
