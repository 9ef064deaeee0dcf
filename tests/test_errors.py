"""The error tree: its facts, its words, and its ways across processes."""

from __future__ import annotations

import ast
import importlib
import json
import pickle
import re
from pathlib import Path

import pytest

from airflow_provider_reportrun import errors
from airflow_provider_reportrun.errors import (
    ApiError,
    BadTriggerEvent,
    ReportRunError,
    ReportRunFailed,
    from_json,
    to_json,
)

VALUES = {
    "transient": True,
    "request_id": "req_1",
    "report_run_id": "reprun_1",
    "is_replay": True,
    "status": 503,
    "code": "api_error",
    "should_retry": False,
    "retry_after": 1.5,
    "context_missing": True,
    "error_code": "internal_error",
    "error_message": "No luck.",
    "host": "files.example",
    "uri": "s3://bucket/file.csv",
    "available_through": "2026-08-10T00:00:00.000Z",
    "column": "net",
    "row": 7,
    "about": "interval_end",
    "unknown_path": True,
}
"""A value for every fact that any error has."""
TRANSIENT = {
    "TransportError",
    "RateLimited",
    "CapacityExceeded",
    "ServerError",
    "UnexpectedAnswer",
    "DataNotAvailable",
    "ResultCorrupt",
    "LandingFailed",
}


