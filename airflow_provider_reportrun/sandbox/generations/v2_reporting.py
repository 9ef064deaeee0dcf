"""``/v2/reporting``: report runs and report definitions with a window of data."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from airflow_provider_reportrun.sandbox.catalog import CATALOG, ReportDefinition, Window
from airflow_provider_reportrun.sandbox.checks import (
    check_fields,
    check_parameters,
    compress_file,
    interval_of,
    selection_of,
)
from airflow_provider_reportrun.sandbox.clock import in_words, with_milliseconds, with_nanoseconds
from airflow_provider_reportrun.sandbox.files import content_type_of
from airflow_provider_reportrun.sandbox.generations.interface import Call, Served, report_line
from airflow_provider_reportrun.sandbox.generations.v2 import (
    V2,
    Asked,
    Page,
    no_query,
    read_includes,
)
from airflow_provider_reportrun.sandbox.problems import Problem, invalid_fields, not_found
from airflow_provider_reportrun.sandbox.state import Kind, NewRun, Run

if TYPE_CHECKING:
    from starlette.requests import Request

SCHEMA = "result.file.schema"
"""What a GET of a run may include."""


class V2Reporting(V2):
    """Report runs of ``/v2/reporting``."""

    name = "v2.reporting"
    api = "v2.reporting"
    kind = Kind(generation=name, prefix="reprun_test_")
    runs_path = "/v2/reporting/report_runs"
    read_permission = "reporting_read"
    create_right = "write"
    create_permission = "reporting_write"

    def operations(self) -> Iterator[Served]:
        """Yield what it serves."""
        yield from super().operations()
        yield Served("GET", "/v2/reporting/reports/{id}", "get_report", self._get_report)

    @classmethod
    def reports(cls) -> Iterator[str]:
        """Yield a line about each report."""
        for definition in CATALOG.values():
            required = tuple(each.name for each in definition.parameters if each.required)
            optional = tuple(each.name for each in definition.parameters)
            yield report_line(definition.id, required, optional)

    async def _get_report(self, call: Call) -> Response:
        caller, _ = self.caller(call)
        caller.must("read", self.read_permission)
        no_query(call.request)
        definition = _accessible(call.request.path_params["id"])
        if definition is None:
            raise not_found()
        return JSONResponse(definition.as_json(self.backend.state.window()))

    def new_run(self, body: dict[str, Any], version: str) -> NewRun:  # noqa: ARG002
        """Check the body of a create request."""
        check_fields(body, ("report", "report_parameters", "result_options"))
        definition = _definition(body.get("report"))
        given = check_parameters(definition, body.get("report_parameters"), "report_parameters")
        _check_window(definition, given, self.backend.state.window())
        return NewRun(
            report=definition.id,
            name=definition.name,
            report_parameters=given,
            source=selection_of(definition, given),
            compress_file=compress_file(body.get("result_options", {})),
            fails_with=definition.fails_with,
        )

    def no_room(self) -> Problem:
        """Return the refusal of a run above the limit of concurrent runs."""
        return Problem(
            429,
            "report_run_rate_limit_exceeded",
            "This API key has reached its limit of concurrently running reports. "
            "Wait for existing reports to complete before retrying the request.",
            "rate_limit",
        )

    def read_query(self, request: Request) -> tuple[set[str], Page]:
        """Read the query of a GET of a run."""
        return read_includes(request, (SCHEMA,)), Page()

    def describe(self, run: Run, status: str) -> dict[str, Any]:
        """Write a run without its result."""
        return {
            "id": run.id,
            "object": "v2.reporting.report_run",
            "created": with_milliseconds(run.created),
            "report": run.report,
            "report_name": run.new.name,
            "report_parameters": run.report_parameters,
            "result": None,
            "result_options": {"compress_file": run.compress_file},
            "status": status,
            "status_details": failed_details(run, status),
            "livemode": False,
        }

    async def run_answer(self, run: Run, status: str, asked: Asked) -> dict[str, Any]:
        """Write a run with its result, if it has one in this status."""
        answer = self.describe(run, status)
        if status == "succeeded":
            answer["result"] = await file_result(self, run, asked)
        return answer


def failed_details(run: Run, status: str) -> dict[str, Any]:
    """Write ``status_details``: empty unless the run failed."""
    if status != "failed" or run.failure is None:
        return {}
    code, message = run.failure.error_code, run.failure.error_message
    return {"failed": {"error_code": code, "error_message": message}}


async def file_result(generation: V2, run: Run, asked: Asked) -> dict[str, Any]:
    """Write the result of a run, with a new URL."""
    files = generation.backend.files
    path = await asyncio.to_thread(files.path_of, run)
    url, expires_ns = generation.backend.urls.issue(asked.request, run)
    file: dict[str, Any] = {
        "content_type": content_type_of(run),
        "download_url": {"expires_at": with_nanoseconds(expires_ns), "url": url},
        "size": str(path.stat().st_size),
    }
    if SCHEMA in asked.included:
        columns = await asyncio.to_thread(files.columns, run)
        file["schema"] = [{"name": each.name, "type": each.type} for each in columns]
    return {"type": "file", "file": file}


def _accessible(report_id: str) -> ReportDefinition | None:
    """
    Look up a report.

    :return: None if there is no such report.
    :raises Problem: 403 if the caller may not use it.
    """
    definition = CATALOG.get(report_id)
    if definition is not None and not definition.accessible:
        raise Problem(
            403,
            "report_inaccessible",
            f"The report {report_id} is not available to your account.",
        )
    return definition


def _definition(report: object) -> ReportDefinition:
    if report is None:
        raise invalid_fields("Missing required field `report`.")
    if not isinstance(report, str):
        raise invalid_fields("`report` must be a string.")
    definition = _accessible(report)
    if definition is None:
        raise invalid_fields(f"`report` names no report: {report[:255]}.")
    return definition


def _check_window(definition: ReportDefinition, given: dict[str, Any], window: Window) -> None:
    """Refuse an interval that reaches past the data."""
    interval = interval_of(given)
    if interval is None or not any(parameter.windowed for parameter in definition.parameters):
        return
    about = f"Data for the report type {definition.id} is only available"
    if interval.start < window.start:
        raise invalid_fields(
            f"{about} starting at {in_words(window.start)}; "
            f"you requested `interval_start` = {in_words(interval.start)}."
        )
    if interval.end > window.end:
        raise invalid_fields(
            f"{about} through {in_words(window.end)}; "
            f"you requested `interval_end` = {in_words(interval.end)}."
        )
