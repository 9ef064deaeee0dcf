"""Differences between Airflow 3.0 and 3.3, detected by feature and not by version number."""

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
    "is_resumed",
    "look_up_outage",
    "pushes_from_triggers",
    "stats",
]


def default_deferrable() -> bool:
    """Return ``[operators] default_deferrable``."""
    try:
        configuration: Any = import_module("airflow.sdk.configuration")
    except ImportError:  # Airflow 3.0
        configuration = import_module("airflow.configuration")
    return bool(configuration.conf.getboolean("operators", "default_deferrable", fallback=False))


def has_filesystem(scheme: str) -> bool:
    """Tell whether an installed provider has a filesystem for a URI scheme."""
    try:
        io: Any = import_module("airflow.sdk.io.fs")
    except ImportError:  # Airflow 3.0
        io = import_module("airflow.io")
    return bool(io.has_fs(scheme))


def hashes_alias_extras() -> bool:
    """Tell whether events of aliases accept only hashable values, as on Airflow 3.0."""
    asset: Any = import_module("airflow.sdk.definitions.asset")
    return "dest_asset_extra" not in asset.AssetAliasEvent.__annotations__


def is_resumed(ti: Any) -> bool:
    """Tell whether a task instance is resumed after a deferral, for which Airflow has no API."""
    told = getattr(ti, "_ti_context_from_server", None)
    return getattr(told, "next_method", None) is not None


def stats() -> Any:
    """Return Airflow's metrics client (``incr``, ``timing``), configured in ``[metrics]``."""
    try:
        import_module("airflow.sdk.serde")  # sets up metrics, also in triggerers (from 3.2 on)
        found = import_module("airflow.sdk.observability.stats")
    except ImportError:  # Airflow 3.0 and 3.1
        found = import_module("airflow.stats")
    return found.Stats


def pushes_from_triggers() -> bool:
    """Tell whether a trigger can push XComs as tasks do, from Airflow 3.3 on."""
    xcom: Any = import_module("airflow.sdk.bases.xcom")
    return hasattr(xcom.BaseXCom, "aset")


async def aget_connection(conn_id: str) -> Connection:
    """Read a connection in the triggerer without blocking its event loop."""
    hook: Any = BaseHook
    if hasattr(hook, "aget_connection"):
        found: Connection = await hook.aget_connection(conn_id)
    else:
        from asgiref.sync import sync_to_async

        found = await sync_to_async(hook.get_connection)(conn_id)
    return found


def look_up_outage(conn_id: str) -> str | None:
    """
    Tell whether a connection was not found because of an outage of Airflow itself.

    Airflow skips a secrets backend that raises, and from 3.1 on also an API server that does not
    answer. The connection then looks undefined.

    :return: what failed, or has the connection again; None if all answered and none has it.
    """
    supervisor: Any = import_module("airflow.sdk.execution_time.supervisor")
    for backend in supervisor.ensure_secrets_backend_loaded():
        try:
            found = backend.get_connection(conn_id=conn_id)
        except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
            return f"{type(backend).__name__} raised {type(error).__name__}"
        if found:
            return f"{type(backend).__name__} has it again"
    comms: Any = import_module("airflow.sdk.execution_time.task_runner")
    if not hasattr(comms, "SUPERVISOR_COMMS"):
        return None
    messages: Any = import_module("airflow.sdk.execution_time.comms")
    try:
        answer = comms.SUPERVISOR_COMMS.send(messages.GetConnection(conn_id=conn_id))
    except Exception as error:  # noqa: BLE001 - reaching the API server may raise anything
        kind = getattr(getattr(error, "error", None), "error", None) or type(error).__name__
    else:
        kind = getattr(answer, "error", None)
    kind = getattr(kind, "value", kind)
    return None if kind == "CONNECTION_NOT_FOUND" else f"the API server said {kind or 'it has it'}"
