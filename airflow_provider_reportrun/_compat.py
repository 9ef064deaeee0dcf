"""Where Airflow 3.0 to 3.3 differ, told by what is there and not by version numbers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseSensorOperator, Connection, PokeReturnValue
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )
else:
    from airflow.sdk import exceptions

    if not hasattr(exceptions, "AirflowFailException"):  # Airflow 3.0 and 3.1
        from airflow import exceptions
    try:
        from airflow.sdk import BaseHook, BaseSensorOperator, PokeReturnValue
    except ImportError:  # Airflow 3.0
        from airflow.hooks.base import BaseHook
        from airflow.sdk.bases.sensor import BaseSensorOperator, PokeReturnValue
    AirflowFailException = exceptions.AirflowFailException
    AirflowNotFoundException = exceptions.AirflowNotFoundException
    AirflowSensorTimeout = exceptions.AirflowSensorTimeout
    AirflowSkipException = exceptions.AirflowSkipException
    TaskDeferralError = exceptions.TaskDeferralError
    TaskDeferralTimeout = exceptions.TaskDeferralTimeout
    TaskDeferred = exceptions.TaskDeferred

__all__ = [
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseHook",
    "BaseSensorOperator",
    "PokeReturnValue",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "aget_connection",
    "default_deferrable",
    "has_filesystem",
    "hashes_alias_extras",
    "stats",
]


def default_deferrable() -> bool:
    """Give ``[operators] default_deferrable``."""
    try:
        configuration: Any = import_module("airflow.sdk.configuration")
    except ImportError:  # Airflow 3.0
        configuration = import_module("airflow.configuration")
    return bool(configuration.conf.getboolean("operators", "default_deferrable", fallback=False))


def has_filesystem(scheme: str) -> bool:
    """Tell whether an installed provider has a filesystem for a URI's scheme."""
    try:
        io: Any = import_module("airflow.sdk.io.fs")
    except ImportError:  # Airflow 3.0
        io = import_module("airflow.io")
    return bool(io.has_fs(scheme))


def hashes_alias_extras() -> bool:
    """Tell whether events of aliases hold values that can be hashed alone, as on Airflow 3.0."""
    asset: Any = import_module("airflow.sdk.definitions.asset")
    return "dest_asset_extra" not in asset.AssetAliasEvent.__annotations__


def stats() -> Any:
    """Give what sends metrics as ``[metrics]`` says, with ``incr`` and ``timing``."""
    try:
        import_module("airflow.sdk.serde")  # sets the metrics up, in triggerers too (3.2 on)
        found = import_module("airflow.sdk.observability.stats")
    except ImportError:  # Airflow 3.0 and 3.1
        found = import_module("airflow.stats")
    return found.Stats


async def aget_connection(conn_id: str) -> Connection:
    """Read a connection in the triggerer, whose event loop a blocking read would stop."""
    hook: Any = BaseHook
    if hasattr(hook, "aget_connection"):
        found: Connection = await hook.aget_connection(conn_id)
    else:
        from asgiref.sync import sync_to_async

        found = await sync_to_async(hook.get_connection)(conn_id)
    return found
