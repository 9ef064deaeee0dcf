"""The operator that does it all in one task, over its tries, as real task instances."""

from __future__ import annotations

import asyncio

import pytest
from support.cases import (
    BODY,
    END,
    FAST,
    NATIVE,
    NO_ROOM,
    PLACES,
    START,
    STILL_RUNNING,
    STORES,
)
from support.task_instances import dag, first_event, run_task
from support.versions import secrets_masker

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import (
    DeadlinePassed,
    InvalidInput,
    LandingExists,
    ReportRunFailed,
    ResultGone,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.operators.report_run import ReportRunToStorageOperator
from airflow_provider_reportrun.sandbox import Answer, Fault, Patch

OLD = b"old\n"


@pytest.fixture(autouse=True)
def _nothing_masked():
    """Forget what earlier tests hid: each URL makes Airflow's masker slower."""
    secrets_masker.reset_secrets_masker()


@pytest.fixture
def folder(tmp_path):
    """An empty folder to land in."""
    path = tmp_path / "landed"
    path.mkdir()
    return path


def make(folder, dag_arguments=None, **arguments):
    """An operator in a DAG of its own."""
    defaults = {
        "task_id": "land",
        "report": "balance_summary",
        "destination": f"{folder}/{{{{ ds }}}}.csv",
        "retries": 3,
    }
    with dag(**dag_arguments or {}):
        return ReportRunToStorageOperator(**defaults | FAST | arguments)


def files(folder):
    """What stands in the folder, temporary files included."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def posts(sandbox):
    """The creates that arrived."""
    return [request for request in sandbox.requests if request.operation == "create"]


def stores(keeps):
    """Give the store of each try: one for all of them, or none at all."""
    store = {} if keeps else None
    return lambda: store


# Plain, native and mapped


@PLACES
@NATIVE
def test_creates_waits_and_lands(sandbox, folder, deferrable, native):
    """One report run, one file, and the facts; the interval that was sent is shown."""
    sandbox.deliver_next(BODY)
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=2))
    task = make(folder, {"render_template_as_native_obj": native}, deferrable=deferrable)
    outcome = run_task(task)
    assert outcome.state == "success", outcome.error
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert outcome.returned == (folder / "2026-10-26.csv").as_uri()
    assert outcome.xcom["landing"]["report_run_id"] == sandbox.runs[0].id
    assert outcome.xcom["landing"]["interval_start"] == START
    assert outcome.rendered["interval_start"] == START
    assert outcome.rendered["interval_end"] == END
    assert outcome.rendered["destination"] == str(folder / "2026-10-26.csv")
    assert len(outcome.deferrals) == int(deferrable)
    assert len(posts(sandbox)) == 1


@pytest.mark.parametrize("deferrable", [None, False], ids=["default", "in place"])
@NATIVE
def test_mapped_instances_have_files_of_their_own(sandbox, folder, deferrable, native):
    """Each with its own key, report run and file, also when it is tried again."""
    more = {} if deferrable is None else {"deferrable": deferrable}
    bodies = [b"one\n", b"two\n"]
    reports = ["balance_summary", "payouts_itemized"]
    with dag(render_template_as_native_obj=native):
        mapped = ReportRunToStorageOperator.partial(
            task_id="land", destination=f"{folder}/{{{{ task.report }}}}.csv", **FAST | more
        ).expand(report=reports)
    for body in bodies:
        sandbox.deliver_next(body)
    for number in (1, 2):
        for index, report in enumerate(reports):
            sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=2 - number))
            task = mapped.unmap({"report": report})
            outcome = run_task(task, map_index=index, try_number=number)
            assert outcome.state == "success", outcome.error
            assert outcome.xcom["landing"]["report"] == report
    assert files(folder) == dict(
        zip(["balance_summary.csv", "payouts_itemized.csv"], bodies, strict=True)
    )
    assert len(sandbox.runs) == 2


def test_mapped_instances_of_one_report(sandbox, folder):
    """A Connect platform maps one task over its accounts."""
    with dag():
        mapped = ReportRunToStorageOperator.partial(
            task_id="land",
            report="balance_summary",
            destination=f"{folder}/{{{{ task.stripe_context }}}}.csv",
            **FAST,
        ).expand(stripe_context=["acct_1", "acct_2"])
    for index, account in enumerate(["acct_1", "acct_2"]):
        sandbox.faults.add(Fault("get_run", STILL_RUNNING))
        outcome = run_task(mapped.unmap({"stripe_context": account}), map_index=index)
        assert outcome.state == "success", outcome.error
    assert set(files(folder)) == {"acct_1.csv", "acct_2.csv"}
    assert [run.account for run in sandbox.runs] == ["acct_1", "acct_2"]


def test_a_mapped_argument_may_be_what_waits(sandbox, folder):
    """The defaults of the class hold for mapped tasks, and may be mapped themselves."""
    with dag():
        mapped = ReportRunToStorageOperator.partial(
            task_id="land", report="balance_summary", destination=f"{folder}/r.csv", **FAST
        ).expand(deferrable=[True, False])
    assert mapped.unmap({"deferrable": False}).wait_for_data is True
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    outcome = run_task(mapped.unmap({"deferrable": False}), map_index=1)
    assert outcome.state == "success", outcome.error
    assert outcome.deferrals == []


def test_it_always_waits_for_the_report():
    """wait_for_completion is no choice."""
    with pytest.raises(TypeError, match="wait_for_completion"), dag():
        ReportRunToStorageOperator(
            task_id="land", report="r", destination="r.csv", wait_for_completion=False
        )


# What stands there already


@PLACES
@pytest.mark.parametrize("if_exists", ["skip", "fail"])
def test_what_stands_there_is_looked_at_before_any_request(sandbox, folder, deferrable, if_exists):
    """No report run is spent on a file that is not wanted."""
    (folder / "2026-10-26.csv").write_bytes(OLD)
    outcome = run_task(make(folder, if_exists=if_exists, deferrable=deferrable))
    if if_exists == "skip":
        assert outcome.state == "success", outcome.error
        assert outcome.xcom["landing"]["skipped"] is True
    else:
        assert isinstance(outcome.error, LandingExists)
        assert isinstance(outcome.error, AirflowFailException)
    assert sandbox.requests == []
    assert files(folder) == {"2026-10-26.csv": OLD}


@pytest.mark.parametrize("if_exists", ["skip", "fail"])
def test_what_came_while_waiting_is_looked_at_again(sandbox, folder, if_exists):
    """Before publishing, after the wait in the triggerer."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))

    def meanwhile(trigger):
        (folder / "2026-10-26.csv").write_bytes(OLD)
        return first_event(trigger)

    outcome = run_task(make(folder, if_exists=if_exists), event_of=meanwhile)
    if if_exists == "skip":
        assert outcome.state == "success", outcome.error
        assert outcome.xcom["landing"]["skipped"] is True
    else:
        assert isinstance(outcome.error, LandingExists)
        assert isinstance(outcome.error, AirflowFailException)
    assert files(folder) == {"2026-10-26.csv": OLD}


@PLACES
def test_what_stands_there_is_replaced_by_default(sandbox, folder, deferrable):
    """By the whole new file, and by nothing where there is none."""
    (folder / "2026-10-26.csv").write_bytes(OLD)
    sandbox.fail_next(1)
    assert run_task(make(folder, deferrable=deferrable)).state == "up_for_retry"
    assert files(folder) == {"2026-10-26.csv": OLD}
    sandbox.deliver_next(BODY)
    assert run_task(make(folder, deferrable=deferrable), try_number=2).state == "success"
    assert files(folder) == {"2026-10-26.csv": BODY}


# Its tries


@PLACES
@STORES
def test_the_try_after_a_failed_run_lands_the_second(sandbox, folder, deferrable, keeps):
    """A report run that failed costs one retry, and what lands is the next one's."""
    store = stores(keeps)
    sandbox.fail_next(1)
    task = make(folder, deferrable=deferrable)
    first = run_task(task, store=store())
    assert isinstance(first.error, ReportRunFailed)
    assert not isinstance(first.error, AirflowFailException)
    assert files(folder) == {}
    sandbox.deliver_next(BODY)
    second = run_task(task, try_number=2, store=store())
    assert second.state == "success", second.error
    assert second.xcom["landing"]["report_run_id"] == sandbox.runs[1].id
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert len(sandbox.runs) == 2


def files_gone(sandbox, runs=1, status=404):
    """Let the files of the first report runs be gone for good."""

    def lost(run):
        if run["id"] in [each.id for each in sandbox.runs[:runs]] and run["result"]:
            url = run["result"]["file"]["download_url"]["url"]
            run["result"]["file"]["download_url"]["url"] = f"{url}&gone=1"
        return run

    sandbox.faults.add(Fault("get_run", Patch(lost), times=None))
    sandbox.faults.add(Fault("download", Answer(status=status), match="gone=1", times=None))


@PLACES
@STORES
@pytest.mark.parametrize("status", [404, 410])
def test_the_try_after_a_file_is_gone_lands_the_second(sandbox, folder, deferrable, keeps, status):
    """A file that is gone costs one retry, as a failed report run does."""
    store = stores(keeps)
    task = make(folder, deferrable=deferrable)
    sandbox.deliver_next(b"gone\n")
    sandbox.deliver_next(BODY)
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    files_gone(sandbox, status=status)
    first = run_task(task, store=store())
    assert first.state == "up_for_retry"
    assert isinstance(first.error, ResultGone)
    assert not isinstance(first.error, AirflowFailException)
    assert first.error.report_run_id == sandbox.runs[0].id
    assert "the next try creates a new report run" in str(first.error)[:100]
    assert len(sandbox.runs) == 1
    assert files(folder) == {}
    second = run_task(task, try_number=2, store=store())
    assert second.state == "success", second.error
    assert second.xcom["landing"]["report_run_id"] == sandbox.runs[1].id
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert len(sandbox.runs) == 2


@PLACES
@STORES
def test_each_try_asks_for_one_report_run_more(sandbox, folder, deferrable, keeps):
    """However many files are gone or report runs failed before."""
    store = stores(keeps)
    task = make(folder, deferrable=deferrable)
    sandbox.deliver_next(b"gone\n")
    files_gone(sandbox, runs=2)
    for number in (1, 2):
        outcome = run_task(task, try_number=number, store=store())
        assert isinstance(outcome.error, ResultGone), outcome.error
        assert len(sandbox.runs) == number
    sandbox.fail_next(1)
    third = run_task(task, try_number=3, store=store())
    assert isinstance(third.error, ReportRunFailed), third.error
    sandbox.deliver_next(BODY)
    fourth = run_task(task, try_number=4, max_tries=3, store=store())
    assert files(folder) == {"2026-10-26.csv": BODY}, fourth.error
    assert len(sandbox.runs) == 4


@STORES
def test_a_new_report_run_after_one_that_is_gone_waits_for_room(sandbox, folder, keeps):
    """In the triggerer, which knows what is gone."""
    store = stores(keeps)
    sandbox.deliver_next(b"gone\n")
    files_gone(sandbox)
    assert run_task(make(folder), store=store()).state == "up_for_retry"
    sandbox.deliver_next(BODY)
    sandbox.faults.add(Fault("create", NO_ROOM, after=1))
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, after=0 if keeps else 2))
    second = run_task(make(folder), try_number=2, store=store())
    assert second.state == "success", second.error
    assert len(second.deferrals) == 1
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert len(sandbox.runs) == 2


