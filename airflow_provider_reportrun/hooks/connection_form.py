"""
The connection form of Airflow 3.0 and 3.1, built from the provider info that newer versions read.

Those versions ask the hook for the form, and show a provider's own fields if WTForms is installed.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_reportrun.get_provider_info import get_provider_info


def widgets() -> dict[str, Any]:
    """
    Return the form fields of the extras.

    All are text fields, because those Airflow versions have no field for fractions, lists or
    choices.

    :raises ImportError: if WTForms is not installed; Airflow expects that.
    """
    from wtforms import StringField

    return {
        name: StringField(field["label"], description=field["description"])
        for name, field in _connection_type()["conn-fields"].items()
    }


def field_behaviour() -> dict[str, Any]:
    """Return which of Airflow's own fields are hidden, and the others' labels and placeholders."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def _connection_type() -> dict[str, Any]:
    (connection_type,) = get_provider_info()["connection-types"]
    found: dict[str, Any] = connection_type
    return found
