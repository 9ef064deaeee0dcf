"""What the commands show, in every generation of the API; a sandbox answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from airflow_provider_reportrun.cli.definition import COMMANDS, EXIT_CODES, parser
from airflow_provider_reportrun.protocol.generations import NAMES, named
from airflow_provider_reportrun.sandbox import Answer, Fault

BALANCE = {
    "v1": "balance.summary.1",
    "v2.data": "name:balance.summary",
    "v2.reporting": "balance_summary",
}
WINDOWED = ("v1", "v2.reporting")
HAS_LIST = {name: named(name).report_listing is not None for name in NAMES}
WEEK = ("--start", "2025-08-18", "--end", "2025-08-25")


# reports


@pytest.mark.parametrize("api", NAMES)
def test_reports_are_listed(call, api):
    """One line each, under a head; stdout has nothing else."""
    said = call("reports", "--api", api)
    head, *lines = said.out.splitlines()
    assert (said.code, head.split()) == (0, ["REPORT", "NAME", "DATA", "FROM", "DATA", "UNTIL"])
    name = BALANCE[api].removeprefix("name:")
    balance = next(line for line in lines if name in line.split())
    assert ("2020-01-01" in balance) == (api in WINDOWED)
    assert ("checked one by one" in said.err) != HAS_LIST[api]


@pytest.mark.parametrize("api", NAMES)
def test_reports_are_one_json_document(call, api):
    """Which says whether it is whole."""
    found = call("reports", "--api", api, "--json").json
    assert found["is_complete"] is HAS_LIST[api]
    assert (found["note"] is None) is HAS_LIST[api]
    ends = {each["data_end"] is None for each in found["reports"]}
    assert ends == ({True, False} if api in WINDOWED else {True})


# report


@pytest.mark.parametrize("api", NAMES)
def test_a_report_shows_what_it_takes(call, api):
    """The interval comes from the DAG run, so only the rest is there to paste."""
    said = call("report", BALANCE[api], "--api", api)
    assert said.code == 0
    assert "interval_start  (timestamp, required)" in said.out
    assert ("from 2020-01-01 until 20" in said.out) == (api in WINDOWED)
    assert 'report="' in said.out
    assert "report_parameters={" in said.out
    assert "interval_start and interval_end come from the data interval" in said.out


def test_what_is_pasted_is_python(call):
    """Required parameters are in it, optional ones are commented out."""
    said = call("report", "payout_reconciliation_by_id_itemized")
    pasted = said.out[said.out.index("report=") :]
    given = eval(f"dict({pasted})")  # noqa: S307 - that it can be pasted is what is tested
    assert given == {
        "report": "payout_reconciliation_by_id_itemized",
        "report_parameters": {"payout": "po_..."},
    }
    assert '# "timezone": "Etc/UTC",' in pasted


def test_allowed_values_are_shown(call):
    """Of a choice, and of the items of a list."""
    said = call("report", "balance_change_from_activity_itemized")
    assert "    of: eur, gbp, usd\n" in said.out
    assert "columns  (array, optional)" in said.out
    found = call("report", "balance_change_from_activity_itemized", "--json").json
    assert found["parameters"]["currency"]["allowed_values"] == ["eur", "gbp", "usd"]
    assert found["report_parameters"]["currency"] == "eur"


def test_what_v1_does_not_define_is_named(call):
    """Its reports take more than the API says."""
    said = call("report", "balance.summary.1", "--api", "v1")
    assert "Some of its reports take connected_account, " in said.out


# status and check


def test_the_status_of_a_run(call, sandbox):
    """Exit code 0 unless it has failed; queries are runs too."""
    Path("query.sql").write_text("select id from payouts")
    assert call("query", "query.sql").code == 0
    assert call("run", "balance_summary", *WEEK).code == 0
    of_query, of_report = (each.id for each in sandbox.runs)
    said = call("status", of_report)
    assert (said.code, said.out.splitlines()[1].split()) == (0, ["status", "succeeded"])
    assert call("status", of_query, "--query", "--json").json["status"] == "succeeded"
    assert call("status", "reprun_none").code == 1


def test_the_status_of_a_failed_run(call, sandbox):
    """Exit code 1, and the reason."""
    sandbox.fail_next()
    call("run", "balance_summary", *WEEK)
    said = call("status", sandbox.runs[0].id, "--json")
    assert (said.code, said.json["error_code"]) == (1, "internal_error")
    assert "internal_error" in said.err


@pytest.mark.parametrize("api", NAMES)
def test_the_connection_is_tested(call, sandbox, api):
    """Exit code 1 if it does not work."""
    said = call("check", "--api", api, "--json")
    assert (said.code, said.json["works"], said.json["api"]) == (0, True, api)
    sandbox.faults.add(Fault("any", Answer(status=401), times=None))
    said = call("check", "--api", api)
    assert (said.code, "does not know this key" in said.out) == (1, True)


# Errors


USAGE = {
    "no command": (),
    "unknown command": ("fly",),
    "no report": ("report",),
    "unknown api": ("reports", "--api", "v3"),
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE)
def test_wrong_usage(call, arguments):
    """Exit code 2 with the usage, as argparse has it."""
    said = call(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("usage: python -m airflow_provider_reportrun")


RUN = ("run", "balance_summary")
WRONG = {
    "no connection": (2, ("check", "--conn-id", "nope"), "There is no Airflow connection 'nope'"),
    "no pair": (2, (*RUN, "--parameter", "x"), "--parameter must be NAME=VALUE, not 'x'"),
    "no date": (2, (*RUN, "--start", "Monday"), "interval_start must be an ISO 8601 date"),
    "no zone": (2, (*RUN, "--timezone", "X/Y"), "--timezone must be the name of a zone"),
    "twice": (
        2,
        (*RUN, "--end", "2025-08-25", "--parameter", "interval_end=2025-08-25"),
        "interval_end is passed twice: remove --end or",
    ),
    "no end": (2, (*RUN, "--start", "2025-08-18"), "interval_end is required"),
    "wrong name": (
        2,
        (*RUN, *WEEK, "--parameter", "zimezone=UTC"),
        "Did you mean 'timezone'? There is no parameter 'zimezone'.",
    ),
    "wrong report": (
        1,
        ("run", "balance_summery", *WEEK),
        "Did you mean 'balance_summary'? There is no report 'balance_summery'.",
    ),
    "wrong report shown": (
        1,
        ("report", "balance_summery"),
        "Did you mean 'balance_summary'? There is no report 'balance_summery'.",
    ),
    "no data": (
        1,
        (*RUN, "--start", "2025-08-18", "--end", "2036-08-25", "--no-wait-for-data"),
        "interval_end is after the report's data: leave out --no-wait-for-data",
    ),
    "no query file": (2, ("query", "none.sql"), "FILE.sql must be a text file, not 'none.sql'"),
    "no queries": (2, ("query", "a.sql", "--api", "v1"), "api='v1' has no SQL queries"),
    "a home that nothing expands": (2, (*RUN, "--to", "~/a.csv"), "Write the full path, such as"),
    "wrong name of a file": (2, (*RUN, "--to", "a.xlsx"), "The destination ends in .xlsx"),
}


@pytest.mark.parametrize(("code", "arguments", "words"), WRONG.values(), ids=WRONG)
def test_an_error_is_one_line(call, airflow_db, sandbox, here, code, arguments, words):
    """With mistake and fix at its beginning; nothing is created, and JSON has the same error."""
    (here / "a.sql").write_text("select 1")
    said = call(*arguments)
    line = said.err.removeprefix("error: ")
    assert (said.code, said.out, line.count("\n")) == (code, "", 1)
    assert line.startswith(words)
    told = call(*arguments, "--json")
    assert (told.code, told.json["error"]["message"][:20]) == (code, words[:20])
    assert sandbox.runs == []


def test_errors_speak_of_flags(call, airflow_db):
    """Not of arguments of operators, of templates or of timetables."""
    assert "template" not in call(*RUN, "--timezone", "X/Y").err
    turned = call(*RUN, "--start", "2025-08-25", "--end", "2025-08-18").err
    assert "interval_end must be after interval_start: correct --start or --end." in turned
    assert "cron" not in turned.lower()
    itemized = ("run", "payouts_itemized", *WEEK)
    one = call(*itemized, "--parameter", "columns=net").err
    assert one.startswith(
        """error: For a list, write --parameter 'columns=["net"]': columns must"""
    )
    assert "--conn-id" in call("check", "--conn-id", "nope").err
    end = ("--start", "2025-08-18", "--end", "2036-08-25", "--no-wait-for-data")
    assert "leave out --no-wait-for-data" in call(*RUN, *end).err
    assert "--no-validate leaves the checks" in call(*RUN).err


def test_facts_of_errors_are_json(call):
    """With the request id that Stripe's support asks for."""
    error = json.loads(call("status", "reprun_none", "--json").out)["error"]
    assert (error["kind"], error["facts"]["status"]) == ("NotFound", 404)
    assert error["facts"]["request_id"].startswith("req_")


