"""
The API's objects as values, read as the API really sends them.

Reading is tolerant on purpose: unknown fields are ignored, a missing field and null mean the same,
and an unknown status counts as unfinished. Stripe's own samples fail Stripe's own schema, so only
what a task depends on is validated. ``Any`` stops in this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_reportrun.errors import ReportRunFailed, UnexpectedAnswer
from airflow_provider_reportrun.secret import Secret
from airflow_provider_reportrun.text import (
    MESSAGE,
    WORD,
    encodable,
    is_id,
    one_line,
    plain,
    sentence,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"

FILE_SIZE_ABOVE_LIMIT = "file_size_above_limit"
"""The only error code that a new report run cannot fix: the file would exceed 5 GB."""

_CHECK_HOST = "Check the connection's host, and any proxy on the way."
_LONGEST_URL = 16_384
_LONGEST_NAME = 1000
_INT64_DIGITS = 19
"""Longer text is not converted: Python refuses to convert thousands of digits to an int."""
_INSTANT = re.compile(
    r"(?P<stamp>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})"
    r"(\.(?P<fraction>\d+))?(?P<offset>Z|[+-]\d{2}:?\d{2})",
    re.ASCII,
)


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
    The API's name: ``boolean``, ``double``, ``bigint``, ``varchar`` or ``timestamp``. For a landed
    file, a name of ``landing/columns.py``.
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
    """Pre-signed, so a credential: call ``url.reveal()`` only in the download's own expression."""
    url_expires_at: datetime | None
    """UTC; None if the API does not say."""
    schema: tuple[Column, ...] | None = None
    """The columns in order; None if they were not requested, or the API does not return them."""

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
    One report run. As a dict it is its ``summary``, so a task may return it.

    Source: https://docs.stripe.com/api/v2/reporting/report-runs/object
    """

    id: str
    status: str
    """``running``, ``succeeded`` or ``failed``; anything else counts as unfinished."""
    report: str = ""
    report_name: str = ""
    report_parameters: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    """UTC."""
    livemode: bool | None = None
    file: ResultFile | None = None
    error_code: str | None = None
    error_message: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the status is final."""
        return self.status in {SUCCEEDED, FAILED}

    @property
    def failure(self) -> ReportRunFailed | None:
        """The error that describes a failed report run; None for any other."""
        if self.status != FAILED:
            return None
        permanent = self.error_code == FILE_SIZE_ABOVE_LIMIT
        advice = (
            "Ask for a shorter interval or fewer columns."
            if permanent
            else "A new report run may succeed."
        )
        message = sentence(self.error_message or "no message")
        return ReportRunFailed(
            f"Report run {self.id} of {self.report or 'its report'} failed: "
            f"{self.error_code or 'no error code'}: {message} {advice}",
            report_run_id=self.id,
            error_code=self.error_code,
            error_message=self.error_message,
            transient=not permanent,
        )

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values, and never the URL."""
        return {
            "report_run_id": self.id,
            "status": self.status,
            "report": self.report,
            "report_name": self.report_name,
            "report_parameters": dict(self.report_parameters),
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

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values."""
        return {
            "report": self.id,
            "report_name": self.name,
            "livemode": self.livemode,
            "parameters": {name: each.summary() for name, each in self.parameters.items()},
        }


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

    def summary(self) -> dict[str, Any]:
        """Return what may leave the task: plain JSON values."""
        return {
            "report_run_id": self.report_run_id,
            "report": self.report,
            "report_parameters": dict(self.report_parameters),
            "content_type": self.content_type,
            "size": self.size,
            "sha256": self.sha256,
        }


def read_report_run(data: Any) -> ReportRun:
    """
    Read a report run.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id or the status is missing, or the id is not valid.
    """
    run = _mapping(data)
    failed = _mapping(_mapping(run.get("status_details")).get(FAILED))
    livemode = run.get("livemode")
    return ReportRun(
        id=_id(run, "report run"),
        status=_status(run),
        report=_text(run.get("report")) or "",
        report_name=_text(run.get("report_name")) or "",
        report_parameters=plain(_mapping(run.get("report_parameters"))),
        created_at=read_instant(run.get("created")),
        livemode=livemode if isinstance(livemode, bool) else None,
        file=_read_file(_mapping(run.get("result")).get("file")),
        error_code=_text(failed.get("error_code")),
        error_message=_text(failed.get("error_message"), MESSAGE),
    )


