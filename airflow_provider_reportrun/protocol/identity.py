"""
The idempotency key: what makes a repeated create the same create.

Stripe attaches a repeat of a key to the same report run for 30 days and scopes keys to the account
(https://docs.stripe.com/api-v2-overview). So a task that is killed anywhere around its POST finds
its report run again by asking in the same words.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskIdentity:
    """What stays the same over the retries and deferrals of one task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


def idempotency_key(
    identity: TaskIdentity | str,
    *,
    namespace: str,
    generation: int,
    stripe_context: str | None,
    body: Mapping[str, Any],
) -> str:
    """
    Name the report run that a task instance asks for.

    :param identity: of the task instance, or the user's own ``idempotency_key`` in its stead.
    :param namespace: tells two Airflow environments on one account apart.
    :param generation: new after a user's clear.
    :param stripe_context: the account the report is about, None for the key's own.
    :param body: what is sent; other parameters are another report run.
    :return: 64 hexadecimal digits; the API takes up to 255 characters.
    """
    own = (
        [identity.dag_id, identity.run_id, identity.task_id, identity.map_index]
        if isinstance(identity, TaskIdentity)
        else [identity]
    )
    return _digest([namespace, own, generation, stripe_context or "", dict(body)])


def body_digest(body: Mapping[str, Any]) -> str:
    """Tell one body from another, without storing it."""
    return _digest(dict(body))


def key_after_failure(key: str, report_run_id: str) -> str:
    """
    Name the report run to ask for after one has failed.

    Any later try walks the same way again: from the first key to its failed run, to the next key.

    :param report_run_id: of the failed report run that ``key`` stands for.
    """
    return _digest([key, report_run_id])


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
