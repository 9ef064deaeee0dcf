"""The hook: the API over an Airflow connection, with the conversations of ``protocol``."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import assert_never

from airflow_provider_reportrun._compat import (
    AirflowNotFoundException,
    BaseHook,
    aget_connection,
    look_up_outage,
)
from airflow_provider_reportrun.client import telemetry
from airflow_provider_reportrun.client.access import (
    CONNECTION_TYPE,
    ApiAccess,
    looks_like_a_key,
    read_connection,
)
from airflow_provider_reportrun.client.answers import Answers
from airflow_provider_reportrun.errors import (
    AuthenticationError,
    InvalidInput,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ReportRunError,
    TransportError,
)
from airflow_provider_reportrun.protocol import asking, calls, finding, flows
from airflow_provider_reportrun.protocol.asking import Patience, ask
from airflow_provider_reportrun.protocol.calls import is_nothing, required
from airflow_provider_reportrun.protocol.drivers import WouldWait, adrive, drive
from airflow_provider_reportrun.protocol.generations import named, queries_of
from airflow_provider_reportrun.protocol.interval import INTERVAL_END, half_open, missed_midnight
from airflow_provider_reportrun.protocol.interval import report_parameters as checked_parameters
from airflow_provider_reportrun.protocol.messages import (
    AwaitRoom,
    Backoff,
    LeaveLine,
    RoomMade,
    Sleep,
    TakeTurn,
    WaitBegins,
)
from airflow_provider_reportrun.protocol.requests import ReportRequest
from airflow_provider_reportrun.protocol.retry import Pace
from airflow_provider_reportrun.task.waiting import DAY_SECONDS, POLL_INTERVAL_SECONDS, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta
    from pathlib import Path

    import requests
    from airflow.sdk import Connection
    from typing_extensions import Self

    from airflow_provider_reportrun.client.transport import Stream
    from airflow_provider_reportrun.protocol.generation import Generation
    from airflow_provider_reportrun.protocol.messages import Flow, Pause, Request, Response
    from airflow_provider_reportrun.protocol.models import (
        Report,
        ReportList,
        ReportRun,
        ResultFacts,
        ResultFile,
    )
    from airflow_provider_reportrun.secret import Secret

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_SUCH_RUN = frozenset({"not_found", "resource_missing"})
"""
The codes for a missing report run, in v2 and v1, which show that the API knows the key.

Any other 404 may come from a gateway on the way.
"""
_answers: Answers[Response] = Answers()
"""
By server, key, account and path.

