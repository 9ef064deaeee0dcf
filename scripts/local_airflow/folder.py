"""The folder of ``make standalone``: who holds it, and what it keeps from one start to the next."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from local_airflow.failure import Failure

HOST = "127.0.0.1"
LOCK = "lock"
KEPT = "kept.json"


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(kw_only=True)
class Kept:
    """What stays the same over a restart, as far as it can."""

    fernet_key: str = field(
        default_factory=lambda: base64.urlsafe_b64encode(os.urandom(32)).decode()
    )
    secret_key: str = field(default_factory=lambda: secrets.token_hex(32))
    jwt_secret: str = field(default_factory=lambda: secrets.token_hex(64))
    postgresql_password: str = field(default_factory=lambda: secrets.token_hex(16))
    postgresql_port: int = field(default_factory=free_port)
    sandbox_port: int = field(default_factory=free_port)


class Folder:
    """
    The folder, for as long as it is held.

    :param path: its path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.airflow = path / "airflow"
        self.reports = path / "reports"
        self.env = path / "env"
        self.logs = path / "logs"
        self.postgresql = path / "postgresql"
        self.sandbox = path / "sandbox"
        self.sessions = path / "sessions.json"
        self.tmp = path / "tmp"

    def log_of(self, name: str) -> Path:
        """Return the path of a component's log."""
        return self.logs / f"{name}.log"

    def empty(self) -> None:
        """Remove everything but the lock."""
        for each in self.path.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != LOCK:
                each.unlink()

    def prepare(self) -> Kept:
        """
        Create what is missing, and return what is kept.

        A port that another program uses by now is replaced.
        """
        for each in (self.airflow, self.logs, self.tmp):
            each.mkdir(parents=True, exist_ok=True)
        file = self.path / KEPT
        kept = Kept()
        if file.exists():
            known = {each.name for each in fields(Kept)}
            stored = json.loads(file.read_text())
            kept = Kept(**{name: value for name, value in stored.items() if name in known})
        for name in ("postgresql_port", "sandbox_port"):
            if not is_free(getattr(kept, name)):
                setattr(kept, name, free_port())
        write_privately(file, json.dumps(asdict(kept), indent=2))
        return kept


def write_privately(file: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    unfinished = file.with_name(f"{file.name}.part")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(file)


@contextmanager
def held(path: Path, holder: str) -> Iterator[Folder]:
    """
    Hold a folder, which is created if it is missing, so that no other process uses it meanwhile.

    The system releases it when this process ends, however it ends.

    :param holder: tells another process who holds the folder.
    :raises Failure: if another process holds it, or if it has the files of something else; nothing
        in it was touched.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (path / LOCK).exists() and any(path.iterdir()):
            raise Failure(f"{path} has other files: choose an empty folder with FOLDER=...")
        file = (path / LOCK).open("a+")
    except OSError as error:
        raise Failure(
            f"Cannot use {path}: {error.strerror}. Choose a FOLDER=... of yours."
        ) from None
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise Failure(
                f"{path} is in use by {lock.read().strip() or 'another process'}. Stop that one"
                " with Ctrl-C, or start another with FOLDER=.standalone-2 PORT=8081."
            ) from None
        lock.truncate(0)
        lock.write(f"{holder}\n")
        lock.flush()
        yield Folder(path)
