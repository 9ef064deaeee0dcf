"""
Run the tests on every supported Airflow with every Python of this machine: ``make matrix``.

An Airflow is supported if it has a ``requirements/airflow-<version>.in``, which ``make
requirements`` pins. If a Python is missing, nox reports its sessions as skipped.
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
    """Let the commands of pyenv, if there is one, run each Python that it has."""
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
    """Run all tests, or those that are named after ``--``."""
    install(session, airflow)
    session.run("pytest", "-q", "-rs", "-n", "auto", "--dist", "loadgroup", *session.posargs)


@nox.session(python=PYTHONS[0], download_python="never")
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest release of each library that ``pyproject.toml`` allows."""
    install(session, AIRFLOWS[0])
    project = nox.project.load_toml("pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    bounds = [*project["dependencies"], *extras["s3"], *extras["parquet"]]
    oldest = [bound.replace(">=", "==") for bound in bounds if "apache-airflow>=" not in bound]
    session.install(*oldest)
    session.run("pytest", "-q", "-rs", "-n", "auto", "--dist", "loadgroup", *session.posargs)


def install(session: nox.Session, airflow: str) -> None:
    """Install an Airflow with the libraries of its release date, and this package."""
    pins = f"requirements/airflow-{airflow}.txt"
    session.install("--compile-bytecode", "--require-hashes", "-r", pins)
    session.install("--no-deps", "--no-build-isolation", "--editable", ".")
