"""
Templates that cannot be rendered fail a task like any other wrong argument.

Airflow renders templates before ``execute``, and retries an error of Jinja, although the template
stays wrong. It logs the error in a group that the UI folds. So the error is kept, the template is
left as it is, and ``task/arguments.py`` raises the error when the task runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import jinja2
from airflow.sdk import BaseOperator

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.task.data_interval import no_interval
from airflow_provider_reportrun.text import shown

if TYPE_CHECKING:
    from airflow.sdk import Context

_UNDEFINED: Final = r"'(\w+)' is undefined"
_OF_INTERVAL: Final = (
    r"data_interval_start|data_interval_end|logical_date|[dt]s(_nodash(_with_tz)?)?"
)
"""What the context of a run without a data interval does not have."""


class KeepsRenderingError(BaseOperator):
    """An operator or a sensor that checks its arguments when it runs."""

    rendering_error: InvalidInput | None = None
    """Why the first template that could not be rendered could not."""

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a value as Airflow does; return it as it is if its template is wrong."""
        try:
            return super().render_template(content, context, jinja_env, seen_oids)
        except jinja2.TemplateError as error:
            self.log.warning("A template cannot be rendered: %s", error)
            if self.rendering_error is None:
                fields = (
                    name for name in self.template_fields if _has(getattr(self, name), content)
                )
                name = next(fields, "an argument")
                self.rendering_error = _refusal(error, name, shown(content), context)
            return content


def _has(value: Any, text: Any) -> bool:
    """Tell whether an argument is a template, or contains it at any depth."""
    if isinstance(value, Mapping):
        return any(_has(each, text) for each in value.values())
    if isinstance(value, list | tuple | set):
        return any(_has(each, text) for each in value)
    return isinstance(value, str) and value == text


def _refusal(
    error: jinja2.TemplateError, name: str, template: str, context: Context
) -> InvalidInput:
    if isinstance(error, jinja2.TemplateNotFound):
        return InvalidInput(
            f"There is no file {error.name}: create it beside the DAG file, or set "
            f"template_searchpath of the DAG. It is named in {name}: {error}."
        )
    missing = re.match(_UNDEFINED, str(error))
    run = context.get("dag_run")
    if (
        missing
        and re.fullmatch(_OF_INTERVAL, missing[1])
        and getattr(run, "data_interval_start", None) is None
    ):
        return no_interval(name, context, needs=missing[1])
    return InvalidInput(f"Correct the template of {name}: {error}. It is {template}.")
