"""
``/v1/reporting``: forms, Unix seconds, a list of runs, and files that want the API key.

A repeat of a create gets the saved answer to the first one, errors included, for 24 hours.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from airflow_provider_reportrun.sandbox.catalog import (
    FIRST_DATA_AT,
    Column,
    Window,
    is_metadata,
    window_at,
)
from airflow_provider_reportrun.sandbox.clock import NANOSECONDS, from_seconds, in_words
from airflow_provider_reportrun.sandbox.downloads import serve
from airflow_provider_reportrun.sandbox.files import content_type_of
from airflow_provider_reportrun.sandbox.generations.interface import (
    Call,
    Generation,
    Served,
    report_line,
)
from airflow_provider_reportrun.sandbox.generations.v1_requests import (
    checked_form,
    created_filter,
    idempotency_key,
    invalid,
    is_version,
    limit_of,
    missing,
    no_such,
    read_form,
    read_query,
    unknown_parameter,
)
from airflow_provider_reportrun.sandbox.generations.v1_types import REPORT_TYPES, ReportType
from airflow_provider_reportrun.sandbox.idempotency import KeyInUse, KeyReused, SavedAnswer
from airflow_provider_reportrun.sandbox.problems import Problem, unknown_url
from airflow_provider_reportrun.sandbox.state import Kind, NewRun, NoRoom, Run, Selection

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_reportrun.sandbox.keys import Caller

IDEMPOTENCY_SECONDS = 24 * 3600
"""How long an answer is saved under its key."""
READ_PERMISSION = "report_runs_and_report_types_read"
"""Enough to create runs too."""
FILES_PERMISSION = "files_read"

_RUNS = "/v1/reporting/report_runs"
_TYPES = "/v1/reporting/report_types"
_CODES = frozenset(
    {
        "idempotency_key_in_use",
        "parameter_invalid_empty",
        "parameter_invalid_integer",
        "parameter_missing",
        "parameter_unknown",
        "rate_limit",
        "resource_missing",
    }
)
"""The codes that v1 has for what the sandbox refuses; other errors of v1 have none."""


class V1(Generation):
    """Report runs of ``/v1/reporting``."""

    name = "v1"
    api = "v1"
    kind = Kind(generation=name, prefix="frr_test_")

    def operations(self) -> Iterator[Served]:
        """Yield what it serves."""
        yield Served("POST", _RUNS, "create", self._create)
        yield Served("GET", _RUNS, "list_runs", self._list_runs)
        yield Served("GET", f"{_RUNS}/{{id}}", "get_run", self._get_run)
        yield Served("GET", _TYPES, "list_reports", self._list_types)
        yield Served("GET", f"{_TYPES}/{{id}}", "get_report", self._get_type)
        yield Served("GET", "/v1/files/{id}", "get_file", self._get_file)
        yield Served("GET", "/v1/files/{id}/contents", "download", self._download)
        yield Served("*", "/v1/{path:path}", "other", self._unknown)

    @classmethod
    def reports(cls) -> Iterator[str]:
        """Yield a line about each report type."""
        for each in REPORT_TYPES.values():
            line = report_line(each.id, each.required)
            yield f"{line} (live keys only)" if each.live_only else line

    def error_json(self, problem: Problem) -> dict[str, Any]:
        """Write the body of an error answer."""
        is_ours = problem.status < HTTPStatus.INTERNAL_SERVER_ERROR
        error = {
            "type": problem.kind or ("invalid_request_error" if is_ours else "api_error"),
            "message": problem.message,
        }
        if problem.code in _CODES:
            error["code"] = problem.code
        if problem.param is not None:
            error["param"] = problem.param
        return {"error": error}

    # -- creating --------------------------------------------------------------------------

    async def _create(self, call: Call) -> Response:
        caller = self._caller(call)
        caller.must("read", READ_PERMISSION)
        read_query(call.request, ())
        form = read_form(call)
        key = idempotency_key(call.request)
        scope = None if key is None else (self.name, caller.account, key)
        state = self.backend.state
        try:
            claim = state.keys.claim(scope, json.dumps(form, sort_keys=True), IDEMPOTENCY_SECONDS)
        except KeyReused:
            raise _other_parameters() from None
        except KeyInUse:
            raise _in_use() from None
        if claim.answer is not None:
            if claim.run is not None:
                claim.run.attached += 1
            return _replayed(claim.answer)
        try:
            # What is refused before the endpoint begins is not saved.
            report_type, parameters = checked_form(form)
            try:
                new = self._new_run(caller, report_type, parameters)
                await call.at_start()
                claim.run = state.start(caller, self.kind, new, key)
                answer = self.describe(claim.run, "running")
                await call.at_end()
                response: Response = JSONResponse(answer)
            except NoRoom:
                raise _no_room() from None
            except Problem as problem:
                response = self.refusal(problem)
            claim.answer = SavedAnswer(
                response.status_code,
                bytes(response.body),
                response.headers.get("stripe-should-retry"),
            )
            return response
        finally:
            state.keys.release(scope, claim)

    def _new_run(self, caller: Caller, type_id: str, given: dict[str, Any]) -> NewRun:
        report_type = self._type(caller, type_id, param="report_type")
        for name in given:
            if name not in (*report_type.required, *report_type.optional):
                raise unknown_parameter(f"parameters[{name}]")
        for name in report_type.required:
            if name not in given:
                raise missing(f"parameters[{name}]")
        return NewRun(
            report=report_type.id,
            name=report_type.name,
            report_parameters=given,
            source=Selection(
                view=report_type.view,
                columns=_columns(report_type, given),
                interval=_interval(report_type, given, self._window(report_type)),
                payout=given.get("payout", ""),
                currency=given.get("currency"),
                category=given.get("reporting_category"),
                zone=given.get("timezone", "Etc/UTC"),
                account=given.get("connected_account"),
            ),
        )

    # -- reading ---------------------------------------------------------------------------

    async def _get_run(self, call: Call) -> Response:
        caller = self._caller(call)
        caller.must("read", READ_PERMISSION)
        read_query(call.request, ("expand",))
        run_id = call.request.path_params["id"]
        run = self.backend.state.find(caller, self.kind, run_id)
        if run is None:
            raise no_such("report run", run_id)
        return JSONResponse(await self._with_result(call.request, run))

    async def _list_runs(self, call: Call) -> Response:
        caller = self._caller(call)
        caller.must("read", READ_PERMISSION)
        query = read_query(
            call.request, ("created", "ending_before", "expand", "limit", "starting_after")
        )
        limit = limit_of(query.get("limit"))
        is_wanted = created_filter(query.get("created"))
        newest_first = self.backend.state.runs_of(caller, self.kind)[::-1]
        part = _part_of(newest_first, query)
        wanted = [run for run in part if is_wanted(_seconds(run.created_ns))]
        page = wanted[-limit:] if "ending_before" in query else wanted[:limit]
        has_more = len(wanted) > limit
        data = [await self._with_result(call.request, run) for run in page]
        return JSONResponse({"object": "list", "data": data, "has_more": has_more, "url": _RUNS})

    async def _list_types(self, call: Call) -> Response:
        caller = self._caller(call)
        caller.must("read", READ_PERMISSION)
        read_query(call.request, ("expand",))
        data = [
            self._describe_type(caller, each)
            for each in REPORT_TYPES.values()
            if caller.key.is_live or not each.live_only
        ]
        return JSONResponse({"object": "list", "data": data, "has_more": False, "url": _TYPES})

    async def _get_type(self, call: Call) -> Response:
        caller = self._caller(call)
        caller.must("read", READ_PERMISSION)
        read_query(call.request, ("expand",))
        report_type = self._type(caller, call.request.path_params["id"])
        return JSONResponse(self._describe_type(caller, report_type))

    async def _get_file(self, call: Call) -> Response:
        run = self._run_of_file(call)
        read_query(call.request, ("expand",))
        return JSONResponse(await self._file(call.request, run))

    async def _download(self, call: Call) -> Response:
        run = self._run_of_file(call)
        return await serve(call, self.backend.files, self.backend.urls, run)

    async def _unknown(self, call: Call) -> Response:
        raise unknown_url(call.request.method, call.request.url.path)

    def _run_of_file(self, call: Call) -> Run:
        caller = self._caller(call)
        caller.must("download", FILES_PERMISSION)
        file_id = call.request.path_params["id"]
        run_id = file_id.replace("file_", "frr_", 1)
        run = self.backend.state.find(caller, self.kind, run_id)
        if run is None or run.status != "succeeded":
            raise no_such("file upload", file_id)
        return run

    # -- writing ---------------------------------------------------------------------------

    def describe(self, run: Run, status: str) -> dict[str, Any]:
        """Write a run without its result."""
        failure = run.failure if status == "failed" else None
        return {
            "id": run.id,
            "object": "reporting.report_run",
            "created": _seconds(run.created_ns),
            "error": None if failure is None else failure.error_message,
            "livemode": run.livemode,
            "parameters": run.report_parameters,
            "report_type": run.report,
            "result": None,
            "status": "pending" if status == "running" else status,
            "succeeded_at": _seconds(run.finishes_ns) if status == "succeeded" else None,
        }

    async def _with_result(self, request: Request, run: Run) -> dict[str, Any]:
        status = run.status
        answer = self.describe(run, status)
        if status == "succeeded":
            answer["result"] = await self._file(request, run)
        return answer

    async def _file(self, request: Request, run: Run) -> dict[str, Any]:
        path = await asyncio.to_thread(self.backend.files.path_of, run)
        file_id = run.id.replace("frr_", "file_", 1)
        url = f"{request.url.scheme}://{request.url.netloc}/v1/files/{file_id}/contents"
        return {
            "id": file_id,
            "object": "file",
            "created": _seconds(run.finishes_ns),
            "expires_at": None,
            "filename": f"{run.id}.{content_type_of(run)}",
            "links": {
                "object": "list",
                "data": [],
                "has_more": False,
                "url": f"/v1/file_links?file={file_id}",
            },
            "purpose": "finance_report_run",
            "size": path.stat().st_size,
            "title": f"FinanceReportRun {run.id}",
            "type": content_type_of(run),
            "url": url,
        }

    def _describe_type(self, caller: Caller, report_type: ReportType) -> dict[str, Any]:
        window = self._window(report_type)
        takes_columns = "columns" in report_type.optional
        return {
            "id": report_type.id,
            "object": "reporting.report_type",
            "data_available_end": int(window.end.timestamp()),
            "data_available_start": int(window.start.timestamp()),
            "default_columns": [each.name for each in report_type.columns]
            if takes_columns
            else None,
            "livemode": caller.key.is_live,
            "name": report_type.name,
            "updated": int(window.end.timestamp()),
            "version": int(report_type.id.rpartition(".")[2]),
        }

    # -- who asks for what -----------------------------------------------------------------

    def _caller(self, call: Call) -> Caller:
        headers = call.request.headers
        caller = self.backend.keyring.identify(headers)
        version = headers.get("stripe-version")
        if version is not None and not is_version(version):
            raise invalid(f"Invalid Stripe API version: {version[:64]}")
        return caller

    def _type(self, caller: Caller, type_id: str, param: str | None = None) -> ReportType:
        report_type = REPORT_TYPES.get(type_id)
        if report_type is None:
            raise no_such("report type", type_id, param)
        if report_type.live_only and not caller.key.is_live:
            raise Problem(
                404,
                None,
                "This report type is only available for live data and requires a live mode key.",
            )
        return report_type

    def _window(self, report_type: ReportType) -> Window:
        state = self.backend.state
        lag = state.settings.data_lag_hours * report_type.lag_factor
        return window_at(state.clock.now(), lag)


def _part_of(runs: list[Run], query: dict[str, Any]) -> list[Run]:
    """Return the runs before or after the one that a query names; all if it names none."""
    ids = [run.id for run in runs]
    if "starting_after" in query and "ending_before" in query:
        raise invalid("Send either starting_after or ending_before, not both.")
    for name in ("starting_after", "ending_before"):
        if name in query and query[name] not in ids:
            message = f"No such report run: '{str(query[name])[:255]}'"
            raise Problem(400, "resource_missing", message, param=name)
    if "ending_before" in query:
        return runs[: ids.index(query["ending_before"])]
    return runs[ids.index(query["starting_after"]) + 1 :] if "starting_after" in query else runs


# -- report types --------------------------------------------------------------------------------


def _columns(report_type: ReportType, given: dict[str, Any]) -> tuple[Column, ...]:
    wanted = given.get("columns")
    if wanted is None:
        return report_type.columns
    by_name = {column.name: column for column in report_type.columns}
    for name in wanted:
        if name not in by_name and not is_metadata(name):
            raise invalid(
                f"Invalid column for the report type {report_type.id}: {name[:255]}",
                "parameters[columns]",
            )
    return tuple(by_name.get(name) or Column(name) for name in wanted)


def _interval(report_type: ReportType, given: dict[str, Any], window: Window) -> Window | None:
    if "interval_end" not in report_type.required:
        return None
    end = from_seconds(given["interval_end"])
    start = from_seconds(given["interval_start"]) if "interval_start" in given else None
    if start is not None and start >= end:
        raise invalid("interval_start must be before interval_end.", "parameters[interval_end]")
    about = f"Data for the report type {report_type.id} is only available"
    if (start or end) < window.start:
        name, moment = ("interval_start", start) if start else ("interval_end", end)
        raise invalid(
            f"{about} starting at {in_words(window.start)}; "
            f"you requested `{name}` = {in_words(moment)}."
        )
    if end > window.end:
        raise invalid(
            f"{about} through {in_words(window.end)}; "
            f"you requested `interval_end` = {in_words(end)}."
        )
    return Window(start or (FIRST_DATA_AT if report_type.sums_up_from_the_start else end), end)


# -- answers -------------------------------------------------------------------------------------


def _replayed(saved: SavedAnswer) -> Response:
    headers = {"Idempotent-Replayed": "true"}
    if saved.should_retry is not None:
        headers["Stripe-Should-Retry"] = saved.should_retry
    return Response(saved.body, saved.status, headers, "application/json")


def _seconds(epoch_ns: int) -> int:
    return epoch_ns // NANOSECONDS


def _other_parameters() -> Problem:
    return Problem(
        400,
        None,
        "Keys for idempotent requests can only be used with the same parameters they were first "
        "used with.",
        "idempotency_error",
    )


def _in_use() -> Problem:
    return Problem(
        409,
        "idempotency_key_in_use",
        "Another request with the same idempotency key is in progress. Try again later.",
        "idempotency_error",
        should_retry=True,
    )


def _no_room() -> Problem:
    # Not documented for v1; like this nothing tells it from the limit of requests.
    return Problem(
        429,
        "rate_limit",
        "Too many report runs are in progress. Wait for one to finish before you retry.",
    )
