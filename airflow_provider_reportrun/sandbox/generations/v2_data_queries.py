"""``/v2/data/query_runs``: SQL, in the shapes of ``v2_data``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_reportrun.sandbox.checks import check_fields
from airflow_provider_reportrun.sandbox.generations.v2_data import (
    V2DataRuns,
    check_format,
    is_compressed,
)
from airflow_provider_reportrun.sandbox.generations.v2_queries import (
    TABLES,
    checked_sql,
    too_many_queries,
)
from airflow_provider_reportrun.sandbox.problems import invalid_fields
from airflow_provider_reportrun.sandbox.state import Kind, NewRun, Run

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.problems import Problem


class V2DataQueries(V2DataRuns):
    """Query runs of ``/v2/data``."""

    name = "v2.data.queries"
    api = "v2.data"
    kind = Kind(generation=name, prefix="qrun_test_", is_query=True, can_cancel=True)
    runs_path = "/v2/data/query_runs"
    read_permission = create_permission = "data_queries_read"

    @classmethod
    def reports(cls) -> Iterator[str]:
        """Yield a line about its queries, which need no report."""
        yield f"SQL over {TABLES}, at {cls.runs_path}"

    def new_run(self, body: dict[str, Any], version: str) -> NewRun:
        """Check the body of a create request."""
        check_fields(body, ("dataset", "format", "query", "result_options"))
        _check_dataset(body.get("dataset"))
        check_format(body.get("format"))
        query = body.get("query")
        if not isinstance(query, dict):
            raise invalid_fields("`query` must be an object with `sql`.")
        check_fields(query, ("sql",), "query.")
        today = self.backend.state.window().end
        return NewRun(
            report="",
            name="",
            report_parameters={},
            source=checked_sql(query.get("sql"), "query.sql", today),
            compress_file=is_compressed(body, version),
            refreshed_at=today,
        )

    def no_room(self) -> Problem:
        """Return the refusal of a run above the limit of concurrent runs."""
        return too_many_queries()

    def about(self, run: Run) -> dict[str, Any]:
        """Write what the run is about."""
        return {"dataset": "analytical", "format": "csv", "query": {"sql": run.sql}}


def _check_dataset(value: object) -> None:
    if value is None:
        raise invalid_fields("Missing required field `dataset`.")
    if value != "analytical":
        raise invalid_fields(
            f"`dataset` does not accept {str(value)[:64]!r}. Allowed values: analytical."
        )