Not by the name of the connection, which may lead to another server or account later.
"""


class ReportRunHook(BaseHook):
    """
    Use Stripe's Reporting API over an Airflow connection of type ``reportrun``.

    The hook repeats requests that fail temporarily within seconds (``RetryPolicy``). It keeps one
    session open: close the hook, or use it as a context manager.

    :param reportrun_conn_id: the connection.
    :param stripe_context: the account that the reports are about; overrides the connection's. None,
        or what a template renders to without a value, keeps that.
    :param api: the generation of the API, ``"v2.reporting"``, ``"v2.data"`` or ``"v1"``; overrides
        the connection's.
    :raises InvalidInput: if ``reportrun_conn_id`` is empty, or ``stripe_context`` or ``api`` cannot
        be used.
    """

    conn_name_attr = "reportrun_conn_id"
    default_conn_name = "reportrun_default"
    conn_type = CONNECTION_TYPE
    hook_name = "Stripe Reporting"

    def __init__(
        self,
        reportrun_conn_id: str = default_conn_name,
        *,
        stripe_context: str | None = None,
        api: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.reportrun_conn_id: str = required(reportrun_conn_id, "reportrun_conn_id")
        self.stripe_context = _checked_context(stripe_context)
        self._api = None if is_nothing(api) else named(str(api))
        self._session: requests.Session | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields for Airflow 3.0 and 3.1; later ones read provider info."""
        from airflow_provider_reportrun.hooks import connection_form

        return connection_form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the labels of the form's usual fields for Airflow 3.0 and 3.1."""
        from airflow_provider_reportrun.hooks import connection_form

        return connection_form.field_behaviour()

    @cached_property
    def access(self) -> ApiAccess:
        """
        The content of the connection, read once.

        :raises InvalidInput: if there is no such connection, or if a field of it cannot be used.
        :raises TransportError: if Airflow cannot look up the connection.
        """
        return read_connection(self._connection())

    # Two methods each, so no frame of an error of ``read_connection`` contains Airflow's
    # connection: error trackers record local variables, and a connection prints its password.
    def _connection(self) -> Connection:
        try:
            return self.get_connection(self.reportrun_conn_id)
        except AirflowNotFoundException:
            outage = look_up_outage(self.reportrun_conn_id)
            failure = _no_connection(self.reportrun_conn_id, outage)
        except Exception as error:  # noqa: BLE001 - whatever Airflow's side raises
            failure = _no_connection(self.reportrun_conn_id, type(error).__name__)
        raise failure

    async def aread_access(self) -> ApiAccess:
        """Read the connection as ``access`` does, awaiting, and each time anew."""
        return read_connection(await self._aconnection())

    async def _aconnection(self) -> Connection:
        try:
            return await aget_connection(self.reportrun_conn_id)
        except AirflowNotFoundException:
            outage = await asyncio.to_thread(look_up_outage, self.reportrun_conn_id)
            # Transient, because the operator read the connection before it deferred.
            failure = _no_connection(self.reportrun_conn_id, outage, transient=True)
        except Exception as error:  # noqa: BLE001 - whatever Airflow's side raises
            failure = _no_connection(self.reportrun_conn_id, type(error).__name__)
        raise failure

    @property
    def api(self) -> Generation:
        """The generation of the API: the hook's, or the connection's."""
        return self._api or named(self.access.api)

    def for_queries(self) -> ReportRunHook:
        """
        Return a hook for query runs, over the same connection.

        Its methods about report runs are about query runs then.

        :raises InvalidInput: if this generation of the API has no query runs.
        """
        hook = ReportRunHook(
            self.reportrun_conn_id,
            stripe_context=self.stripe_context,
            api=queries_of(self.api).name,
        )
        hook.access = self.access
        return hook

    @property
    def effective_context(self) -> str | None:
        """The account that the reports are about: the hook's, the connection's, or None."""
        return self.stripe_context or self.access.stripe_context

    def get_conn(self) -> requests.Session:
        """
        Return the session that the hook uses, which sends the key and the version.

        Use it only for the API's own host.

        :raises InvalidInput: if the connection cannot be used.
        """
        from airflow_provider_reportrun.client import transport

        if self._session is None:
            self._session = transport.new_session(self.access)
            transport.speak(self._session, self.access, self.api, self.effective_context)
        return self._session

    def close(self) -> None:
        """Close the session, if one was opened."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def converse(self, flow: Flow[T], *, waits: bool = True) -> T:
        """
        Run a conversation, blocking.

        :param waits: whether to wait in place. If not, the conversation stops at its first wait,
            and goes on from there if it is run again.
        :raises ReportRunError: as the conversation does.
        :raises WouldWait: if it wants to wait, and ``waits`` is False.
        """
        pause = _pause if waits else _pause_or_leave
        return drive(flow, send=self._send, pause=pause, measure=telemetry.measure)

    def _send(self, request: Request) -> Response:
        """Send one request, or use an answer that is fresh enough."""
        if request.fresh_since == float("inf"):
            return self._send_now(request)
        access = self.access
        question = (access.base_url, access.api_key, self.effective_context, request.path)
        answer = _answers.find(question, request.fresh_since)
        if answer is None:
            asked_at = time.monotonic()
            answer = self._send_now(request)
            if answer.status == HTTPStatus.OK:
                _answers.keep(question, answer, asked_at)
        return answer

    def _send_now(self, request: Request) -> Response:
        from airflow_provider_reportrun.client import transport

        return transport.send(self.get_conn(), self.access, request)

    async def aconverse(self, flow: Flow[T]) -> T:
        """Run a conversation, awaiting, over the session that all triggers share."""
        from airflow_provider_reportrun.client.session import talk

        async with talk(self.reportrun_conn_id, self.aread_access, self.stripe_context) as one:
            return await adrive(flow, send=one.send, pause=one.pause, measure=telemetry.measure)

    async def _aconverse_with(self, flow_of: Callable[[Generation], Flow[T]]) -> T:
        """
        Run the conversation of a generation, awaiting.

        The generation is read from the connection over the shared session, which outlives an outage
        of Airflow.
        """
        from airflow_provider_reportrun.client.session import talk

        async with talk(self.reportrun_conn_id, self.aread_access, self.stripe_context) as one:
            flow = flow_of(self._api or named((await one.access()).api))
            return await adrive(flow, send=one.send, pause=one.pause, measure=telemetry.measure)

    def create_report_run(
        self,
        report: str,
        report_parameters: Mapping[str, Any],
        result_options: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> ReportRun:
        """
        Create a report run.

        :param report: id of the report template.
        :param report_parameters: maps names to strings, lists of strings or aware datetimes;
            ``interval_start`` and ``interval_end`` are a half-open interval.
        :param result_options: ``{"compress_file": True}`` for a ZIP.
        :param idempotency_key: up to 255 characters; the same key returns the same report run for
            30 days, with ``v1`` for 24 hours. None uses a random key, which covers only the repeats
            of this call.
        :raises InvalidInput: if an argument cannot be used; nothing was sent.
        :raises CapacityExceeded: if the key has as many report runs in progress as it may.
        :raises ReportRunError: see the tree in ``errors.py``.

        Source: https://docs.stripe.com/api/v2/reporting/report-runs/create
        """
        return self.converse(
            _creation(self.api, report, report_parameters, result_options, idempotency_key)
        )

    async def acreate_report_run(
        self,
        report: str,
        report_parameters: Mapping[str, Any],
        result_options: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> ReportRun:
        """Create a report run as ``create_report_run`` does, awaiting."""
        return await self._aconverse_with(
            lambda api: _creation(api, report, report_parameters, result_options, idempotency_key)
        )

    def get_report_run(self, report_run_id: str) -> ReportRun:
        """
        Get a report run as it is now; a succeeded one has a fresh, short-lived URL.

        :raises NotFound: if the key's account has no report run with this id.
        :raises ReportRunError: see the tree in ``errors.py``.
        """
        return self.converse(ask(calls.get_run(self.api, report_run_id)))

    async def aget_report_run(self, report_run_id: str) -> ReportRun:
        """Get a report run as ``get_report_run`` does, awaiting."""
        return await self._aconverse_with(lambda api: ask(calls.get_run(api, report_run_id)))

    def get_result_file(self, report_run_id: str) -> ResultFile | None:
        """
        Get the facts of a result, with its columns if this version of the API returns them.

        :return: None if the report run has no result (yet).
        :raises NotFound: if the key's account has no report run with this id.
        :raises ReportRunError: see the tree in ``errors.py``.
        """
        if not self.api.columns_query:
            return self.get_report_run(report_run_id).file
        try:
            run = self.converse(ask(calls.get_run(self.api, report_run_id, columns=True)))
        except InvalidRequest as error:
            log.warning("The API does not return the columns of results: %s", error)
            run = self.get_report_run(report_run_id)
        return run.file

    def get_report(self, report_id: str) -> Report:
        """
        Get a report template: its parameters, and which data it has.

        :raises NotFound: if there is no such report; names the nearest that there are.
        :raises ReportRunError: see the tree in ``errors.py``.
        """
        return self.converse(finding.get_report(self.api, report_id))

    async def aget_report(self, report_id: str) -> Report:
        """Get a report template as ``get_report`` does, awaiting."""
        return await self._aconverse_with(lambda api: finding.get_report(api, report_id))

    def list_reports(self) -> ReportList:
        """
        Get the reports that the account may run, sorted by id.

        ``id``, ``name``, and the window of their data: ``data_start`` and ``data_end``, in UTC,
        both None with ``v2.data``. ``parameters`` come only with ``get_report`` there.

        ``v2.reporting`` has no list, so each report that is known is requested, one by one, and
        ``is_complete`` is False: the account may have others.

        :return: a list with the attribute ``is_complete``.
        :raises PermissionDenied: if the key may not read any report.
        :raises ReportRunError: see the tree in ``errors.py``.
        """
        return self.converse(finding.list_reports(self.api))

    def wait_for_report_run(
        self,
        report_run_id: str,
        *,
        poll_interval: float | timedelta = POLL_INTERVAL_SECONDS,
        timeout: float | timedelta = DAY_SECONDS,
    ) -> ReportRun:
        """
        Wait in place until a report run has succeeded.

        :param poll_interval: shortest time between two polls, in seconds or a timedelta; it grows
            with the age of the report run, up to ten times as much. Only the first polls come
            sooner, when the report run is about 2, 5 and 12 seconds old.
        :param timeout: in seconds, or a timedelta; 0 polls once.
        :raises ReportRunFailed: if it ended in ``failed``.
        :raises DeadlinePassed: if it is unfinished after the timeout; it continues at Stripe.
        """
        shortest = seconds(poll_interval, "poll_interval")
        span = timeout if isinstance(timeout, int | float) else timeout.total_seconds()
        patience = Patience(
            deadline=time.time() + span,
            pace=Pace(shortest_seconds=shortest, longest_seconds=10 * shortest),
        )
        return self.converse(flows.await_finished(self.api, report_run_id, patience=patience))

    def download_result(self, report_run_id: str, path: str | Path) -> ResultFacts:
        """
        Download the result of a succeeded report run to a local file, and verify it.

        The file is never partial: it is written under a temporary name and renamed.

        :param path: an existing file is replaced, and missing folders are created.
        :raises InvalidInput: if it is a folder.
        :raises LandingFailed: if it cannot be written.
        :raises ResultCorrupt: if the download is not what the API announced.
        :raises ReportRunError: see the tree in ``errors.py``.
        """
        from airflow_provider_reportrun.landing.local import download_to_file

        return download_to_file(self, report_run_id, path)

    @contextmanager
    def open_result(
        self, url: Secret, headers: Mapping[str, str], *, with_key: bool = False
    ) -> Iterator[Stream]:
        """
        Open a result file over a session of its own.

        :param url: a credential, which is never logged; the caller has checked its host.
        :param with_key: whether to send the API key, the version and the account; only for a host
            that may get the key.
        :raises TransportError: if no answer arrived.
        """
        from airflow_provider_reportrun.client import transport

        with (
            transport.new_file_session(self.access, self.api, self.effective_context)
            if with_key
            else transport.new_bare_session() as session,
            transport.open_stream(session, self.access, url, headers) as stream,
        ):
            yield stream

    def test_connection(self) -> tuple[bool, str]:
        """
        Test the connection by requesting a report run that does not exist.

        :return: whether the key can read report runs, and what to do if it cannot.
        """
        try:
            probe = calls.get_run(self.api, "reprun_connection_test")
            self.converse(ask(probe, policy=asking.ONE_OF_MANY))
        except NotFound as error:
            if error.unknown_path or error.code not in _NO_SUCH_RUN:
                return False, f"This 404 does not prove the key: check the host and proxy. {error}"
        except AuthenticationError as error:
            return False, str(error).replace("The API", f"The API at {self.access.base_url}", 1)
        except PermissionDenied as error:
            return False, _denied(error, self.api.permissions.needs, self.effective_context)
        except ReportRunError as error:
            return False, str(error)
        finally:
            self.close()
        return True, _works(self.access, self.api.permissions.needs, self.effective_context)


def _works(access: ApiAccess, needs: str, context: str | None) -> str:
    account = f"the account {context}" if context else "its account"
    return (
        f"The API at {access.base_url} knows this key, which may read report runs of {account}. "
        f"Only a create can show whether it may create them: a restricted key needs {needs}."
    )


def _denied(error: PermissionDenied, needs: str, context: str | None) -> str:
    if error.context_missing and not context:
        return (
            "The API knows this key, which needs a Stripe-Context: fill in the field "
            f"stripe_context with the account that the reports are about (acct_...). {error}"
        )
    if error.context_missing:
        return (
            f"The API knows this key, which has no access to the account {context}: correct the "
            f"field stripe_context. {error}"
        )
    of_account = f" of the account {context}" if context else ""
    or_account = ", or correct the field stripe_context" if context else ""
    return (
        f"The API knows this key, which may not read report runs{of_account}: give it the "
        f"permission it needs ({needs}){or_account}. {error}"
    )


def forget_answers() -> None:
    """Request every report's definition again, for tests that change it."""
    _answers.drop()


