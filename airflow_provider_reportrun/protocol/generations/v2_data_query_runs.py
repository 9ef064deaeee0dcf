"""
``/v2/data/query_runs``: SQL queries, whose runs have the form of ``v2_data``.

Source: stripe-python 16.1.0a4 (``2026-10-14.preview``), ``stripe/v2/data/_query_run.py``;
https://docs.stripe.com/api/v2/data/query-runs/object (``2026-10-28.preview``).
"""

from __future__ import annotations

from typing import Any, Final

from airflow_provider_reportrun.protocol.generation import Generation, Permissions
from airflow_provider_reportrun.protocol.generations.v2_data import options_sent
from airflow_provider_reportrun.protocol.generations.v2_reporting import read_file
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
from airflow_provider_reportrun.protocol.requests import RunRequest, query_of
from airflow_provider_reportrun.text import MESSAGE


def create_body(request: RunRequest) -> dict[str, Any]:
    """
    Build the body of a create, as JSON values.

    :raises InvalidInput: if there is no SQL, or ``result_options`` is not valid.
    """
    asked = query_of(request, "use a CreateReportRunOperator.")
    return {
        "dataset": "analytical",
        "format": "csv",
        "query": {"sql": asked.sql},
        **options_sent(asked.options),
    }


def read_run(data: Any) -> ReportRun:
    """
    Read a query run.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id or the status is missing, or the id is not valid.
    """
    run = read_mapping(data)
    details = read_mapping(run.get("status_details"))
    return ReportRun(
        id=read_id(run, "query run"),
        status=read_status(run, "query run"),
        created_at=read_instant(run.get("created")),
        livemode=read_flag(run.get("livemode")),
        file=read_file(run, "columns"),
        error_code=read_text(details.get("code")),
        error_message=read_text(details.get("message"), MESSAGE),
        refreshed_at=read_instant(run.get("refreshed_at")),
        sql=read_sql(read_mapping(run.get("query")).get("sql")),
    )


GENERATION: Final = Generation(
    name="v2.data.query_runs",
    docs="https://docs.stripe.com/api/v2/data/query-runs",
    stripe_version="2026-10-28.preview",
    permissions=Permissions(create="data_queries_read", read="data_queries_read"),
    noun="query run",
    runs_path="/v2/data/query_runs",
    create_body=create_body,
    read_run=read_run,
    shows_data_on_run=True,
    capacity_group="v2.data.query_runs",
)
