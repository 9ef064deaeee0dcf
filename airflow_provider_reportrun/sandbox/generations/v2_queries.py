"""What both kinds of query runs have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_reportrun.sandbox import sql
from airflow_provider_reportrun.sandbox.problems import Problem, invalid_fields
from airflow_provider_reportrun.sandbox.state import Sql

if TYPE_CHECKING:
    from datetime import datetime

TABLES = " and ".join(sql.TABLES)
"""The tables that a query may read, in words."""


def checked_sql(text: object, field: str, today: datetime) -> Sql:
    """
    Check the SQL of a query.

    :param field: the name of the field that has it.
    :param today: the end of the data.
    :raises Problem: 400, for invalid SQL with the position of the error.
    """
    if text is None:
        raise invalid_fields(f"Missing required field `{field}`.")
    if not isinstance(text, str) or not text.strip():
        raise invalid_fields(f"`{field}` must be a string with SQL.")
    try:
        sql.check(text)
    except sql.InvalidSql as error:
        raise Problem(400, "query_run_invalid_sql", str(error)) from None
    return Sql(text, today)


def too_many_queries() -> Problem:
    """Return the refusal of a query run above the limit of concurrent ones."""
    return Problem(
        429,
        "query_run_rate_limit_exceeded",
        "This API key has reached its limit of concurrently running queries. "
        "Wait for one to finish before you retry.",
    )
