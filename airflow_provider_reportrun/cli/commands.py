"""The commands: each takes its arguments, shows its result and returns the exit code."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pendulum

from airflow_provider_reportrun.cli.console import Output, steps_shown, table
from airflow_provider_reportrun.cli.running import Job
from airflow_provider_reportrun.errors import InvalidInput, ReportRunError, TransportError
from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol.flows import Plan
from airflow_provider_reportrun.protocol.generations import spoken_name
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    format_instant,
    half_open,
    missed_midnight,
    report_parameters,
)
from airflow_provider_reportrun.protocol.requests import QueryRequest, ReportRequest, checked_sql
from airflow_provider_reportrun.task.arguments import zone
from airflow_provider_reportrun.text import one_line

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_reportrun.landing.landed import Landing
    from airflow_provider_reportrun.protocol.models import Report, ReportParameter

log = logging.getLogger(__name__)

_LONGEST: Final = 1000
_NOT_LISTED: Final = (
    "This API has no list of its reports, so those that are known were checked one by one. The "
    "account may have others."
)
_CUT: Final = "The list goes on: these are the first."


def reports(arguments: Namespace, output: Output, _program: str) -> int:
    """List the reports of the account."""
    with _hook(arguments) as hook:
        found = hook.list_reports()
        note = None if found.is_complete else _CUT if hook.api.report_listing else _NOT_LISTED
    rows = [(each.id, each.name, _day(each.data_start), _day(each.data_end)) for each in found]
    facts = {
        "reports": [
            {
                "id": each.id,
                "name": each.name,
                "data_start": _instant(each.data_start),
                "data_end": _instant(each.data_end),
            }
            for each in found
        ],
        "is_complete": found.is_complete,
        "note": note,
    }
    output.show(facts, table(("REPORT", "NAME", "DATA FROM", "DATA UNTIL"), rows))
    if note is not None:
        log.info("%s", note)
    return 0


def report(arguments: Namespace, output: Output, _program: str) -> int:
    """Show what a report takes."""
    with _hook(arguments) as hook:
        found = hook.get_report(arguments.report)
    facts = {
        **found.summary(),
        "data_start": _instant(found.data_start),
        "data_end": _instant(found.data_end),
        "report_parameters": _example(found),
        "undefined": None if found.undefined is None else sorted(found.undefined),
    }
    output.show(facts, _described(found))
    return 0


def run(arguments: Namespace, output: Output, program: str) -> int:
    """Create a report run, wait for it and land its file."""
    with _hook(arguments) as hook:
        parameters = _parameters(arguments)
        job = Job.of(
            arguments,
            program,
            hook,
            ReportRequest(arguments.report, parameters),
            Plan(
                validate=arguments.validate,
                wait_for_data=arguments.wait_for_data,
                wait_for_completion=True,
            ),
            name=_file_name(arguments.report, parameters),
        )
        return _carried_out(job, output)


def query(arguments: Namespace, output: Output, program: str) -> int:
    """Create a query run, wait for it and land its file."""
    request = QueryRequest(checked_sql(_read(arguments.file)))
    with _hook(arguments) as hook, hook.for_queries() as of_queries:
        plan = Plan(wait_for_completion=True)
        return _carried_out(Job.of(arguments, program, of_queries, request, plan, name=""), output)


def status(arguments: Namespace, output: Output, _program: str) -> int:
    """
    Show a run.

    :return: 1 if it has failed.
    """
    with _hook(arguments) as hook, hook.for_queries() if arguments.query else hook as one:
        found = one.get_report_run(arguments.run_id)
    facts = found.summary()
    failure = found.failure
    if failure is not None:
        facts |= {"error_code": found.error_code, "error_message": found.error_message}
    output.show(facts, _pairs(facts))
    if failure is not None:
        log.error("%s", failure)
    return 0 if failure is None else 1


def check(arguments: Namespace, output: Output, _program: str) -> int:
    """
    Test the connection.

    :return: 1 if it does not work.
    """
    with _hook(arguments) as hook:
        works, message = hook.test_connection()
        facts = {
            "works": works,
            "message": message,
            "connection": arguments.conn_id,
            "host": hook.access.base_url,
            "api": spoken_name(hook.api),
        }
    output.show(facts, [one_line(message, _LONGEST)])
    return 0 if works else 1


COMMANDS: Final[Mapping[str, Callable[[Namespace, Output, str], int]]] = {
    each.__name__: each for each in (reports, report, run, query, status, check)
}


@contextmanager
def _hook(arguments: Namespace) -> Iterator[ReportRunHook]:
    """
    Open a hook over the connection that the arguments name.

    :raises InvalidInput: if there is none, or it cannot be used.
    """
    with ReportRunHook(
        arguments.conn_id, stripe_context=arguments.stripe_context, api=arguments.api
    ) as hook:
        try:
            _ = hook.access
        except (InvalidInput, TransportError) as error:
            raise _no_connection(arguments.conn_id, error) from error
        yield hook


def _no_connection(conn_id: str, error: ReportRunError) -> ReportRunError:
    """Return the error that says what is wrong with a connection, or with Airflow's database."""
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if os.environ.get(variable):
        return error
    if isinstance(error, InvalidInput) and _is_database_readable(conn_id):
        return error
    return InvalidInput(
        f"Set {variable}, or run `airflow db migrate`: there is no connection {conn_id!r} in the "
        "environment, and Airflow's database or secrets backend cannot be read."
    )


