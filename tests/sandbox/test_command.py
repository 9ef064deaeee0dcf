"""``python -m airflow_provider_reportrun.sandbox``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import requests
from sandbox.clients import WEEK

from airflow_provider_reportrun.sandbox.__main__ import main

COMMAND = [sys.executable, "-m", "airflow_provider_reportrun.sandbox"]


@contextmanager
def start(*arguments):
    """Start the command with pipes, and end it if the test has not."""
    with subprocess.Popen(  # noqa: S603
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_stopped(number):
    """It prints the connection and the reports, serves, and stops cleanly on a signal."""
    options = ("--run-seconds", "0", "--size", "5000", "--seed", "3", "--fail-next", "1")
    with start("--port", "0", *options) as process:
        line = process.stdout.readline()
        name, _, value = line.partition("=")
        assert name == "export AIRFLOW_CONN_REPORTRUN_DEFAULT"
        assert value[0] == "'"
        connection = json.loads(value.strip()[1:-1])
        assert connection["conn_type"] == "reportrun"
        headers = {
            "Authorization": f"Bearer {connection['password']}",
            "Stripe-Version": "2026-04-22.dahlia",
        }
        report = f"{connection['host']}/v2/reporting/reports/balance_summary"
        assert requests.get(report, headers=headers, timeout=5).status_code == 200
        runs = f"{connection['host']}/v2/reporting/report_runs"
        for status in ("failed", "succeeded"):
            body = {"report": "balance_summary", "report_parameters": WEEK}
            made = requests.post(runs, json=body, headers=headers, timeout=5).json()
            seen = requests.get(f"{runs}/{made['id']}", headers=headers, timeout=5).json()
            assert seen["status"] == status
        process.send_signal(number)
        assert process.wait(10) == 0
        rest, errors = process.stdout.read(), process.stderr.read()
    assert errors == ""
    assert "balance_summary" in rest
    assert "Ctrl-C" in rest


@pytest.fixture
def handlers():
    """Restore the signal handlers after the test."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield before
    for each, handler in before.items():
        signal.signal(each, handler)


def test_main_ends_on_a_signal(handlers, capsys):
    """The command's function serves until a signal arrives, and returns 0."""

    def interrupt():
        while signal.getsignal(signal.SIGTERM) == handlers[signal.SIGTERM]:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main(["--port", "0"]) == 0
    thread.join()
    out = capsys.readouterr().out
    assert out.startswith("export AIRFLOW_CONN_REPORTRUN_DEFAULT='{")
    by_payout = "payout_reconciliation_by_id_itemized"
    assert f"{by_payout} (no interval_start, no interval_end, requires payout)\n" in out
    assert "ending_balance_reconciliation_summary (no interval_start)\n" in out


@pytest.mark.usefixtures("handlers")
def test_port_taken(sandbox, capsys):
    """A port in use leads to one clear line and exit code 1."""
    assert main(["--port", str(sandbox.port)]) == 1
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.count("\n") == 1
    assert f"port {sandbox.port}" in errors


@pytest.mark.parametrize(
    ("api", "line"),
    [
        ("v1", "payout_reconciliation.by_id.itemized.4 (no interval_start, no interval_end, "),
        ("v2.data", "ending_balance_reconciliation.summary (no interval_start)"),
        ("v2.reporting", "ending_balance_reconciliation_summary (no interval_start)"),
    ],
)
def test_api(api, line):
    """The printed connection and reports are those of the generation that was asked for."""
    with start("--port", "0", "--api", api) as process:
        connection = json.loads(process.stdout.readline().partition("=")[2].strip()[1:-1])
        rest = [process.stdout.readline() for _ in range(10)]
        process.terminate()
        assert process.wait(10) == 0
    assert connection.get("extra", {"api": "v2.reporting"}) == {"api": api}
    assert f"with these reports of {api}:" in rest[0]
    assert any(line in each for each in rest)
    assert any("SQL over balance_transactions and payouts" in each for each in rest) == (
        api == "v2.data"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--api", "v3"],
        ["--port", "x"],
        ["--port", "70000"],
        ["--run-seconds", "-1"],
        ["--run-seconds", "nan"],
        ["--concurrency", "1.5"],
        ["--fail-next", "-1"],
        ["--size", "many"],
        ["--data-lag", "-3"],
        ["--seed", "a"],
        ["--unknown"],
    ],
)
def test_bad_arguments(arguments, capsys):
    """The message names a bad argument, and the exit code is 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err
