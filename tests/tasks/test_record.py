"""What a task instance remembers between its tries, where Airflow keeps a store for it."""

from __future__ import annotations

import time

import pytest
from support.cases import DAY_SECONDS, FAST, NO_ROOM, PLACES, STILL_RUNNING, STORE, STORES
from support.task_instances import dag, first_event, load_trigger, run_task
from support.versions import deserialize

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import DeadlinePassed, ReportRunFailed, ServerError
from airflow_provider_reportrun.operators.report_run import CreateReportRunOperator
from airflow_provider_reportrun.sandbox import Answer, Fault, Hold, LoseAnswer

DOWN = Answer(status=500, headers={"Stripe-Should-Retry": "false"})
CLEARED = {"try_number": 2, "max_tries": 4}
"""After one try of a task with three retries."""


class Tries:
    """
    The tries of one task instance.

    :param keeps: whether Airflow keeps the store from try to try, as 3.3 does.
    """

    def __init__(self, sandbox, keeps):
        self.sandbox = sandbox
        self.keeps = keeps
        self.store = {}

    def run(self, task, **arguments):
        """Run one try; forget the requests of earlier ones."""
        self.before = len(self.sandbox.requests)
        return run_task(task, store=self.store if self.keeps else None, **arguments)

    @property
    def operations(self):
        """What the last try asked for."""
        return [request.operation for request in self.sandbox.requests[self.before :]]


@pytest.fixture(params=[STORE])
def tries(sandbox, request):
    """Tries with a store."""
    return Tries(sandbox, keeps=request.param)


def make(**arguments):
    """An operator in a DAG of its own."""
    defaults = {"task_id": "create", "report": "balance_summary", "retries": 3}
    with dag():
        return CreateReportRunOperator(**defaults | FAST | arguments)


def keys(sandbox):
    """The idempotency keys that arrived, in order."""
    return [
        request.headers["idempotency-key"]
        for request in sandbox.requests
        if request.operation == "create"
    ]


def deadline_of(outcome):
    """The deadline of the only deferral."""
    (deferral,) = outcome.deferrals
    return deferral.trigger_kwargs["deadline"]


# With and without a store


@STORES
@PLACES
@pytest.mark.parametrize("waits", [False, True], ids=["create only", "and wait"])
def test_a_retry_finds_the_same_report_run(sandbox, keeps, deferrable, waits, capsys, caplog):
    """By a GET where there is a store, by the key where there is none."""
    tries = Tries(sandbox, keeps)
    task = make(deferrable=deferrable, wait_for_completion=waits)
    first = tries.run(task)
    sandbox.runs[0].created_ns -= 60 * 10**9
    second = tries.run(task, try_number=2)
    assert first.returned == second.returned == sandbox.runs[0].id
    assert len(sandbox.runs) == 1
    assert ("create" in tries.operations) is not keeps
    said = capsys.readouterr().out + caplog.text
    assert f"Attached to report run {second.returned}" in said


@STORES
def test_a_lost_answer_is_found_by_the_next_try(sandbox, keeps):
    """What was created and not heard of is in no record, and the key finds it."""
    tries = Tries(sandbox, keeps)
    sandbox.faults.add(Fault("create", LoseAnswer()))
    sandbox.faults.add(Fault("create", DOWN))
    first = tries.run(make())
    assert isinstance(first.error, ServerError)
    assert tries.run(make(), try_number=2).returned == sandbox.runs[0].id
    assert len(sandbox.runs) == 1
    assert len(set(keys(sandbox))) == 1


@STORES
@PLACES
def test_a_clear_asks_for_a_new_report_run(sandbox, keeps, deferrable):
    """The store outlives the clear, and what it holds is not used."""
    tries = Tries(sandbox, keeps)
    task = make(deferrable=deferrable)
    first = tries.run(task)
    cleared = tries.run(task, **CLEARED)
    assert cleared.state == "success", cleared.error
    assert first.returned != cleared.returned
    retried = tries.run(task, try_number=3, max_tries=4)
    assert retried.returned == cleared.returned
    assert len(sandbox.runs) == 2


