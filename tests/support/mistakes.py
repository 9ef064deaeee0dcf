"""The mistakes of ``docs/failures.md``: what the log begins with, and the connections they need."""

from __future__ import annotations

import json
import re
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs/failures.md"
_ROW = re.compile(
    r"^\| ([a-z][a-z ]+) \| (error|warning|import error) \| ``?(.+?)``? \|$", re.MULTILINE
)
ELLIPSIS = "..."
"""Stands for what differs from run to run."""
SEEN = 100
"""Letters of a message that the UI shows at least."""
KEY = "rk_test_sandbox_0001"


def documented(*levels: str) -> dict[str, str]:
    """Return what the page says, by task."""
    rows = _ROW.findall(_PAGE.read_text())
    return {name.replace(" ", "_"): text for name, level, text in rows if level in levels}


def as_pattern(text: str) -> str:
    """Return a pattern for the beginning of a message."""
    return ".*?".join(map(re.escape, text.split(ELLIPSIS)))


def connections(host: str) -> dict[str, dict[str, str]]:
    """
    Return the connections of the mistakes, by id.

    :param host: of the sandbox.
    """
    good = {"conn_type": "reportrun", "host": host, "password": KEY}
    wrong: dict[str, dict[str, str]] = {
        "wrong_key": {"password": "rk_test_another"},
        "malformed_key": {"password": "rk_test sandbox"},
        "restricted_key": {"password": f"{KEY}_none"},
        "unknown_extra": {"extra": json.dumps({"strip_context": "acct_1"})},
        "wrong_api": {"extra": json.dumps({"api": "v3"})},
        "wrong_host": {"host": "http://127.0.0.1:1"},
    }
    return {name: good | fields for name, fields in wrong.items()}
