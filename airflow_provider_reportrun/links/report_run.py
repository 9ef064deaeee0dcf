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
"""Attribute of an operator: the link that Airflow stores when the worker leaves the task."""


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
    link as an XCom that it reads without the XCom backend. A task that stays on its worker writes
    the same XCom earlier, so a waiting or killed task has the link too.
    """

    name: ClassVar[str] = "Stripe report run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - as Airflow calls it
        """
        Return the link that the task has set.

        :return: empty, which shows no link, if there is no report run yet.
        """
        shown: str = getattr(operator, _SHOWN, "")
        return shown


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
    if not stays and any(map(_is_ours, operator.operator_extra_links)):
        setattr(operator, _SHOWN, url)
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
    keep_link(operator)


async def ashow_link(ti: Any, hook: ReportRunHook, report_run_id: str) -> None:
    """Set the link of a task instance as ``show_link`` does, in its trigger."""
    url = inspector_url(await hook.aread_access(), report_run_id)
    await push(ti, ReportRunLink().xcom_key, url, to_backend=False)


def keep_link(operator: BaseOperator) -> None:
    """Keep the link that is stored: Airflow would store it once more, or nothing in its place."""
    links = operator.operator_extra_links
    operator.operator_extra_links = [link for link in links if not _is_ours(link)]


def _is_ours(link: BaseOperatorLink) -> bool:
    return isinstance(link, ReportRunLink)


@contextmanager
def failures_linked(operator: BaseOperator, context: Any, hook: ReportRunHook) -> Iterator[None]:
    """Set the link to the report run that an error is about."""
    try:
        yield
    except ReportRunError as error:
        if error.report_run_id:
            with suppress(ReportRunError):  # the connection may be gone by now
                show_link(operator, context, hook.access, error.report_run_id, stays=False)
        raise