@STORES
def test_a_second_clear_asks_for_another_one(sandbox, keeps):
    """Each clear is a generation of its own."""
    tries = Tries(sandbox, keeps)
    arguments = [{}, CLEARED, {"try_number": 3, "max_tries": 5}]
    assert len({tries.run(make(), **each).returned for each in arguments}) == 3


@STORES
def test_a_clear_may_reuse_the_report_run(sandbox, keeps):
    """With on_clear="reuse" the same report run is found, and again by the tries after it."""
    tries = Tries(sandbox, keeps)
    task = make(on_clear="reuse")
    found = [
        tries.run(task, **arguments).returned
        for arguments in ({}, CLEARED, {"try_number": 3, "max_tries": 4})
    ]
    assert set(found) == {sandbox.runs[0].id}
    assert len(sandbox.runs) == 1
    assert ("create" in tries.operations) is not keeps


@STORES
def test_a_clear_in_the_middle_of_a_wait(sandbox, keeps):
    """A task that was cleared while it was deferred asks for a new report run."""
    tries = Tries(sandbox, keeps)
    task = make(deferrable=True, wait_for_completion=True)
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    tries.run(task, event_of=None)
    cleared = tries.run(task, **CLEARED)
    assert cleared.returned == sandbox.runs[1].id


@STORES
def test_a_clear_after_a_wait(sandbox, keeps):
    """Airflow resumes a task that was cleared while it ran, with an event of before the clear."""
    tries = Tries(sandbox, keeps)
    task = make(deferrable=True, wait_for_completion=True)
    (deferral,) = tries.run(task, event_of=None).deferrals
    resume = {
        "next_method": deferral.next_method,
        "next_kwargs": deserialize(deferral.model_dump()["next_kwargs"])
        | {"event": first_event(load_trigger(deferral))},
    }
    resumed = tries.run(task, resume=resume)
    assert resumed.returned == sandbox.runs[0].id
    cleared = tries.run(task, resume=resume, **CLEARED)
    assert cleared.returned == sandbox.runs[1].id
    assert len(sandbox.runs) == 2


@STORES
@PLACES
def test_a_failed_report_run_leads_to_a_new_one(sandbox, keeps, deferrable):
    """The try after a report run that failed creates another; the try after that finds it."""
    tries = Tries(sandbox, keeps)
    sandbox.fail_next(1)
    task = make(wait_for_completion=True, deferrable=deferrable)
    assert isinstance(tries.run(task).error, ReportRunFailed)
    second = tries.run(task, try_number=2)
    assert second.returned == sandbox.runs[1].id
    third = tries.run(task, try_number=3)
    assert third.returned == sandbox.runs[1].id
    assert len(sandbox.runs) == 2


@STORES
def test_a_file_that_is_too_large_stays_so(sandbox, keeps):
    """No later try spends another report run on it."""
    tries = Tries(sandbox, keeps)
    task = make(wait_for_completion=True, report="card_transactions_itemized")
    for number in (1, 2):
        outcome = tries.run(task, try_number=number)
        assert isinstance(outcome.error, ReportRunFailed)
        assert isinstance(outcome.error, AirflowFailException)
    assert len(sandbox.runs) == 1


@STORES
def test_a_create_that_does_not_wait_takes_what_it_created(sandbox, keeps):
    """Whether the report run failed is for whoever waits for it."""
    tries = Tries(sandbox, keeps)
    sandbox.fail_next(1)
    found = [tries.run(make(), try_number=number).returned for number in (1, 2)]
    assert set(found) == {sandbox.runs[0].id}


# What the store adds