def tree(kind=ReportRunError):
    """Give a class and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


KINDS = sorted(set(tree()), key=lambda kind: kind.__name__)


def facts_of(kind):
    """Give a value for each fact that a class declares, itself or above it."""
    declared = {name for each in kind.__mro__ for name in vars(each).get("__annotations__", {})}
    return {name: VALUES[name] for name in declared}


def test_the_tree_is_drawn_as_it_is():
    """The module's own drawing names every error once, and no other."""
    drawn = [word for word in errors.__doc__.split() if word.isalpha() and hasattr(errors, word)]
    assert sorted(drawn) == [kind.__name__ for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_says_whether_asking_again_helps(kind):
    """Of itself; one error may know better."""
    assert (kind.__name__ in TRANSIENT) is kind.transient
    assert kind("x", transient=not kind.transient).transient is not kind.transient


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling(kind, protocol):
    """With its message and all of its facts."""
    error = kind("It went wrong.", **facts_of(kind))
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - made just before
    assert type(again) is kind
    assert (again.message, again.facts) == ("It went wrong.", facts_of(kind))
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_crossing_as_json(kind):
    """With its message and all of its facts."""
    error = kind("It went wrong.", **facts_of(kind))
    again = from_json(json.loads(json.dumps(to_json(error))))
    assert type(again) is kind
    assert (again.message, again.facts) == ("It went wrong.", facts_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_facts_are_those_that_were_given(kind):
    """Each is an attribute; what was not given is the class's own and crosses no border."""
    error = kind("x", request_id="req_1")
    assert error.facts == {"request_id": "req_1"}
    assert kind("x").facts == {}
    for name, value in facts_of(kind).items():
        assert getattr(kind("x", **{name: value}), name) == value


@pytest.mark.parametrize(
    "name", ["nonsense", "_hidden", "__class__", "args", "facts", "with_traceback", "add_note"]
)
def test_an_unknown_fact_is_refused(name):
    """Only what the class declares is a fact; a slip of the pen shows at once."""
    with pytest.raises(TypeError, match=f"ApiError has no fact '{name}'"):
        ApiError("x", **{name: 1})


def test_facts_of_other_errors_are_unknown():
    """Each class has its own."""
    with pytest.raises(TypeError, match="no fact 'status'"):
        ReportRunFailed("x", status=500)


@pytest.mark.parametrize(
    ("expected", "message", "facts"),
    [
        ("It went wrong.", "It went wrong.", {}),
        ("It went wrong. (Request-Id: req_1)", "It went wrong.", {"request_id": "req_1"}),
        ("Of req_1.", "Of req_1.", {"request_id": "req_1"}),
        ("It went wrong.", "It went wrong.", {"request_id": None}),
        ("It went wrong.", "It went wrong.", {"request_id": ""}),
    ],
    ids=["none", "appended", "said already", "null", "empty"],
)
def test_the_request_id_is_said_once(expected, message, facts):
    """Last, and only where the message does not have it."""
    error = ApiError(message, **facts)
    assert expected == str(error)
    assert error.message == message


def test_a_message_crosses_without_its_request_id():
    """So that it is said once on the other side too."""
    error = from_json(to_json(ApiError("It went wrong.", request_id="req_1")))
    assert str(error).count("req_1") == 1
    assert str(from_json(to_json(error))).count("req_1") == 1


@pytest.mark.parametrize(
    "kind", ["ErrorOfANewerVersion", "Exception", "ValueError", "to_json", "Any", "__name__", ""]
)
def test_an_unknown_kind_is_a_plain_error(kind):
    """A trigger of a newer version may have fired; its message and common facts are kept."""
    facts = {"request_id": "req_1", "transient": True, "new_fact": 5}
    error = from_json({"kind": kind, "message": "It went wrong.", "facts": facts})
    assert type(error) is ReportRunError
    assert error.message == "It went wrong."
    assert error.facts == {"request_id": "req_1", "transient": True}


@pytest.mark.parametrize(
    "facts",
    [
        {"args": ["y"]},
        {"facts": {}},
        {"message": "y"},
        {"with_traceback": 1},
        {"__class__": "y"},
        {"_private": 1},
        {"__reduce__": 1},
        {"self": 1},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_facts_that_are_none_are_passed_over(facts):
    """What a row holds cannot replace parts of the error that are no facts."""
    error = from_json({"kind": "ApiError", "message": "x", "facts": facts | {"status": 500}})
    assert (str(error), error.facts) == ("x", {"status": 500})
    assert callable(error.with_traceback)


@pytest.mark.parametrize(
    "data",
    [
        None,
        "x",
        5,
        [],
        {},
        {"kind": "ApiError"},
        {"kind": "ApiError", "message": "x"},
        {"kind": "ApiError", "message": "x", "facts": None},
        {"kind": "ApiError", "message": None, "facts": {}},
        {"kind": 5, "message": "x", "facts": {}},
    ],
    ids=repr,
)
def test_what_is_no_error_is_a_bad_event(data):
    """A row that cannot be read is an error of its own, which shows it."""
    with pytest.raises(BadTriggerEvent) as raised:
        from_json(data)
    assert repr(data) in str(raised.value)


def test_one_except_catches_everything():
    """All errors of the package share one base, which is no Airflow error."""
    assert all(issubclass(kind, ReportRunError) for kind in KINDS)
    assert {each.__module__ for each in ReportRunError.__mro__} == {errors.__name__, "builtins"}


FIX = re.compile(
    r"\b(add|ask|check|choose|clear|correct|create|end|get each|give|inspect|install|leave|let|"
    r"look|make|may succeed|name the|name only|name another|pass|put|raise|remove|request other|"
    r"return|see|set|trigger|try again|use|wait|write|must|accepts only|did you mean)\b",
    re.IGNORECASE,
)
"""Words that tell the reader what to do, or what an argument must be."""
PASSED_ON = {"error.message", "message", "root.fs", "told", "why", "advice"}
"""Messages that begin with another message, or with words that are passed in."""
FIXES_PASSED_IN = {"fix", "instead", "why"}
"""Names of values that hold the fix."""
SOURCES = sorted(
    path
    for path in Path(errors.__file__).parent.rglob("*.py")
    if "sandbox" not in path.relative_to(Path(errors.__file__).parent).parts
)


def told(node, constants):
    """Return the text of a message, with twenty letters for each value that is put in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(told(each, constants) for each in node.values)
    if isinstance(node, ast.BinOp):
        return told(node.left, constants) + told(node.right, constants)
    if isinstance(node, ast.IfExp):
        return told(node.body, constants)
    if isinstance(node, ast.FormattedValue):
        name = ast.unparse(node.value)
        return "Use ".ljust(20, "x") if name in FIXES_PASSED_IN else constants.get(name, "x" * 20)
    return ""


def messages(path):
    """Yield each message of an error that a module makes, with its line."""
    tree = ast.parse(path.read_text())
    named = vars(importlib.import_module(_name(path)))
    constants = {name: each for name, each in named.items() if isinstance(each, str)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        kind = getattr(node.func, "id", "")
        if any(kind == each.__name__ for each in KINDS):
            first = node.args[0]
            begins = first.values[0] if isinstance(first, ast.JoinedStr) else first
            if isinstance(begins, ast.FormattedValue):
                begins = begins.value
            if ast.unparse(begins) not in PASSED_ON and not isinstance(
                begins, ast.Call | ast.BoolOp
            ):
                yield node.lineno, told(first, constants)


def _name(path):
    parts = path.relative_to(Path(errors.__file__).parents[1]).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: _name(path).partition(".")[2])
def test_each_message_says_what_to_do_at_once(path):
    """The log of the UI cuts a line after some hundred characters."""
    late = [(line, text) for line, text in messages(path) if not FIX.search(text[:100])]
    assert late == []
