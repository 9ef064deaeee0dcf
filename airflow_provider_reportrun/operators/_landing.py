"""How a task lands a result: its arguments, its destination, and what it tells. Functions only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, get_args

from airflow_provider_reportrun._compat import AirflowSkipException
from airflow_provider_reportrun.errors import InvalidInput, ResultGone
from airflow_provider_reportrun.landing import ColumnNames, IfEmpty, IfExists, OutputFormat
from airflow_provider_reportrun.landing.columns import checked_types
from airflow_provider_reportrun.landing.places import (
    as_text,
    check_written,
    is_of_all_instances,
    is_path,
)
from airflow_provider_reportrun.links.report_run import show_link
from airflow_provider_reportrun.protocol.calls import checked_id, if_any, required
from airflow_provider_reportrun.protocol.requests import is_compressed
from airflow_provider_reportrun.task.arguments import (
    Check,
    check_all,
    check_known,
    choice,
    file_name,
    flag,
    folder,
    is_known,
    mapping,
    optional,
    whole_number,
)
from airflow_provider_reportrun.task.outcomes import created_elsewhere, operator_outcomes
from airflow_provider_reportrun.task.outlets import tell_outlets
from airflow_provider_reportrun.task.record import clear_generation, remember

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_provider_reportrun.hooks.report_run import ReportRunHook
    from airflow_provider_reportrun.landing.destination import Destination
    from airflow_provider_reportrun.landing.landed import Landing
    from airflow_provider_reportrun.operators._base import ApiOperator
    from airflow_provider_reportrun.operators._running import Attempt, RunOperator


def _column_types(value: Any, name: str) -> dict[str, str]:
    return checked_types(mapping(value, name))


_KNOWN_CHECKS: Final[Mapping[str, Check]] = {
    "storage_options": optional(mapping),
    "if_exists": choice(*get_args(IfExists)),
    "if_empty": choice(*get_args(IfEmpty)),
    "decompress": flag,
    "marker": optional(file_name),
    "spool_dir": optional(folder),
    "max_unpacked_bytes": whole_number,
    "max_members": whole_number,
    "output_format": optional(choice(*get_args(OutputFormat))),
    "column_types": optional(_column_types),
    "column_names": optional(choice(*get_args(ColumnNames))),
}
"""Checked when the DAG file is parsed, if the value is known by then."""
LANDING_CHECKS: Final[Mapping[str, Check]] = {
    "destination": required,
    "storage_conn_id": if_any,
    **_KNOWN_CHECKS,
}
"""Checked when the task runs."""
LANDING_FIELDS: Final = tuple(LANDING_CHECKS)
"""The arguments of a landing, all of which are templated."""


def take_landing_arguments(task: Any, arguments: Mapping[str, Any]) -> None:
    """
    Set the arguments of a landing on a task, and check those whose values are known.

    :param arguments: a value for each of ``LANDING_FIELDS``.
    :raises InvalidInput: if a value is not valid; names the argument.
    """
    for name in LANDING_FIELDS:
        setattr(task, name, arguments[name])
    if is_path(task.destination):  # Airflow renders no template in a path of pathlib
        task.destination = as_text(task.destination)
    check_known(task, _KNOWN_CHECKS)
    # A mapped instance is made by its worker, and ``execute`` checks it without a retry.
    if not getattr(task, "_BaseOperator__from_mapped", False):
        check_written(task.destination, task.storage_conn_id)
        if task.output_format in get_args(OutputFormat) and isinstance(task.destination, str):
            from airflow_provider_reportrun.landing.destination import check_written_end

            check_written_end(task.destination, task.output_format)
        _check_unpacked(task)


def _check_unpacked(task: Any) -> None:
    """
    Refuse to convert a ZIP that is not unpacked, if that is known when the DAG file is parsed.

    :raises InvalidInput: if so.
    """
    options = getattr(task, "result_options", None)
    if task.decompress is not False or not is_known(options) or not is_compressed(options):
        return
    for name, values in (("output_format", OutputFormat), ("column_names", ColumnNames)):
        if getattr(task, name) in get_args(values):
            raise InvalidInput(
                f"Add decompress=True, because {name} cannot be applied to a ZIP, or leave "
                "compress_file out of result_options."
            )


def destination_of(task: Any, context: Context) -> Destination:
    """
    Return the destination of a task instance.

    :raises InvalidInput: if an argument is not valid; names it.
    """
    from airflow_provider_reportrun.landing.destination import Destination
    from airflow_provider_reportrun.landing.spool import owner_name

    ti = context["ti"]
    return Destination(
        uri=task.destination,
        storage_conn_id=task.storage_conn_id or None,
        storage_options=task.storage_options,
        if_exists=task.if_exists,
        decompress=task.decompress,
        marker=task.marker,
        max_unpacked_bytes=task.max_unpacked_bytes,
        max_members=task.max_members,
        spool_dir=task.spool_dir or None,
        output_format=task.output_format,
        column_types=task.column_types,
        column_names=task.column_names,
        if_empty=task.if_empty,
        owner=owner_name(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
        is_first_try=ti.try_number <= 1,
    )


def land_result(
    task: ApiOperator, context: Context, hook: ReportRunHook, report_run_id: str
) -> str | list[str]:
    """
    Land the result of a report run, and tell of it.

    :return: what the task returns.
    :raises ReportRunError: as ``land`` does.
    """
    from airflow_provider_reportrun.landing.land import land

    destination = destination_of(task, context)
    _warn_of_one_file(task, context, destination)
    landing = land(destination, hook, report_run_id)
    if landing.report_run_id is not None:
        landing = replace(landing, stripe_context=hook.effective_context)
    return tell(task, context, landing)


def _warn_of_one_file(task: ApiOperator, context: Context, destination: Destination) -> None:
    """Warn if the instances of a mapped task overwrite each other's file."""
    written = context["dag"].task_dict.get(task.task_id)
    if is_of_all_instances(getattr(written, "partial_kwargs", {}).get("destination")):
        task.log.warning(
            "Add {{ ti.map_index }} or a mapped value to destination: every instance of this "
            "mapped task writes %s, so only the last one's result remains",
            destination.uri,
        )


