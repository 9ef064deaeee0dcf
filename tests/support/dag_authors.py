"""What a DAG author does: runs tests of DAGs with nothing but the package and pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_OURS = ("AIRFLOW", "REPORTRUN", "PYTEST", "COV")
SECONDS = 240.0


def run_tests(tests: Path, folder: Path) -> str:
    """
    Run tests in a process of their own, without our settings.

    :param folder: to run in, and for temporary files.
    :return: what pytest said; they passed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    done = subprocess.run(  # noqa: S603 - our own tests
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, tests],
        env=environment | {"TMPDIR": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout
