"""Forms as v1 takes them: nested by brackets, ``parameters[columns][0]=net``."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART = re.compile(r"\[([^\[\]]*)\]")


class BadForm(ValueError):
    """A form that cannot be read; the text says why."""


def parse_form(text: str) -> dict[str, Any]:
    """
    Parse a form or a query.

    :param text: percent-encoded, with or without encoded brackets.
    :return: text, lists and mappings; ``x[]`` and ``x[0]`` make a list.
    :raises BadForm: if a name is malformed or occurs twice.
    """
    found: dict[str, Any] = {}
    for piece in filter(None, text.split("&")):
        name, _, value = piece.partition("=")
        _put(found, unquote_plus(name), unquote_plus(value))
    return {name: _lists(value) for name, value in found.items()}


def _put(found: dict[str, Any], name: str, value: str) -> None:
    parsed = _NAME.fullmatch(name)
    if parsed is None:
        raise BadForm(f"Malformed parameter name: {name[:255]}")
    *path, last = [parsed[1], *_PART.findall(parsed[2])]
    place = found
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise BadForm(f"Parameter is both a value and a hash: {name[:255]}")
    last = last or str(len(place))
    if last in place:
        raise BadForm(f"Parameter was sent more than once: {name[:255]}")
    place[last] = value


def _lists(value: Any) -> Any:
    """Turn mappings with the keys 0, 1, 2 ... into lists."""
    if not isinstance(value, dict):
        return value
    inner = {name: _lists(each) for name, each in value.items()}
    if list(inner) == [str(number) for number in range(len(inner))]:
        return list(inner.values())
    return inner
