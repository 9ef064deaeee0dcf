"""
Add the facts of a landing to the events of the assets among a task's outlets.

The event of an asset, or of a reference to one, gets the facts. An alias is resolved to what was
landed: the file, or the folder if there are several files, so each landing is one event.
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
"""Characters left unquoted: Airflow cuts off at # and ?, and some databases store only ASCII."""


def tell_outlets(outlets: Iterable[Any], context: Context, facts: Mapping[str, Any]) -> None:
    """
    Add the facts of a landing to the events of assets.

    A problem is logged and does not fail the task, because the file has landed.

    :param facts: JSON values; an alias is resolved to ``uri``.
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
    Return the facts in the form that the event of an alias accepts.

    The API server of Airflow 3.0 hashes the values, and fails to record the success of a task whose
    event has a list or a mapping. There, those become JSON text.
    """
    if not hashes_alias_extras():
        return dict(facts)
    return {
        name: json.dumps(value) if isinstance(value, list | dict) else value
        for name, value in facts.items()
    }


def landed_asset(uri: str) -> Asset:
    """
    Return the asset for what was landed.

    :param uri: the landing's.
    :raises ValueError: if Airflow does not accept the URI for an asset.
    """
    return Asset(uri=quote(uri, safe=_AS_THEY_ARE))
