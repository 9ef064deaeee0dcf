"""The hook in both of its forms, over a real socket, with pauses that take no time."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import pytest
from contract.form import Form

from airflow_provider_reportrun.client.session import LINGER_SECONDS


@pytest.fixture
def speaks():
    """The generation that the connection speaks; tests of others are parametrised with it."""
    return "v2.reporting"


@pytest.fixture
def reportrun_sandbox_api(speaks):
    """Let the connection speak it."""
    return speaks


@pytest.fixture(params=["blocking", "awaiting"])
def form(request, sandbox, pauses, speaks):
    """Each form of the hook, on the sandbox."""
    return Form(request.param, speaks)


@pytest.fixture
def pauses(monkeypatch):
    """The pauses of this thread, blocking or awaiting, none of which takes any time."""
    taken, here, awaiting = [], threading.get_ident(), asyncio.sleep

    async def no_pause(seconds, *result):
        if threading.get_ident() != here:
            return await awaiting(seconds, *result)
        if seconds not in (0, LINGER_SECONDS):
            taken.append(seconds)
        return await awaiting(0, *result)

    monkeypatch.setattr(time, "sleep", taken.append)
    monkeypatch.setattr(asyncio, "sleep", no_pause)
    return taken


@pytest.fixture
def connect(sandbox, monkeypatch, speaks):
    """Change the connection: its fields, and its extras by ``extra``."""

    def change(extra=None, **fields):
        values = json.loads(sandbox.connection_json_for(speaks)) | fields
        values["extra"] = values.get("extra", {}) | (extra or {})
        monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", json.dumps(values))

    return change


@pytest.fixture
def closed_port():
    """A port where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
