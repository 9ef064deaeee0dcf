"""The sensor that waits for a query run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_reportrun.sensors.report_run import RunSensor
from airflow_provider_reportrun.task.arguments import QUERY_CHECKS, check_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import XComArg

    from airflow_provider_reportrun.hooks.report_run import ReportRunHook


class QueryRunSensor(RunSensor):
    """
    Wait until a query run has succeeded.

    The arguments and outcomes are those of ``ReportRunSensor``.

    Returns (XCom) plain values, as ``ReportRunSensor`` does, and ``query_run_id``, the same id as
    ``report_run_id``; ``report``, ``report_name`` and ``report_parameters`` are None.

    :param query_run_id: the query run, usually ``create_task.output`` (templated).
    """

    noun = "query run"
    template_fields: Sequence[str] = ("query_run_id", "reportrun_conn_id", "stripe_context", "api")

    def __init__(self, *, query_run_id: str | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.query_run_id = query_run_id
        check_known(self, QUERY_CHECKS)

    def _hook(self) -> ReportRunHook:
        return super()._hook().for_queries()
