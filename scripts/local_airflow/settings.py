"""The settings of an Airflow on this machine, and the file that gives them to another terminal."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from local_airflow.folder import HOST, Folder, Kept, write_privately


def settings(folder: Folder, kept: Kept, *, dags: Path, port: int, database: str) -> dict[str, str]:
    """
    Return the environment variables that every process of this Airflow needs.

    :param dags: the folder of the DAGs.
    :param port: of the UI.
    :param database: the URL of its database.
    """
    url = f"http://{HOST}:{port}"
    airflow = {
        "API__BASE_URL": url,
        "API__HOST": HOST,
        "API__PORT": str(port),
        "API__SECRET_KEY": kept.secret_key,
        "API_AUTH__JWT_SECRET": kept.jwt_secret,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": kept.fernet_key,
        "CORE__LOAD_EXAMPLES": "false",
        "CORE__PARALLELISM": "4",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
        "CORE__TEST_CONNECTION": "Enabled",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # A task that was killed with this Airflow is tried again soon after the next start.
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        # So that a worker notices the end of its task within a second, even if the machine is busy.
        # Later, Airflow may take a task that is resumed meanwhile for a killed one.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "WORKERS__EXECUTION_API_TIMEOUT": "60",  # a busy machine is slow just after the start
    }
    return {
        **{f"AIRFLOW__{name}": value for name, value in airflow.items()},
        "AIRFLOW_HOME": str(folder.airflow),
        "REPORTRUN_LANDING": str(folder.reports),
        "REPORTRUN_DUCKDB": str(folder.path / "finance.duckdb"),
    }


def environment(folder: Folder, variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of this Airflow's processes, without the settings of any other."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")
    }
    path = f"{_programs()}{os.pathsep}{os.environ['PATH']}"
    return {**inherited, **variables, "PATH": path, "TMPDIR": str(folder.tmp)}


def write_env(folder: Folder, variables: dict[str, str]) -> None:
    """
    Write the file that another terminal reads, so that its commands use this Airflow.

    :param variables: the settings, and what only the commands of another terminal need.
    """
    lines = [
        f"# Use it with `. {folder.env}`; it has the keys of this Airflow.",
        *(f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())),
        f'export PATH={shlex.quote(str(_programs()))}:"$PATH"',
    ]
    write_privately(folder.env, "\n".join([*lines, ""]))


def _programs() -> Path:
    """Return the folder of the virtual environment's programs."""
    return Path(sys.executable).parent
