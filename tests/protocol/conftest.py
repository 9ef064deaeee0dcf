"""Every conversation is carried out by both drivers."""

from __future__ import annotations

import pytest
from protocol.script import World


@pytest.fixture(params=["blocking", "awaiting"])
def world(request):
    """A scripted world, once for each driver."""
    return World(driver=request.param)