def test_changed_parameters_are_another_report_run(sandbox, tries):
    """What was recorded for other parameters is left alone."""
    first = tries.run(make())
    second = tries.run(make(report_parameters={"currency": "eur"}), try_number=2)
    assert first.returned != second.returned
    third = tries.run(make(report_parameters={"currency": "eur"}), try_number=3)
    assert third.returned == second.returned
    assert tries.operations == ["get_run"]


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_an_edit_of_retries_keeps_the_key(sandbox, tries, retries):
    """Between two tries of a task that has no report run yet, the recorded key is used."""
    sandbox.faults.add(Fault("create", DOWN))
    assert tries.run(make()).state == "up_for_retry"
    outcome = tries.run(make(retries=retries), try_number=2, max_tries=3)
    assert outcome.state == "success", outcome.error
    assert len(set(keys(sandbox))) == 1


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_an_edit_of_retries_keeps_the_report_run(sandbox, tries, retries):
    """Between two tries of a task that has one, it is found by its id."""
    first = tries.run(make())
    second = tries.run(make(retries=retries), try_number=2, max_tries=3)
    assert first.returned == second.returned
    assert "create" not in tries.operations


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_an_edit_of_retries_is_no_end_after_a_failed_run(sandbox, tries, retries):
    """The next try still creates a new report run."""
    sandbox.fail_next(1)
    first = tries.run(make(wait_for_completion=True))
    assert isinstance(first.error, ReportRunFailed)
    task = make(wait_for_completion=True, retries=retries)
    second = tries.run(task, try_number=2, max_tries=3)
    assert second.state == "success", second.error
    assert second.returned == sandbox.runs[1].id


def test_a_report_run_that_is_gone_is_asked_for_under_its_key(sandbox, tries):
    """404 for the recorded id falls back to the create, which finds it or makes it anew."""
    first = tries.run(make())
    sandbox.faults.add(Fault("get_run", Answer(status=404)))
    second = tries.run(make(retries=5), try_number=2, max_tries=3)
    assert tries.operations[0] == "get_run"
    assert tries.operations[-1] == "create"
    assert first.returned == second.returned
    assert len(set(keys(sandbox))) == 1


def test_an_outage_of_the_get_is_retried_by_airflow(sandbox, tries):
    """A record that cannot be followed for a moment is no reason to create."""
    tries.run(make())
    sandbox.faults.add(Fault("get_run", DOWN))
    second = tries.run(make(), try_number=2)
    assert second.state == "up_for_retry"
    assert isinstance(second.error, ServerError)
    assert tries.operations == ["get_run"]
    assert tries.run(make(), try_number=3).returned == sandbox.runs[0].id


@pytest.mark.parametrize("junk", [None, 5, "text", [], {}, {"deadline": "soon"}])
def test_a_record_that_cannot_be_read_is_none(sandbox, tries, junk):
    """Of another version, or of somebody else."""
    first = tries.run(make())
    assert set(tries.store) == {"report_run"}
    tries.store["report_run"] = junk
    second = tries.run(make(), try_number=2)
    assert second.state == "success", second.error
    assert first.returned == second.returned


def test_a_record_holds_no_secrets(sandbox, tries):
    """Neither the key nor a URL."""
    tries.run(make(wait_for_completion=True))
    assert sandbox.api_key not in str(tries.store)
    assert "http" not in str(tries.store)
    assert sandbox.runs[0].id in str(tries.store)


def test_the_report_run_of_a_deferred_create_is_recorded(sandbox, tries):
    """What the triggerer created is found by a GET when the worker dies after it."""
    sandbox.faults.add(Fault("create", NO_ROOM))
    first = tries.run(make(deferrable=True))
    assert len(first.deferrals) == 1
    second = tries.run(make(deferrable=True), try_number=2)
    assert first.returned == second.returned
    assert tries.operations == ["get_run"]


# The deadline


def test_the_deadline_of_the_first_try_holds_in_the_next(sandbox, tries):
    """A retry does not extend the timeout; a clear begins anew."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    task = make(deferrable=True, wait_for_completion=True, timeout=3600)
    first = deadline_of(tries.run(task, event_of=None))
    assert abs(first - time.time() - 3600) < 60
    assert deadline_of(tries.run(task, try_number=2, event_of=None)) == first
    assert deadline_of(tries.run(task, event_of=None, **CLEARED)) > first


def test_without_a_store_the_deadline_is_that_of_the_try(sandbox):
    """Where Airflow remembers nothing, it counts from the beginning of each try."""
    tries = Tries(sandbox, keeps=False)
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    sandbox.faults.add(Fault("create", STILL_RUNNING, times=None))
    task = make(deferrable=True, wait_for_completion=True)
    first = deadline_of(tries.run(task, event_of=None))
    assert deadline_of(tries.run(task, try_number=2, event_of=None)) > first


def test_a_clear_that_reuses_begins_a_new_deadline(sandbox, tries):
    """Somebody asked for another wait."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    task = make(deferrable=True, wait_for_completion=True, on_clear="reuse")
    first = deadline_of(tries.run(task, event_of=None))
    assert deadline_of(tries.run(task, event_of=None, **CLEARED)) > first
    assert len(sandbox.runs) == 1


