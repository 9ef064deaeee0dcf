"""Where Airflow 3.0 to 3.3 differ, told by what is there and not by version numbers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
else:
    try:
        from airflow.sdk import exceptions
    except ImportError:  # Airflow 3.0
        from airflow import exceptions
    AirflowFailException = exceptions.AirflowFailException
    AirflowNotFoundException = exceptions.AirflowNotFoundException
    AirflowSensorTimeout = exceptions.AirflowSensorTimeout
    AirflowSkipException = exceptions.AirflowSkipException
    TaskDeferralError = exceptions.TaskDeferralError
    TaskDeferralTimeout = exceptions.TaskDeferralTimeout

__all__ = [
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "aget_connection",
    "mask_secret",
]


def mask_secret(secret: str) -> None:
    """Hide a value in everything that this process logs from now on."""
    try:
        masker: Any = import_module("airflow.sdk.log")
        masker.mask_secret(secret)
    except (ImportError, AttributeError):  # Airflow 3.0
        masker = import_module("airflow.sdk.execution_time.secrets_masker")
        masker.mask_secret(secret)


async def aget_connection(conn_id: str) -> Connection:
    """Read a connection in the triggerer, whose event loop a blocking read would stop."""
    from airflow.sdk import BaseHook

    hook: Any = BaseHook
    if hasattr(hook, "aget_connection"):
        found: Connection = await hook.aget_connection(conn_id)
    else:
        from asgiref.sync import sync_to_async

        found = await sync_to_async(hook.get_connection)(conn_id)
    return found
