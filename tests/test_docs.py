"""Every code block of the README and of the docs is run or checked, and every link leads on."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import metadata
from itertools import pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from support.dag_authors import run_tests

from airflow_provider_reportrun.client.access import read_connection
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from markdown_it.token import Token

pytestmark = pytest.mark.needs("timetables in airflow.sdk")  # the docs speak of the newest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "example_dags"
GENERATIONS = ROOT / "docs" / "generations.md"
LOADING = ROOT / "docs" / "loading.md"
"""Its code needs providers of warehouses; ``test_loading.py`` runs it."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [
    *PAGES,
    *(
        ROOT / name
        for name in ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")
    ),
]
LINKED.append(ROOT / "benchmarks" / "README.md")
BASES = {"RunSensor"}
"""Classes with public names that users do not write."""
OUTPUT = {"text", "statsd", "influxdb", "datadog"}
"""What something prints: other tests compare it, where it is promised."""
BUILT = re.compile(r"mermaid|\{.+\}")
"""Pictures and directives, which ``make docs`` draws and carries out, or fails."""
OPERATORS = {"|", "||", "&&", "&", ";"}


def name_of(page: Path) -> str:
    """The page as it is found in the repository."""
    return str(page.relative_to(ROOT))


class Wrong(Exception):
    """A block that a reader could not use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fence."""

    where: str
    """Page and line."""
    language: str
    text: str


def parsed(page: Path) -> list[Token]:
    """The page as Markdown."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The blocks of a page, or those in one language."""
    found = [
        Block(
            where=f"{page.name}:{token.map[0] + 1}",
            language=(token.info.split() or ["nothing"])[0],
            text=token.content,
        )
        for token in parsed(page)
        if token.type in {"fence", "code_block"}
    ]
    return [block for block in found if language in {None, block.language}]


def check(block: Block) -> None:
    """
    Check a block by itself.

    :raises Wrong: when it is not what its language says, or when nothing is known of that.
    """
    if block.language in OUTPUT or BUILT.fullmatch(block.language):
        return
    try:
        CHECKS[block.language](block.text)
    except KeyError as error:
        raise Wrong(f"{block.where} has {error}, which nothing checks") from error
    except (Wrong, SyntaxError, ValueError, InvalidInput) as error:
        raise Wrong(f"{block.where}: {error}") from error


def check_bash(script: str) -> None:
    """Check that bash reads it, and each command by its own lights."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)  # noqa: S607 - the one that readers have
    if done.returncode != 0:
        raise Wrong(done.stderr)
    for command in commands(script):
        settings = list(takewhile(re.compile(r"[A-Z_]+=").match, command))
        check_export(settings)
        name, *arguments = command[len(settings) :]
        COMMANDS[name](arguments)


def commands(script: str) -> Iterator[list[str]]:
    """The commands of a script, in words, without comments; a quote may span lines."""
    unread = ""
    for line in script.replace("\\\n", " ").splitlines(keepends=True):
        unread += line
        try:
            words = words_of(unread)
        except ValueError:  # the quote is still open; bash has found that it ends
            continue
        unread = ""
        command: list[str] = []
        for word in [*words, ";"]:
            if word not in OPERATORS:
                command.append(word)
            elif command:
                yield command
                command = []


def words_of(text: str) -> list[str]:
    """The words and operators of some lines."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def check_airflow(arguments: list[str]) -> None:
    """Let Airflow's own parser accept it."""
    from airflow.cli.cli_parser import get_parser

    try:
        get_parser().parse_args(arguments)
    except SystemExit as refused:
        raise Wrong(f"Airflow refuses {shlex.join(arguments)}") from refused