def _is_database_readable(conn_id: str) -> bool:
    """Ask the database itself, because Airflow 3.0 takes one that fails for an empty one."""
    backend: Any = import_module("airflow.secrets.metastore")
    try:
        backend.MetastoreBackend().get_connection(conn_id)
    except Exception:  # noqa: BLE001 - whatever the driver raises
        return False
    return True


def _carried_out(job: Job, output: Output) -> int:
    with steps_shown() as steps:
        landing = job.carry_out(steps)
    output.show(landing.as_json(), _landed(landing))
    return 0


def _landed(landing: Landing) -> list[str]:
    """Return the landed files, as other programs open them."""
    found = landing.returned
    return [each.removeprefix("file://") for each in ([found] if isinstance(found, str) else found)]


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(f"FILE.sql must be a text file, not {file!r}: {why}.") from None


# What is asked for


def _parameters(arguments: Namespace) -> dict[str, str | list[str]]:
    """
    Return the parameters of a report run.

    :raises InvalidInput: if an argument is not valid; names it.
    """
    given = _pairs_read(arguments.parameter)
    bounds = {INTERVAL_START: arguments.start, INTERVAL_END: arguments.end}
    for name, bound in bounds.items():
        if bound is not None and name in given:
            flag = f"--{name.removeprefix('interval_')}"
            raise InvalidInput(f"{name} is passed twice: remove {flag} or --parameter {name}=...")
    zone_here = pendulum.timezone(str(zone(arguments.timezone, "--timezone")))
    parameters = report_parameters(given, start=arguments.start, end=arguments.end, zone=zone_here)
    end = arguments.end or given.get(INTERVAL_END)
    midnight = missed_midnight(end, zone=zone_here) if end else None
    if midnight is not None:
        log.warning("%s", half_open(parameters[INTERVAL_END], midnight))
    return parameters


def _pairs_read(pairs: Sequence[str]) -> dict[str, str | list[str]]:
    values: dict[str, list[str]] = {}
    lists = set()
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair or not name:
            raise InvalidInput(f"--parameter must be NAME=VALUE, not {pair!r}.")
        found = _list_of(value)
        if found is not None or name in values:
            lists.add(name)
        values.setdefault(name, []).extend([value] if found is None else found)
    return {name: each if name in lists else each[0] for name, each in values.items()}


def _list_of(value: str) -> list[str] | None:
    """Read a JSON list of texts; None if it is none."""
    try:
        found = json.loads(value) if value.startswith("[") else None
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(found, list) and all(isinstance(each, str) for each in found)
    return found if is_list else None


def _file_name(report_id: str, parameters: Mapping[str, str | list[str]]) -> str:
    """Name a file after its report and interval; empty for a report without an interval."""
    bounds = [parameters[name] for name in (INTERVAL_START, INTERVAL_END) if name in parameters]
    words = [str(each).removesuffix("T00:00:00.000Z").replace(":", "") for each in bounds]
    return "_".join([report_id.strip(), *words]) if words else ""


# What is shown


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _day(instant: datetime | None) -> str:
    """Return an instant without what is zero in it."""
    text = _instant(instant) or "-"
    return text.removesuffix("T00:00:00.000Z").replace(":00.000Z", "Z")


def _pairs(facts: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        if value is not None:
            yield f"{name:<{width}}{one_line(str(value), _LONGEST)}"


def _described(found: Report) -> Iterator[str]:
    yield f"{found.id}: {one_line(found.name, _LONGEST)}"
    yield ""
    for name, parameter in found.parameters.items():
        need = "required" if parameter.required else "optional"
        yield f"{name}  ({parameter.type}, {need})"
        yield from (f"    {line}" for line in _details(parameter))
    if found.undefined:
        more = ", ".join(sorted(found.undefined.difference(found.parameters)))
        yield f"This API does not define other parameters. Some of its reports take {more}."
    yield ""
    yield f"report={json.dumps(found.id)},"
    yield from _pasted(found)
    bounds = [name for name in (INTERVAL_START, INTERVAL_END) if name in found.parameters]
    if bounds:
        come = "comes" if len(bounds) == 1 else "come"
        yield f"# By default, {' and '.join(bounds)} {come} from the data interval of the DAG run."


def _details(parameter: ReportParameter) -> Iterator[str]:
    if parameter.description:
        yield one_line(parameter.description, _LONGEST)
    if parameter.allowed_values:
        yield f"of: {', '.join(one_line(each, _LONGEST) for each in parameter.allowed_values)}"
    if parameter.earliest or parameter.latest:
        yield f"from {_day(parameter.earliest)} until {_day(parameter.latest)}"


def _example(found: Report) -> dict[str, str | list[str]]:
    """Return an example of each parameter but the bounds of the interval."""
    return {
        name: _example_of(name, parameter)
        for name, parameter in found.parameters.items()
        if name not in {INTERVAL_START, INTERVAL_END}
    }


def _example_of(name: str, parameter: ReportParameter) -> str | list[str]:
    allowed = parameter.allowed_values or ("...",)
    if parameter.type == "array":
        return list(allowed)
    if parameter.type == "timestamp":
        return _instant(parameter.latest) or "2025-08-18T00:00:00.000Z"
    return {"timezone": "Etc/UTC", "payout": "po_...", "connected_account": "acct_..."}.get(
        name, allowed[0]
    )


def _pasted(found: Report) -> Iterator[str]:
    """Write parameters as the argument of an operator; optional ones are commented out."""
    example = _example(found)
    if not example:
        yield "report_parameters={},"
        return
    yield "report_parameters={"
    for name, value in example.items():
        mark = "" if found.parameters[name].required else "# "
        yield f"    {mark}{json.dumps(name)}: {json.dumps(value)},"
    yield "},"
