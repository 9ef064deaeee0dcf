"""
Create a run, wait for it and land its file, with the conversation and the landing of the operators.

The idempotency key is made of what is asked for, so the same command finds the same run again.
"""

from __future__ import annotations

import logging
import re
import shlex
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_reportrun.cli.console import CREATE, LAND, WAIT, Steps
from airflow_provider_reportrun.cli.main import Stopped
from airflow_provider_reportrun.errors import ReportRunError, ReportRunFailed, ResultGone
from airflow_provider_reportrun.landing.destination import Destination
from airflow_provider_reportrun.landing.land import land, look
from airflow_provider_reportrun.landing.spool import owner_name
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.asking import Patience
from airflow_provider_reportrun.protocol.flows import Order
from airflow_provider_reportrun.protocol.identity import idempotency_key
from airflow_provider_reportrun.protocol.retry import Pace
from airflow_provider_reportrun.task.waiting import DAY_SECONDS

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_reportrun.client.access import ApiAccess
    from airflow_provider_reportrun.client.transport import Stream
    from airflow_provider_reportrun.hooks.report_run import ReportRunHook
    from airflow_provider_reportrun.landing.landed import Landing
    from airflow_provider_reportrun.protocol.flows import Plan
    from airflow_provider_reportrun.protocol.generation import Generation
    from airflow_provider_reportrun.protocol.models import ReportRun, ResultFile
    from airflow_provider_reportrun.protocol.requests import RunRequest
    from airflow_provider_reportrun.secret import Secret

log = logging.getLogger(__name__)

IDENTITY: Final = "airflow reportrun"
"""Stands in for a task instance in the idempotency key."""
PACE: Final = Pace(shortest_seconds=1.0, longest_seconds=60.0)
"""Somebody waits for a single run, so a short one is seen at once."""
MOST_LOST: Final = 50
"""How many failed runs, or runs without a file, of earlier calls are passed by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    What one command runs and lands.

    :param command: how the user attaches again.
    """

    hook: ReportRunHook
    request: RunRequest
    plan: Plan
    destination: Destination
    key: str
    command: str

    @classmethod
    def of(
        cls,
        arguments: Namespace,
        program: str,
        hook: ReportRunHook,
        request: RunRequest,
        plan: Plan,
        *,
        name: str,
    ) -> Job:
        """
        Plan a run.

        :param name: of the file in the current folder, without its suffix, or empty to name it
            after the run.
        :raises InvalidInput: if an argument is not valid.
        """
        body = hook.api.create_body(request)
        key = idempotency_key(
            arguments.idempotency_key or IDENTITY,
            namespace=hook.access.idempotency_namespace,
            generation=1,
            stripe_context=hook.effective_context,
            body=body,
        )
        uri = _uri(arguments.to, name, arguments.output_format)
        destination = Destination(
            uri=uri,
            # Two calls at once must not remove each other's temporary files.
            owner=owner_name(IDENTITY, key, uri, uuid.uuid4().hex),
            storage_conn_id=arguments.storage_conn_id,
            if_exists=arguments.if_exists,
            output_format=arguments.output_format,
            column_names=arguments.column_names,
            is_first_try=True,
        )
        destination.check_result("csv")
        command = f"{program} {shlex.join(sys.argv[1:])}"
        return cls(
            hook=hook,
            request=request,
            plan=plan,
            destination=destination,
            key=key,
            command=command,
        )

    def carry_out(self, steps: Steps) -> Landing:
        """
        Run and land, or keep an existing file if the arguments say so.

        :raises ReportRunError: as ``flows.fulfil`` and ``land`` do.
        :raises Stopped: if a signal stops it; says how to go on.
        """
        kept = look(self.destination)
        if kept is not None:
            return kept
        found: list[ReportRun] = []
        with self._stopped(found):
            landing = self._landed(steps, found)
        return replace(landing, stripe_context=self.hook.effective_context)

    def _landed(self, steps: Steps, found: list[ReportRun]) -> Landing:
        """
        Go from one key of the chain to the next as long as what an earlier call left is lost.

        How many calls there were is not stored. So every run that had already ended when it was
        found counts as one.

        :param found: gets each run that is created or found again.
        """

        def created(run: ReportRun) -> None:
            found.append(run)
            steps.begin(WAIT)
            if not self.hook.api.idempotency.answers_afresh:
                found[-1] = self.hook.get_report_run(run.id)

        gone: frozenset[str] = frozenset()
        for tries in range(1, MOST_LOST + 1):
            steps.begin(CREATE)
            try:
                conversation = flows.fulfil(
                    self._order(tries, gone), self.plan, patience=_patience(), on_created=created
                )
                run = self.hook.converse(conversation)
                steps.begin(LAND)
                source = CountedSource(self.hook, steps.received)
                landing = land(self.destination, source, run.id)
            except (ReportRunFailed, ResultGone) as error:
                if not _is_of_an_earlier_call(error, found):
                    raise
                log.info("Asking for another %s: %s", self.hook.api.noun, error)
                lost = error
                gone |= {found[-1].id}
            else:
                steps.done()
                return landing
        raise lost

    def _order(self, tries: int, gone: frozenset[str]) -> Order:
        # Earlier calls count as other tasks with the same key: where an API has a list, it shows
        # what they created. A first call must not take over a run of somebody else from there.
        return Order(
            api=self.hook.api,
            request=self.request,
            idempotency_key=self.key,
            tries=tries,
            gone=gone,
            since=None if self.hook.api.run_listing is None else time.time(),
            is_shared=True,
            reattach=False,
        )

    @contextmanager
    def _stopped(self, found: list[ReportRun]) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt as stop:
            number = next((each for each in stop.args if isinstance(each, int)), signal.SIGINT)
            run_id = found[-1].id if found else None
        else:
            return
        goes_on = (
            f"{self.hook.api.noun.capitalize()} {run_id} goes on at Stripe."
            if run_id
            else f"If a {self.hook.api.noun} was created meanwhile, it goes on at Stripe."
        )
        raise Stopped(
            f"Stopped. {goes_on} To attach to it again: {self.command}", run_id, number
        ) from None


