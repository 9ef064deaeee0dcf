"""
``/v2/data/reporting/query_runs``: SQL queries, whose runs have the form of ``v2_reporting``.

Source: stripe-python 16.1.0a4, ``stripe/v2/data/reporting/_query_run.py``;
https://docs.stripe.com/reports/query-runs (``2026-04-22.preview``).
"""

from __future__ import annotations

from typing import Any, Final

from airflow_provider_reportrun.protocol.generation import Generation, Permissions
from airflow_provider_reportrun.protocol.generations.v2_reporting import read_failed, read_file
from airflow_provider_reportrun.protocol.models import ReportRun
from airflow_provider_reportrun.protocol.reading import (
    read_flag,
    read_id,
    read_instant,
    read_mapping,
    read_sql,
    read_status,
    read_text,
)
from airflow_provider_reportrun.protocol.requests import RunRequest, checked_flags, query_of
from airflow_provider_reportrun.text import MESSAGE


def create_body(request: RunRequest) -> dict[str, Any]:
    """
    Build the body of a create, as JSON values.

    :raises InvalidInput: if there is no SQL, or ``result_options`` is not valid.
    """
    asked = query_of(request, "use a CreateReportRunOperator.")
    body: dict[str, Any] = {"sql": asked.sql}
    if asked.options is not None:
        body["result_options"] = checked_flags(asked.options, "compress_file")
    return body


def read_run(data: Any) -> ReportRun:
    """
    Read a query run.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id or the status is missing, or the id is not valid.
    """
    run = read_mapping(data)
    failed = read_failed(run)
    return ReportRun(
        id=read_id(run, "query run"),
        status=read_status(run, "query run"),
        created_at=read_instant(run.get("created")),
        livemode=read_flag(run.get("livemode")),
        file=read_file(run, "schema"),
        error_code=read_text(failed.get("error_code")),
        error_message=read_text(failed.get("error_message"), MESSAGE),
        sql=read_sql(run.get("sql")),
    )


GENERATION: Final = Generation(
    name="v2.reporting.query_runs",
    docs="https://docs.stripe.com/reports/query-runs",
    stripe_version="2026-04-22.preview",
    # Since July 2026 "Read on Financial Reports" may be enough; Stripe's pages differ.
    permissions=Permissions(create="reporting_write and sigma_api_write", read="reporting_read"),
    noun="query run",
    runs_path="/v2/data/reporting/query_runs",
    create_body=create_body,
    read_run=read_run,
    columns_query={"include[0]": "result.file.schema"},
    capacity_group="v2.reporting.query_runs",
)
