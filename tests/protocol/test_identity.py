"""The idempotency key: the same for the same create, another for any other."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from airflow_provider_reportrun.protocol.identity import (
    TaskIdentity,
    idempotency_key,
    key_after_failure,
)

TASK = TaskIdentity(dag_id="d", run_id="r", task_id="t", map_index=-1)
BODY = {"report": "balance_summary", "report_parameters": {"a": "1", "b": ["2", "3"]}}
SAME = {"namespace": "", "generation": 1, "stripe_context": None, "body": BODY}


def key(identity=TASK, **changes):
    """Make the key of a task instance, but for the changes."""
    return idempotency_key(identity, **SAME | changes)


def test_the_key_never_changes():
    """Running deployments walk their keys again after an upgrade: these digits are a promise."""
    assert key() == "91830394baa41e78108f99503cd258a605678f65e434c2c0c494ca1de7226f0c"
    assert key("mine") == "68e9b3f7a3d9de26d98d1a37d2b84b75188a9021faca0b947453f3476c3ecb81"
    assert (
        key_after_failure("a" * 64, "reprun_1")
        == "beecf5698f9e10eccdb570be763f88225239b24594e2aaaa7b7febea2517e1ba"
    )


@pytest.mark.parametrize(
    "other",
    [
        lambda: key(replace(TASK, dag_id="d2")),
        lambda: key(replace(TASK, run_id="r2")),
        lambda: key(replace(TASK, task_id="t2")),
        lambda: key(replace(TASK, map_index=0)),
        lambda: key(namespace="staging"),
        lambda: key(generation=2),
        lambda: key(stripe_context="acct_1"),
        lambda: key(body=BODY | {"report": "payouts_itemized"}),
        lambda: key(body=BODY | {"report_parameters": {"a": "1", "b": ["3", "2"]}}),
        lambda: key(body=BODY | {"result_options": {"compress_file": True}}),
        lambda: key("mine"),
    ],
    ids=[
        *("dag_id", "run_id", "task_id", "map_index", "namespace", "generation", "context"),
        *("report", "parameters", "options", "user's key"),
    ],
)
def test_every_component_makes_another_key(other):
    """What differs in anything that the report run depends on is another report run."""
    assert key() != other()


def test_components_do_not_run_into_each_other():
    """Names that read alike when joined are still different task instances."""
    assert key(replace(TASK, dag_id="a", run_id="b.c")) != key(
        replace(TASK, dag_id="a.b", run_id="c")
    )
    assert key(namespace="ns", stripe_context=None) != key(namespace="", stripe_context="ns")


@pytest.mark.parametrize(
    "other",
    [
        lambda: key("theirs"),
        lambda: key("mine", namespace="staging"),
        lambda: key("mine", generation=2),
        lambda: key("mine", stripe_context="acct_1"),
        lambda: key("mine", body={}),
    ],
    ids=["key", "namespace", "generation", "context", "body"],
)
def test_a_users_key_stands_for_the_task_instance_alone(other):
    """Everything else is still part of the key."""
    assert key("mine") != other()


def test_the_order_of_the_body_does_not_matter():
    """Two spellings of one JSON object are one create."""
    turned = {"report_parameters": {"b": ["2", "3"], "a": "1"}, "report": "balance_summary"}
    assert key() == key(body=turned)


def test_no_context_is_the_keys_own_account():
    """None and an empty string both mean that no context is sent."""
    assert key(stripe_context=None) == key(stripe_context="")


def test_the_api_takes_the_key():
    """It is plain text of less than 255 characters, whatever the names hold."""
    made = key(replace(TASK, dag_id="d" * 250, run_id="manual__2026-08-01T00:00:00+00:00 é"))
    assert len(made) == 64
    assert set(made) <= set("0123456789abcdef")


def test_each_failed_report_run_leads_to_a_key_of_its_own():
    """The chain is made of the keys and the failed report runs, so it can be walked again."""
    chain = [key()]
    for failed in ("reprun_1", "reprun_2", "reprun_1"):
        chain.append(key_after_failure(chain[-1], failed))
    assert len(set(chain)) == 4
    assert chain[1] == key_after_failure(key(), "reprun_1")