@STORES
@pytest.mark.parametrize("moved", [False, True], ids=["waits for the report", "waits for room"])
def test_a_kill_after_the_wait_costs_no_report_run(sandbox, folder, keeps, moved):
    """The worker dies when the trigger has fired: the next try lands what there is."""
    store = stores(keeps)
    sandbox.deliver_next(BODY)
    if moved:
        sandbox.faults.add(Fault("create", NO_ROOM))
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))

    def dies(trigger):
        first_event(trigger)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(make(folder), store=store(), event_of=dies)
    second = run_task(make(folder), try_number=2, store=store())
    assert second.state == "success", second.error
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert len(sandbox.runs) == 1


@STORES
@PLACES
def test_a_landing_that_breaks_costs_no_report_run(sandbox, folder, deferrable, keeps):
    """The next try fetches the same report run again; with a store it does not even POST."""
    store = stores(keeps)
    sandbox.deliver_next(BODY)
    # The report run is polled twice, and then asked for the URL of its result.
    sandbox.faults.add(Fault("get_run", STILL_RUNNING))
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, after=1))
    first = run_task(make(folder, deferrable=deferrable), store=store())
    assert isinstance(first.error, UnexpectedAnswer), first.error
    assert first.state == "up_for_retry", first.error
    assert files(folder) == {}
    before = len(posts(sandbox))
    second = run_task(make(folder, deferrable=deferrable), try_number=2, store=store())
    assert second.state == "success", second.error
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert len(sandbox.runs) == 1
    assert len(posts(sandbox)) - before == int(not keeps)


