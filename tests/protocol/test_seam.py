"""Only the modules of the generations know which one they are of."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_provider_reportrun
from airflow_provider_reportrun.protocol.generations import NAMES

CODE = Path(airflow_provider_reportrun.__file__).parent
OWN = (CODE / "protocol" / "generations", CODE / "sandbox")
"""Who may: the generations themselves, and the server that stands in for all of them."""
WORDS = {*NAMES, "v2.data.query_runs", "v2.reporting.query_runs"}
OWNERS = {"api", "generation"}
"""What a variable is called that holds a generation."""


def decided_by(node):
    """Give the parts of a node that decide what is done."""
    match node:
        case ast.Compare():
            return [node.left, *node.comparators]
        case ast.MatchValue():
            return [node.value]
        case ast.Dict():
            return [key for key in node.keys if key]
        case ast.Subscript():
            return [node.slice]
        case ast.Call(func=ast.Attribute(attr="startswith" | "endswith") as asked):
            return [asked.value, *node.args]
    return []


def is_of_a_name(node):
    """Tell whether an expression is a generation's name: the word itself, or ``api.name``."""
    match node:
        case ast.Constant():
            return node.value in WORDS
        case ast.Attribute(attr="name", value=ast.Name(id=owner) | ast.Attribute(attr=owner)):
            return owner in OWNERS
    return False


def decisions(code):
    """Find where code decides by the name of a generation."""
    return [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(ast.parse(code))
        for part in decided_by(node)
        if any(map(is_of_a_name, ast.walk(part)))
    ]


def test_nobody_compares_the_name_of_a_generation():
    """What differs is a fact of ``Generation``; by names, the next one is forgotten somewhere."""
    outside = [path for path in CODE.rglob("*.py") if not any(map(path.is_relative_to, OWN))]
    assert len(outside) > 40
    found = {str(path.relative_to(CODE)): decisions(path.read_text()) for path in outside}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "api == 'v1'",
        "api in {'v1', 'v2.data'}",
        "self.api.name != other",
        "generation.name.startswith('v2')",
        "name.startswith('v2.reporting')",
        "{'v2.data': 1}",
        "TABLE['v1']",
        "match api:\n    case 'v1':\n        pass",
    ],
)
def test_a_comparison_would_be_found(code):
    """In each of the ways to write one."""
    assert decisions(code)


@pytest.mark.parametrize("code", ["named('v1')", "f'api={api.name!r}'", "x = 'v1'", "a == b.name"])
def test_a_name_may_be_told(code):
    """Errors and defaults hold names and decide nothing."""
    assert not decisions(code)
