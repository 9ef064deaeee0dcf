"""
The commands and their arguments, once for both programs.

``airflow`` imports this module for each of its commands, so it imports next to nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

from airflow_provider_reportrun.landing import REPLACE, ColumnNames, IfExists, OutputFormat
from airflow_provider_reportrun.protocol.generations import NAMES

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

NAME: Final = "reportrun"
HELP: Final = "Find Stripe reports, run them and land their files"
MODULE: Final = "airflow_provider_reportrun"
EXIT_CODES: Final = """\
exit codes:
  0    done
  1    refused or failed, by the API, the report run or the destination
  2    wrong arguments or connection; nothing was created
  130  stopped by Ctrl-C; a report run goes on at Stripe
  141  whoever read the output has gone
"""


class Argument(NamedTuple):
    """One argument, as ``argparse`` and Airflow's ``Arg`` take it."""

    flags: tuple[str, ...]
    options: dict[str, Any]


class Command(NamedTuple):
    """One command."""

    name: str
    help: str
    description: str
    arguments: tuple[Argument, ...]


def _argument(*flags: str, **options: Any) -> Argument:
    return Argument(flags, options)


_COMMON: Final = (
    _argument(
        "--conn-id",
        metavar="ID",
        default="reportrun_default",
        help="the Airflow connection (default: reportrun_default)",
    ),
    _argument("--api", choices=NAMES, help="the generation of the API (default: the connection's)"),
    _argument(
        "--stripe-context",
        metavar="ACCOUNT",
        help="the account that the reports are about, such as acct_123 (default: the connection's)",
    ),
    _argument("--json", action="store_true", help="print one JSON document"),
    _argument("--verbose", action="store_true", help="show the traceback of an error"),
)
_RUNNING: Final = (
    _argument(
        "--to",
        metavar="DESTINATION",
        help="a file, a folder that ends in /, or a URI such as s3://bucket/key.csv "
        "(default: a new file in the current folder)",
    ),
    _argument("--storage-conn-id", metavar="ID", help="the Airflow connection of the store"),
    _argument(
        "--if-exists",
        choices=get_args(IfExists),
        default=REPLACE,
        help="what to do if the file exists (default: replace)",
    ),
    _argument(
        "--output-format",
        choices=get_args(OutputFormat),
        help="convert the CSV while landing; parquet needs the extra of that name",
    ),
    _argument(
        "--column-names",
        choices=get_args(ColumnNames),
        help="rename the columns while landing, for warehouses",
    ),
    _argument(
        "--idempotency-key",
        metavar="TEXT",
        help="another text asks for another run; without it, or with the same one, the same "
        "request finds the same run again",
    ),
)

COMMANDS: Final = (
    Command(
        "reports",
        "list the reports that the account may run",
        "List the reports that the account may run: id, name, and the window of their data.\n"
        "v2.reporting has no list, so each known report is requested, one by one.",
        _COMMON,
    ),
    Command(
        "report",
        "show what a report takes",
        "Show a report's parameters: name, type, whether it is required, allowed values and the\n"
        "window of its data, and report_parameters={...} to paste into a DAG.",
        (
            _argument("report", metavar="REPORT", help="id of the report"),
            *_COMMON,
        ),
    ),
    Command(
        "run",
        "create a report run, wait for it and land its file",
        "Create a report run, wait for it and land its file.\n\n"
        "The same command attaches to the same report run again, for 30 days (v1: 24 hours),\n"
        "also after Ctrl-C or kill -9. After a failed report run, it creates a new one.",
        (
            _argument("report", metavar="REPORT", help="id of the report"),
            _argument(
                "--start",
                metavar="TIME",
                help="first instant of the report: a date or an ISO 8601 timestamp",
            ),
            _argument(
                "--end",
                metavar="TIME",
                help="instant after the last one; --end 2025-08-25 ends with 24 August",
            ),
            _argument(
                "--timezone",
                metavar="ZONE",
                default="UTC",
                help="zone of dates and of timestamps without an offset (default: UTC)",
            ),
            _argument(
                "--parameter",
                metavar="NAME=VALUE",
                action="append",
                default=[],
                help="a parameter of the report; repeat it for others, and for further values of "
                "a list; 'NAME=[\"VALUE\"]' is a list of one",
            ),
            _argument(
                "--no-wait-for-data",
                dest="wait_for_data",
                action="store_false",
                help="fail if the API does not have all data of the interval yet",
            ),
            _argument(
                "--no-validate",
                dest="validate",
                action="store_false",
                help="leave the checks of the parameters to the API",
            ),
            *_RUNNING,
            *_COMMON,
        ),
    ),
    Command(
        "query",
        "run a SQL query and land its file",
        "Create a query run, wait for it and land its file. v1 has no queries.\n\n"
        "The same command attaches to the same query run again, for 30 days.",
        (
            _argument("file", metavar="FILE.sql", help="the file with the query; - reads stdin"),
            *_RUNNING,
            *_COMMON,
        ),
    ),
    Command(
        "status",
        "show a report run",
        "Show the status of a report run or a query run.",
        (
            _argument("run_id", metavar="RUN_ID", help="id of the run"),
            _argument("--query", action="store_true", help="it is a query run"),
            *_COMMON,
        ),
    ),
    Command(
        "check",
        "test the connection",
        "Test the connection: whether the API knows the key, and the key may read report runs.",
        _COMMON,
    ),
)


def airflow_commands() -> list[CLICommand]:
    """Return the commands for ``airflow reportrun``, from Airflow 3.2 on."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    subcommands = [
        ActionCommand(
            name=command.name,
            help=command.help,
            description=command.description,
            epilog=EXIT_CODES,
            func=carried_out(command.name, f"airflow {NAME}"),
            args=[Arg(flags, **options) for flags, options in command.arguments],
        )
        for command in COMMANDS
    ]
    return [GroupCommand(name=NAME, help=HELP, subcommands=subcommands, epilog=EXIT_CODES)]


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m airflow_provider_reportrun``."""
    look = argparse.RawDescriptionHelpFormatter
    program = f"python -m {MODULE}"
    found = argparse.ArgumentParser(
        prog=program, description=f"{HELP}.", epilog=EXIT_CODES, formatter_class=look
    )
    subparsers = found.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            epilog=EXIT_CODES,
            formatter_class=look,
        )
        for flags, options in command.arguments:
            one.add_argument(*flags, **options)
        one.set_defaults(func=carried_out(command.name, program))
    return found


def carried_out(name: str, program: str) -> Callable[[argparse.Namespace], None]:
    """
    Return the function that carries a command out and exits.

    :param program: how the user calls the program.
    """
    return partial(_carry_out, name, program)


def _carry_out(name: str, program: str, arguments: argparse.Namespace) -> None:
    from airflow_provider_reportrun.cli.main import carry_out

    sys.exit(carry_out(name, program, arguments))