def _pause(step: Pause) -> None:
    """Wait in place; a blocking conversation has no line to share with others."""
    match step:
        case Backoff() | Sleep() | AwaitRoom():
            time.sleep(step.seconds)
        case WaitBegins() | TakeTurn() | LeaveLine() | RoomMade():
            return
        case _:
            assert_never(step)


def _pause_or_leave(step: Pause) -> None:
    """
    Carry out what takes no longer than a request.

    :raises WouldWait: for every other pause.
    """
    if isinstance(step, Sleep | AwaitRoom | WaitBegins):
        raise WouldWait(step)
    _pause(step)


def _no_connection(
    conn_id: str, outage: str | None, *, transient: bool = False
) -> InvalidInput | TransportError:
    if outage is None:
        return InvalidInput(
            f"There is no Airflow connection {conn_id!r}. Create one of type {CONNECTION_TYPE!r} "
            "with an API key as its password, or name another one in reportrun_conn_id.",
            **({"transient": True} if transient else {}),
        )
    return TransportError(
        f"Airflow could not look up the connection {conn_id!r} ({outage}). Check its API server "
        f"and secrets backend; if they work, create a connection of type {CONNECTION_TYPE!r}, or "
        "name another one in reportrun_conn_id."
    )


def _creation(
    api: Generation,
    report: str,
    report_parameters: Mapping[str, Any],
    result_options: Mapping[str, Any] | None,
    idempotency_key: str | None,
) -> Flow[ReportRun]:
    checked = checked_parameters(report_parameters, start=None, end=None, zone=None)
    midnight = missed_midnight(report_parameters.get(INTERVAL_END), zone=None)
    if midnight is not None:
        log.warning("%s", half_open(checked[INTERVAL_END], midnight))
    return ask(
        calls.create_run(
            api,
            ReportRequest(report, checked, result_options),
            idempotency_key or str(uuid.uuid4()),
        ),
        policy=asking.UNTIL_DONE,
    )


def _checked_context(stripe_context: Any) -> str | None:
    """
    Refuse a context that cannot be a header.

    :raises InvalidInput: names the argument.
    """
    if is_nothing(stripe_context):
        return None
    if (
        isinstance(stripe_context, str)
        and stripe_context.isascii()
        and stripe_context.isprintable()
        and not looks_like_a_key(stripe_context)
    ):
        return stripe_context.strip() or None
    raise InvalidInput(
        "stripe_context must be an account such as acct_123: one line of ASCII text, and not an "
        f"API key. It is a {type(stripe_context).__name__}, not shown because it may be a key."
    )
