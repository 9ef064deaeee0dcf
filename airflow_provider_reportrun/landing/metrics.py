"""The metrics of landings."""

from __future__ import annotations

from typing import Final

from airflow_provider_reportrun.client import telemetry
from airflow_provider_reportrun.protocol.metrics import Metric

LANDINGS: Final = "landings"
"""Results that were landed. Tag: report."""
LANDED_BYTES: Final = "landed_bytes"
"""Bytes that were landed. Tag: report."""


def measure_landing(report: str, size: int) -> None:
    """
    Count a result that was landed.

    :param size: bytes.
    """
    telemetry.measure(Metric(LANDINGS, {"report": report}))
    telemetry.measure(Metric(LANDED_BYTES, {"report": report}, amount=size))
