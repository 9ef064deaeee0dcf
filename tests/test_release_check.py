"""What ``make release-check`` compares, without building anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import readme_for_index
import release_check
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).parents[1]
WHEEL = {
    "airflow_provider_reportrun/__init__.py",
    "airflow_provider_reportrun/py.typed",
    "airflow_provider_reportrun-1.2.3.dist-info/METADATA",
    "airflow_provider_reportrun-1.2.3.dist-info/licenses/LICENSE",
}
METADATA = """\
Metadata-Version: 2.4
Requires-Python: >=3.10
Requires-Dist: apache-airflow>=3.0.3
Provides-Extra: s3
"""
README = "It needs Airflow 3.0.3 or newer and Python 3.10 or newer. Take [s3] for S3."
EMPTY = "## [Unreleased]\n\n"
ENTRY_POINTS = """\
[apache_airflow_provider]
provider_info = airflow_provider_reportrun.get_provider_info:get_provider_info

[pytest11]
reportrun = airflow_provider_reportrun.testing
"""


def changelog(*headings):
    """Make a changelog of these entries, each with a line."""
    return "".join(f"## {heading}\n\n- A line.\n\n" for heading in headings)


def test_this_source_agrees_with_itself():
    """Version, changelog and documents of this repository."""
    assert release_check.check_source(None) == []


@pytest.mark.parametrize(
    ("version", "tag"), [("1.2.3", None), ("1.2.3", "v1.2.3"), ("1.2.3.dev0", None)]
)
def test_a_version_may_be(version, tag):
    """A release, with its tag or before it, and a development version without one."""
    assert release_check.version_problems(version, tag=tag) == []


@pytest.mark.parametrize(
    ("version", "tag", "fix"),
    [
        ("one", None, "use a form like 1.2.3"),
        ("1.2.3-rc1", None, "write '1.2.3rc1'"),
        ("1.2.3.dev0", "v1.2.3", "remove .dev"),
        ("1.2.3", "v1.2.4", "tag v1.2.4 is not v1.2.3"),
        ("1.2.3", "1.2.3", "tag 1.2.3 is not v1.2.3"),
    ],
)
def test_a_wrong_version_names_its_fix(version, tag, fix):
    """One that is none, is not canonical, is in development, or is not that of the tag."""
    (problem,) = release_check.version_problems(version, tag=tag)
    assert fix in problem


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("1.2.3", changelog("[1.2.3] - 2026-11-22", "[1.2.2] - 2026-10-01")),
        ("1.2.3", EMPTY + changelog("[1.2.3] - 2026-11-22")),
        ("1.2.3.dev0", changelog("[Unreleased]", "[1.2.2] - 2026-10-01")),
        ("1.2.3.dev0", EMPTY + changelog("[1.2.2] - 2026-10-01")),
    ],
)
def test_a_changelog_may_be(version, text):
    """Dated for a release, with nothing unreleased; for a development version unreleased."""
    assert release_check.changelog_problems(version, text) == []


@pytest.mark.parametrize(
    ("version", "text", "fix"),
    [
        ("1.2.3", changelog("[Unreleased]"), "'## [1.2.3] - "),
        ("1.2.3", changelog("[Unreleased]", "[1.2.3] - 2026-11-22"), "above the entries"),
        ("1.2.3", changelog("[1.2.2] - 2026-10-01"), "'## [1.2.3] - "),
        ("1.2.3", changelog("[1.2.3]"), "'## [1.2.3] - "),
        ("1.2.3", changelog("[1.2.3] - 2026-11-31"), "write YYYY-MM-DD"),
        ("1.2.3", "", "'nothing'"),
        ("1.2.3.dev0", changelog("[1.2.2] - 2026-10-01"), "put '## [Unreleased]' above"),
    ],
)
def test_a_wrong_changelog_names_its_fix(version, text, fix):
    """One without the version, without its day, or with lines of no version."""
    (problem,) = release_check.changelog_problems(version, text)
    assert fix in problem


def test_documents_install_this_version_or_none():
    """A pin of another version is found, with an extra or not; this one's and none are fine."""
    documents = {
        "a.md": "pip install airflow-provider-reportrun==1.2.3.",
        "b.md": "pip install 'airflow-provider-reportrun[s3]'",
        "c.md": "pip install 'airflow-provider-reportrun[s3]==1.2.2'",
    }
    (problem,) = release_check.document_problems("1.2.3", documents)
    assert problem.startswith("c.md installs airflow-provider-reportrun==1.2.2")


