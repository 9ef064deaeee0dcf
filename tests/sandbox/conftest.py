"""One sandbox for all its tests, reset before each of them, and a plain client."""

from __future__ import annotations

import pytest
from sandbox.clients import CLIENTS, Client

from airflow_provider_reportrun.sandbox import Sandbox


@pytest.fixture(scope="session")
def shared_sandbox():
    """Start one sandbox for the session."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox):
    """Return the shared sandbox as if it were new."""
    shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture
def client(sandbox):
    """Return a client of the shared sandbox."""
    return Client(sandbox)


@pytest.fixture
def client_of():
    """Return a function that makes a client of another sandbox."""
    return Client


@pytest.fixture(params=CLIENTS)
def each_client(request, sandbox):
    """Return a client of each generation in turn."""
    return CLIENTS[request.param](sandbox)
