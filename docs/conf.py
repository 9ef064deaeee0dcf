"""
Configure the site that ``make docs`` builds.

The source folder is the root of the repository, so every relative link of a page works on the site
and in the repository.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer

import airflow_provider_reportrun

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
os.environ["AIRFLOW_HOME"] = str(ROOT / "build" / "airflow")  # not ~/airflow

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
html_title = f"{project} {release}"
html_additional_pages = {"index": "to_the_index.html"}
templates_path = ["_templates"]
html_theme_options = {"top_of_page_buttons": ["view"]}  # the source of the page


def setup(app: Sphinx) -> None:
    """Show what a metrics server receives as plain text; Pygments does not know these formats."""
    for language in ("statsd", "influxdb", "datadog"):
        app.add_lexer(language, TextLexer)
