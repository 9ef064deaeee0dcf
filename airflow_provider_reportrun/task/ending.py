"""
Tasks that end in the triggerer (``end_from_trigger``), so that no worker resumes them.

Only success ends there. Every other outcome resumes the task on a worker, which decides what it
means. What Airflow 3.3.2 leaves out for a task that ends in a trigger is refused: asset events
(``handle_event_submit`` of ``airflow.models.trigger`` only sets the state) and success callbacks
(``_execute_task_callbacks`` of its DAG processor runs those of failures only).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from airflow_provider_reportrun._compat import pushes_from_triggers
from airflow_provider_reportrun.errors import InvalidInput

RUN_ID: Final = "run_id"
FACTS: Final = "facts"
NOTHING: Final = "nothing"
"""What a task returns that ends in the triggerer: the run's id, what a sensor returns, or None."""
RETURN_KEY: Final = "return_value"
ENDINGS: Final = (RUN_ID, FACTS, NOTHING)


def check_ending(task: Any) -> None:
    """
    Refuse ``end_from_trigger`` if the task would lose something.

    :raises InvalidInput: says what.
    """
    if not task.end_from_trigger:
        return
    if not pushes_from_triggers():
        raise InvalidInput(
            "Remove end_from_trigger: it needs Airflow 3.3 or later. Before, a trigger cannot push "
            "what the task returns."
        )
    if task.outlets:
        raise InvalidInput(
            "Remove end_from_trigger or the outlets: Airflow creates no asset events for a task "
            "that ends in the triggerer. The download of the result may have the outlets."
        )
    if task.on_success_callback:
        raise InvalidInput(
            "Remove end_from_trigger or on_success_callback: Airflow does not call it for a task "
            "that ends in the triggerer. It may come from default_args."
        )
    if task.multiple_outputs:
        raise InvalidInput(
            "Remove end_from_trigger or multiple_outputs: only a worker splits what a task returns."
        )


def ending_of(task: Any, returned: str) -> str | None:
    """
    Return what a trigger pushes before it ends a task.

    :param returned: what the task returns, ``RUN_ID`` or ``FACTS``.
    :return: None if the task resumes on a worker: by default, and if it got outlets or a callback
        after it was made, or another task is mapped over what it returns.
    """
    if not task.end_from_trigger or task.outlets or task.on_success_callback:
        return None
    if any(True for _ in task.iter_mapped_dependants()):
        return None
    return returned if task.do_xcom_push else NOTHING


async def push(ti: Any, key: str, value: Any, *, to_backend: bool = True) -> None:
    """
    Push an XCom from a trigger.

    The event that ends a task may contain XComs, but Airflow 3.3 stores those as JSON text, which
    tasks then read as text. So they are pushed before.

    :param key: of the XCom; ``RETURN_KEY`` for what the task returns.
    :param ti: the task instance that the trigger is of.
    :param to_backend: whether a custom XCom backend stores the value.

    Source: ``XComModel.set`` of Airflow 3.3.2, called by ``handle_event_submit``.
    """
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.xcom import XCom

    # In a thread, because a custom XCom backend may use the network.
    await asyncio.to_thread(
        (XCom if to_backend else BaseXCom).set,
        key,
        value,
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
    )
