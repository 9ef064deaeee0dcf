"""
The metrics of conversations, by name; ``telemetry.py`` sends them to Airflow's metrics.

Tags contain reports, kinds and outcomes, which have few values, and never ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

CREATES: Final = "creates"
"""Report runs that were created. Tag: report."""
ATTACHES: Final = "attaches"
"""Report runs of earlier tries that were reattached to. Tag: report."""
CREATES_REFUSED: Final = "creates_refused"
"""Creates that were refused temporarily. Tags: report, reason."""
POLLS: Final = "polls"
"""Polls of a wait. Tags: kind, outcome."""
CAPACITY_WAIT: Final = "capacity_wait"
"""How long a create took, including the wait for room. Tags: report, outcome."""
REPORT_WAIT: Final = "report_wait"
"""How long a wait for a report run took. Tags: report, outcome."""
DATA_WAIT: Final = "data_wait"
"""How long a wait for the data of an interval took. Tags: report, outcome."""

CAPACITY: Final = "capacity"
RATE: Final = "rate"
"""Why a create was refused: too many report runs at once, or too many requests."""
DONE: Final = "done"
NOT_YET: Final = "not_yet"
ERROR: Final = "error"
"""How a poll ended. A wait ends with ``DONE`` or the name of an error."""
REPORT_RUN: Final = "report_run"
DATA: Final = "data"
"""Kinds of polls: what is polled."""
UNKNOWN: Final = "unknown"
"""The report, if no answer about the report run has arrived yet."""


class Metric(NamedTuple):
    """One measurement: a duration if ``seconds`` is set, else a count."""

    name: str
    tags: Mapping[str, str]
    amount: int = 1
    seconds: float | None = None
