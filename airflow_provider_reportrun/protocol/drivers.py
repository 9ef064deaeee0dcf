"""
Carry a conversation out: the two short loops that are all sync and async differ in.

The idea of sans-I/O libraries, https://sans-io.readthedocs.io/.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from airflow_provider_reportrun.errors import TransportError
from airflow_provider_reportrun.protocol.messages import Flow, Pause, Request, Response
from airflow_provider_reportrun.protocol.metrics import Metric

T = TypeVar("T")


class WouldWait(Exception):
    """
    A conversation wants to wait, and its driver does not.

    The conversation may go on later: driving it again continues after the pause.

    :param step: the pause.
    """

    def __init__(self, step: Pause) -> None:
        super().__init__(step)
        self.step = step


def drive(
    flow: Flow[T],
    *,
    send: Callable[[Request], Response],
    pause: Callable[[Pause], object],
    measure: Callable[[Metric], object],
) -> T:
    """
    Carry a conversation out, blocking.

    :param send: sends one request and returns its answer, or raises ``TransportError``.
    :param pause: does what the other steps ask for, or raises ``WouldWait``.
    :param measure: takes what the conversation measures.
    :return: what the conversation returns.
    :raises Exception: what the conversation or ``pause`` raises.
    """
    try:
        step = next(flow)
        while True:
            if isinstance(step, Metric):
                measure(step)
                step = next(flow)
                continue
            try:
                response = send(step) if isinstance(step, Request) else pause(step)
            except TransportError as error:
                step = flow.throw(error)
            else:
                step = flow.send(response if isinstance(response, Response) else None)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def adrive(
    flow: Flow[T],
    *,
    send: Callable[[Request], Awaitable[Response]],
    pause: Callable[[Pause], Awaitable[object]],
    measure: Callable[[Metric], object],
) -> T:
    """Carry a conversation out as ``drive`` does, awaiting."""
    try:
        step = next(flow)
        while True:
            if isinstance(step, Metric):
                measure(step)
                step = next(flow)
                continue
            try:
                response = await (send(step) if isinstance(step, Request) else pause(step))
            except TransportError as error:
                step = flow.throw(error)
            else:
                step = flow.send(response if isinstance(response, Response) else None)
    except StopIteration as stop:
        result: T = stop.value
        return result