def _is_of_an_earlier_call(error: ReportRunError, found: list[ReportRun]) -> bool:
    """Tell whether a run that is lost had already ended when it was found."""
    if not found or not found[-1].is_finished:
        return False
    return isinstance(error, ResultGone) or error.transient


def _patience() -> Patience:
    return Patience(deadline=time.time() + DAY_SECONDS, pace=PACE)


def _uri(to: str | None, name: str, output_format: str | None) -> str:
    """
    Return a destination as ``Destination`` takes it.

    :param to: as typed; local paths may be relative.
    """
    if to is None:
        folder = f"{Path.cwd()}/"
        return f"{folder}{_plain(name)}.{output_format or 'csv'}" if name else folder
    if "://" in to or to.startswith("~"):  # which is refused, as no shell has expanded it
        return to
    return f"{Path(to).absolute()}{'/' if to.endswith('/') else ''}"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


@dataclass(frozen=True, slots=True)
class CountedSource:
    """A hook as the source of a landing that tells how many bytes of the result have arrived."""

    hook: ReportRunHook
    tell: Callable[[int, int | None], Any]

    @property
    def access(self) -> ApiAccess:
        """What the connection says."""
        return self.hook.access

    @property
    def api(self) -> Generation:
        """The generation of the API."""
        return self.hook.api

    def get_report_run(self, report_run_id: str) -> ReportRun:
        """Get a report run with a fresh URL."""
        return self.hook.get_report_run(report_run_id)

    def get_result_file(self, report_run_id: str) -> ResultFile | None:
        """Get the result's facts with its columns."""
        return self.hook.get_result_file(report_run_id)

    @contextmanager
    def open_result(
        self, url: Secret, headers: Mapping[str, str], *, with_key: bool = False
    ) -> Iterator[Stream]:
        """Open a result file, and count what is read of it."""
        with self.hook.open_result(url, headers, with_key=with_key) as stream:
            yield replace(stream, chunks=self._counted(stream, headers))

    def _counted(self, stream: Stream, headers: Mapping[str, str]) -> Iterator[bytes]:
        rest = re.match(r"bytes=(\d+)-", headers.get("Range", ""))
        count = int(rest[1]) if rest and stream.length and "Content-Range" in stream.headers else 0
        size = None if stream.length is None else count + stream.length
        for chunk in stream.chunks:
            count += len(chunk)
            self.tell(count, size)
            yield chunk
