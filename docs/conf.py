"""
Configure the site that ``make docs`` builds.

The source folder is the root of the repository, so every relative link of a page works on the site
and in the repository.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer
from sphinx.util import logging

import airflow_provider_reportrun

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
os.environ["AIRFLOW_HOME"] = str(ROOT / "build" / "airflow")  # not ~/airflow

from airflow.sdk import BaseOperator  # noqa: E402 - it reads the home
from airflow.triggers.base import BaseTrigger  # noqa: E402

from airflow_provider_reportrun.operators.report_run import (  # noqa: E402
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)

logger = logging.getLogger(__name__)

project = "airflow-provider-reportrun"
author = "The authors of airflow-provider-reportrun"
release = version = airflow_provider_reportrun.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.mermaid",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "benchmarks/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]

myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "none"  # the fields say what matters
nitpick_ignore_regex = [("py:.*", r"(?!airflow_provider_reportrun\.).*")]  # of other packages

mermaid_output_format = "svg"
mermaid_cmd = f"{sys.executable} -m mermaidx --quiet"

html_theme = "furo"
html_show_copyright = False
html_title = f"{project} {release}"
html_additional_pages = {"index": "to_the_index.html"}
templates_path = ["_templates"]
html_theme_options = {"top_of_page_buttons": ["view"]}  # the source of the page


PARAMETER = re.compile(r"^:param (\w+):")
WITH_ARGUMENTS = (BaseOperator, BaseTrigger)
DESCRIBERS = (DownloadReportResultOperator, ReportRunToStorageOperator)
"""An argument that operators of several bases share is described by one of these."""


def described(cls: type) -> dict[str, list[str]]:
    """Return the lines of each argument that the docstring of a class describes."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines():
        if line.startswith(":"):
            match = PARAMETER.match(line)
            lines = found.setdefault(match[1], []) if match else []
        lines.append(line)
    return found


def arguments(cls: type) -> list[str]:
    """
    Name the arguments of a class, those of its own signature first.

    The signature that has the connection's id is complete: what a base takes beyond it is fixed.
    """
    found: list[str] = []
    for base in ours(cls):
        made_by = inspect.unwrap(base.__init__)  # Airflow wraps it
        if made_by.__module__ == base.__module__:
            parameters = inspect.signature(made_by).parameters.values()
            found += [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
        if "reportrun_conn_id" in found:
            break
    return list(dict.fromkeys(found))


def ours(cls: type) -> list[type]:
    """Return the class and its bases, without those of other packages."""
    package = airflow_provider_reportrun.__name__
    return [base for base in cls.__mro__ if base.__module__.startswith(f"{package}.")]


def describe_all_arguments(
    _app: Sphinx, what: str, name: str, cls: object, _options: object, lines: list[str]
) -> None:
    """Add the arguments that a class shares with others, and describes once."""
    if what != "class" or not isinstance(cls, type) or not issubclass(cls, WITH_ARGUMENTS):
        return
    known = described(cls)
    shared: dict[str, list[str]] = {}
    for other in reversed([*ours(cls), *DESCRIBERS]):
        shared |= described(other)
    added = [] if known else [""]
    for argument in arguments(cls):
        if argument not in shared:
            logger.warning("%s does not describe its argument %s", name, argument)
        elif argument not in known:
            added += shared[argument]
    fields = [number for number, line in enumerate(lines) if line.startswith(":")]
    after = lines.index("", fields[-1]) if fields else len(lines)
    lines[after:after] = [*added, ""]


def setup(app: Sphinx) -> None:
    """
    Describe all arguments of each class, and show what a metrics server receives as plain text.

    Pygments does not know the formats of metrics.
    """
    app.connect("autodoc-process-docstring", describe_all_arguments)
    for language in ("statsd", "influxdb", "datadog"):
        app.add_lexer(language, TextLexer)
