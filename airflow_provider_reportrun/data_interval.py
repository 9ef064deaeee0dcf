"""The data interval of a DAG run, as operators and sensors take it by default."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Final

import pendulum

from airflow_provider_reportrun.errors import InvalidInput

if TYPE_CHECKING:
    from airflow.sdk import Context

DATA_INTERVAL_START: Final = "{{ (data_interval_start | default(none)) or '' }}"
"""Renders to nothing where a run has no data interval; a plain template would die in rendering."""
DATA_INTERVAL_END: Final = "{{ (data_interval_end | default(none)) or '' }}"


def zone_of(timezone: str | tzinfo | None, context: Context) -> tzinfo | None:
    """
    Give the zone that dates and naive stamps are meant in.

    :param timezone: the task's own, a name or a zone, or None for the DAG's where that is UTC.
    :return: None where the zone is not certain.
    :raises InvalidInput: when there is no zone of that name.
    """
    if isinstance(timezone, tzinfo):
        return timezone
    if timezone:
        try:
            return pendulum.timezone(timezone)
        except (ValueError, LookupError):
            raise InvalidInput(
                f"timezone must be the name of a zone such as 'Europe/Paris', not {timezone!r}."
            ) from None
    dag = context.get("dag")
    is_utc = dag is not None and str(dag.timezone) in {"UTC", "Etc/UTC"}
    return pendulum.UTC if is_utc else None


def no_interval(name: str, context: Context) -> InvalidInput:
    """Make the error of a run that has no data interval, for the argument that wants it."""
    partition = getattr(context.get("dag_run"), "partition_key", None)  # from Airflow 3.2 on
    if partition:
        return InvalidInput(
            f"{name} is empty: the run has no data interval, but the partition key {partition!r}. "
            "Pass interval_start and interval_end made from {{ dag_run.partition_key }}, or "
            "schedule the DAG with CronDataIntervalTimetable."
        )
    return InvalidInput(
        f"{name} is empty: the run has no data interval, as runs that were triggered by hand or by "
        "an asset may have none. Schedule the DAG with CronDataIntervalTimetable, or pass "
        "interval_start and interval_end."
    )
