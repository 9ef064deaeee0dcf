"""``python -m airflow_provider_reportrun.sandbox``: serve until stopped."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from airflow_provider_reportrun.sandbox.generations import APIS, DEFAULT_API, GENERATIONS
from airflow_provider_reportrun.sandbox.server import Sandbox

DEFAULT_PORT = 12113
"""Fixed, so that an exported connection stays valid after a restart."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Serve until SIGINT or SIGTERM.

    :param arguments: None for those of the command line.
    :return: the exit code.
    """
    options = _parser().parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    sandbox = Sandbox(
        port=options.port,
        run_seconds=options.run_seconds,
        concurrency=options.concurrency,
        size=options.size,
        data_lag_hours=options.data_lag,
        seed=options.seed,
    )
    try:
        sandbox.start()
    except OSError as error:
        reason = error.strerror or error
        sys.stderr.write(f"Cannot listen on port {options.port}: {reason}. Try --port 0.\n")
        return 1
    try:
        sys.stdout.write(_welcome(sandbox, options.api))
        sys.stdout.flush()
        stopped.wait()
    finally:
        sandbox.stop()
    return 0


def _welcome(sandbox: Sandbox, api: str) -> str:
    connection = shlex.quote(sandbox.connection_json_for(api))
    lines = (line for each in GENERATIONS if each.api == api for line in each.reports())
    reports = "\n".join(f"#   {line}" for line in lines)
    return (
        f"export AIRFLOW_CONN_REPORTRUN_DEFAULT={connection}\n"
        f"# Serving Stripe's Reporting API at {sandbox.url}, with these reports of {api}:\n"
        f"{reports}\n"
        "# Stop it with Ctrl-C.\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_reportrun.sandbox",
        description="Serve Stripe's Reporting API offline, and print the connection to use.",
    )
    add = parser.add_argument
    add(
        "--api",
        choices=APIS,
        default=DEFAULT_API,
        help="generation that the printed connection uses; all are served (default: %(default)s)",
    )
    add(
        "--port",
        type=_number(int, 0, 65535),
        default=DEFAULT_PORT,
        help="port to listen on; 0 takes a free one (default: %(default)s)",
    )
    add(
        "--run-seconds",
        type=_number(float, 0),
        default=2.0,
        help="how long a report run takes (default: %(default)s)",
    )
    add(
        "--concurrency",
        type=_number(int, 0),
        default=4,
        help="how many report runs of one API key may run at once (default: %(default)s)",
    )
    add(
        "--size",
        metavar="BYTES",
        type=_number(int, 0),
        help="bytes of a result file before compression (default: as many as its rows need)",
    )
    add(
        "--data-lag",
        metavar="HOURS",
        type=_number(float, 0),
        default=12.0,
        help="hours from the end of a half day until its data is available (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="another seed makes other rows (default: %(default)s)")
    return parser


def _number(kind: type[float], least: float, most: float = float("inf")) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not least <= value <= most or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is out of range")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
