"""What all operators have in common: checked arguments, and what they tell OpenLineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.task.arguments import CONNECTION_CHECKS
from airflow_provider_reportrun.task.rendering import KeepsRenderingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_reportrun.landing.landed import Landing
    from airflow_provider_reportrun.task.arguments import Check


class ApiOperator(KeepsRenderingError):
    """An operator that uses the API; subclasses set ``reportrun_conn_id`` and the like."""

    noun: ClassVar[str] = "report run"
    """What the operator is about, for messages."""
    argument_checks: ClassVar[Mapping[str, Check]] = CONNECTION_CHECKS
    """How each argument is checked when the task runs."""
    reportrun_conn_id: str
    stripe_context: str | None
    api: str | None
    # Airflow needs these after ``execute``: for lineage, and when it kills the task.
    found_run_id: str | None = None
    landed: Landing | None = None
    sql: Any = None

    def hook(self) -> ReportRunHook:
        """Return a hook, which the caller closes."""
        return ReportRunHook(
            self.reportrun_conn_id, stripe_context=self.stripe_context, api=self.api
        )

    def get_openlineage_facets_on_complete(
        self,
        task_instance: Any,  # noqa: ARG002 - as OpenLineage calls it
    ) -> OperatorLineage[Any, Any]:
        """Describe what was done, for the OpenLineage provider: also for a task that failed."""
        from airflow_provider_reportrun.task.lineage import lineage_of

        return lineage_of(self.found_run_id, self.landed, self.sql)
