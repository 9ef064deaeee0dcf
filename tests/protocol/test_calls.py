"""What is sent, and what is refused before it is."""

from __future__ import annotations

import json
from functools import partial

import pytest
from protocol.script import answer

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.messages import Response
from airflow_provider_reportrun.protocol.requests import ReportRequest

API = named("v2.reporting")


def create(report="balance_summary", result_options=None):
    """Make a create."""
    request = ReportRequest(report, {"currency": "eur"}, result_options)
    return calls.create_run(API, request, "k")


def sent(call):
    """Decode the body of a call."""
    return json.loads(call.request.body.content)


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v2/reporting/report_runs/reprun_1", calls.get_run(API, "reprun_1")),
        ("/v2/reporting/report_runs/reprun_1", calls.get_run(API, " reprun_1\n")),
        ("/v2/reporting/report_runs/a%2Fb%3Fc%23d%25", calls.get_run(API, "a/b?c#d%")),
        (
            "/v2/reporting/report_runs/a%3F?include%5B0%5D=result.file.schema",
            calls.get_run(API, "a?", columns=True),
        ),
        ("/v2/reporting/reports/balance.1", calls.get_report(API, "balance.1")),
        ("/v2/reporting/reports/b%C3%A9", calls.get_report(API, "bé")),
    ],
    ids=["run", "blanks", "reserved", "with schema", "report", "accent"],
)
def test_an_id_is_one_segment_of_the_path(path, call):
    """Whatever an id holds, it cannot lead to another resource."""
    assert (call.request.method, call.request.path) == ("GET", path)
    assert call.request.body is None


@pytest.mark.parametrize("value", ["", "  ", "\n", "a b", "a\tb", None, 5, True, ["a"]], ids=repr)
@pytest.mark.parametrize(
    ("argument", "ask"),
    [
        ("report_run_id", partial(calls.get_run, API)),
        ("report", partial(calls.get_report, API)),
        ("report", create),
    ],
    ids=["get run", "get report", "create"],
)
def test_what_is_no_id_is_refused(argument, ask, value):
    """The error names the argument, shows the value, and points to templates."""
    with pytest.raises(InvalidInput, match=rf"^{argument} must be the id") as refused:
        ask(value)
    assert repr(value) in str(refused.value)
    assert "template" in str(refused.value)


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ({"compress_file": True}, {"compress_file": True}),
        ({"compress_file": False}, {"compress_file": False}),
        ({"compress_file": True}, {"compress_file": "True"}),
        ({"compress_file": False}, {"compress_file": "false"}),
        ({}, {}),
    ],
    ids=repr,
)
def test_options_are_sent(expected, given):
    """Flags may be text, which is what a template renders to."""
    assert expected == sent(create(result_options=given))["result_options"]


def test_no_options_are_not_sent():
    """None leaves the field out, so that it is part of no key."""
    assert "result_options" not in sent(create())


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("result_options", {"compress": True}),
        ("result_options", {"compress_file": True, "format": "csv"}),
        ("result_options", ["compress_file"]),
        ("result_options", "compress_file"),
        ("compress_file", {"compress_file": None}),
        ("compress_file", {"compress_file": 1}),
        ("compress_file", {"compress_file": "yes"}),
        ("compress_file", {"compress_file": [True]}),
    ],
    ids=repr,
)
def test_options_that_the_api_does_not_have_are_refused(field, given):
    """The error names the field."""
    with pytest.raises(InvalidInput, match=rf"^{field} "):
        create(result_options=given)


@pytest.mark.parametrize(
    ("expected", "name"), [("r", "Request-Id"), ("r", "request-id"), (None, "X")]
)
def test_the_request_id_is_found_in_any_case(expected, name):
    """HTTP/2 front ends send lower-case names."""
    assert expected == answer(200, **{name: "r"}).request_id


def test_a_body_does_not_show():
    """An answer holds result URLs, which must not get into a log by way of a traceback."""
    response = Response(status=200, headers={}, body=b"https://signed.example")
    assert "signed" not in repr(response)
