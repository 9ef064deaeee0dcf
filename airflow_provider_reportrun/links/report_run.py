"""The button of a task that leads to its report run."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from airflow_provider_reportrun.errors import ReportRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_reportrun.client.access import ApiAccess
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook


_SHOWN: Final = "_shown_link"
"""Of an operator: the link that it has shown; None if it has done so before it was resumed."""


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
    an XCom that it reads without the XCom backend. The tasks write that XCom before, in the same
    way, so that a task that waits, or is killed, has its button too, and one that is resumed and
    fails keeps it.
    """

    name: ClassVar[str] = "Stripe report run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Give the link that the task has shown.

        Only what a resumed task has shown before is looked up, for a look-up that finds nothing is
        an error in Airflow's log: by the end of its part before, Airflow has written a link, if
        only an empty one.

        :return: empty, which shows no button, if there is no report run yet.
        """
        shown: str | None = getattr(operator, _SHOWN, "")
        if shown is None:
            from airflow.sdk.bases.xcom import BaseXCom

            shown = BaseXCom.get_one(
                key=self.xcom_key,
                dag_id=ti_key.dag_id,
                task_id=ti_key.task_id,
                run_id=ti_key.run_id,
                map_index=ti_key.map_index,
            )
        return shown or ""


def show_link(
    operator: BaseOperator, context: Context, access: ApiAccess, report_run_id: str
) -> None:
    """Let the task's button lead to a report run; a poke outside of any task has none."""
    ti = context.get("ti")
    if ti is None:
        return
    from airflow.sdk.bases.xcom import BaseXCom

    url = inspector_url(access, report_run_id)
    # Not ti.xcom_push, for a custom XCom backend would put a path of its storage in its place.
    BaseXCom.set(
        ReportRunLink().xcom_key,
        url,
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=ti.map_index if ti.map_index is not None else -1,
    )
    setattr(operator, _SHOWN, url)


def keep_link(operator: BaseOperator) -> None:
    """Keep the link that a task has shown before it was deferred, until it shows another."""
    setattr(operator, _SHOWN, None)


@contextmanager
def failures_linked(operator: BaseOperator, context: Any, hook: ReportRunHook) -> Iterator[None]:
    """Let the button lead to the report run that an error is about."""
    try:
        yield
    except ReportRunError as error:
        if error.report_run_id:
            with suppress(ReportRunError):  # of a connection that is gone by now
                show_link(operator, context, hook.access, error.report_run_id)
        raise
