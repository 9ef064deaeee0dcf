"""The arguments of triggers: checked where they are made, which for watchers is the DAG file."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from datetime import datetime, timedelta, timezone

import anyio
import pytest
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.serialization import serialized_objects
from airflow.triggers.base import BaseEventTrigger
from support.versions import import_string

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.triggers.report_run import (
    CreateReportRunTrigger,
    ReportDataTrigger,
    ReportRunTrigger,
)

DAGS = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)

TRIGGERS = {
    ReportRunTrigger: {"report_run_id": "rr_1"},
    CreateReportRunTrigger: {"report": "r", "report_parameters": {}, "idempotency_key": "k"},
    ReportDataTrigger: {"report": "balance_summary"},
}
SPANS = ["poll_interval", "max_poll_interval", "outage_tolerance"]


def make(kind, **arguments):
    """A trigger of a kind."""
    return kind(**TRIGGERS[kind] | arguments)


def found(data):
    """All triggers in what is stored of a DAG, in the words of JSON."""
    if isinstance(data, dict):
        if "classpath" in data:
            yield data
        data = list(data.values())
    for item in data if isinstance(data, list) else ():
        yield from found(item)


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("kind", TRIGGERS)
def test_a_span_may_be_a_timedelta(kind, name):
    """It is seconds from then on, which Airflow can store."""
    trigger = make(kind, **{name: timedelta(minutes=1)})
    assert getattr(trigger, name) == 60.0
    assert trigger.serialize()[1][name] == 60.0
    assert json.dumps(trigger.serialize())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in SPANS for value in (-1, float("nan"), float("inf"), True)],
        *[(name, value) for name in SPANS for value in ("60", None, timedelta(seconds=-1))],
        *[(name, 0) for name in SPANS[:2]],
        *[(name, timedelta(0)) for name in SPANS[:2]],
        ("poll_interval", 10**400),
        ("deadline", "tomorrow"),
        ("deadline", float("inf")),
        ("deadline", float("nan")),
        ("deadline", -1),
        ("deadline", True),
        ("deadline", timedelta(hours=1)),
        ("deadline", datetime(2026, 1, 1, tzinfo=timezone.utc)),
    ],
)
@pytest.mark.parametrize("kind", TRIGGERS)
def test_a_wrong_pace_is_refused(kind, name, value):
    """By name, where the trigger is made: for a watcher that is an error of import."""
    with pytest.raises(InvalidInput, match=f"^{name} must be "):
        make(kind, **{name: value})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"report": ""}, "report must be the id of a report"),
        ({"report": None}, "report must be the id of a report"),
        ({"report": "{{ params.report }}"}, "report must be the id of a report"),
        ({"interval_end": "soon"}, "'2025-08-18T00:00:00Z', not 'soon'"),
        ({"interval_end": ""}, "'2025-08-18T00:00:00Z', not ''"),
        ({"interval_end": "2026-01-01"}, "interval_end is 2026-01-01 without an offset"),
        ({"interval_end": 5}, "interval_end must be a datetime"),
    ],
)
def test_what_to_watch_is_checked_as_well(arguments, words):
    """A watcher that cannot work is not started again and again."""
    with pytest.raises(InvalidInput) as caught:
        make(ReportDataTrigger, **arguments)
    assert words in str(caught.value)[:100]


@pytest.mark.parametrize(
    "end",
    ["2026-01-01T01:00:00+01:00", "2026-01-01 00:00Z", datetime(2026, 1, 1, tzinfo=timezone.utc)],
)
def test_the_end_of_an_interval_is_stored_in_one_form(end):
    """As the rows of earlier releases have it."""
    trigger = make(ReportDataTrigger, interval_end=end)
    assert trigger.serialize()[1]["interval_end"] == "2026-01-01T00:00:00.000Z"


def test_waits_are_as_quick_as_their_task_asks():
    """They end, and the connection's budget bounds their requests."""
    for kind in (ReportRunTrigger, CreateReportRunTrigger):
        assert make(kind, poll_interval=0.05).poll_interval == 0.05
    wait = make(ReportDataTrigger, interval_end="2026-01-01T00:00:00Z", poll_interval=0.05)
    assert wait.poll_interval == 0.05


@pytest.mark.parametrize("value", [0.05, 1e-9, timedelta(milliseconds=1), 1])
def test_a_watcher_looks_once_a_second_at_most(value):
    """It never ends, so whatever its DAG file says is borne for good."""
    trigger = make(ReportDataTrigger, poll_interval=value, max_poll_interval=value)
    assert (trigger.poll_interval, trigger.max_poll_interval) == (1.0, 1.0)


def test_the_floor_holds_while_it_watches(sandbox):
    """Two looks are a second apart."""
    began = time.monotonic()

    async def looks():
        kwargs = make(ReportDataTrigger, poll_interval=0.01).serialize()[1]
        with anyio.fail_after(10):
            async with aclosing(ReportDataTrigger.open_shared_stream(kwargs)) as stream:
                await anext(stream)
                await anext(stream)

    asyncio.run(looks())
    assert 1.0 <= time.monotonic() - began < 5.0
    assert len(sandbox.requests) == 2


@pytest.mark.parametrize("value", [timedelta(minutes=1), 60, 60.0])
def test_a_watcher_comes_back_from_a_stored_dag(value):
    """Serialised with its DAG, stored, and made again by the triggerer, it is the same."""
    trigger = make(ReportDataTrigger, poll_interval=value)
    data = Asset("data", watchers=[AssetWatcher(name="w", trigger=trigger)])
    with DAG("d", schedule=[data]) as dag:
        pass
    stored = json.loads(json.dumps(DAGS.to_dict(dag)))
    first, *_ = found(stored)
    kwargs = {
        name: serialized_objects.BaseSerialization.deserialize(kept)
        for name, kept in first["kwargs"].items()
    }
    again = import_string(first["classpath"])(**kwargs)
    path, arguments = trigger.serialize()
    assert again.serialize() == (path, arguments)
    assert again.poll_interval == 60.0
    assert BaseEventTrigger.hash(path, arguments) == BaseEventTrigger.hash(*again.serialize())
