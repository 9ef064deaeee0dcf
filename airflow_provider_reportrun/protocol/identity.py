"""
The idempotency key, which makes a repeated create return the same report run.

Stripe answers a repeated key with the same report run for 30 days. Keys are scoped to the account
(https://docs.stripe.com/api-v2-overview). So a task that is killed at any moment around its POST
finds its report run again by sending the same request.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping


class TaskIdentity(Struct, frozen=True, kw_only=True):
    """What stays the same across the retries and deferrals of one task instance."""

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
    Return the key of the report run that a task instance requests.

    :param identity: the task instance's, or the user's ``idempotency_key`` in its place.
    :param namespace: distinguishes Airflow environments that use the same account.
    :param generation: changes after a user's clear.
    :param stripe_context: the account that the report is about; None for the API key's own.
    :param body: what is sent; other parameters mean another report run.
    :return: 64 hexadecimal digits; the API accepts up to 255 characters.
    """
    own = (
        [identity.dag_id, identity.run_id, identity.task_id, identity.map_index]
        if isinstance(identity, TaskIdentity)
        else [identity]
    )
    return _digest([namespace, own, generation, stripe_context or "", dict(body)])


def body_digest(body: Mapping[str, Any]) -> str:
    """Return a digest that identifies a body, so the body itself need not be stored."""
    return _digest(dict(body))


def key_after_failure(key: str, report_run_id: str) -> str:
    """
    Return the key for the next report run after one has failed.

    Every later try follows the same chain: from the first key to its failed report run, and from
    there to the next key.

    :param report_run_id: the failed report run that ``key`` belongs to.
    """
    return _digest([key, report_run_id])


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
