"""
The API's objects as values, the same for every generation of the API.

Instants are aware and in UTC. Report parameters are as a task gives them: instants as RFC 3339 in
UTC with milliseconds. Each module under ``generations/`` reads its answers into these values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_reportrun.errors import ReportRunCanceled, ReportRunFailed
from airflow_provider_reportrun.protocol.interval import INTERVAL_END, INTERVAL_START
from airflow_provider_reportrun.protocol.reading import read_instant
from airflow_provider_reportrun.secret import Secret
from airflow_provider_reportrun.text import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Column",
    "Report",
    "ReportList",
    "ReportParameter",
    "ReportRun",
    "ResultFacts",
    "ResultFile",
    "read_instant",
]

RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELED = "canceled"
FINISHED = frozenset({SUCCEEDED, FAILED, CANCELED})
"""The final statuses."""

FILE_SIZE_ABOVE_LIMIT = "file_size_above_limit"
"""The file would exceed 5 GB."""
QUERY = "query"
"""How metrics name queries, which have no report."""
INVALID_SQL = "query_run_invalid_sql"
_FIXES = {
    FILE_SIZE_ABOVE_LIMIT: "Ask for a shorter interval or fewer columns",
    INVALID_SQL: "Correct the SQL",
}
"""Error codes that a new report run cannot fix, with what can."""


class _Told(dict[str, Any]):
    """
    A value that is also the dict of its summary, so it can be serialized.

    Airflow's XCom and ``json`` write a dict as it is. For other dataclasses, Airflow writes all
    fields, including secrets, and the next task can read them only if an administrator allows it.

    Source: ``airflow.sdk.serde.serialize``; ``airflow.serialization.serde`` on Airflow 3.0.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        self.update(self.summary())

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result."""

    name: str
    type: str
    """
    The API's name: ``bigint``, ``boolean``, ``date``, ``datetime``, ``decimal``, ``double``,
    ``integer``, ``timestamp`` or ``varchar``. For a landed file, a name of ``landing/columns.py``.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile(_Told):
    """
    The result file of a report run. As a dict it is its ``summary``.

    Source: Stripe OpenAPI, ``v2.reporting.report_run``, ``result.file``.
    """

    content_type: str
    """``csv`` or ``zip`` today."""
    size: int | None
    """Bytes; the API sends a string, older versions sent a number."""
    url: Secret | None = field(repr=False)
    """
    In v2 pre-signed, so a credential: call ``url.reveal()`` only in the download's own expression.
    """
    url_expires_at: datetime | None
    """UTC; None if the API does not say."""
    schema: tuple[Column, ...] | None = None
    """The columns in order; None if they were not requested, or the API does not return them."""
    row_count: int | None = None
    """The rows without the header; None if the API does not say."""
    column_count: int | None = None

    def __post_init__(self) -> None:
        if self.url is not None:
            object.__setattr__(self, "url", Secret.of(self.url))
        _Told.__post_init__(self)

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values, and never the URL."""
        schema = self.schema
        return {
            "content_type": self.content_type,
            "size": self.size,
            "schema": schema and [{"name": each.name, "type": each.type} for each in schema],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRun(_Told):
    """
    One run of a report or a query. As a dict it is its ``summary``, so a task may return it.

    Source: https://docs.stripe.com/api/v2/reporting/report-runs/object
    """

    id: str
    status: str
    """
    ``running``, ``succeeded``, ``failed`` or ``canceled``; anything else counts as unfinished.
    """
    report: str = ""
    report_name: str = ""
    report_parameters: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    """UTC."""
    livemode: bool | None = None
    file: ResultFile | None = None
    error_code: str | None = None
    error_message: str | None = None
    refreshed_at: datetime | None = None
    """UTC: the data are complete up to here; None if the API does not say."""
    sql: str | None = None
    """The query; None for a run of a report."""

    @property
    def is_query(self) -> bool:
        """Whether this is a run of a query."""
        return self.sql is not None

    @property
    def subject(self) -> str:
        """The report, or ``query``: how metrics name what runs."""
        return QUERY if self.is_query else self.report

    @property
    def is_finished(self) -> bool:
        """Whether the status is final."""
        return self.status in FINISHED

    @property
    def failure(self) -> ReportRunFailed | None:
        """The error that describes a failed or canceled run; None for any other."""
        if self.status not in {FAILED, CANCELED}:
            return None
        kind = "query run" if self.is_query else "report run"
        of = "" if self.is_query else f" of {self.report or 'its report'}"
        what = f"It was {kind} {self.id}{of}."
        fix = _FIXES.get(self.error_code or "")
        message = sentence(self.error_message or "no message")
        facts: dict[str, Any] = {
            "report_run_id": self.id,
            "error_code": self.error_code,
            "error_message": self.error_message,
        }
        if self.status == CANCELED:
            why = f" Stripe says: {message}" if self.error_message else ""
            return ReportRunCanceled(
                f"The {kind} was canceled at Stripe: clear the task that created it for a new one."
                f"{why} {what}",
                **facts,
            )
        why = f"failed with {self.error_code or 'no error code'}: {message} {what}"
        return ReportRunFailed(
            f"{fix}: the {kind} {why}" if fix else f"A new {kind} may succeed: this one {why}",
            transient=fix is None,
            **facts,
        )

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values, and never the URL."""
        return {
            "report_run_id": self.id,
            **({"query_run_id": self.id} if self.is_query else {}),
            "status": self.status,
            "report": None if self.is_query else self.report,
            "report_name": None if self.is_query else self.report_name,
            "report_parameters": None if self.is_query else dict(self.report_parameters),
            "content_type": self.file.content_type if self.file else None,
            "size": self.file.size if self.file else None,
            "created": self.created_at.isoformat() if self.created_at else None,
            "livemode": self.livemode,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportParameter(_Told):
    """
    One parameter that a report accepts. As a dict it is its ``summary``.

    Source: Stripe OpenAPI, ``v2.reporting.report``, ``parameters``.
    """

    type: str
    """``timestamp``, ``string``, ``enum`` or ``array`` today."""
    required: bool
    description: str
    allowed_values: tuple[str, ...] | None
    """For ``enum`` and ``array`` of enum; None means any."""
    earliest: datetime | None
    """For ``timestamp``: the first instant the report accepts, UTC."""
    latest: datetime | None
    """For ``timestamp``: the last instant the report accepts now, UTC."""

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values."""
        return {
            "type": self.type,
            "required": self.required,
            "description": self.description,
            "allowed_values": None if self.allowed_values is None else [*self.allowed_values],
            "earliest": self.earliest and self.earliest.isoformat(),
            "latest": self.latest and self.latest.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(_Told):
    """
    A report template. As a dict it is its ``summary``, so a task may return it.

    Source: https://docs.stripe.com/api/v2/reporting/reports/object
    """

    id: str
    name: str
    livemode: bool | None
    parameters: Mapping[str, ReportParameter]
    undefined: frozenset[str] | None = None
    """
    Names of parameters that reports may take although no definition lists them, as far as they are
    known; None if definitions list all parameters.
    """

    @property
    def data_start(self) -> datetime | None:
        """The first instant of its data, UTC; None if the API does not say."""
        bounds = (self.parameters.get(name) for name in (INTERVAL_START, INTERVAL_END))
        return next((bound.earliest for bound in bounds if bound and bound.earliest), None)

    @property
    def data_end(self) -> datetime | None:
        """The instant after its data, UTC; None if the API does not say."""
        bound = self.parameters.get(INTERVAL_END)
        return bound.latest if bound else None

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values."""
        return {
            "report": self.id,
            "report_name": self.name,
            "livemode": self.livemode,
            "parameters": {name: each.summary() for name, each in self.parameters.items()},
        }


class ReportList(list[Report]):
    """
    The reports that an account may run.

    :param is_complete: whether there are no others. If not, the API does not list its reports, or
        lists very many.
    """

    def __init__(self, reports: Iterable[Report] = (), *, is_complete: bool = True) -> None:
        super().__init__(reports)
        self.is_complete = is_complete


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFacts(_Told):
    """What a download verified. As a dict it is its ``summary``, so a task may return it."""

    report_run_id: str
    report: str
    report_parameters: Mapping[str, Any]
    content_type: str
    size: int
    """Bytes as downloaded."""
    sha256: str
    livemode: bool | None = None
    schema: tuple[Column, ...] | None = None
    """The columns in order; None if the API does not send them without being asked."""
    is_query: bool = False
    """Whether it is the result of a query."""

    @property
    def subject(self) -> str:
        """The report, or ``query``: how metrics name what ran."""
        return QUERY if self.is_query else self.report

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values."""
        return {
            "report_run_id": self.report_run_id,
            **({"query_run_id": self.report_run_id} if self.is_query else {}),
            "report": None if self.is_query else self.report,
            "report_parameters": None if self.is_query else dict(self.report_parameters),
            "content_type": self.content_type,
            "size": self.size,
            "sha256": self.sha256,
        }
