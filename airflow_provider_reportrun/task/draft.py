"""
What a task requests, before it is known which bounds of the interval the report takes.

By default, the bounds are those of the data interval. Reports by payout take no interval, and
ending balances take only its end. A default bound that the report's definition does not list is
left out. A bound that the user passed is never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.calls import is_nothing
from airflow_provider_reportrun.protocol.identity import body_digest
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    half_open,
    missed_midnight,
    report_parameters,
)
from airflow_provider_reportrun.protocol.requests import ReportRequest
from airflow_provider_reportrun.task.data_interval import (
    DATA_INTERVAL_END,
    DATA_INTERVAL_START,
    no_interval,
    rendered_to_nothing,
    zone_of,
)

if TYPE_CHECKING:
    from datetime import tzinfo

    from airflow.sdk import Context

    from airflow_provider_reportrun.protocol.flows import Definition
    from airflow_provider_reportrun.protocol.generation import Generation
    from airflow_provider_reportrun.task.record import Record


class WrittenBounds(NamedTuple):
    """How the DAG file passes the bounds of the interval, which is lost when they are rendered."""

    default: frozenset[str]
    """Those that are left at their default."""
    none: frozenset[str]
    """Those that are None: they are not sent."""
    empty: frozenset[str]
    """Those that are empty text."""

    @classmethod
    def of(cls, start: Any, end: Any) -> WrittenBounds:
        """Read the arguments before Airflow renders them."""
        bounds = {INTERVAL_START: start, INTERVAL_END: end}
        defaults = {INTERVAL_START: DATA_INTERVAL_START, INTERVAL_END: DATA_INTERVAL_END}
        return cls(
            default=frozenset(name for name in bounds if bounds[name] == defaults[name]),
            none=frozenset(name for name in bounds if bounds[name] is None),
            empty=frozenset(name for name in bounds if bounds[name] == ""),
        )


class Draft(Struct, frozen=True, kw_only=True):
    """
    The rendered arguments of a task that say what is requested.

    :param parameters: ``report_parameters``.
    :param bounds: ``interval_start`` and ``interval_end``, by name.
    """

    api: Generation
    report: str
    parameters: Mapping[str, Any]
    result_options: Mapping[str, Any] | None
    bounds: Mapping[str, Any]
    written: WrittenBounds
    zone: tzinfo | None
    context: Context

    @classmethod
    def of(cls, task: Any, context: Context, api: Generation) -> Draft:
        """
        Read a task's arguments after Airflow has rendered them.

        :raises InvalidInput: if there is no zone of the given name.
        """
        return cls(
            api=api,
            report=task.report,
            parameters=task.report_parameters or {},
            result_options=task.result_options or None,
            bounds={INTERVAL_START: task.interval_start, INTERVAL_END: task.interval_end},
            written=task.written_bounds,
            zone=zone_of(task.timezone, context),
            context=context,
        )

    @property
    def defaulted(self) -> frozenset[str]:
        """The bounds that the user passed neither as an argument nor in ``report_parameters``."""
        return self.written.default - set(self.parameters)

    @property
    def lacks_interval(self) -> bool:
        """Whether the run has no data interval to send by default, or one without a length."""
        return (
            not all(self.bounds[name] for name in self.defaulted)
            or self.bounds[INTERVAL_START] == self.bounds[INTERVAL_END]
        )

    @property
    def is_hopeless(self) -> bool:
        """Whether nothing can be sent, whatever the report's definition says: no report is so."""
        return self.lacks_interval and len(self.defaulted) > 1 and not self.parameters

    def request(self, left_out: frozenset[str] = frozenset()) -> ReportRequest:
        """
        Return what is requested.

        :param left_out: default bounds that are not sent.
        :raises InvalidInput: names the argument and the fix, also if this generation of the API
            cannot do what is requested.
        """
        bounds = {name: None if name in left_out else value for name, value in self.bounds.items()}
        for name, value in bounds.items():
            self._check_bound(name, value, is_sent=name not in left_out | self.written.none)
        parameters = report_parameters(
            self.parameters,
            start=bounds[INTERVAL_START],
            end=bounds[INTERVAL_END],
            zone=self.zone,
        )
        request = ReportRequest(self.report, parameters, self.result_options)
        self.api.create_body(request)
        return request

    def _check_bound(self, name: str, value: Any, *, is_sent: bool) -> None:
        is_default = name in self.written.default
        if name in self.parameters:
            if not is_default and value is not None:
                raise InvalidInput(
                    f"{name} is passed twice, as an argument and in report_parameters. "
                    "Remove one of them."
                )
        elif is_sent and is_nothing(value):
            if is_default or name in self.written.empty:
                raise no_interval(name, self.context)
            raise rendered_to_nothing(name)

    def left_out_before(self, record: Record | None) -> frozenset[str] | None:
        """
        Return the bounds that an earlier try left out of the same request.

        A retry leaves them out whatever the definition says by then, because another body has
        another idempotency key.

        :return: None if there was no earlier try, or it requested something else.
        """
        if record is None or not self.defaulted.issuperset(record.left_out):
            return None
        left_out = frozenset(record.left_out)
        try:
            body = self.api.create_body(self.request(left_out))
            is_same = body_digest(body) == record.digest
        except InvalidInput:  # the record is of another report
            is_same = False
        return left_out if is_same else None

    def not_taken(self, definition: Definition) -> frozenset[str]:
        """
        Return the default bounds that the report does not take.

        :return: none if the definition cannot be read.
        """
        if definition.report is None:
            return frozenset()
        return self.defaulted - set(definition.report.parameters)

    def inclusive_end(self, request: ReportRequest) -> str | None:
        """
        Describe an end that was probably meant to be inclusive.

        A timetable's own interval may end at 23:59.

        :param request: what is requested.
        :return: None for any other end.
        """
        midnight = missed_midnight(
            self.parameters.get(INTERVAL_END, self.bounds[INTERVAL_END]),
            zone=self.zone,
            from_second=59 if INTERVAL_END in self.defaulted else 0,
        )
        sent = request.parameters.get(INTERVAL_END)
        return None if midnight is None or sent is None else half_open(sent, midnight)
