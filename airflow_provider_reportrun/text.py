"""Make text and JSON values from outside safe to log, store and encode."""

from __future__ import annotations

import re
from typing import Any, Final

MESSAGE: Final = 500
"""Characters kept of an API message."""
WORD: Final = 255
"""Characters kept of a code, name, status or header; also the longest id."""

_LONGEST_VALUE = 10_000
_DEEPEST = 8
_HALVES = r"[\ud800-\udfff]"
_CONTROLS = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"


def encodable(text: str) -> str:
    r"""
    Replace what UTF-8 or PostgreSQL cannot store: lone surrogates and NUL.

    JSON may contain half an emoji (``"\ud83d"``). In an event, it would end Airflow's triggerer.
    """
    if text.isascii() and "\0" not in text:
        return text
    return re.sub(_HALVES, "\ufffd", text).replace("\0", "\ufffd")


def one_line(text: str, longest: int) -> str:
    """Return text that fits one log line: encodable, without control characters, shortened."""
    text = text[:longest]
    return text if text.isprintable() else re.sub(_CONTROLS, " ", re.sub(_HALVES, "\ufffd", text))


def sentence(text: str) -> str:
    """Return text that ends like a sentence, so that another one can follow."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def is_id(value: Any) -> bool:
    """Tell whether a value can be an id: printable text of 1 to 255 characters, no spaces."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= WORD
        and value.isprintable()
        and " " not in value
    )


def plain(value: Any, depth: int = 0) -> Any:
    """
    Return a decoded JSON value in a form that Airflow can store, whatever the API sent.

    :return: the value, with None in place of what cannot be stored: infinite numbers, NaN, integers
        beyond 64 bits, and values nested too deeply. Keys that begin with two underscores are left
        out, because Airflow's serialiser reserves them.
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


def shown(value: Any, longest: int = MESSAGE) -> str:
    """Return the ``repr`` of a value for an error, shortened for the log."""
    try:
        return repr(value)[:longest]
    except RecursionError:
        return f"a {type(value).__name__} without end"
