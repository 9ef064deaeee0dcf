"""The fixtures that the pytest plugin offers to other projects."""

from __future__ import annotations

import os

import pytest

from airflow_provider_reportrun.testing import CONNECTION


@pytest.fixture(params=["v2.reporting", "v2.data", "v1"])
def reportrun_sandbox_api(request):
    """Override the plugin's fixture with each generation in turn."""
    return request.param


def test_connection_of_a_generation(reportrun_sandbox, reportrun_sandbox_api):
    """The connection is that of the generation that a project names."""
    expected = reportrun_sandbox.connection_uri_for(reportrun_sandbox_api)
    assert os.environ[CONNECTION] == expected
    assert reportrun_sandbox.runs == reportrun_sandbox.requests == []
