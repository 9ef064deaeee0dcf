"""
An offline server of Stripe's Reporting API, for trials and tests.

It shares no code with the client, so that no mistake of one hides in the other.
"""

from airflow_provider_reportrun.sandbox.answers import Delivery
from airflow_provider_reportrun.sandbox.faults import (
    Answer,
    Crash,
    Fault,
    Hold,
    LoseAnswer,
    Patch,
    Refuse,
)
from airflow_provider_reportrun.sandbox.server import Sandbox
from airflow_provider_reportrun.sandbox.state import Run, SeenRequest

__all__ = [
    "Answer",
    "Crash",
    "Delivery",
    "Fault",
    "Hold",
    "LoseAnswer",
    "Patch",
    "Refuse",
    "Run",
    "Sandbox",
    "SeenRequest",
]
