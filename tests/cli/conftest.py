"""The command line in this process, and in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_reportrun.cli.main import main

PROGRAM = (sys.executable, "-m", "airflow_provider_reportrun")
SECONDS = 120
"""A limit for each process."""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The only document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(sandbox, here, capsys, monkeypatch):
    """Carry out a command in this process; what it prints shows no secret."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")

    def carry_out(*arguments):
        monkeypatch.setattr(sys, "argv", ["reportrun", *arguments])
        code = main(arguments)
        said = Said(code, *capsys.readouterr())
        shows_no_secret(sandbox, said)
        return said

    return carry_out


def shows_no_secret(sandbox, said):
    """Neither the key nor a URL of a result, nor a part of one, is in what a command printed."""
    delivered = [each.path for each in sandbox.requests if each.operation == "download"]
    for secret in (sandbox.api_key, "X-Amz-", "Bearer", *delivered):
        assert secret not in said.out + said.err


@pytest.fixture
def start(sandbox, here):
    """Start a command as a process, which is killed at the end of the test."""
    children = []

    def started(*arguments, program=PROGRAM, **more):
        child = subprocess.Popen(  # noqa: S603 - this Python
            [*program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **more},
        )
        children.append(child)
        return child

    yield started
    for child in children:
        child.kill()
        child.communicate()


def ended(child):
    """Wait for a process."""
    out, err = child.communicate(timeout=SECONDS)
    return Said(child.returncode, out, err)
