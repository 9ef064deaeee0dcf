"""
What a task tells the assets among its outlets of what it has landed.

An asset and a reference to one get the facts on their event. An alias is resolved to what was
landed: to the file, or to the folder where there are several, so that each landing is one event.
"""

from __future__ import annotations

import json
import logging
import string
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.definitions.asset import AssetRef
from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_provider_reportrun._compat import hashes_alias_extras

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.sdk import Context

log = logging.getLogger(__name__)

_AS_THEY_ARE: Final = "".join(set(string.printable) - set(string.whitespace) - {"#", "?"}) + " "
"""Airflow cuts off what it takes for a fragment or a query, and some databases hold ASCII alone."""


def tell_outlets(outlets: Iterable[Any], context: Context, facts: Mapping[str, Any]) -> None:
    """
    Put the facts of a landing onto the events of assets.

    What cannot be told is logged and fails nothing, because the file has landed.

    :param facts: JSON values; ``uri`` is what an alias is resolved to.
    """
    for outlet in outlets:
        _tell(outlet, context["outlet_events"], facts)


def _tell(outlet: Any, events: Any, facts: Mapping[str, Any]) -> None:
    try:
        if isinstance(outlet, AssetAlias):
            events[outlet].add(landed_asset(facts["uri"]), extra=_of_alias(facts))
        elif isinstance(outlet, Asset | AssetRef):
            events[outlet].extra.update(facts)
    except (AirflowRuntimeError, ValueError) as error:  # no such asset, or no URI for one
        log.warning("Cannot tell %r of what was landed: %s", outlet, error)


def _of_alias(facts: Mapping[str, Any]) -> dict[str, Any]:
    """
    Give the facts as the event of an alias takes them.

    The API server of Airflow 3.0 hashes their values, and fails on a success that tells a list or a
    mapping: there, those are JSON text.
    """
    if not hashes_alias_extras():
        return dict(facts)
    return {
        name: json.dumps(value) if isinstance(value, list | dict) else value
        for name, value in facts.items()
    }


def landed_asset(uri: str) -> Asset:
    """
    Make the asset of what was landed.

    :param uri: as the landing tells it.
    :raises ValueError: when Airflow takes no such URI for an asset.
    """
    return Asset(uri=quote(uri, safe=_AS_THEY_ARE))
