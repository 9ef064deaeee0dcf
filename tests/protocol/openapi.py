"""Stripe's descriptions of the API: schemas to hold a body or an answer against, and samples."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

DATA = Path(__file__).parents[1] / "data"
FILES = {
    "v1": "stripe_v1_reporting.openapi.json",
    "v2.reporting": "stripe_v2_reporting.patched.openapi.json",
    "v2.data": "stripe_v2_data.derived.openapi.json",
    "v2.data.query_runs": "stripe_v2_data.derived.openapi.json",
    "v2.reporting.query_runs": "stripe_v2_data.derived.openapi.json",
}
"""By generation; what is derived is not Stripe's own text, and says so in its ``info``."""
OBJECTS = {
    "v1": "reporting.report_run",
    "v2.reporting": "v2.reporting.report_run",
    "v2.data": "v2.data.report_run",
    "v2.data.query_runs": "v2.data.query_run",
    "v2.reporting.query_runs": "v2.data.reporting.query_run",
}
"""What a run of each generation is called in its ``object``."""


def described(name):
    """Load the description of a generation."""
    return json.loads((DATA / FILES[name]).read_text())


def samples(kind, value, path=""):
    """Find every sample of an object in a description, wherever it is."""
    if isinstance(value, dict):
        if value.get("object") == kind and "id" in value:
            yield path, value
        for name, inner in value.items():
            yield from samples(kind, inner, f"{path}/{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from samples(kind, inner, f"{path}/{number}")


def check_body(name, path, body):
    """
    Hold the body of a create against the description: its values, and that it has no other fields.

    :raises ValidationError: if it is not as described.
    """
    description = described(name)
    content = description["paths"][path]["post"]["requestBody"]["content"]
    # A report type may take parameters that the description of all of them does not name.
    schema = _closed(content[body.content_type]["schema"], but="parameters")
    is_form = body.content_type == "application/x-www-form-urlencoded"
    _validate(description, schema, decoded(body) if is_form else json.loads(body.content))


def check_object(name, value):
    """
    Hold a run against the description.

    :raises ValidationError: if it is not as described.
    """
    description = described(name)
    _validate(description, description["components"]["schemas"][OBJECTS[name]], value)


def _validate(description, schema, value):
    validators = pytest.importorskip(
        "openapi_schema_validator", reason="make test has it", exc_type=ImportError
    )
    whole = schema | {"components": description["components"]}
    validators.OAS30Validator(whole).validate(value)


def _closed(schema, *, but):
    """Allow no fields that a schema does not name, at any depth; ``but`` may have any."""
    closed = copy.deepcopy(schema)
    if "properties" in closed:
        closed.setdefault("additionalProperties", False)
        closed["properties"] = {
            name: inner if name == but else _closed(inner, but=but)
            for name, inner in closed["properties"].items()
        }
    return closed


def decoded(body):
    """Decode a form with names in brackets; what is a number in the description becomes one."""
    values = {}
    for name, text in parse_qsl(body.content.decode(), keep_blank_values=True, strict_parsing=True):
        first, *rest = name.replace("]", "").split("[")
        place = values
        for step, after in zip([first, *rest], rest, strict=False):
            place = place.setdefault(step, {})
            assert after
        place[[first, *rest][-1]] = int(text) if name.startswith("parameters[interval_") else text
    return _lists(values)


def _lists(value):
    if not isinstance(value, dict):
        return value
    if value and all(name.isdigit() for name in value):
        assert [*value] == [str(number) for number in range(len(value))]
        return [_lists(each) for each in value.values()]
    return {name: _lists(each) for name, each in value.items()}
