"""
The tests on every supported Airflow and every Python of this machine: ``make matrix``.

An Airflow is supported when it has a ``requirements/airflow-<version>.in``, pinned beside it by
``make requirements``. A Python that is not there is left out by name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nox

AIRFLOWS = sorted(
    path.stem.removeprefix("airflow-") for path in Path("requirements").glob("airflow-*.in")
)
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


def find_pyenvs_pythons() -> None:
    """Let the commands of pyenv run each Python that it has, where there is a pyenv."""
    if shutil.which("pyenv") and "PYENV_VERSION" not in os.environ:
        versions = subprocess.run(
            ["pyenv", "versions", "--bare"],  # noqa: S607 - whichever is in use
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()
        os.environ["PYENV_VERSION"] = ":".join(reversed(versions))


find_pyenvs_pythons()


@nox.session(python=PYTHONS, download_python="never")
@nox.parametrize("airflow", AIRFLOWS, ids=AIRFLOWS)
def tests(session: nox.Session, airflow: str) -> None:
    """Run the tests, or what is named after ``--``."""
    pins = f"requirements/airflow-{airflow}.txt"
    session.install("--compile-bytecode", "--require-hashes", "-r", pins)
    session.install("--no-deps", "--no-build-isolation", "--editable", ".")
    session.run("pytest", "-q", "-rs", *session.posargs)