def test_verbose_shows_the_traceback(call):
    """And the same line after it."""
    said = call("status", "nope", "--verbose")
    assert said.err.startswith("Traceback ")
    assert said.err.splitlines()[-1].startswith("error: Check the id")


def test_a_bug_is_one_line_without_its_text(call, monkeypatch):
    """Which may be a secret."""
    from airflow_provider_reportrun.cli import commands

    def fail(*_):
        raise ValueError("rk_live_secret")

    monkeypatch.setitem(commands.COMMANDS, "check", fail)
    said = call("check")
    assert (said.code, said.err) == (1, "error: ValueError in check; --verbose shows where.\n")


# The definition


def test_each_command_has_help(call):
    """With its exit codes."""
    summary = call("-h").out
    for command in COMMANDS:
        said = call(command.name, "-h")
        assert (said.code, said.err) == (0, "")
        assert EXIT_CODES in said.out
        assert all(flags[0] in said.out for flags, _ in command.arguments if "-" in flags[0])
        assert command.help in summary


@pytest.mark.needs("provider commands")
def test_airflow_has_the_same_commands():
    """One definition is behind both."""
    from airflow.cli import cli_parser

    ours = subcommands(parser())
    theirs = subcommands(subcommands(cli_parser.get_parser())["reportrun"])
    assert theirs.keys() == ours.keys()
    for name, one in ours.items():
        assert flags(theirs[name]) == flags(one)


def subcommands(one):
    """The commands of a parser."""
    (action,) = (each for each in one._actions if isinstance(each, argparse._SubParsersAction))
    return action.choices


def flags(one):
    """The arguments of a command, and their defaults."""
    return {each.dest: each.default for each in one._actions}
