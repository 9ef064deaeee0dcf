"""The processes of an Airflow: start them, start again those that exit, and stop them all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from local_airflow.failure import Failure

if TYPE_CHECKING:
    from local_airflow.folder import Folder

STOP_SECONDS = 5.0
"""How long components may take to exit before they are killed."""
STEADY_SECONDS = 60.0
"""A component that ran for so long did not fail at its start."""
MOST_EXITS = 5
"""So many exits in a row, each soon after a start, are an error."""
PAUSE_SECONDS = 0.5
"""Between an exit and the next start."""
LOG_LINES = 30
"""How many lines of a log are shown if its component does not keep running."""


@dataclass(kw_only=True)
class Component:
    """
    One process, and those that it starts, which share its session.

    :param exits: how often in a row it exited soon after its start.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    exits: int = 0


class Components:
    """
    The components of one Airflow.

    Their sessions are written to the folder, so that the next start can end what is left of them if
    this process is killed.

    :param folder: where they work and log.
    :param say: is called with a line for the user.
    """

    def __init__(self, folder: Folder, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._all: dict[str, Component] = {}

    def start(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        """Start a component."""
        component = Component(name=name, command=command, environment=environment)
        self._all[name] = component
        self._launch(component)

    def tend(self) -> None:
        """
        Start again each component that has exited.

        :raises Failure: if one does not keep running.
        """
        for component in self._all.values():
            if component.process is None:
                if time.monotonic() > component.started_at + PAUSE_SECONDS:
                    self._launch(component)
            elif component.process.poll() is not None:
                self._note_exit(component)

    def stop(
        self,
        names: Iterable[str],
        number: int = signal.SIGTERM,
        seconds: float = STOP_SECONDS,
    ) -> None:
        """Stop components by a signal, and kill what does not exit in time."""
        components = [self._all.pop(name) for name in names if name in self._all]
        running = [each.process for each in components if each.process is not None]
        for process in running:
            process.send_signal(number)
        until = time.monotonic() + seconds
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(until - time.monotonic(), 0))
        _kill(_in_sessions({process.pid for process in running}))
        for process in running:
            process.wait()
        self._write_sessions()

    def _launch(self, component: Component) -> None:
        with self._folder.log_of(component.name).open("ab") as log:
            component.process = subprocess.Popen(
                component.command,
                cwd=self._folder.path,
                env=component.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C reaches only this process
            )
        component.started_at = time.monotonic()
        self._write_sessions()

    def _note_exit(self, component: Component) -> None:
        process = component.process
        assert process is not None  # noqa: S101 - the caller has seen its exit
        component.process = None
        # A dead scheduler's workers would keep their locks in the database.
        _kill(_in_sessions({process.pid}))
        was_steady = time.monotonic() - component.started_at > STEADY_SECONDS
        component.exits = 1 if was_steady else component.exits + 1
        component.started_at = time.monotonic()
        log = self._folder.log_of(component.name)
        if component.exits >= MOST_EXITS:
            raise Failure(
                f"The {component.name} does not keep running: it {_ended(process)}, {MOST_EXITS}"
                f" times in a row. The end of its log, {log}:\n{tail(log)}"
            )
        self._say(f"The {component.name} {_ended(process)}. It is started again; see {log}.")

    def _write_sessions(self) -> None:
        processes = [each.process for each in self._all.values() if each.process is not None]
        self._folder.sessions.write_text(json.dumps([process.pid for process in processes]))


def end_left_over(folder: Folder) -> bool:
    """
    End the processes of an earlier start that was killed.

    They have two marks, because the system uses the number of a session again: they are in a
    session that was written to the folder, and they work in the folder. A user's shell in the
    folder has only the second.

    :return: whether there were any.
    """
    try:
        sessions = set(json.loads(folder.sessions.read_text()))
    except (FileNotFoundError, ValueError):
        sessions = set()
    left = [each for each in _in_sessions(sessions) if _works_in(each, folder.path)]
    server = [each for each in left if _works_in(each, folder.postgresql)]
    _kill([each for each in left if each not in server])
    for process in server:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)
    _kill(psutil.wait_procs(server, timeout=STOP_SECONDS)[1])
    # The number in it may belong to another process by now, and then no server starts.
    (folder.postgresql / "postmaster.pid").unlink(missing_ok=True)
    folder.sessions.unlink(missing_ok=True)
    return bool(left)


def tail(log: Path) -> str:
    """Return the end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def _in_sessions(sessions: set[int]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(OSError):
            if os.getsid(process.pid) in sessions:
                found.append(process)
    return found


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=STOP_SECONDS)


def _ended(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by signal {-code} ({signal.Signals(-code).name})"
