"""
How a task requests a report run, waits for it and resumes.

``execute`` drives one conversation, ``flows.fulfil``. A deferrable task leaves its worker at the
first wait. The trigger then drives the same conversation from its beginning, under the same
idempotency key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from airflow_provider_reportrun.errors import DataWindowUnknown, InvalidRequest
from airflow_provider_reportrun.links.report_run import failures_linked, keep_link, show_link
from airflow_provider_reportrun.operators._base import ApiOperator
from airflow_provider_reportrun.protocol import flows
from airflow_provider_reportrun.protocol.calls import checked_key
from airflow_provider_reportrun.protocol.drivers import WouldWait
from airflow_provider_reportrun.protocol.flows import Order
from airflow_provider_reportrun.protocol.generations import argument_of
from airflow_provider_reportrun.protocol.identity import TaskIdentity, body_digest, idempotency_key
from airflow_provider_reportrun.protocol.requests import QueryRequest
from airflow_provider_reportrun.task.arguments import check_all
from airflow_provider_reportrun.task.ending import RUN_ID, ending_of
from airflow_provider_reportrun.task.outcomes import operator_outcomes, rendered_fields_kept
from airflow_provider_reportrun.task.record import (
    Record,
    began_at,
    clear_generation,
    continued,
    is_first,
    recall,
    remember,
)
from airflow_provider_reportrun.task.waiting import defer_timeout, patience_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_reportrun.hooks.report_run import ReportRunHook
    from airflow_provider_reportrun.protocol.asking import Patience
    from airflow_provider_reportrun.protocol.flows import Definition, Plan
    from airflow_provider_reportrun.protocol.models import ReportRun
    from airflow_provider_reportrun.protocol.requests import RunRequest
    from airflow_provider_reportrun.task.arguments import Late

NEW_RUN: Final = "new_run"
REUSE: Final = "reuse"


class Settled(NamedTuple):
    """What a task requests, and how it was decided."""

    request: RunRequest
    left_out: frozenset[str] = frozenset()
    """Default bounds of the interval that are not sent."""
    definition: Definition | None = None
    """The report's definition, if it was looked up."""


class Attempt(Struct, frozen=True, kw_only=True):
    """What one try does: what it requests, what else it does, for how long, what it remembers."""

    order: Order
    plan: Plan
    patience: Patience
    record: Record

    def without(self, report_run_id: str) -> Attempt:
        """Return the attempt to get another report run, because a file no longer exists."""
        gone = self.order.gone | {report_run_id}
        return replace(
            self,
            order=replace(self.order, gone=gone),
            plan=replace(self.plan, known_run_id=None),
            record=replace(self.record, report_run_id=None, gone=sorted(gone)),
        )


