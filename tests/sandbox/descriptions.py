"""Holds answers against Stripe's descriptions, stricter than their schemas are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_reportrun.sandbox.forms import parse_form

openapi_core = pytest.importorskip(
    "openapi_core", reason="make test has it, whatever the Airflow", exc_type=ImportError
)
from openapi_core.contrib.requests import (  # noqa: E402
    RequestsOpenAPIRequest,
    RequestsOpenAPIResponse,
)

FORM = "application/x-www-form-urlencoded"
DATA = Path(__file__).parents[1] / "data"
V2_REPORTING = "stripe_v2_reporting.patched.openapi.json"
V2_DATA = "stripe_v2_data.derived.openapi.json"
V1 = "stripe_v1_reporting.openapi.json"


@cache
def description_of(name: str) -> str:
    """Read a description."""
    return (DATA / name).read_text()


@cache
def checker_of(name: str, url: str) -> Checker:
    """Return a checker, which takes half a second to make."""
    return Checker(name, url)


class Checker:
    """
    Checks answers, and the requests that they belong to.

    :param name: the file of the description.
    :param url: where the API is.
    """

    def __init__(self, name: str, url: str) -> None:
        self._description = json.loads(description_of(name))
        self._description["servers"] = [{"url": url}]
        for operations in self._description["paths"].values():
            for parameter in operations.get("get", {}).get("parameters", []):
                if parameter.get("style") == "deepObject":
                    # The validator does not support arrays in this style: include[0]=...
                    del parameter["style"]
        _allow_null(self._description)
        self._openapi = openapi_core.OpenAPI.from_dict(self._description)

    def __call__(self, answer: Any, status: int, *, bad_request: bool = False) -> Any:
        """
        Check one answer.

        :param bad_request: True if the request itself breaks the description.
        """
        assert answer.status_code == status, answer.text
        request = RequestsOpenAPIRequest(answer.request)
        is_form = answer.request.headers.get("Content-Type") == FORM
        if is_form and not bad_request:
            # The validator does not support forms in this style: a[b][0]=c.
            schema = self._operation(answer)["requestBody"]["content"][FORM]["schema"]
            sent = parse_form(answer.request.body)
            assert list(self._wrong_in_form(sent, schema, "")) == []
        elif not bad_request:
            self._openapi.validate_request(request)
        self._openapi.validate_response(request, RequestsOpenAPIResponse(answer))
        if status == 200:
            schema = self._schema_of(answer)
            assert list(self._differences(answer.json(), schema, "")) == []
        return answer

    def _operation(self, answer: Any) -> dict[str, Any]:
        path = answer.request.path_url.partition("?")[0]
        method = answer.request.method.lower()
        for template, operations in self._description["paths"].items():
            parts, given = template.split("/"), path.split("/")
            fits = len(parts) == len(given) and all(
                part == each or part.startswith("{")
                for part, each in zip(parts, given, strict=True)
            )
            if fits and method in operations:
                found: dict[str, Any] = operations[method]
                return found
        raise AssertionError(f"{path} is not described")

    def _schema_of(self, answer: Any) -> dict[str, Any]:
        content = self._operation(answer)["responses"]["200"]["content"]
        schema: dict[str, Any] = content["application/json"]["schema"]
        return schema

    def _wrong_in_form(self, value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
        """Name what is unknown, of another type or not allowed in a form, whose values are text."""
        kind = schema.get("type")
        if kind == "object":
            if not isinstance(value, dict):
                yield f"no object {where}"
                return
            known = schema["properties"]
            yield from (f"surplus {where}.{name}" for name in value if name not in known)
            required = schema.get("required", ())
            yield from (f"missing {where}.{name}" for name in required if name not in value)
            for name in known.keys() & value.keys():
                yield from self._wrong_in_form(value[name], known[name], f"{where}.{name}")
        elif kind == "array" and not isinstance(value, list):
            yield f"no array {where}"
        elif kind == "integer" and not value.removeprefix("-").isdigit():
            yield f"no integer {where}"
        elif kind == "string" and value not in schema.get("enum", [value]):
            yield f"not allowed {where}"

    def _differences(self, value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
        """Name what is surplus or missing: every field that is described has to be there."""
        schema = self._resolved(schema)
        if schema.get("format") == "int64" and isinstance(value, str) and not value.isdigit():
            yield f"no number {where}"
        if isinstance(value, list):
            for number, each in enumerate(value):
                yield from self._differences(each, schema.get("items", {}), f"{where}[{number}]")
        elif isinstance(value, dict) and "properties" in schema:
            known = schema["properties"]
            yield from (f"surplus {where}.{name}" for name in value if name not in known)
            missing = [name for name in known if name not in value and name not in OPTIONAL]
            yield from (f"missing {where}.{name}" for name in missing)
            for name in value:
                yield from self._differences(value[name], known.get(name, {}), f"{where}.{name}")
        elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
            for name, each in value.items():
                inner = schema["additionalProperties"]
                yield from self._differences(each, inner, f"{where}.{name}")

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                schema = schema[several][0]
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = self._description["components"]["schemas"][name]
        return schema


def _allow_null(value: Any) -> None:
    """Let ``nullable`` beside ``anyOf`` mean what Stripe means by it."""
    if isinstance(value, dict):
        if value.get("nullable") is True and "anyOf" in value:
            value["anyOf"].append({"nullable": True, "enum": [None]})
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _allow_null(each)


OPTIONAL = {
    # Only on request.
    "schema",
    "inline",
    # One spelling for each version.
    "compress_file",
    "compression",
    # Parameters of a run are those that were sent.
    "columns",
    "connected_account",
    "currency",
    "interval_end",
    "interval_start",
    "payout",
    "reporting_category",
    "timezone",
}
"""Fields that may be missing although they are described."""