def check_make(arguments: list[str]) -> None:
    """Find its targets in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (argument for argument in arguments if "=" not in argument):
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
            raise Wrong(f"make knows no {target}")


def check_pip(arguments: list[str]) -> None:
    """Find the wheel that ``make wheel`` builds, and the extras that are named."""
    if arguments[0] not in {"install", "uninstall"}:
        raise Wrong(f"pip {arguments[0]}")
    of_ours = set(metadata.metadata("airflow-provider-reportrun").get_all("Provides-Extra") or ())
    options = {index for index, word in enumerate(arguments) if word == "--constraint"}
    for index, word in enumerate(arguments[1:], start=1):
        if index in options or index - 1 in options:
            continue
        if word.startswith("dist/"):
            if not fnmatch("dist/airflow_provider_reportrun-1.whl", word):
                raise Wrong(f"make wheel does not build {word}")
            continue
        requirement = Requirement(word)
        if requirement.name not in {"airflow-provider-reportrun", "apache-airflow"}:
            raise Wrong(f"pip installs {requirement.name}")
        if not requirement.extras <= of_ours:
            raise Wrong(f"{requirement} names an extra that is not there")


def check_python(arguments: list[str]) -> None:
    """Find the module that it runs."""
    match arguments:
        case ["-m", module, *_] if importlib.util.find_spec(module):
            return
    raise Wrong(f"python {shlex.join(arguments)}")


def check_export(arguments: list[str]) -> None:
    """Read connections as Airflow and the hook do, and the options of ``airflow.cfg`` by name."""
    from airflow.models.connection import Connection

    for name, value in (argument.split("=", 1) for argument in arguments):
        if name.startswith("AIRFLOW_CONN_"):
            conn_id = name.removeprefix("AIRFLOW_CONN_").lower()
            is_json = value.startswith("{")
            read_connection(
                Connection.from_json(value, conn_id=conn_id)
                if is_json
                else Connection(conn_id=conn_id, uri=value)
            )


def check_source(arguments: list[str]) -> None:
    """Find the file that ``make standalone`` writes."""
    if arguments != [".standalone/env"]:
        raise Wrong(f"nothing writes {shlex.join(arguments)}")


COMMANDS = {
    ".": check_source,
    "airflow": check_airflow,
    "export": check_export,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
}


CHECKS = {"bash": check_bash, "json": json.loads, "python": ast.parse}


def has_tests(page: Path) -> bool:
    """Tell whether the Python of a page is tests."""
    return any(re.search(r"^def test_", block.text, re.MULTILINE) for block in blocks(page))


def names_after(page: Path) -> dict[str, object]:
    """Run the Python blocks of a page in order; give the names that they leave."""
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block.text, block.where, "exec"), names)  # noqa: S102 - our own pages
    return names


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_well_formed(page):
    """Python and JSON parse; Airflow, make, pip, Python and the hook accept the commands."""
    for block in blocks(page):
        check(block)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != LOADING and blocks(page, "python") and not has_tests(page)],
    ids=name_of,
)
def test_python_blocks_run_in_order(page, sandbox):
    """Each runs after those before it; the DAGs among what they make have tasks, and no circle."""
    from airflow.sdk import DAG

    names = names_after(page)
    for dag in (value for value in names.values() if isinstance(value, DAG)):
        dag.check_cycle()
        assert dag.tasks


def test_the_readme_has_both_forms():
    """The first DAG of the README goes in three steps, and the second in one."""
    names = names_after(ROOT / "README.md")
    assert names["dag"].get_task("wait").upstream_task_ids == {"create"}
    assert names["dag"].get_task("land").upstream_task_ids == {"create", "wait"}
    assert names["single"].task_ids == ["report"]


def test_a_move_between_generations_leaves_no_gap(airflow_db, sandbox, monkeypatch, tmp_path):
    """The DAG of the guide requests the week before the cut from v1, and the next from v2.data."""
    dags, landed = tmp_path / "dags", tmp_path / "landed"
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(dags))
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(dags))
    (text,) = [each.text for each in blocks(GENERATIONS, "python") if "CUT =" in each.text]
    dags.mkdir()
    path = dags / "moved.py"
    path.write_text(text.replace("/srv/reports", str(landed)), encoding="utf-8")
    names = runpy.run_path(str(path))
    dag, cut = names["dag"], names["CUT"]
    dag.get_task("report").poll_interval = 0.1
    for logical_date in (cut, cut.add(weeks=1)):
        assert dag.test(logical_date=logical_date).state == "success"
    old, new = sandbox.runs
    assert (old.generation, new.generation) == ("v1", "v2.data")
    assert old.report_parameters["interval_end"] == cut.int_timestamp
    assert new.report_parameters["interval_start"] == f"{cut:YYYY-MM-DD}T00:00:00.000Z"
    weeks = {f"activity_{start:YYYY-MM-DD}.csv" for start in (cut.subtract(weeks=1), cut)}
    assert {path.name for path in landed.iterdir()} == weeks


def test_the_tests_of_the_guide_to_testing_pass(tmp_path):
    """As a DAG author runs them: beside the example's own ``conftest.py`` and its fixture."""
    guide = ROOT / "docs" / "testing.md"
    assert has_tests(guide)
    tests = shutil.copytree(EXAMPLES, tmp_path / "dags") / "tests"
    with (tests / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write("\nfrom test_weekly_report import dag\n")
    code = "\n".join(block.text for block in blocks(guide, "python"))
    (tests / "test_guide.py").write_text(code, encoding="utf-8")
    said = run_tests(tests / "test_guide.py", tmp_path)
    assert f"{len(re.findall(r'^def test_', code, re.MULTILINE))} passed" in said


@pytest.mark.parametrize("kind", ["operators", "sensors", "triggers"])
def test_the_reference_has_every_public_class(kind):
    """Each operator, sensor and trigger that the provider info tells Airflow of."""
    from airflow.sdk import BaseOperator
    from airflow.triggers.base import BaseTrigger

    modules = [name for found in get_provider_info()[kind] for name in found["python-modules"]]
    public = {
        f"{name}.{each}"
        for name in modules
        for each, found in vars(importlib.import_module(name)).items()
        if isinstance(found, type)
        and issubclass(found, (BaseOperator, BaseTrigger))
        and found.__module__ == name
        and not each.startswith("_")
        and each not in BASES
    }
    page = (ROOT / "docs" / "reference" / f"{kind}.md").read_text(encoding="utf-8")
    described = set()
    for directive, name in re.findall(
        r"^\.\. (currentmodule|autoclass):: (\w.+)$", page, re.MULTILINE
    ):
        if directive == "currentmodule":
            module = name
        else:
            described.add(f"{module}.{name}")
    assert public
    assert public <= described


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "DAG("),
        ("json", "{'name': 1}"),
        ("bash", "echo 'open"),
        ("bash", "if true; then"),
        ("bash", "airflow backfill start --dag-id weekly_report"),
        ("bash", "airflow backfill create --dag-id weekly_report --from-date 2026-01-05"),
        ("bash", "airflow dags list && airflow dags lost"),
        ("bash", "airflow backfill create --dag-id a \\\n    --from-day 2026-01-05"),
        ("bash", "make demo lunch"),
        ("bash", "pip install 'airflow-provider-reportrun[punch-cards]'"),
        ("bash", "pip install airflow-provider-reportrum"),
        ("bash", "pip install dist/airflow-provider-reportrun.whl"),
        ("bash", "python -m airflow_provider_reportrun.sandpit"),
        ("bash", "export AIRFLOW_CONN_REPORTRUN_DEFAULT='{\"conn_type\": }'"),
        ("bash", "export AIRFLOW_CONN_A='reportrun://:sk_a@?request_timeout=soon'"),
        ("bash", "A=1 airflow connections tset reportrun_default"),
        ("bash", "reprotrun"),
        ("toml", "a = 1"),
        ("nothing", "a"),
    ],
)
def test_a_wrong_block_is_caught(language, text):
    """What a reader could not use is an error that names page and line."""
    with pytest.raises(Wrong, match=r"guide\.md:7"):
        check(Block(where="guide.md:7", language=language, text=text))


