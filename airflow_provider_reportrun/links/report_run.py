"""The link from a task to its report run."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from airflow_provider_reportrun.errors import ReportRunError
from airflow_provider_reportrun.task.ending import push

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_reportrun.client.access import ApiAccess
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook


_SHOWN: Final = "_shown_link"
"""Attribute of an operator: the link that it set; None if it may have set one before a resume."""


def inspector_url(access: ApiAccess, report_run_id: str) -> str:
    """
    Return the URL of the page of Stripe's Workbench that shows an API object by its id.

    Stripe documents the page, and that users enter the id there. Stripe's own links into Workbench
    name an object in the same parameter. If Workbench ignores it, users can copy the id from the
    address.

    Source: https://docs.stripe.com/workbench, ``request_log_url`` of Stripe's errors.
    """
    return f"{access.dashboard_url}/workbench/inspector?object={quote(report_run_id, safe='')}"


class ReportRunLink(BaseOperatorLink):
    """
    Links to the report run of a task instance as soon as its id is known.

    Airflow calls ``get_link`` when a worker leaves the task, whatever the outcome, and stores the
    link as an XCom that it reads without the XCom backend. The tasks write the same XCom earlier,
    so a waiting or killed task has the link too, and a task that is resumed and fails keeps it.
    """

    name: ClassVar[str] = "Stripe report run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the link that the task has set.

        The XCom is looked up only for a resumed task: Airflow wrote it when the task was deferred,
        perhaps empty. A look-up that finds nothing would be an error in Airflow's log.

        :return: empty, which shows no link, if there is no report run yet.
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
    operator: BaseOperator,
    context: Context,
    access: ApiAccess,
    report_run_id: str,
    *,
    stays: bool = True,
) -> None:
    """
    Set the task's link to a report run; do nothing outside of a task, such as in a poke.

    :param stays: whether the task stays on its worker, so that the link is written at once. If not,
        Airflow writes it in a moment.
    """
    ti = context.get("ti")
    if ti is None:
        return
    url = inspector_url(access, report_run_id)
    setattr(operator, _SHOWN, url)
    if not stays:
        return
    from airflow.sdk.bases.xcom import BaseXCom

    # Not ti.xcom_push, because a custom XCom backend would replace the link by a storage path.
    BaseXCom.set(
        ReportRunLink().xcom_key,
        url,
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=ti.map_index if ti.map_index is not None else -1,
    )


async def ashow_link(ti: Any, hook: ReportRunHook, report_run_id: str) -> None:
    """Set the link of a task instance as ``show_link`` does, in its trigger."""
    url = inspector_url(await hook.aread_access(), report_run_id)
    await push(ti, ReportRunLink().xcom_key, url, to_backend=False)


def keep_link(operator: BaseOperator) -> None:
    """Keep the link that a task set before it was deferred, until it sets another."""
    setattr(operator, _SHOWN, None)


@contextmanager
def failures_linked(operator: BaseOperator, context: Any, hook: ReportRunHook) -> Iterator[None]:
    """Set the link to the report run that an error is about."""
    try:
        yield
    except ReportRunError as error:
        if error.report_run_id:
            with suppress(ReportRunError):  # the connection may be gone by now
                show_link(operator, context, hook.access, error.report_run_id)
        raise
