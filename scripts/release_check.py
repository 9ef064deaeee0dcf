"""
Check that this folder is ready for release: ``make release-check``.

The script builds ``dist/``, and checks it as a package index, a lawyer and an Airflow would. It
publishes nothing. Every problem names its fix. All checks run even if one fails, unless nothing can
be built. With ``--tag v1.2.3``, the version must be that of the tag, and not a development version.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Collection, Mapping
from configparser import ConfigParser
from datetime import date
from email.parser import HeaderParser
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
SCRATCH = ROOT / "build" / "release-check"
BIN = Path(sys.executable).parent
DISTRIBUTION = "airflow-provider-reportrun"
PACKAGE = "airflow_provider_reportrun"
HOOK = f"{PACKAGE}.hooks.report_run.ReportRunHook"
ENTRY_POINTS = {
    "apache_airflow_provider": f"{PACKAGE}.get_provider_info:get_provider_info",
    "pytest11": f"{PACKAGE}.testing",
}
"""How other packages find this one: the group of each entry point, and its target."""
SHIPPED_WITH_SOURCE = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}
LINES_SHOWN = 20
"""How many of the last lines of a failed command's output are shown."""


def main() -> int:
    """
    Run all checks.

    :return: the exit code, 0 if there is no problem.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", help="the tag that is being released, such as v1.2.3")
    tag = parser.parse_args().tag
    for folder in (DIST, SCRATCH):
        shutil.rmtree(folder, ignore_errors=True)

    say("The version, the changelog and the tag agree")
    problems = check_source(tag)
    say("The source distribution and the wheel build")
    if failed := run(BIN / "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", DIST):
        return end([*problems, f"the build fails: fix what hatchling reports\n{failed}"])
    (sdist,) = DIST.glob("*.tar.gz")
    (wheel,) = DIST.glob("*.whl")
    say("Their contents, their metadata and the rendered README are valid")
    problems += check_distributions(sdist, wheel, tag)
    say("The source distribution builds the same wheel")
    problems += check_rebuild(sdist, wheel)
    say("The licences of its dependencies, with all extras, are allowed")
    problems += check_licences(wheel)
    for pins in airflow_pins():
        say(f"Airflow finds the provider: {pins.relative_to(ROOT)}")
        problems += check_airflow(wheel, pins)
    return end(problems)


def check_source(tag: str | None) -> list[str]:
    """Compare the version in the package, the changelog, the docs and the tag."""
    namespace: dict[str, str] = {}
    exec((ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8"), namespace)  # noqa: S102 - ours
    version = namespace["__version__"]
    documents = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    }
    return [
        *version_problems(version, tag=tag),
        *changelog_problems(version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
        *document_problems(version, documents),
    ]


def version_problems(version: str, *, tag: str | None = None) -> list[str]:
    """Tell what is wrong with a version, and with its tag if there is one."""
    where = f"{PACKAGE}/__init__.py"
    try:
        canonical = str(Version(version))
    except InvalidVersion:
        return [f"version {version!r} is not valid: use a form like 1.2.3 or 1.2.3.dev0 in {where}"]
    if canonical != version:
        return [f"version {version!r} is not canonical: write {canonical!r} in {where}"]
    if tag is None:
        return []
    if Version(version).is_devrelease:
        return [f"version {version} is a development version: remove .dev in {where} first"]
    if tag != f"v{version}":
        return [f"tag {tag} is not v{version}: tag the commit with that version in {where}"]
    return []


def changelog_problems(version: str, changelog: str) -> list[str]:
    """
    Tell whether the newest entry of the changelog belongs to the version.

    The heading of a development version is ``[Unreleased]``. That of a release is its number and
    date, and no unreleased entry may be above it.
    """
    sections = re.findall(r"^## (.*)\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    headings = [heading for heading, body in sections if heading != "[Unreleased]" or body.strip()]
    newest = headings[0] if headings else "nothing"
    if ".dev" in version:
        if newest == "[Unreleased]" or (sections and sections[0][0] == "[Unreleased]"):
            return []
        return [f"CHANGELOG.md begins with {newest!r}: put '## [Unreleased]' above, for {version}"]
    dated = re.fullmatch(rf"\[{re.escape(version)}\] - (\d{{4}}-\d{{2}}-\d{{2}})", newest)
    if dated is None:
        fix = (
            f"write '## [{version}] - YYYY-MM-DD' above the entries of this version, "
            f"or set {version}.dev0 in {PACKAGE}/__init__.py"
        )
        return [f"CHANGELOG.md's newest entry is {newest!r}: {fix}"]
    try:
        date.fromisoformat(dated[1])
    except ValueError:
        return [f"CHANGELOG.md dates {version} {dated[1]!r}, not a date: write YYYY-MM-DD"]
    return []


def document_problems(version: str, documents: Mapping[str, str]) -> list[str]:
    """Tell where a document pins another version of this distribution."""
    return [
        f"{name} installs {DISTRIBUTION}=={pinned}: write {version}, or no version"
        for name, text in documents.items()
        for pinned in re.findall(rf"{DISTRIBUTION}(?:\[[\w,]+\])?==([\w.!+]*\w)", text)
        if pinned != version
    ]


def promise_problems(readme: str, metadata: str) -> list[str]:
    """Tell where the README names other bounds or extras than the metadata."""
    headers = HeaderParser().parsestr(metadata)
    python = headers["Requires-Python"].removeprefix(">=")
    (airflow,) = re.findall(
        r"^apache-airflow>=([\d.]+)",
        "\n".join(headers.get_all("Requires-Dist", [])),
        re.MULTILINE,
    )
    needed = f"It needs Airflow {airflow} or newer and Python {python} or newer"
    problems = []
    if needed not in readme:
        problems.append(f"README.md and pyproject.toml differ: the README needs {needed!r}")
    problems += [
        f"README.md does not name the extra {extra!r}: add it under Install"
        for extra in headers.get_all("Provides-Extra", [])
        if not re.search(rf"\b{extra}\b", readme)
    ]
    return problems


def address_problems(metadata: str) -> list[str]:
    """Tell what keeps an index from leading its readers to the repository."""
    message = HeaderParser().parsestr(metadata)
    if not any(url.startswith("Source, ") for url in message.get_all("Project-URL", [])):
        fix = 'add Source = "https://..." under [project.urls] in pyproject.toml'
        return [f"an index cannot follow the README's links without an address: {fix}"]
    return [
        f"the README on the index links to {path}: let scripts/readme_for_index.py find such links"
        for path in re.findall(r"\]\((?!#|[a-z]+:)([^)]+)\)", str(message.get_payload()))
    ]


def check_distributions(sdist: Path, wheel: Path, tag: str | None) -> list[str]:
    """Check the built files, also with the usual tools."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    with tarfile.open(sdist) as archive_of_source:
        files = {name.partition("/")[2] for name in archive_of_source.getnames()}
    problems = [
        *wheel_problems(names),
        *entry_point_problems(entry_points),
        *promise_problems((ROOT / "README.md").read_text(encoding="utf-8"), metadata),
        *(address_problems(metadata) if tag else ()),
        *(
            f"{sdist.name} lacks {name}: include it under [tool.hatch.build.targets.sdist]"
            for name in sorted(SHIPPED_WITH_SOURCE - files)
        ),
    ]
    if failed := run(BIN / "check-wheel-contents", wheel):
        problems.append(f"{wheel.name} does not contain what the package does\n{failed}")
    if failed := run(BIN / "twine", "check", "--strict", sdist, wheel):
        problems.append(f"an index would refuse these: fix pyproject.toml or README.md\n{failed}")
    return problems