class RunOperator(ApiOperator):
    """An operator that creates a report run, or finds it again, and may wait for it."""

    deferrable: bool
    end_from_trigger: bool
    idempotency_key: Any
    max_poll_interval: float | timedelta
    on_clear: Late
    poll_interval: float | timedelta
    timeout: float | timedelta
    wait_for_completion: Any

    def settle(self, context: Context, hook: ReportRunHook, earlier: Record | None) -> Settled:
        """
        Decide what to request.

        :param earlier: the record of an earlier try, if there is one.
        :raises InvalidInput: names the argument and the fix; no create was sent.
        """
        raise NotImplementedError

    def settled_before(
        self, context: Context, hook: ReportRunHook, left_out: frozenset[str]
    ) -> Settled:
        """
        Return what was requested before the task was deferred.

        :param left_out: default bounds of the interval that were not sent.
        """
        raise NotImplementedError

    def correct(
        self, context: Context, hook: ReportRunHook, left_out: frozenset[str]
    ) -> Settled | None:
        """
        Decide what to request instead, after the API refused a request.

        :param left_out: default bounds of the interval that were not sent.
        :return: None if the refusal is final.
        """
        raise NotImplementedError

    def plan(self, definition: Definition | None) -> Plan:
        """Return what to do besides the create."""
        raise NotImplementedError

    def kept(self, context: Context) -> Any | None:  # noqa: ARG002 - for subclasses
        """Return the result of a task that has nothing to do; None to go on."""
        return None

    def finish(
        self,
        context: Context,  # noqa: ARG002 - for subclasses
        hook: ReportRunHook,  # noqa: ARG002
        attempt: Attempt,  # noqa: ARG002
        report_run_id: str,
    ) -> Any:
        """Return the result of the task, now that there is a report run."""
        return report_run_id

    def execute(self, context: Context) -> Any:
        """
        Create the report run, or find it again, and wait if the arguments say so.

        :return: see the class.
        """
        with rendered_fields_kept(self, context), operator_outcomes(self):
            check_all(self, self.argument_checks)
            kept = self.kept(context)
            if kept is not None:
                return kept
            with self.hook() as hook, failures_linked(self, context, hook):
                earlier = None if is_first(self, context) else recall(context)
                settled = self.settle(context, hook, earlier)
                try:
                    attempt = self._attempt(context, hook, settled, earlier)
                    return self.fulfil(context, hook, attempt)
                except (InvalidRequest, DataWindowUnknown):
                    corrected = self.correct(context, hook, settled.left_out)
                    if corrected is None:
                        raise
                attempt = self._attempt(context, hook, corrected, earlier)
                return self.fulfil(context, hook, attempt)

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        max_tries: int | None = None,
        left_out: Sequence[str] = (),
    ) -> Any:
        """
        Resume after the wait in the triggerer.

        Airflow also resumes a task that was cleared while it ran, with the event from before the
        clear. Such a task starts again.

        :param max_tries: the task instance's when it was deferred, which a clear changes; None if
            an earlier release deferred it.
        :param left_out: default bounds of the interval that were not sent.
        :return: see the class.
        :raises ReportRunError: the error that ended the wait.
        """
        from airflow_provider_reportrun.triggers.report_run import resumed_report_run_id

        if max_tries not in (None, context["ti"].max_tries):
            return self.execute(context)
        with operator_outcomes(self):
            check_all(self, self.argument_checks)
            with self.hook() as hook, failures_linked(self, context, hook):
                earlier = recall(context)
                try:
                    report_run_id = resumed_report_run_id(event)
                except (InvalidRequest, DataWindowUnknown):
                    corrected = self.correct(context, hook, frozenset(left_out))
                    if corrected is None:
                        raise
                    attempt = self._attempt(context, hook, corrected, earlier)
                    return self.fulfil(context, hook, attempt)
                self.log.info("Resumed with %s %s", hook.api.noun, report_run_id)
                settled = self.settled_before(context, hook, frozenset(left_out))
                attempt = self._attempt(context, hook, settled, earlier)
                self.found_run_id = report_run_id
                # A first try recorded its report run and linked to it at the same time.
                is_first_try = attempt.order.tries == 1
                if not is_first_try or attempt.record.report_run_id != report_run_id:
                    self._keep(context, hook, attempt, report_run_id, stays=True)
                return self.finish(context, hook, attempt, report_run_id)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume, or fail if the triggerer did not keep the deadline."""
        keep_link(self)
        with rendered_fields_kept(self, context), operator_outcomes(self):
            return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Log that the report run goes on, because the API has no cancel."""
        if self.found_run_id:
            self.log.info("%s %s goes on at Stripe", self.noun.capitalize(), self.found_run_id)

    def fulfil(self, context: Context, hook: ReportRunHook, attempt: Attempt) -> Any:
        """
        Get the report run and finish the task; defer it at the first wait if it is deferrable.

        :return: the result of the task.
        """
        if attempt.plan.known_run_id is None:
            remember(context, attempt.record)
        found: str | None = None
        may_need_another = flows.may_need_another(attempt.order, attempt.plan)
        waits = attempt.plan.wait_for_completion or may_need_another

        def created(run: ReportRun) -> None:
            nonlocal found
            found = run.id
            stays = waits and (run.is_finished or not self.deferrable)
            self._keep(context, hook, attempt, run.id, stays=stays)

        conversation = flows.fulfil(
            attempt.order, attempt.plan, patience=attempt.patience, on_created=created
        )
        try:
            run = hook.converse(conversation, waits=not self.deferrable)
        except WouldWait:
            run = None
        if run is None:
            if may_need_another:
                found = None  # the trigger finds it by its key, and looks at its data
            self._defer(context, attempt, found)
        return self.finish(context, hook, attempt, run.id)

    def _attempt(
        self, context: Context, hook: ReportRunHook, settled: Settled, earlier: Record | None
    ) -> Attempt:
        """Plan this try, and continue what earlier tries began."""
        ti, patience = context["ti"], patience_of(self)
        body = hook.api.create_body(settled.request)
        since_clear = clear_generation(self, context)
        reuses = self.on_clear == REUSE
        first_try = 1 if reuses else since_clear
        own = self.idempotency_key
        new = Record(
            max_tries=ti.max_tries,
            digest=body_digest(body),
            first_try=first_try,
            idempotency_key=idempotency_key(
                _identity(ti) if own is None else checked_key(own),
                namespace=hook.access.idempotency_namespace,
                generation=first_try,
                stripe_context=hook.effective_context,
                body=body,
            ),
            deadline=patience.deadline,
            left_out=sorted(settled.left_out),
            began=began_at(context, first_try),
        )
        record = continued(new, earlier, reuses=reuses)
        if record is not earlier and since_clear > 1:
            self.log.info(
                "This task was cleared: on_clear=%r asks for %s",
                self.on_clear,
                f"the same {self.noun} again" if reuses else f"a new {self.noun}",
            )
        tries = max(ti.try_number - record.first_try + 1, 1)
        return Attempt(
            order=Order(
                api=hook.api,
                request=settled.request,
                reattach=tries > 1,
                since=None if hook.api.run_listing is None else record.began,
                idempotency_key=record.idempotency_key,
                is_shared=own is not None,
                tries=tries,
                gone=frozenset(record.gone),
            ),
            plan=replace(self.plan(settled.definition), known_run_id=record.report_run_id),
            patience=replace(patience, deadline=record.deadline),
            record=record,
        )

    def _keep(
        self,
        context: Context,
        hook: ReportRunHook,
        attempt: Attempt,
        report_run_id: str,
        *,
        stays: bool,
    ) -> None:
        """
        Remember a report run, link to it, and tell lineage.

        :param stays: whether the task stays on its worker.
        """
        self.found_run_id = report_run_id
        if attempt.record.report_run_id != report_run_id:
            remember(context, replace(attempt.record, report_run_id=report_run_id))
        show_link(self, context, hook.access, report_run_id, stays=stays)

    def _defer(self, context: Context, attempt: Attempt, report_run_id: str | None) -> NoReturn:
        left_out = attempt.record.left_out
        self.defer(
            trigger=self._trigger(attempt, report_run_id),
            method_name="execute_complete",
            kwargs={
                "max_tries": context["ti"].max_tries,
                **({"left_out": left_out} if left_out else {}),
            },
            timeout=defer_timeout(attempt.patience.deadline),
        )

    def _trigger(self, attempt: Attempt, report_run_id: str | None) -> BaseTrigger:
        """Return the trigger that goes on with the conversation."""
        from airflow_provider_reportrun.triggers.report_run import (
            CreateReportRunTrigger,
            ReportRunTrigger,
        )

        order, plan, patience = attempt.order, attempt.plan, attempt.patience
        wait: Any = {
            "reportrun_conn_id": self.reportrun_conn_id,
            "stripe_context": self.stripe_context or None,
            "api": argument_of(order.api),
            "poll_interval": patience.pace.shortest_seconds,
            "max_poll_interval": patience.pace.longest_seconds,
            "deadline": patience.deadline,
            "ends_with": ending_of(self, RUN_ID),
        }
        if report_run_id is not None:
            self.log.info("Waiting for %s %s in the triggerer", order.api.noun, report_run_id)
            return ReportRunTrigger(report_run_id=report_run_id, **wait)
        self.log.info("Waiting in the triggerer until the %s can be created", order.api.noun)
        return CreateReportRunTrigger(
            **_of_trigger(order.request),
            since=order.since,
            is_shared=order.is_shared or None,
            idempotency_key=order.idempotency_key,
            runs_allowed=order.tries,
            wait_for_completion=plan.wait_for_completion,
            wait_for_data=plan.wait_for_data,
            gone=sorted(order.gone),
            **wait,
        )


def _of_trigger(request: RunRequest) -> dict[str, Any]:
    """Return a request as arguments of a trigger."""
    options = None if request.options is None else dict(request.options)
    if isinstance(request, QueryRequest):
        return {"sql": request.sql, "result_options": options}
    return {
        "report": request.report.strip(),
        "report_parameters": dict(request.parameters),
        "result_options": options,
    }


def _identity(ti: Any) -> TaskIdentity:
    return TaskIdentity(
        dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index
    )
