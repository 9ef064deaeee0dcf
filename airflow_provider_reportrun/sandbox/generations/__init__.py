"""
The generations of the API that the sandbox serves, one module each.

To add one, write its module and add its class to ``GENERATIONS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_reportrun.sandbox.generations.v1 import V1
from airflow_provider_reportrun.sandbox.generations.v2_data import V2Data
from airflow_provider_reportrun.sandbox.generations.v2_data_queries import V2DataQueries
from airflow_provider_reportrun.sandbox.generations.v2_reporting import V2Reporting
from airflow_provider_reportrun.sandbox.generations.v2_reporting_queries import V2ReportingQueries

if TYPE_CHECKING:
    from airflow_provider_reportrun.sandbox.generations.interface import Generation

DEFAULT_API = "v2.reporting"
"""The generation of a connection without the extra ``api``."""

GENERATIONS: tuple[type[Generation], ...] = (
    V2Reporting,
    V2ReportingQueries,
    V2Data,
    V2DataQueries,
    V1,
)
"""Every generation; the sandbox serves all of them at once."""

APIS = tuple(dict.fromkeys(each.api for each in GENERATIONS))
"""The values of the connection's extra ``api``."""
