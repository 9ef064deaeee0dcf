"""The README's code runs, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.needs("timetables in airflow.sdk")
def test_code_blocks_run_in_order(sandbox):
    """Each Python block runs after those before it; the DAGs are well-formed."""
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - our own README
    assert len(BLOCKS) == 5
    assert {"create", "wait", "land"} == set(names["dag"].task_ids)
    assert names["dag"].get_task("wait").upstream_task_ids == {"create"}
    assert names["single"].task_ids == ["report"]


def test_code_blocks_of_the_guide_to_formats_run():
    """Each Python block is a task that can be made."""
    guide = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL):
        exec(compile(block, "formats.md", "exec"), names)  # noqa: S102 - our own guide
    assert names["land"].output_format == "parquet"
    assert names["land_typed"].column_types["exchange_rate"] == "double"


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/connection.md"],
)
def test_links_within_the_repository_lead_somewhere(document):
    """Every relative link names a file."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text(encoding="utf-8"))
    assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []
