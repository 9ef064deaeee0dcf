"""Carry out a command, and turn whatever ends it into an exit code and one line."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_reportrun.cli.console import Output, log_shown
from airflow_provider_reportrun.cli.definition import parser
from airflow_provider_reportrun.errors import InvalidInput, ReportRunError, to_json
from airflow_provider_reportrun.text import one_line

if TYPE_CHECKING:
    from argparse import Namespace

FAILED: Final = 1
USAGE: Final = 2
SIGNALED: Final = 128
"""Plus the number of the signal, as shells count."""
_LONGEST_LINE: Final = 4000
_SPOKEN: Final = {
    "reportrun_conn_id": "--conn-id",
    "validate=False": "--no-validate",
    "wait with wait_for_data=True or a ReportDataSensor": "leave out --no-wait-for-data to wait",
    "clear the task that created it for a new one": "another --idempotency-key asks for a new one",
    "pass it in report_parameters": "add --start, --end or --parameter",
    "Leave column_names out": "Leave out --column-names",
    "pass other bounds, or use CronDataIntervalTimetable": "correct --start or --end",
    " Since Airflow 3, a plain cron schedule gives runs a zero-length interval, also manual "
    "runs.": "",
    " If it comes from a template, check what that renders to.": "",
}
"""What errors call something in a DAG: what it is called here."""
_ONE_VALUE: Final = re.compile(r"(\w+) must be a list, not '([^']*)'")


class Stopped(KeyboardInterrupt):
    """
    A signal stopped a run.

    :param message: how to go on.
    :param report_run_id: the run, which goes on at Stripe; None if none is known.
    """

    def __init__(self, message: str, report_run_id: str | None, number: int) -> None:
        super().__init__(number)
        self.message = message
        self.report_run_id = report_run_id


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Carry out a command line.

    :param arguments: None for those of the process.
    :return: the exit code.
    """
    try:
        asked = parser().parse_args(arguments)
        asked.func(asked)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    raise AssertionError  # pragma: no cover - every command exits


def carry_out(name: str, program: str, arguments: Namespace) -> int:
    """
    Carry out one command.

    :param name: of the command.
    :param program: how the user calls the program.
    :return: the exit code.
    """
    output = Output(as_json=arguments.json)
    try:
        with _terminated(), warnings.catch_warnings(), output.kept_clean():
            if not arguments.verbose:
                warnings.simplefilter("ignore")
            return _guarded(name, program, arguments, output)
    except KeyboardInterrupt as stop:
        return _told_of_stop(stop, output)
    except BrokenPipeError:
        # Python flushes stdout at its end, which would fail again.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SIGNALED + signal.SIGPIPE


def _guarded(name: str, program: str, arguments: Namespace, output: Output) -> int:
    # As for `airflow connections test`: connections come from Airflow's database too.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    try:
        from airflow_provider_reportrun.cli import commands

        with log_shown():
            return commands.COMMANDS[name](arguments, output, program)
    except ReportRunError as error:
        if arguments.verbose:
            traceback.print_exc()
        _tell(_spoken(str(error)))
        if output.as_json:
            output.show({"error": to_json(error)}, ())
        return USAGE if isinstance(error, InvalidInput) else FAILED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - a bug, or whatever Airflow's side raises
        if arguments.verbose:
            traceback.print_exc()
        # Its text may be anything, even a secret.
        _tell(f"{type(error).__name__} in {name}; --verbose shows where.")
        return FAILED


def _told_of_stop(stop: KeyboardInterrupt, output: Output) -> int:
    number = next((each for each in stop.args if isinstance(each, int)), signal.SIGINT)
    message, run_id = "Stopped.", None
    if isinstance(stop, Stopped):
        message, run_id = stop.message, stop.report_run_id
    _tell(message, prefix="")
    if output.as_json:
        error: dict[str, Any] = {"kind": "Stopped", "message": message, "facts": {}}
        if run_id is not None:
            error["facts"]["report_run_id"] = run_id
        with suppress(BrokenPipeError):
            output.show({"error": error}, ())
    return SIGNALED + number


def _tell(message: str, prefix: str = "error: ") -> None:
    with suppress(OSError):
        sys.stderr.write(f"{prefix}{one_line(message, _LONGEST_LINE)}\n")
        sys.stderr.flush()


def _spoken(message: str) -> str:
    for in_a_dag, here in _SPOKEN.items():
        message = message.replace(in_a_dag, here)
    return _ONE_VALUE.sub(r"""For a list, write --parameter '\1=["\2"]': \g<0>""", message)


@contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM stop the block as Ctrl-C does, so that it cleans up."""

    def stop(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