def wheel_problems(names: Collection[str]) -> list[str]:
    """Tell what the wheel lacks, and what it should not install."""
    problems = [
        f"the wheel lacks {needed}: {fix}"
        for needed, fix in {
            f"{PACKAGE}/py.typed": "add the empty file, for type checkers",
            ".dist-info/licenses/LICENSE": "name it under license-files in pyproject.toml",
        }.items()
        if not any(name.endswith(needed) for name in names)
    ]
    problems += [
        f"the wheel installs {name}: "
        f"only {PACKAGE} may be under packages of [tool.hatch.build.targets.wheel]"
        for name in sorted(names)
        if not re.match(rf"{PACKAGE}(/(?!tests/)|-[^/]+\.dist-info/)", name)
    ]
    return problems


def entry_point_problems(text: str) -> list[str]:
    """Tell which group of entry points lacks its target."""
    parser = ConfigParser(delimiters=("=",))
    parser.read_string(text)
    return [
        f"no entry point of {group} points to {target}: add it to pyproject.toml"
        for group, target in ENTRY_POINTS.items()
        if not parser.has_section(group) or target not in dict(parser[group]).values()
    ]


def check_rebuild(sdist: Path, wheel: Path) -> list[str]:
    """Build the wheel again from only the source distribution, and compare every byte."""
    source = SCRATCH / "source"
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    folder = source / sdist.name.removesuffix(".tar.gz")
    if failed := run(BIN / "hatchling", "build", "-t", "wheel", "-d", SCRATCH, cwd=folder):
        return [f"{sdist.name} does not build: include what hatchling misses\n{failed}"]
    rebuilt = SCRATCH / wheel.name
    if rebuilt.is_file() and rebuilt.read_bytes() == wheel.read_bytes():
        return []
    fix = "include what differs under [tool.hatch.build.targets.sdist]"
    return [f"{sdist.name} builds another wheel than this folder: {fix}"]


