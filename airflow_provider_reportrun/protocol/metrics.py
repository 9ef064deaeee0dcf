"""
What conversations count and time, by name; ``telemetry.py`` hands it on to Airflow's metrics.

Tags hold reports, kinds and outcomes, of which there are few: never ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

CREATES: Final = "creates"
"""Report runs that were created. Tag: report."""
ATTACHES: Final = "attaches"
"""Report runs of earlier tries that were found again. Tag: report."""
CREATES_REFUSED: Final = "creates_refused"
"""Creates that were refused for now. Tags: report, reason."""
POLLS: Final = "polls"
"""Looks of a wait. Tags: kind, outcome."""
CAPACITY_WAIT: Final = "capacity_wait"
"""How long a create took, the wait for room with it. Tags: report, outcome."""
REPORT_WAIT: Final = "report_wait"
"""How long a wait for a report run took. Tags: report, outcome."""
DATA_WAIT: Final = "data_wait"
"""How long a wait for the data of an interval took. Tags: report, outcome."""
LANDINGS: Final = "landings"
"""Results that were landed. Tag: report."""
LANDED_BYTES: Final = "landed_bytes"
"""Bytes that were landed. Tag: report."""

CAPACITY: Final = "capacity"
RATE: Final = "rate"
"""Why a create was refused: too many report runs at once, or too many requests."""
DONE: Final = "done"
NOT_YET: Final = "not_yet"
ERROR: Final = "error"
"""How a look, or with ``DONE`` or the name of an error a wait, ended."""
REPORT_RUN: Final = "report_run"
DATA: Final = "data"
"""What is looked at."""
UNKNOWN: Final = "unknown"
"""The report of a report run of which nothing was heard."""


class Metric(NamedTuple):
    """One measurement: a count, or, where it has seconds, a time."""

    name: str
    tags: Mapping[str, str]
    amount: int = 1
    seconds: float | None = None
