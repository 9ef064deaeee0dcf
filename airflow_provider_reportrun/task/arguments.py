"""
Strict checks of task arguments: flags, choices, numbers, zones, names, folders and mappings.

A value in the DAG file is checked when the file is parsed, because an import error is seen before a
run fails. A value from a template, a DAG parameter or another task is checked when the task runs. A
flag never treats just any non-empty value as True.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import tzinfo
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pendulum

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.calls import if_any, is_nothing, required
from airflow_provider_reportrun.protocol.generations import NAMES, named, queries_of

if TYPE_CHECKING:
    from airflow.sdk import XComArg
    from airflow.sdk.definitions.param import DagParam

    Late: TypeAlias = str | XComArg | DagParam
    """What Airflow replaces by a value when the task runs: a template, parameter or output."""

Check: TypeAlias = Callable[[Any, str], Any]
"""Takes a value and the argument's name, and returns the value that the task uses."""


def _api(value: Any, name: str) -> str | None:  # noqa: ARG001 - the signature of a check
    """Check the name of a generation; None leaves it to the connection."""
    return None if is_nothing(value) else named(value, NAMES).name


def _api_of_queries(value: Any, name: str) -> str | None:
    """Check the name of a generation that has query runs; None leaves it to the connection."""
    known = _api(value, name)
    if known is not None:
        queries_of(named(known))
    return known


CONNECTION_CHECKS: Final[Mapping[str, Check]] = {
    "reportrun_conn_id": required,
    "stripe_context": if_any,
    "api": _api,
}
"""Checked when the task runs, because only rendering can turn these into nothing."""
API_CHECKS: Final[Mapping[str, Check]] = {"api": _api}
"""Checked when the DAG file is parsed, if the value is known by then."""
QUERY_CHECKS: Final[Mapping[str, Check]] = {"api": _api_of_queries}
"""The same for a task with a query run."""
_FLAGS: Final = {"true": True, "false": False}
_TEMPLATE: Final = ("{{", "{%", "{#")
_WHOLE: Final = r"(?a)[0-9]{1,18}"
_NOTHING: Final = {"", "none", "null"}
"""What templates render to if there is no value; ``null`` is None after ``tojson``."""
_LONGEST_NAME: Final = 255
"""The most bytes that common filesystems accept in a file name."""
_MOST_LETTERS: Final = 60
"""Characters of a wrong value that an error shows."""
_ADVICE: Final = "If it comes from a template, check what that renders to."


def check_known(task: Any, checks: Mapping[str, Check]) -> None:
    """
    Check the arguments whose values are known when the DAG file is parsed.

    The values are not changed, because Airflow renders them later. Airflow makes a mapped task only
    when it runs. Its arguments are checked then, and an error fails the task for good.

    :raises InvalidInput: if a value is not valid; names the argument.
    """
    if getattr(task, "_BaseOperator__from_mapped", False):
        return
    for name, check in checks.items():
        value = getattr(task, name)
        if name not in task.template_fields or is_known(value):
            check(value, name)


def check_all(task: Any, checks: Mapping[str, Check]) -> None:
    """
    Check the arguments after rendering, and set each to the value that the task uses.

    :raises InvalidInput: if a value is not valid, or a template could not be rendered; names the
        argument.
    """
    if task.rendering_error is not None:
        raise task.rendering_error
    for name, check in checks.items():
        setattr(task, name, check(getattr(task, name), name))


def flag(value: Any, name: str) -> bool:
    """
    Read a flag: a bool, or the text that a template renders one to.

    :raises InvalidInput: for anything else, such as empty text or a number.
    """
    if isinstance(value, bool):
        return value
    found = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise InvalidInput(f"{name} must be True or False, not {_shown(value)}. {_ADVICE}")
    return found


def plain_flag(value: Any, name: str) -> bool:
    """
    Read a flag that is not templated.

    :raises InvalidInput: if it is not a bool.
    """
    if not isinstance(value, bool):
        raise InvalidInput(
            f"{name} must be True or False, not {_shown(value)}. It is not templated: write it in "
            "the DAG file."
        )
    return value


def choice(*options: str) -> Check:
    """Return a check for an argument that accepts one of a few words."""

    def check(value: Any, name: str) -> str:
        if not isinstance(value, str) or value not in options:
            words = " or ".join(map(repr, options))
            raise InvalidInput(f"{name} must be {words}, not {_shown(value)}. {_ADVICE}")
        return value

    return check


def optional(check: Check) -> Check:
    """Return a check for an argument that may be None or a template that renders to nothing."""

    def checked(value: Any, name: str) -> Any:
        is_nothing = isinstance(value, str) and value.strip().lower() in _NOTHING
        return None if value is None or is_nothing else check(value, name)

    return checked


def whole_number(value: Any, name: str) -> int:
    """
    Read a whole number above 0, or the text that a template renders one to.

    :raises InvalidInput: for anything else.
    """
    if isinstance(value, str) and re.fullmatch(_WHOLE, value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise InvalidInput(f"{name} must be a whole number above 0, not {_shown(value)}. {_ADVICE}")
    return value


def zone(value: Any, name: str) -> str | tzinfo:
    """
    Read a time zone or the name of one.

    :raises InvalidInput: if there is no such zone.
    """
    if isinstance(value, tzinfo):
        return value
    if isinstance(value, str):
        with suppress(ValueError, LookupError, OSError):
            pendulum.timezone(value.strip())
            return value.strip()
    raise InvalidInput(
        f"{name} must be the name of a zone such as 'Europe/Paris', not {_shown(value)}. {_ADVICE}"
    )


def file_name(value: Any, name: str) -> str:
    """
    Read a file name without folders, of at most 255 bytes in UTF-8.

    :return: the name, without blanks around it.
    :raises InvalidInput: for anything else.
    """
    text = value.strip() if isinstance(value, str) else ""
    is_valid = text.isprintable() and "/" not in text and text not in {"", ".", ".."}
    if not is_valid or len(text.encode()) > _LONGEST_NAME:
        raise InvalidInput(
            f"{name} must be the name of a file, such as '_SUCCESS', of at most {_LONGEST_NAME} "
            f"bytes, not {_shown(value)}. {_ADVICE}"
        )
    return text


def folder(value: Any, name: str) -> str:
    """
    Read the path of a local folder.

    :param value: text or a path of ``pathlib``.
    :return: the path, without blanks around it.
    :raises InvalidInput: for anything else.
    """
    text = os.fspath(value).strip() if isinstance(value, str | PurePath) else ""
    if not text or not text.isprintable():
        raise InvalidInput(
            f"{name} must be the path of a folder, such as '/tmp', not {_shown(value)}. {_ADVICE}"
        )
    return text


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """
    Read a mapping, or the JSON text that a template renders one to with ``tojson``.

    :raises InvalidInput: for anything else.
    """
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"{name} must be a mapping, not {_shown(value)}. Pass a dict, a DAG parameter, or a "
            "template that ends in '| tojson'."
        )
    return value


def is_known(value: Any) -> bool:
    """Tell whether a value is final, so Airflow does not replace it when the task runs."""
    if isinstance(value, str):
        return not any(mark in value for mark in _TEMPLATE)
    if isinstance(value, Mapping):
        return all(map(is_known, (*value, *value.values())))
    if isinstance(value, Sequence):
        return all(map(is_known, value))
    # DAG parameters and task outputs have iter_references. Airflow 3.3 also calls functions.
    return not (hasattr(value, "iter_references") or callable(value))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."
