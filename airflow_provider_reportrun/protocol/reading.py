"""
Pick values out of decoded JSON; ``Any`` stops here.

Reading is tolerant on purpose: unknown fields are ignored, and null, a missing field and one of
another type mean the same. Stripe's own samples fail Stripe's own schema, so only what a task
depends on is validated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_provider_reportrun.errors import UnexpectedAnswer
from airflow_provider_reportrun.secret import Secret
from airflow_provider_reportrun.text import WORD, encodable, is_id, one_line

LONGEST_NAME = 1000
"""Characters of a column, a parameter's value or another name that must stay as it is."""
LONGEST_SQL = 10_000
"""Characters kept of a query."""
_CHECK_HOST = "Check the connection's host, and any proxy on the way:"
_LONGEST_URL = 16_384
_INT64_DIGITS = 19
"""Longer text is not converted: Python refuses to convert thousands of digits to an int."""
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, the last that Python and the API know."""
_INSTANT = (
    r"(?a)(?P<stamp>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})"
    r"(\.(?P<fraction>\d+))?(?P<offset>Z|[+-]\d{2}:?\d{2})"
)


def read_mapping(value: Any) -> Mapping[str, Any]:
    """Read an object; in Stripe's samples a missing one may be ``null`` or even ``false``."""
    return value if isinstance(value, dict) else {}


def read_list(value: Any) -> list[Any]:
    """Read a list."""
    return value if isinstance(value, list) else []


def read_text(value: Any, longest: int = WORD) -> str | None:
    """Read text as one line; empty text counts as absent."""
    return one_line(value, longest) if isinstance(value, str) and value else None


def read_name(value: Any, longest: int = LONGEST_NAME) -> str | None:
    """Read text that must stay as it is, such as a column's name in the file's header."""
    return encodable(value[:longest]) if isinstance(value, str) and value else None


def read_sql(value: Any) -> str:
    """Read the SQL of a query run, cut at ``LONGEST_SQL``; empty if it is missing."""
    return read_name(value, LONGEST_SQL) or ""


def read_flag(value: Any) -> bool | None:
    """Read a flag."""
    return value if isinstance(value, bool) else None


def read_count(value: Any) -> int | None:
    """Read a count of something, sent as a number or, as v2 sends 64 bits, as text."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    is_digits = isinstance(value, str) and value.isascii() and value.isdigit()
    is_text = is_digits and len(value) <= _INT64_DIGITS
    return int(value) if is_text or (is_number and 0 <= value < 1 << 63) else None


def read_url(value: Any) -> Secret | None:
    """Read a URL. ``answers.py`` may have wrapped it; shortened or changed, it would not work."""
    if isinstance(value, str):
        value = Secret(value)
    if not isinstance(value, Secret):
        return None
    url = value.reveal()
    return value if url and url.isprintable() and len(url) <= _LONGEST_URL else None


def read_id(data: Mapping[str, Any], noun: str) -> str:
    """
    Read the id of an object.

    :param noun: what the object is, for the error: ``"report run"``.
    :raises UnexpectedAnswer: if the id is missing or not valid.
    """
    value = read_name(data.get("id"))
    if value is None:
        raise UnexpectedAnswer(f"{_CHECK_HOST} the answer has no 'id', so it is no {noun}.")
    if not is_id(data["id"]):
        raise UnexpectedAnswer(
            f"{_CHECK_HOST} the answer has an 'id' that cannot be that of a {noun}."
        )
    return value


def read_status(data: Mapping[str, Any], noun: str) -> str:
    """
    Read the status of a run.

    :raises UnexpectedAnswer: if it is missing.
    """
    status = read_text(data.get("status"))
    if status is None:
        raise UnexpectedAnswer(f"{_CHECK_HOST} the answer has no 'status', so it is no {noun}.")
    return status


def read_instant(value: Any) -> datetime | None:
    """
    Read a timestamp with 0 to 9 fraction digits, truncated to microseconds.

    It is parsed by hand because every poll does it, and pendulum takes six times as long.
    """
    form = re.fullmatch(_INSTANT, value) if isinstance(value, str) else None
    if form is None:
        return None
    fraction = (form["fraction"] or "")[:6].ljust(6, "0")
    offset = "+00:00" if form["offset"] == "Z" else f"{form['offset'][:3]}:{form['offset'][-2:]}"
    try:
        instant = datetime.fromisoformat(f"{form['stamp']}.{fraction}{offset}")
        return instant.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def read_epoch(value: Any) -> datetime | None:
    """Read an instant that v1 sends as whole seconds since 1970."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _LAST_SECOND:
        return None
    return datetime.fromtimestamp(value, tz=timezone.utc)
