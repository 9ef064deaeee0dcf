"""The button of a task that leads to its report run."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from airflow_provider_reportrun.errors import ReportRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_reportrun.connection import ApiAccess
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook


def inspector_url(access: ApiAccess, report_run_id: str) -> str:
    """
    Give the page of Stripe's Workbench where an API object is looked at by its id.

    Stripe documents the page, and that the id is entered there. The parameter is the one with which
    Stripe's own links into Workbench name an object; where Workbench does not read it, the id
    stands in the address, to be copied.

    Source: https://docs.stripe.com/workbench, ``request_log_url`` of Stripe's errors.
    """
    return f"{access.dashboard_url}/workbench/inspector?object={quote(report_run_id, safe='')}"


class ReportRunLink(BaseOperatorLink):
    """
    Leads to the report run of a task instance, from the moment its id is known.

    Airflow asks for the link when a worker leaves the task, whatever the outcome, and keeps it as
    an XCom. The tasks write that XCom before, so that a task that waits, or is killed, has its
    button too, and one that is resumed and fails keeps it.
    """

    name: ClassVar[str] = "Stripe report run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - of the base
        """
        Give back what the task wrote.

        :return: empty, which shows no button, where there is no report run yet.
        """
        from airflow.sdk.execution_time.xcom import XCom

        link: str | None = XCom.get_value(ti_key=ti_key, key=self.xcom_key)
        return link or ""


def show_link(context: Context, access: ApiAccess, report_run_id: str) -> None:
    """Let the task's button lead to a report run; a poke outside of any task has none."""
    ti = context.get("ti")
    if ti is not None:
        ti.xcom_push(key=ReportRunLink().xcom_key, value=inspector_url(access, report_run_id))


@contextmanager
def failures_linked(context: Any, hook: ReportRunHook) -> Iterator[None]:
    """Let the button lead to the report run that an error is about."""
    try:
        yield
    except ReportRunError as error:
        if error.report_run_id:
            with suppress(ReportRunError):  # of a connection that is gone by now
                show_link(context, hook.access, error.report_run_id)
        raise