def tell(task: ApiOperator, context: Context, landing: Landing) -> str | list[str]:
    """
    Put the facts of a landing into XCom and into the events of the task's outlet assets.

    :return: what the task returns.
    :raises AirflowSkipException: after that, if a result without rows skips the task.
    """
    task.landed = landing
    if landing.skipped and not landing.is_empty and clear_generation(task, context) > 1:
        task.log.warning(
            "Set if_exists='replace' or delete the file: this task was cleared, and 'skip' kept %s",
            landing.uri,
        )
    facts = landing.as_json()
    if task.do_xcom_push:
        context["ti"].xcom_push(key="landing", value=facts)
    if landing.is_empty:
        raise AirflowSkipException(
            f"The result of {task.noun} {landing.report_run_id} has no rows, and if_empty is "
            f"'skip': nothing was published at {landing.uri}."
        )
    tell_outlets(task.outlets, context, facts)
    return landing.returned


def download_result(task: ApiOperator, context: Context, argument: str) -> str | list[str]:
    """
    Land the result of a run that another task created.

    :param argument: the name of the argument with the run's id.
    :return: what the task returns.
    """
    with operator_outcomes(task):
        check_all(task, task.argument_checks)
        with created_elsewhere(task), task.hook() as hook:
            run_id = checked_id(getattr(task, argument), argument)
            task.found_run_id = run_id
            show_link(task, context, hook.access, run_id)
            return land_result(task, context, hook, run_id)


def kept_or_none(task: Any, context: Context) -> str | list[str] | None:
    """
    Look at the destination before a run is created.

    :return: what a task returns that keeps the existing file; None to go on.
    :raises LandingExists: if a file exists and ``if_exists`` is ``fail``.
    :raises InvalidInput: if the result cannot be landed as the arguments say.
    """
    from airflow_provider_reportrun.landing.land import look

    destination = destination_of(task, context)
    existing = look(destination)
    if existing is not None:
        return tell(task, context, existing)
    destination.check_result("zip" if is_compressed(task.result_options) else "csv")
    return None


def land_or_replace(
    task: RunOperator, context: Context, hook: ReportRunHook, attempt: Attempt, run_id: str
) -> Any:
    """
    Land the result of a run, or of another one if its file no longer exists.

    The run may be one of an earlier try whose file is gone by now. If Airflow has no store for
    tasks, only the attempt to land it shows that. Then this try gets another one.

    :return: what the task returns.
    :raises ResultGone: if the run is this try's own; the next try creates a new one.
    """
    try:
        return land_result(task, context, hook, run_id)
    except ResultGone as error:
        gone = error
    again = attempt.without(run_id)
    remember(context, again.record)
    noun = hook.api.noun
    if attempt.order.tries > 1 and run_id not in attempt.order.gone:
        task.log.info("The file of %s %s no longer exists: %s", noun, run_id, gone)
        return task.fulfil(context, hook, again)
    raise ResultGone(
        f"The result file is gone; the next try creates a new {noun}. Clear this task if there "
        f"is none. It was of {noun} {run_id} (HTTP {gone.status}).",
        **{**gone.facts, "report_run_id": run_id, "transient": True},
    )
