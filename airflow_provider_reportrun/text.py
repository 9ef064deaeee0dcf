"""Text and JSON values from outside, made fit to be logged, stored and encoded."""

from __future__ import annotations

import re
from typing import Any, Final

MESSAGE: Final = 500
"""Characters kept of a message of the API."""
WORD: Final = 255
"""Characters kept of a code, a name, a status or a header; an id may have as many."""

_LONGEST_VALUE = 10_000
_DEEPEST = 8
_HALVES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def encodable(text: str) -> str:
    r"""
    Replace what UTF-8 and PostgreSQL cannot hold: halves of surrogate pairs, and NUL.

    JSON may hold half an emoji (``"\ud83d"``), and Airflow's triggerer ends on one in an event.
    """
    if text.isascii() and "\0" not in text:
        return text
    return _HALVES.sub("\ufffd", text).replace("\0", "\ufffd")


def one_line(text: str, longest: int) -> str:
    """Make text encodable, without control characters, and no longer than a log should hold."""
    text = text[:longest]
    return text if text.isprintable() else _CONTROLS.sub(" ", _HALVES.sub("\ufffd", text))


def is_id(value: Any) -> bool:
    """Tell whether a value can be an id: printable text of 1 to 255 characters, no blanks."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= WORD
        and value.isprintable()
        and " " not in value
    )


def plain(value: Any, depth: int = 0) -> Any:
    """
    Make a decoded JSON value one that Airflow can store, whatever the API sent.

    :return: the value, with None in place of what has no form there: numbers without end or beyond
        64 bits, and what is nested too deep. Names in Airflow's own double underscores are left
        out, for its serialiser takes them for its own.
    """
    if isinstance(value, str):
        return encodable(value[:_LONGEST_VALUE])
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else None
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if depth < _DEEPEST and isinstance(value, list):
        return [plain(item, depth + 1) for item in value]
    if depth < _DEEPEST and isinstance(value, dict):
        return {
            encodable(name[:WORD]): plain(item, depth + 1)
            for name, item in value.items()
            if isinstance(name, str) and not name.startswith("__")
        }
    return None


def shown(value: Any) -> str:
    """Show a value in an error, no longer than a log should hold."""
    try:
        return repr(value)[:MESSAGE]
    except RecursionError:
        return f"a {type(value).__name__} without end"
