"""
``/v2/data``: report runs and reports without a window of data.

A run tells how fresh its data was, in ``refreshed_at``; an interval that ends later is accepted,
and the file has only the rows up to there.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from airflow_provider_reportrun.sandbox.catalog import (
    CATALOG,
    FIRST_DATA_AT,
    Column,
    Parameter,
    ReportDefinition,
    Window,
)
from airflow_provider_reportrun.sandbox.checks import (
    check_fields,
    check_parameters,
    compress_file,
    selection_of,
)
from airflow_provider_reportrun.sandbox.clock import with_milliseconds, with_nanoseconds
from airflow_provider_reportrun.sandbox.files import content_type_of
from airflow_provider_reportrun.sandbox.generations.interface import Call, Served, report_line
from airflow_provider_reportrun.sandbox.generations.v2 import (
    USUAL_LIMIT,
    V2,
    Asked,
    Page,
    read_includes,
)
from airflow_provider_reportrun.sandbox.problems import Problem, invalid_fields, not_found
from airflow_provider_reportrun.sandbox.state import Kind, NewRun, Run

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_reportrun.sandbox.keys import Caller

COMPRESSION_SINCE = "2026-10-28.preview"
"""The first version that has ``compression`` in place of ``compress_file``."""
_INCLUDE = re.compile(r"include\[\d*\]")
"""The changelog writes ``include[]``, the guides ``include[0]``."""

_INLINE, _SQL, _PARAMETERS, _DEFAULT_SQL = "result.inline", "sql", "parameters", "default_sql"
_LARGEST_LIMIT = 1000
_NUMBER = re.compile(r"[0-9]{1,9}")
_TYPES = {"double": "decimal"}
"""The types of columns that have another name than in v2.reporting."""


class V2DataRuns(V2):
    """What report runs and query runs of ``/v2/data`` have in common."""

    create_right = "read"
    since = "2026-10-14.preview"
    includes: tuple[str, ...] = (_INLINE,)

    def read_query(self, request: Request) -> tuple[set[str], Page]:
        """Read the query of a GET of a run."""
        return read_includes(request, self.includes, ("limit", "page"), _INCLUDE), _read_page(
            request
        )

    @abstractmethod
    def about(self, run: Run) -> dict[str, Any]:
        """Write what the run is about."""

    def describe(self, run: Run, status: str, version: str = COMPRESSION_SINCE) -> dict[str, Any]:
        """Write a run without its result."""
        refreshed_at = run.new.refreshed_at if status == "succeeded" else None
        return {
            "id": run.id,
            "object": f"v2.data.{'query_run' if self.kind.is_query else 'report_run'}",
            "created": with_nanoseconds(run.created_ns),
            "livemode": run.livemode,
            **self.about(run),
            "refreshed_at": None if refreshed_at is None else with_milliseconds(refreshed_at),
            "result": None,
            "result_options": _result_options(run, version),
            "status": status,
            "status_details": _status_details(run, status),
        }

    async def run_answer(self, run: Run, status: str, asked: Asked) -> dict[str, Any]:
        """Write a run with its result, if it has one in this status."""
        answer = self.describe(run, status, asked.version)
        if status == "succeeded":
            answer["result"] = await self._result(run, asked)
        return answer

    async def _result(self, run: Run, asked: Asked) -> dict[str, Any]:
        files = self.backend.files
        path = await asyncio.to_thread(files.path_of, run)
        columns = await asyncio.to_thread(files.columns, run)
        row_count = await asyncio.to_thread(files.row_count, run)
        url, expires_ns = self.backend.urls.issue(asked.request, run)
        described = [_column(each) for each in columns]
        result: dict[str, Any] = {
            "col_count": str(len(columns)),
            "file": {
                "columns": described,
                "content_type": content_type_of(run),
                "download_url": {"expires_at": with_nanoseconds(expires_ns), "url": url},
                "size": str(path.stat().st_size),
            },
            "row_count": None if row_count is None else str(row_count),
        }
        if _INLINE in asked.included:
            rows, has_more = await asyncio.to_thread(_rows, path, columns, asked.page)
            urls = _page_urls(asked.request, asked.page, has_more=has_more)
            result["inline"] = {
                "columns": described,
                "rows": [{"data": row} for row in rows],
                **urls,
            }
        return result


class V2Data(V2DataRuns):
    """Report runs of ``/v2/data``."""

    name = "v2.data"
    api = "v2.data"
    kind = Kind(generation=name, prefix="rrun_test_", can_cancel=True)
    runs_path = "/v2/data/report_runs"
    read_permission = create_permission = "data_reports_read"
    includes = (_INLINE, _SQL)

    def operations(self) -> Iterator[Served]:
        """Yield what it serves."""
        yield from super().operations()
        yield Served("GET", "/v2/data/reports", "list_reports", self._list_reports)
        yield Served("GET", "/v2/data/reports/{id}", "get_report", self._get_report)

    @classmethod
    def reports(cls) -> Iterator[str]:
        """Yield a line about each report."""
        for each in REPORTS:
            required = tuple(name for name, takes in each.takes.items() if takes.required)
            yield report_line(each.name, required, tuple(each.takes))

    def new_run(self, body: dict[str, Any], version: str) -> NewRun:
        """Check the body of a create request."""
        check_fields(body, ("report", "parameters", "format", "result_options"))
        report = _named(body.get("report"))
        check_format(body.get("format"))
        given = check_parameters(report.definition, body.get("parameters"), "parameters")
        data = self.backend.state.window()
        selection = selection_of(report.definition, given)
        if selection.interval is not None:
            selection = replace(selection, interval=_within(selection.interval, data))
        return NewRun(
            report=report.id,
            name=report.name,
            report_parameters=given,
            source=selection,
            compress_file=is_compressed(body, version),
            fails_with=report.definition.fails_with,
            refreshed_at=data.end,
        )

    def no_room(self) -> Problem:
        """Return the refusal of a run above the limit of concurrent runs."""
        return Problem(
            429,
            "report_run_rate_limit_exceeded",
            "This API key has reached its limit of concurrently running reports. "
            "Wait for one to finish before you retry.",
            "rate_limit",
        )

    def about(self, run: Run) -> dict[str, Any]:
        """Write what the run is about."""
        return {
            "name": run.new.name,
            "parameters": run.report_parameters,
            "report": run.report,
            "sql": None,
        }

    async def run_answer(self, run: Run, status: str, asked: Asked) -> dict[str, Any]:
        """Write a run with its result, if it has one in this status."""
        answer = await super().run_answer(run, status, asked)
        if _SQL in asked.included:
            answer["sql"] = _sql_of(run.new.name)
        return answer

    async def _list_reports(self, call: Call) -> Response:
        caller, _ = self.caller(call)
        caller.must("read", self.read_permission)
        request = call.request
        included = read_includes(
            request, (_PARAMETERS, _DEFAULT_SQL), ("limit", "name", "page"), _INCLUDE
        )
        page = _read_page(request)
        name = request.query_params.get("name")
        found = [each for each in REPORTS if name in (None, each.name)]
        stop = page.start + page.limit
        answer = {
            "data": [each.as_json(included, caller) for each in found[page.start : stop]],
            **_page_urls(request, page, has_more=stop < len(found)),
        }
        return JSONResponse(answer)

    async def _get_report(self, call: Call) -> Response:
        caller, _ = self.caller(call)
        caller.must("read", self.read_permission)
        included = read_includes(call.request, (_PARAMETERS, _DEFAULT_SQL), pattern=_INCLUDE)
        report_id = call.request.path_params["id"]
        report = next((each for each in REPORTS if each.id == report_id), None)
        if report is None:
            raise not_found()
        return JSONResponse(report.as_json(included, caller))


# -- reports -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """One report, under the name that it has here."""

    id: str
    name: str
    definition: ReportDefinition

    @property
    def takes(self) -> dict[str, Parameter]:
        """Its parameters by name."""
        return {each.name: each for each in self.definition.parameters}

    def as_json(self, included: set[str], caller: Caller) -> dict[str, Any]:
        """Build the ``v2.data.report`` object."""
        return {
            "id": self.id,
            "object": "v2.data.report",
            "default_sql": _sql_of(self.name) if _DEFAULT_SQL in included else None,
            "description": f"{self.definition.name}.",
            "livemode": caller.key.is_live,
            "name": self.name,
            "parameters": {name: _parameter(each) for name, each in self.takes.items()}
            if _PARAMETERS in included
            else None,
        }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = parameter.as_json(Window(FIRST_DATA_AT, FIRST_DATA_AT))
    del described["timestamp_details"]
    return described


def _report(number: int, name: str, definition: str) -> Report:
    return Report(f"report_test_{number:06d}", name, CATALOG[definition])


REPORTS = (
    _report(1, "balance.summary", "balance_summary"),
    _report(2, "balance_change_from_activity.itemized", "balance_change_from_activity_itemized"),
    _report(3, "payouts.itemized", "payouts_itemized"),
    _report(4, "payout_reconciliation.itemized", "payout_reconciliation_itemized"),
    _report(5, "payout_reconciliation.by_id.itemized", "payout_reconciliation_by_id_itemized"),
    _report(6, "ending_balance_reconciliation.summary", "ending_balance_reconciliation_summary"),
    _report(7, "all_fees.itemized", "all_fees_itemized"),
    _report(8, "card_transactions.itemized", "card_transactions_itemized"),
)
"""Every report; each run of ``card_transactions.itemized`` fails because its file is too large."""


def _named(report: object) -> Report:
    if report is None:
        raise invalid_fields("Missing required field `report`.")
    if not isinstance(report, dict):
        raise invalid_fields("`report` must be an object with `id` or `name`.")
    check_fields(report, ("id", "name"), "report.")
    if len(report) != 1:
        raise invalid_fields("`report` must have exactly one of `id` and `name`.")
    ((field, value),) = report.items()
    if not isinstance(value, str):
        raise invalid_fields(f"`report.{field}` must be a string.")
    for each in REPORTS:
        if value == (each.id if field == "id" else each.name):
            return each
    raise invalid_fields(f"`report.{field}` names no report: {value[:255]}.")


def _within(interval: Window, data: Window) -> Window:
    """Cut an interval to the data that there is."""
    end = min(max(interval.end, data.start), data.end)
    return Window(min(max(interval.start, data.start), end), end)


def _sql_of(name: str) -> str:
    return f"SELECT * FROM balance_transactions -- {name}"  # noqa: S608  (a text to show)


# -- bodies and queries --------------------------------------------------------------------------


def check_format(value: object) -> None:
    """
    Refuse any format but CSV.

    :raises Problem: 400 ``invalid_fields``.
    """
    if value is None:
        raise invalid_fields("Missing required field `format`.")
    if value != "csv":
        raise invalid_fields(f"`format` does not accept {str(value)[:64]!r}. Allowed values: csv.")


def is_compressed(body: dict[str, Any], version: str) -> bool:
    """
    Read ``result_options`` in the spelling of a version.

    :raises Problem: 400 ``invalid_fields``, for the other spelling too.
    """
    options = body.get("result_options", {})
    if version < COMPRESSION_SINCE:
        return compress_file(options)
    if not isinstance(options, dict):
        raise invalid_fields("`result_options` must be an object.")
    check_fields(options, ("compression",), "result_options.")
    wanted = options.get("compression", "none")
    if wanted not in ("none", "zip"):
        raise invalid_fields(
            f"`result_options.compression` does not accept {str(wanted)[:64]!r}. "
            "Allowed values: none, zip."
        )
    return bool(wanted == "zip")


def _read_page(request: Request) -> Page:
    limit = _whole_number("limit", request.query_params.get("limit", str(USUAL_LIMIT)))
    if not 1 <= limit <= _LARGEST_LIMIT:
        raise invalid_fields(f"`limit` must be from 1 to {_LARGEST_LIMIT}, not {limit}.")
    page = request.query_params.get("page", "page_0")
    return Page(start=_whole_number("page", page.removeprefix("page_")), limit=limit)


def _whole_number(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise invalid_fields(f"`{name}` does not accept {text[:64]!r}.")
    return int(text)


def _page_urls(request: Request, page: Page, *, has_more: bool) -> dict[str, str | None]:
    others = [each for each in request.query_params.multi_items() if each[0] != "page"]

    def url(start: int) -> str:
        return f"{request.url.path}?{urlencode([*others, ('page', f'page_{start}')])}"

    return {
        "next_page_url": url(page.start + page.limit) if has_more else None,
        "previous_page_url": url(max(page.start - page.limit, 0)) if page.start else None,
    }


# -- runs ----------------------------------------------------------------------------------------


def _result_options(run: Run, version: str) -> dict[str, Any]:
    if version < COMPRESSION_SINCE:
        return {"compress_file": run.compress_file}
    return {"compression": "zip" if run.compress_file else "none"}


def _status_details(run: Run, status: str) -> dict[str, Any] | None:
    if status == "canceled":
        canceled_at = with_nanoseconds(run.finishes_ns)
        return {"canceled_at": canceled_at, "code": None, "message": None}
    if status == "failed" and run.failure is not None:
        return {
            "canceled_at": None,
            "code": run.failure.error_code,
            "message": run.failure.error_message,
        }
    return None


def _column(column: Column) -> dict[str, str]:
    return {"name": column.name, "type": _TYPES.get(column.type, column.type)}


def _rows(path: Path, columns: tuple[Column, ...], page: Page) -> tuple[list[dict[str, Any]], bool]:
    """Read a page of rows from a result file."""
    types = {each.name: each.type for each in columns}
    with _opened(path) as lines:
        found = list(islice(csv.DictReader(lines), page.start, page.start + page.limit + 1))
    rows = [{name: _value(types, name, text) for name, text in row.items()} for row in found]
    return rows[: page.limit], len(rows) > page.limit


def _opened(path: Path) -> IO[str]:
    if not zipfile.is_zipfile(path):
        return path.open(encoding="utf-8", newline="")
    with zipfile.ZipFile(path) as archive:
        return io.StringIO(archive.read(archive.namelist()[0]).decode(), newline="")


def _value(types: Mapping[str, str], name: str, text: str) -> str | int:
    return int(text) if types.get(name) == "bigint" and text else text
