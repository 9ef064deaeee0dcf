"""The watcher of new data: its events, its looks shared, its watermark, its place in a DAG file."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from datetime import timedelta

import anyio
import pytest
from airflow.sdk import Asset
from airflow.triggers.base import BaseEventTrigger
from support.cases import DAY_SECONDS, FAST

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.protocol.interval import format_instant, last_midnight
from airflow_provider_reportrun.sandbox import Answer, Fault, Patch
from airflow_provider_reportrun.triggers.report_run import ReportDataTrigger

LIMIT_SECONDS = 20


class Store:
    """What Airflow 3.3 gives the watcher of one asset, kept over restarts of the triggerer."""

    def __init__(self):
        self.kept = {}

    async def aget(self, key, default=None):
        """Read."""
        return self.kept.get(key, default)

    async def aset(self, key, value):
        """Write."""
        self.kept[key] = value


def watcher(**arguments):
    """A watcher that looks often."""
    return ReportDataTrigger(**{"report": "balance_summary"} | FAST | arguments)


async def payloads(trigger, count, *, between=lambda: None):
    """
    The first events of a watcher.

    :param between: is called after each event but the last.
    """
    found = []
    with anyio.fail_after(LIMIT_SECONDS):
        async with aclosing(trigger.run()) as events:
            async for event in events:
                found.append(event.payload)
                if len(found) == count:
                    return found
                between()
    raise AssertionError("a watcher ended")


def days(*payloads):
    """The interval of each event."""
    return [(payload["interval_start"], payload["interval_end"]) for payload in payloads]


@pytest.fixture
def midnight(sandbox, monkeypatch):
    """The end of the last whole day that the sandbox has, and a connection without a budget."""
    extra = ', "extra": {"max_requests_per_second": 1000}}'
    monkeypatch.setenv(
        "AIRFLOW_CONN_REPORTRUN_DEFAULT", sandbox.connection_json.replace("}", extra)
    )
    through = ReportRunHook().get_report("balance_summary").parameters["interval_end"].latest
    sandbox.reset()
    return last_midnight(through)


def day(end, length=1):
    """The interval of so many days before an instant."""
    return format_instant(end - timedelta(days=length)), format_instant(end)


# Events


def test_the_first_look_tells_of_the_last_whole_day(midnight):
    """The payload says what to ask for, in the words of the create."""
    (payload,) = asyncio.run(payloads(watcher(), 1))
    assert set(payload) == {"report", "interval_start", "interval_end", "available_through"}
    assert payload["report"] == "balance_summary"
    assert days(payload) == [day(midnight)]
    assert payload["available_through"] >= payload["interval_end"]


def test_each_new_day_is_told_once(sandbox, midnight):
    """Half days, which is how data arrive, and looks without news tell nothing."""
    found = asyncio.run(payloads(watcher(), 3, between=lambda: sandbox.advance(DAY_SECONDS)))
    ends = [midnight + timedelta(days=number) for number in range(3)]
    assert days(*found) == [day(end) for end in ends]


def test_days_that_came_together_are_told_together(sandbox, midnight):
    """After an outage one event covers what is new, without a gap."""
    found = asyncio.run(payloads(watcher(), 2, between=lambda: sandbox.advance(3 * DAY_SECONDS)))
    assert days(*found)[1] == day(midnight + timedelta(days=3), length=3)


@pytest.mark.parametrize(
    ("fault", "level"),
    [
        (Answer(status=503, headers={"Stripe-Should-Retry": "false"}), "WARNING"),
        (Answer(status=403), "ERROR"),
        (Patch({"parameters": {}}), "ERROR"),
    ],
    ids=["outage", "forbidden", "no window"],
)
def test_what_fails_is_looked_at_again(sandbox, midnight, fault, level, caplog):
    """A watcher that ended would be started again at once, without any pause."""
    sandbox.faults.add(Fault("get_report", fault, times=2))
    with caplog.at_level(logging.WARNING):
        (payload,) = asyncio.run(payloads(watcher(), 1))
    assert days(payload) == [day(midnight)]
    said = {record.levelname for record in caplog.records if "trying again" in record.message}
    assert said == {level}


# Watermark


def test_a_restarted_watcher_goes_on_where_it_was(sandbox, midnight):
    """What was told before the restart is not told again, and what came meanwhile is."""
    store = Store()

    def started():
        trigger = watcher()
        trigger.asset_state_store = store
        return trigger

    asyncio.run(payloads(started(), 2, between=lambda: sandbox.advance(DAY_SECONDS)))
    assert list(store.kept.values()) == [format_instant(midnight)], "the last may not be stored"
    sandbox.advance(2 * DAY_SECONDS)
    (payload,) = asyncio.run(payloads(started(), 1))
    assert days(payload) == [day(midnight + timedelta(days=3), length=3)]


# Sharing


def test_what_is_not_the_same_is_not_shared():
    """Report, connection, account and interval of looks are what a stream is made of."""
    keys = {
        watcher(**arguments).shared_stream_key()
        for arguments in (
            {},
            {"report": "payouts_itemized"},
            {"reportrun_conn_id": "other"},
            {"stripe_context": "acct_2"},
            {"poll_interval": 60},
        )
    }
    assert len(keys) == 5
    assert watcher(interval_end="2026-01-01T00:00:00.000Z").shared_stream_key() is None


if hasattr(BaseEventTrigger, "shared_stream_key"):  # Airflow 3.3

    def test_watchers_of_one_report_share_their_looks(sandbox, midnight):
        """Airflow's own manager runs one stream for three watchers, and each tells."""
        from airflow.triggers.shared_stream import SharedStreamManager

        async def first_of_each(triggers):
            manager = SharedStreamManager(max_subscriber_queue=10)
            (key,) = {trigger.shared_stream_key() for trigger in triggers}

            async def first(number, trigger):
                stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
                async with aclosing(trigger.filter_shared_stream(stream)) as events:
                    return (await anext(events)).payload

            with anyio.fail_after(LIMIT_SECONDS):
                found = await asyncio.gather(*[first(*each) for each in enumerate(triggers)])
            await manager.stop_all()
            return found

        slow = {"poll_interval": 60, "max_poll_interval": 60}
        found = asyncio.run(first_of_each([watcher(**slow) for _ in range(3)]))
        assert days(*found) == [day(midnight)] * 3
        assert len(sandbox.requests) == 1

    def test_a_watcher_of_several_assets_tells_the_last_day_again(midnight):
        """Airflow's store is for one asset."""
        from airflow.sdk.execution_time.context import AssetStateStoreAccessors

        trigger = watcher()
        trigger.asset_state_store = AssetStateStoreAccessors([Asset("one"), Asset("two")])
        assert days(*asyncio.run(payloads(trigger, 1))) == [day(midnight)]


# In a DAG file


def test_a_watcher_is_the_same_each_time_the_dag_file_is_read():
    """Airflow knows triggers of assets by a hash, and one that changes would be started anew."""
    path, kwargs = watcher().serialize()
    again = ReportDataTrigger(**kwargs)
    assert again.serialize() == (path, kwargs)
    assert BaseEventTrigger.hash(path, kwargs) == BaseEventTrigger.hash(*again.serialize())


def test_a_task_that_waits_may_name_a_queue_of_triggerers():
    """Airflow keeps watchers off such queues, but this class serves tasks as well."""
    assert getattr(ReportDataTrigger, "supports_triggerer_queue", True)
