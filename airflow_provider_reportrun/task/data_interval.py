"""The data interval of a DAG run, which operators and sensors use by default."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final

import pendulum

from airflow_provider_reportrun.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

DATA_INTERVAL_START: Final = "{{ (data_interval_start | default(none)) or '' }}"
"""Renders to nothing if a run has no data interval; a plain template would fail to render."""
DATA_INTERVAL_END: Final = "{{ (data_interval_end | default(none)) or '' }}"
_UTC_NAMES: Final = frozenset(
    f"{area}{name}"
    for area in ("", "Etc/")
    for name in ("UTC", "UCT", "Universal", "Zulu", "GMT", "GMT+0", "GMT-0", "GMT0", "Greenwich")
)
_AIRFLOWS_OWN: Final = ("airflow.timetables.", "airflow.sdk.")
"""Modules of the timetables that use the DAG's zone if they have none of their own."""
_KEYS_FROM_ELSEWHERE: Final = frozenset({"PartitionedAssetTimetable", "PartitionedAtRuntime"})
"""Timetables whose partition keys are made elsewhere, in any zone."""
_WITH_INTERVALS: Final = frozenset({"CronDataIntervalTimetable", "DeltaDataIntervalTimetable"})
"""Timetables whose data intervals have a length."""


def zone_of(timezone: str | tzinfo | None, context: Context) -> tzinfo | None:
    """
    Return the zone of dates and of timestamps without an offset.

    The zone of ``start_date`` does not tell the schedule's. Templates such as ``{{ ds }}`` are
    formatted in UTC, so they name the day of the interval only if the timetable is in UTC too.

    :param timezone: the task's, a name or a zone; None for the timetable's zone, if that is UTC.
    :return: None if the zone is not certain.
    :raises InvalidInput: if there is no zone of that name.
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
    zones = [] if dag is None else list(_zones(dag.timetable, dag.timezone))
    return pendulum.UTC if zones and all(map(_is_utc, zones)) else None


def _zones(timetable: Any, of_dag: Any) -> Iterator[Any]:
    """Yield the zones that a timetable schedules in; None for a zone that cannot be known."""
    zone = getattr(timetable, "timezone", None) or getattr(timetable, "_timezone", None)
    events = getattr(timetable, "event_dates", None)
    kind = type(timetable)
    if zone is not None:
        yield zone
    elif parts := _parts(timetable):
        for part in parts:
            yield from _zones(part, of_dag)
    elif events:
        yield from (event.tzinfo for event in events)
    elif kind.__module__.startswith(_AIRFLOWS_OWN) and kind.__name__ not in _KEYS_FROM_ELSEWHERE:
        yield of_dag
    else:
        yield None


def _parts(timetable: Any) -> list[Any]:
    """Return the timetables that a timetable consists of."""
    inner = getattr(timetable, "timetable", None)
    several = getattr(timetable, "timetables", None) or getattr(timetable, "_timetables", None)
    return [inner] if inner is not None else list(several or ())


def _is_utc(zone: Any) -> bool:
    if isinstance(zone, str):
        return zone in _UTC_NAMES
    # A named zone has no fixed offset, so its name decides. A fixed zone is UTC if its offset is 0,
    # whatever its name.
    is_fixed = isinstance(zone, tzinfo) and zone.utcoffset(None) is not None
    return not zone.utcoffset(None) if is_fixed else str(zone) in _UTC_NAMES


def no_interval(name: str, context: Context, needs: str | None = None) -> InvalidInput:
    """
    Return the error for an argument that needs the data interval of a run that has none.

    :param needs: what a template in the argument needs; None if the argument is a bound.
    """
    run, dag = context.get("dag_run"), context.get("dag")
    what = f"{name} is empty" if needs is None else f"{name} needs {needs}"
    instead = (
        "pass interval_start and interval_end"
        if needs is None
        else f"leave {needs} out of the template"
    )
    partition = getattr(run, "partition_key", None)  # from Airflow 3.2 on
    if partition:
        return InvalidInput(
            f"{what}: use {{{{ dag_run.partition_key }}}} in it, because the run has no "
            f"data interval; its partition key is {partition!r}. Or schedule the DAG with "
            "CronDataIntervalTimetable."
        )
    run_type = getattr(run, "run_type", None)
    has_intervals = dag is not None and _has_intervals(dag.timetable)
    if str(getattr(run_type, "value", run_type)).startswith("asset"):
        return InvalidInput(
            f"{what}: {instead}, or schedule the DAG with CronDataIntervalTimetable. "
            "Asset-triggered runs have no data interval."
        )
    if has_intervals:
        return InvalidInput(
            f"{what}: the run has no logical date. Trigger it with --logical-date (in the "
            "UI: Logical Date), from which the timetable derives the data interval, or "
            f"{instead}."
        )
    return InvalidInput(
        f"{what}: the run has no data interval. Use CronDataIntervalTimetable, or {instead}. "
        "Manual runs also need --logical-date, from which such a timetable derives the data "
        "interval."
    )


def _has_intervals(timetable: Any) -> bool:
    """Tell whether runs with a logical date get a data interval with a length."""
    if any(kind.__name__ in _WITH_INTERVALS for kind in type(timetable).__mro__):
        return True
    if getattr(timetable, "interval", None) or getattr(timetable, "_interval", None):
        return True
    return any(map(_has_intervals, _parts(timetable)))


def rendered_to_nothing(name: str) -> InvalidInput:
    """Return the error for a bound that the user passed and that is empty when the task runs."""
    return InvalidInput(
        f"{name} is empty: its template rendered to nothing. Check the template, or omit {name} to "
        f"use the run's data interval; {name}=None in the DAG file sends no bound."
    )