def test_blocks_are_found_with_their_lines(tmp_path):
    """Fences are read as Markdown reads them; one without a language is known as such."""
    page = tmp_path / "guide.md"
    page.write_text("# A\n\n````text\n```bash\n````\n\n- b\n\n  ```json\n  {}\n  ```\n\n```\n```\n")
    assert blocks(page) == [
        Block(where="guide.md:3", language="text", text="```bash\n"),
        Block(where="guide.md:9", language="json", text="{}\n"),
        Block(where="guide.md:13", language="nothing", text=""),
    ]


def links(page: Path) -> list[str]:
    """Where the links and the images of a page lead."""
    return [
        str(child.attrs.get("href", child.attrs.get("src")))
        for token in parsed(page)
        for child in token.children or ()
        if child.type in {"link_open", "image"}
    ]


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by, on GitHub and on the site."""
    tokens = parsed(page)
    titles = (
        "".join(child.content for child in inline.children or ())
        for heading, inline in pairwise(tokens)
        if heading.type == "heading_open"
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    """The links of a page within the repository that name no file, or no heading of it."""
    dead = []
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_within_the_repository_lead_somewhere(page):
    """Every relative link names a file, and a heading of it."""
    assert dead_links(page) == []


def test_a_dead_link_is_caught(tmp_path):
    """A file that is not there, and a heading that is not."""
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`\n\n[a](page.md#one-two) [b](#three) | ![c](c.png) <http://d.e/f>\n"
    )
    assert dead_links(page) == ["#three", "c.png"]
