"""The generations of the API, by name; each is imported when it is first needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from airflow_provider_reportrun.errors import InvalidInput

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.generation import Generation

DEFAULT: Final = "v2.reporting"
"""The generation of a connection that names none, and of a trigger row without one, for ever."""
Api: TypeAlias = Literal["v2.reporting", "v2.data", "v1"]
"""What ``api`` takes."""
NAMES: Final[tuple[str, ...]] = get_args(Api)
_QUERY_RUNS: Final = ("v2.data.query_runs", "v2.reporting.query_runs")
"""``Generation.queries`` of others; trigger rows hold them too."""


def named(name: str, among: tuple[str, ...] = (*NAMES, *_QUERY_RUNS)) -> Generation:
    """
    Return a generation.

    :param among: ``NAMES``, and by default also the ``queries`` of such generations.
    :raises InvalidInput: if there is none of this name; names those that there are.
    """
    if name not in among:
        raise InvalidInput(f"api must be {', '.join(NAMES[:-1])} or {NAMES[-1]}, not {name!r}.")
    found: Generation = import_module(f"{__name__}.{name.replace('.', '_')}").GENERATION
    return found


def argument_of(api: Generation) -> str | None:
    """Return what a trigger row holds: None for the default, as the rows of earlier releases."""
    return None if api.name == DEFAULT else api.name


def queries_of(api: Generation) -> Generation:
    """
    Return the generation of a generation's query runs.

    :raises InvalidInput: if it has none.
    """
    if api.queries is None:
        words = " or ".join(repr(name) for name in NAMES if named(name).queries)
        raise InvalidInput(f"api={api.name!r} has no SQL queries: use api={words}.")
    return named(api.queries)


def spoken_name(api: Generation) -> str:
    """Return what users write in ``api`` for a generation, or for the one whose queries it runs."""
    return next(name for name in NAMES if api.name in {name, named(name).queries})