@STORES
def test_a_clear_lands_a_new_report_run(sandbox, folder, keeps):
    """The file of the first is replaced."""
    store = stores(keeps)
    for body in (OLD, BODY):
        sandbox.deliver_next(body)
    run_task(make(folder), store=store())
    assert files(folder) == {"2026-10-26.csv": OLD}
    cleared = run_task(make(folder), try_number=2, max_tries=4, store=store())
    assert cleared.state == "success", cleared.error
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert len(sandbox.runs) == 2


@STORES
def test_a_clear_may_land_the_same_report_run_again(sandbox, folder, keeps):
    """With on_clear="reuse" no other one is spent."""
    store = stores(keeps)
    sandbox.deliver_next(BODY)
    run_task(make(folder, on_clear="reuse"), store=store())
    (folder / "2026-10-26.csv").unlink()
    task = make(folder, on_clear="reuse")
    cleared = run_task(task, try_number=2, max_tries=4, store=store())
    assert cleared.state == "success", cleared.error
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert len(sandbox.runs) == 1


def test_a_trigger_that_is_restarted_lands_once(sandbox, folder):
    """The triggerer dies in the middle of the wait; the row is loaded again."""
    running = sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    sandbox.deliver_next(BODY)
    sandbox.faults.add(Fault("create", NO_ROOM))

    def restarted(trigger):
        async def dies():
            task = asyncio.create_task(anext(trigger.run()))
            await asyncio.to_thread(running.reached.wait, 10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(dies())
        running.times = 0
        return first_event(type(trigger)(**trigger.serialize()[1]))

    outcome = run_task(make(folder), event_of=restarted)
    assert outcome.state == "success", outcome.error
    assert files(folder) == {"2026-10-26.csv": BODY}
    assert len(sandbox.runs) == 1


@PLACES
def test_the_timeout_leaves_nothing_behind(sandbox, folder, deferrable):
    """The report run goes on, and no file stands anywhere."""
    sandbox.faults.add(Fault("get_run", STILL_RUNNING, times=None))
    outcome = run_task(make(folder, deferrable=deferrable, timeout=0.3))
    assert isinstance(outcome.error, DeadlinePassed)
    assert sandbox.runs[0].id in str(outcome.error)
    assert files(folder) == {}


@PLACES
def test_a_run_without_an_interval_is_refused(sandbox, folder, deferrable):
    """Nothing is sent."""
    task = make(folder, deferrable=deferrable, destination=f"{folder}/r.csv")
    outcome = run_task(task, interval=None)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert "CronDataIntervalTimetable" in str(outcome.error)
    assert sandbox.requests == []