def read_report(data: Any) -> Report:
    """
    Read a report template.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id is missing or not valid.
    """
    report = _mapping(data)
    livemode = report.get("livemode")
    return Report(
        id=_id(report, "report"),
        name=_text(report.get("name")) or "",
        livemode=livemode if isinstance(livemode, bool) else None,
        parameters={
            encodable(name[:WORD]): _read_parameter(_mapping(value))
            for name, value in _mapping(report.get("parameters")).items()
        },
    )


def _read_file(data: Any) -> ResultFile | None:
    file = _mapping(data)
    if not file:
        return None
    download = _mapping(file.get("download_url"))
    return ResultFile(
        content_type=_text(file.get("content_type")) or "",
        size=_size(file.get("size")),
        url=_secret(download.get("url")),
        url_expires_at=read_instant(download.get("expires_at")),
        schema=_read_schema(file.get("schema")),
    )


def _read_schema(data: Any) -> tuple[Column, ...] | None:
    """Read the columns; a column without a name cannot be identified, so it is skipped."""
    if not isinstance(data, list):
        return None
    columns = map(_mapping, data)
    return tuple(
        Column(name, _text(column.get("type")) or "")
        for column in columns
        if (name := _name(column.get("name")))
    )


def _read_parameter(data: Mapping[str, Any]) -> ReportParameter:
    array = _mapping(data.get("array_details"))
    enum = _mapping(data.get("enum_details")) or _mapping(array.get("enum_details"))
    window = _mapping(data.get("timestamp_details"))
    return ReportParameter(
        type=_text(data.get("type")) or "",
        required=data.get("required") is True,
        description=_text(data.get("description"), MESSAGE) or "",
        allowed_values=_allowed(enum.get("allowed_values")),
        earliest=read_instant(window.get("min")),
        latest=read_instant(window.get("max")),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    """Read an object; in Stripe's samples a missing one may be ``null`` or even ``false``."""
    return value if isinstance(value, dict) else {}


def _text(value: Any, longest: int = WORD) -> str | None:
    return one_line(value, longest) if isinstance(value, str) and value else None


def _secret(value: Any) -> Secret | None:
    """Read a URL. ``answers.py`` has wrapped it; shortened or changed, it would not work."""
    if isinstance(value, str):
        value = Secret(value)
    if not isinstance(value, Secret):
        return None
    url = value.reveal()
    return value if url and url.isprintable() and len(url) <= _LONGEST_URL else None


def _name(value: Any) -> str | None:
    """Read a column's name; it must stay as the file's header spells it."""
    return encodable(value[:_LONGEST_NAME]) if isinstance(value, str) and value else None


def _allowed(values: Any) -> tuple[str, ...] | None:
    """Read a parameter's allowed values; ignore a list with anything but text and numbers."""
    if not isinstance(values, list) or not all(isinstance(each, str | int) for each in values):
        return None
    return tuple(encodable(str(each)[:_LONGEST_NAME]) for each in values)


def _id(data: Mapping[str, Any], noun: str) -> str:
    value = _name(data.get("id"))
    if value is None:
        raise UnexpectedAnswer(f"The API's answer is not a {noun}: it has no 'id'. {_CHECK_HOST}")
    if not is_id(data["id"]):
        raise UnexpectedAnswer(
            f"The API's answer has an 'id' that cannot be that of a {noun}. {_CHECK_HOST}"
        )
    return value


def _status(data: Mapping[str, Any]) -> str:
    status = _text(data.get("status"))
    if status is None:
        raise UnexpectedAnswer(
            f"The API's answer is not a report run: it has no 'status'. {_CHECK_HOST}"
        )
    return status


def _size(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    is_digits = isinstance(value, str) and value.isascii() and value.isdigit()
    is_text = is_digits and len(value) <= _INT64_DIGITS
    return int(value) if is_text or (is_number and 0 <= value < 1 << 63) else None


def read_instant(value: Any) -> datetime | None:
    """
    Read a timestamp with 0 to 9 fraction digits, truncated to microseconds.

    It is parsed by hand because every poll does it, and pendulum takes six times as long.
    """
    form = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if form is None:
        return None
    fraction = (form["fraction"] or "")[:6].ljust(6, "0")
    offset = "+00:00" if form["offset"] == "Z" else f"{form['offset'][:3]}:{form['offset'][-2:]}"
    try:
        instant = datetime.fromisoformat(f"{form['stamp']}.{fraction}{offset}")
        return instant.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