def check_licences(wheel: Path) -> list[str]:
    """
    Compare licences with the list under ``[tool.pip-licenses]`` in ``pyproject.toml``.

    It checks what users install with the package and all its extras, not development tools.
    """
    python, failed = install(wheel, ROOT / "requirements" / "extras.txt")
    failed = failed or run(BIN / "pip-licenses", "--python", python)
    if not failed:
        return []
    fix = "replace it, or allow the licence under [tool.pip-licenses] in pyproject.toml"
    return [f"the licence of a dependency is not allowed: {fix}\n{failed}"]


def airflow_pins() -> list[Path]:
    """List the pins of each supported Airflow."""
    return sorted((ROOT / "requirements").glob("airflow-*.txt")) or [
        ROOT / "requirements" / "demo.txt"
    ]


def check_airflow(wheel: Path, pins: Path) -> list[str]:
    """Install the wheel with an Airflow, away from the source, and check that it is found."""
    python, failed = install(wheel, pins)
    if failed := failed or run(BIN / "uv", "pip", "check", "--python", python):
        return [f"the wheel does not fit {pins.name}: fix the dependencies\n{failed}"]
    home = python.parents[1] / "airflow"
    airflow = python.with_name("airflow")
    version = wheel.name.split("-")[1]
    problems = []
    for expected, arguments in ((version, ["get", DISTRIBUTION]), (HOOK, ["hooks"])):
        command = ["providers", *arguments, "--output", "json"]
        if failed := run(airflow, *command, home=home, expected=expected):
            shown = f"'airflow {' '.join(command)}' with {pins.name}"
            problems.append(f"{shown} lacks {expected}: fix get_provider_info.py\n{failed}")
    return problems


def install(wheel: Path, pins: Path) -> tuple[Path, str]:
    """
    Create an environment with pinned requirements and the wheel.

    :return: its Python, and the output of a failed command, or nothing.
    """
    environment = SCRATCH / pins.stem
    python = environment / "bin" / "python"
    uv: tuple[str | Path, ...] = (BIN / "uv", "pip", "install", "--quiet", "--python", python)
    failed = (
        run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, environment)
        or run(*uv, "--compile-bytecode", "--require-hashes", "-r", pins)
        or run(*uv, "--no-deps", wheel)
    )
    return python, failed


def run(
    *command: str | Path, cwd: Path = ROOT, home: Path | None = None, expected: str = ""
) -> str:
    """
    Run a command.

    :param home: an ``AIRFLOW_HOME`` for commands of Airflow, which also run in that folder.
    :param expected: text that the output must contain.
    :return: nothing if the command succeeded, else the end of its output.
    """
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")
    }
    if home is not None:
        home.mkdir(exist_ok=True)
        cwd = home
        variables |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "false"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0 and expected in done.stdout:
        return ""
    lines = done.stdout.strip().splitlines()[-LINES_SHOWN:]
    return "\n".join(f"    {line}" for line in (lines or [f"exit code {done.returncode}"]))


def end(problems: list[str]) -> int:
    """Print the problems, and return the exit code."""
    for problem in problems:
        say(f"PROBLEM: {problem}")
    if problems:
        return 1
    shutil.rmtree(SCRATCH)
    say(f"Ready for release: {', '.join(sorted(path.name for path in DIST.iterdir()))}")
    return 0


def say(line: str) -> None:
    """Print without buffering, in order with the output of commands."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