def test_the_deadline_holds_for_a_wait_for_room(sandbox, tries):
    """Also where the first try never got as far as a report run."""
    sandbox.faults.add(Fault("create", NO_ROOM, times=None))
    task = make(deferrable=True)
    first = deadline_of(tries.run(task, event_of=None))
    assert deadline_of(tries.run(task, try_number=2, event_of=None)) == first


def test_the_deadline_holds_for_a_wait_for_data(sandbox, tries):
    """Also where the first try never got as far as a create."""
    sandbox.advance(-30 * DAY_SECONDS)
    task = make(deferrable=True, wait_for_data=True)
    first = deadline_of(tries.run(task, event_of=None))
    assert deadline_of(tries.run(task, try_number=2, event_of=None)) == first


@PLACES
def test_a_try_after_the_deadline_looks_once(sandbox, tries, deferrable):
    """It ends for good where the report is still running, and well where it is finished."""
    running = sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    task = make(wait_for_completion=True, deferrable=deferrable, timeout=0.2)
    tries.run(make(wait_for_completion=True, deferrable=True, timeout=0.2), event_of=None)
    time.sleep(0.3)
    late = tries.run(task, try_number=2)
    assert isinstance(late.error, DeadlinePassed), late.error
    assert isinstance(late.error, AirflowFailException)
    assert late.error.report_run_id == sandbox.runs[0].id
    running.times = 0
    assert tries.run(task, try_number=3).state == "success"
    assert len(sandbox.runs) == 1


@PLACES
def test_a_first_create_after_the_deadline_is_asked_for_once(sandbox, tries, deferrable):
    """The timeout is for waiting: a try that need not wait succeeds, however late it comes."""
    sandbox.faults.add(Fault("create", DOWN))
    task = make(timeout=0.2, deferrable=deferrable)
    assert tries.run(task).state == "up_for_retry"
    time.sleep(0.3)
    late = tries.run(task, try_number=2)
    assert late.state == "success", late.error
    assert late.returned == sandbox.runs[0].id


# Kills


@STORES
@pytest.mark.parametrize("before", ["handling", "answering"])
def test_a_kill_in_the_middle_of_the_create(sandbox, keeps, before):
    """Whether the POST had been carried out or not, the next try ends with one report run."""
    tries = Tries(sandbox, keeps)
    # A request that is never answered is all that another process sees of a kill.
    held = sandbox.faults.add(Fault("create", Hold(seconds=0.3, before=before)))
    sandbox.faults.add(Fault("create", DOWN))
    impatient = sandbox.connection_json.replace("}", ', "extra": {"request_timeout": 0.1}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", impatient)
        assert tries.run(make()).state == "up_for_retry"
    held.release()
    assert tries.run(make(), try_number=2).state == "success"
    assert len(sandbox.runs) == 1


@STORES
def test_a_kill_of_the_worker_after_the_wait(sandbox, keeps):
    """The trigger has fired and the worker dies before it goes on: the next try finds it all."""
    tries = Tries(sandbox, keeps)
    sandbox.faults.add(Fault("create", NO_ROOM))
    fired = []

    def dies(trigger):
        fired.append(first_event(trigger))
        raise KeyboardInterrupt

    task = make(deferrable=True, wait_for_completion=True)
    with pytest.raises(KeyboardInterrupt):
        tries.run(task, event_of=dies)
    second = tries.run(task, try_number=2)
    assert second.returned == fired[0]["report_run_id"]
    assert len(sandbox.runs) == 1
