"""
The connection form of Airflow 3.0 and 3.1, made of the provider info that newer ones read.

On those Airflow asks the hook, and shows a provider's own fields where WTForms is installed.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_reportrun.get_provider_info import get_provider_info


def widgets() -> dict[str, Any]:
    """
    Give the fields of the extras.

    All are lines of text, as those Airflows know no field that takes fractions or lists.

    :raises ImportError: where WTForms is not installed; Airflow expects it.
    """
    from wtforms import StringField

    return {
        name: StringField(field["label"], description=field["description"])
        for name, field in _connection_type()["conn-fields"].items()
    }


def field_behaviour() -> dict[str, Any]:
    """Say which of Airflow's own fields are hidden, how the others are named and what they hint."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def _connection_type() -> dict[str, Any]:
    (connection_type,) = get_provider_info()["connection-types"]
    found: dict[str, Any] = connection_type
    return found
