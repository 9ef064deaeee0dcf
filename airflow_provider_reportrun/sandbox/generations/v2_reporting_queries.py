"""``/v2/data/reporting/query_runs``: SQL, in the shapes of ``v2_reporting``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_reportrun.sandbox.checks import check_fields, compress_file
from airflow_provider_reportrun.sandbox.clock import with_milliseconds
from airflow_provider_reportrun.sandbox.generations.v2 import V2, Asked, Page, read_includes
from airflow_provider_reportrun.sandbox.generations.v2_queries import (
    TABLES,
    checked_sql,
    too_many_queries,
)
from airflow_provider_reportrun.sandbox.generations.v2_reporting import (
    SCHEMA,
    failed_details,
    file_result,
)
from airflow_provider_reportrun.sandbox.state import Kind, NewRun, Run

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_reportrun.sandbox.problems import Problem


class V2ReportingQueries(V2):
    """Query runs of ``/v2/data/reporting``."""

    name = "v2.reporting.queries"
    api = "v2.reporting"
    kind = Kind(generation=name, prefix="qryrun_test_", is_query=True)
    runs_path = "/v2/data/reporting/query_runs"
    since = "2026-04-22.preview"
    create_right = "read"
    read_permission = create_permission = "financial_reports_read"

    @classmethod
    def reports(cls) -> Iterator[str]:
        """Yield a line about its queries, which need no report."""
        yield f"SQL over {TABLES}, at {cls.runs_path}"

    def new_run(self, body: dict[str, Any], version: str) -> NewRun:  # noqa: ARG002
        """Check the body of a create request."""
        check_fields(body, ("sql", "result_options"))
        today = self.backend.state.window().end
        return NewRun(
            report="",
            name="",
            report_parameters={},
            source=checked_sql(body.get("sql"), "sql", today),
            compress_file=compress_file(body.get("result_options", {})),
        )

    def no_room(self) -> Problem:
        """Return the refusal of a run above the limit of concurrent runs."""
        return too_many_queries()

    def read_query(self, request: Request) -> tuple[set[str], Page]:
        """Read the query of a GET of a run."""
        return read_includes(request, (SCHEMA,)), Page()

    def describe(self, run: Run, status: str) -> dict[str, Any]:
        """Write a run without its result."""
        return {
            "id": run.id,
            "object": "v2.data.reporting.query_run",
            "created": with_milliseconds(run.created),
            "livemode": run.livemode,
            "result": None,
            "result_options": {"compress_file": run.compress_file},
            "sql": run.sql,
            "status": status,
            "status_details": failed_details(run, status),
        }

    async def run_answer(self, run: Run, status: str, asked: Asked) -> dict[str, Any]:
        """Write a run with its result, if it has one in this status."""
        answer = self.describe(run, status)
        if status == "succeeded":
            answer["result"] = await file_result(self, run, asked)
        return answer