@pytest.mark.parametrize(
    ("readme", "metadata", "problems"),
    [
        (README, METADATA, []),
        (README, METADATA.replace("3.0.3", "3.1.0"), ["Airflow 3.1.0 or newer"]),
        (README, METADATA.replace("3.10", "3.11"), ["Python 3.11 or newer"]),
        (README, METADATA + "Provides-Extra: gcs\n", ["the extra 'gcs'"]),
    ],
)
def test_the_readme_promises_what_the_metadata_does(readme, metadata, problems):
    """The oldest Airflow, the oldest Python and each extra."""
    found = release_check.promise_problems(readme, metadata)
    assert len(problems) == len(found)
    assert all(problem in text for problem, text in zip(problems, found, strict=True))


def test_a_sound_wheel_has_no_problem():
    """The package, with its types, and its licence."""
    assert release_check.wheel_problems(WHEEL) == []


@pytest.mark.parametrize("lacking", ["py.typed", "LICENSE"])
def test_a_wheel_lacks_nothing(lacking):
    """What type checkers and lawyers look for."""
    (problem,) = release_check.wheel_problems({name for name in WHEEL if lacking not in name})
    assert lacking in problem


@pytest.mark.parametrize(
    "extra",
    ["tests/conftest.py", "airflow_provider_reportrun/tests/test_it.py", "example_dags/a.py"],
)
def test_a_wheel_carries_nothing_else(extra):
    """Tests and examples would land in users' environments, under names that clash."""
    (problem,) = release_check.wheel_problems(WHEEL | {extra})
    assert extra in problem


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (ENTRY_POINTS, 0),
        (ENTRY_POINTS.replace("pytest11", "pytest12"), 1),
        (ENTRY_POINTS.replace(":get_provider_info", ":info"), 1),
        ("", 2),
    ],
)
def test_entry_points_lead_where_others_look(text, problems):
    """Airflow's and pytest's."""
    assert problems == len(release_check.entry_point_problems(text))


def test_a_failed_command_shows_its_end():
    """What it said last, so that the fix can be seen."""
    shown = release_check.run(sys.executable, "-c", "raise SystemExit('why')")
    assert shown == "    why"
    assert release_check.run(sys.executable, "-c", "") == ""
    assert release_check.run(sys.executable, "-c", "print(1)", expected="2") == "    1"


@pytest.mark.parametrize(
    ("version", "revision"),
    [("1.2.3", "v1.2.3"), ("1.2.3rc1", "v1.2.3rc1"), ("1.2.4.dev0", "HEAD")],
)
def test_links_of_the_readme_lead_to_the_repository(version, revision):
    """Pictures lead to files, and links to pages; other links stay as they are."""
    text = "[a](docs/a.md#b) ![c](d.png) [e](#f) [g](https://h.example/i) [j](mailto:k@l.example)"
    found = readme_for_index.absolute(text, source="https://g.example/o/r/", version=version)
    assert found == (
        f"[a](https://g.example/o/r/blob/{revision}/docs/a.md#b) "
        f"![c](https://g.example/o/r/raw/{revision}/d.png) "
        "[e](#f) [g](https://h.example/i) [j](mailto:k@l.example)"
    )


@pytest.mark.parametrize(
    ("urls", "problem"),
    [({"Source": "https://g.example/o/r"}, None), ({}, 'add Source = "https://')],
)
def test_an_index_can_follow_the_links_of_the_readme(urls, problem):
    """The metadata of the project, with an address and without."""
    project = ProjectMetadata(str(ROOT), PluginManager())
    project.config["project"]["urls"] = urls
    fields = project.core
    metadata = "\n".join(f"Project-URL: {name}, {url}" for name, url in fields.urls.items())
    problems = release_check.address_problems(f"{metadata}\n\n{fields.readme}")
    assert [problem in each for each in problems] == ([True] if problem else [])


def test_a_link_that_an_index_cannot_follow_is_a_problem():
    """The address alone does not help."""
    metadata = "Project-URL: Source, https://g.example\n\n[a](https://b.example) [c](docs/d.md)"
    (problem,) = release_check.address_problems(metadata)
    assert "docs/d.md" in problem
