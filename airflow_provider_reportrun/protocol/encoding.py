"""Encode what a request holds: its path, and its body, as JSON for v2 or as a form for v1."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.messages import Body


def item_path(collection: str, one: str, query: Mapping[str, str] | None = None) -> str:
    """
    Return the path of one object, percent-encoded.

    :param one: its id; whatever it holds, it cannot lead out of the collection.
    """
    return with_query(f"{collection}/{quote(one, safe='')}", query)


def with_query(path: str, query: Mapping[str, str] | None) -> str:
    """Return a path with a query, percent-encoded."""
    return f"{path}?{urlencode(query)}" if query else path


def as_json(values: Mapping[str, Any]) -> Body:
    """
    Encode JSON values as JSON in UTF-8; equal values give equal bytes.

    Source: https://docs.stripe.com/api-v2-overview
    """
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return Body(text.encode(), "application/json")


def as_form(values: Mapping[str, Any]) -> Body:
    """
    Encode values as a form with names in brackets; equal values give equal bytes.

    Items of a list are numbered: ``parameters[columns][0]=net``.

    :param values: text, whole numbers, flags, lists and mappings of these.
    :raises InvalidInput: if a form cannot hold a value; names it.

    Source: stripe-python, ``_encode.py``, ``_api_encode``.
    """
    try:
        pairs = [f"{quote(name, safe='[]')}={quote_plus(text)}" for name, text in _flat(values)]
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "Correct a parameter: it is not valid Unicode, so it cannot be sent. It holds "
            f"{error.object!r}."
        ) from None
    return Body("&".join(pairs).encode(), "application/x-www-form-urlencoded")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    match value:
        case dict() | Mapping():
            items = [(f"{name}[{key}]" if name else key, value[key]) for key in sorted(value)]
        case list():
            items = [(f"{name}[{number}]", each) for number, each in enumerate(value)]
        case bool():
            yield name, str(value).lower()
            return
        case str() | int():
            yield name, str(value)
            return
        case _:
            items = []
    if not items and name:
        raise InvalidInput(f"{name} is {value!r}, which a form cannot contain: leave it out.")
    for inner, each in items:
        yield from _flat(each, inner)
