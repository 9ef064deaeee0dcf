"""``python -m airflow_provider_reportrun.sandbox``: serve until stopped."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_reportrun.sandbox.generations import APIS, DEFAULT_API, GENERATIONS
from airflow_provider_reportrun.sandbox.options import add_options, number, sandbox_from

if TYPE_CHECKING:
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
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stopped.set())
    sandbox = sandbox_from(options, port=options.port)
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
        type=number(int, 0, 65535),
        default=DEFAULT_PORT,
        help="port to listen on; 0 takes a free one (default: %(default)s)",
    )
    add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
