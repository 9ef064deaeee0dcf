"""The options of commands that serve the sandbox."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from airflow_provider_reportrun.sandbox.server import Sandbox


def add_options(
    parser: argparse.ArgumentParser, *, run_seconds: float = 2.0, data_lag: float = 12.0
) -> None:
    """
    Add the options to a command line.

    :param run_seconds: the default of ``--run-seconds``.
    :param data_lag: the default of ``--data-lag``, in hours.
    """
    add = parser.add_argument
    add(
        "--run-seconds",
        type=number(float, 0),
        default=run_seconds,
        help="how long a report run takes (default: %(default)s)",
    )
    add(
        "--concurrency",
        type=number(int, 0),
        default=4,
        help="how many report runs of one API key may run at once (default: %(default)s)",
    )
    add(
        "--fail-next",
        metavar="N",
        type=number(int, 0),
        default=0,
        help="let the first N report runs fail with internal_error (default: %(default)s)",
    )
    add(
        "--size",
        metavar="BYTES",
        type=number(int, 0),
        help="bytes of a result file before compression (default: as many as its rows need)",
    )
    add(
        "--data-lag",
        metavar="HOURS",
        type=number(float, 0),
        default=data_lag,
        help="hours from the end of a half day until its data is available (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="another seed makes other rows (default: %(default)s)")


def sandbox_from(options: argparse.Namespace, *, port: int, journal: Path | None = None) -> Sandbox:
    """
    Return the sandbox that a command line asks for, not started.

    :param options: parsed, with those of ``add_options``.
    :param port: to listen on; 0 takes a free one.
    :param journal: see ``Sandbox``.
    """
    sandbox = Sandbox(
        port=port,
        run_seconds=options.run_seconds,
        concurrency=options.concurrency,
        size=options.size,
        data_lag_hours=options.data_lag,
        seed=options.seed,
        journal=journal,
    )
    sandbox.fail_next(options.fail_next)
    return sandbox


def number(kind: type[float], least: float, most: float = float("inf")) -> Callable[[str], float]:
    """Return a type of arguments: a number within bounds."""

    def parsed(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not least <= value <= most or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is out of range")
        return value

    return parsed
