"""What the installed package promises: to Airflow, to those who import it, and to itself."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path

import pytest

import airflow_provider_reportrun
from airflow_provider_reportrun.get_provider_info import get_provider_info

DISTRIBUTION = "airflow-provider-reportrun"
PACKAGE = "airflow_provider_reportrun"
FOLDER = Path(airflow_provider_reportrun.__file__).parent
HTTP = {"aiohttp", "requests", "urllib3"}
LIBRARIES = HTTP | {"aiolimiter", "airflow", "msgspec", "pendulum", "rich"}

PUBLIC_NAMES = {
    "errors": [
        "ApiError",
        "AuthenticationError",
        "BadTriggerEvent",
        "CapacityExceeded",
        "ConversionFailed",
        "DeadlinePassed",
        "InvalidInput",
        "InvalidRequest",
        "LandingExists",
        "LandingFailed",
        "NotFound",
        "PermissionDenied",
        "RateLimited",
        "ReportRunError",
        "ReportRunFailed",
        "ResultCorrupt",
        "TransportError",
        "UnexpectedAnswer",
    ],
    "hooks.report_run": ["ReportRunHook"],
    "links.report_run": ["ReportRunLink"],
    "operators.query_run": [
        "CreateQueryRunOperator",
        "DownloadQueryResultOperator",
        "QueryRunToStorageOperator",
    ],
    "operators.report_run": [
        "CreateReportRunOperator",
        "DownloadReportResultOperator",
        "ReportRunToStorageOperator",
    ],
    "sandbox": ["Sandbox"],
    "sensors.query_run": ["QueryRunSensor"],
    "sensors.report_run": ["ReportDataSensor", "ReportRunSensor"],
    "triggers.report_run": ["CreateReportRunTrigger", "ReportRunTrigger"],
}

ALLOWED = {
    "__init__": set(),
    "get_provider_info": set(),
    "text": set(),
    "errors": {"text"},
    "secret": {"errors"},
    "_compat": set(),
    "retry_policy": {"errors"},
    "protocol": {"errors", "secret", "text"},
    "client": {"__init__", "_compat", "errors", "protocol", "secret"},
    "landing": {"_compat", "client", "errors", "protocol", "secret"},
    "task": {"_compat", "errors", "landing", "protocol", "text"},
    "hooks": {
        "_compat",
        "client",
        "errors",
        "get_provider_info",
        "landing",
        "protocol",
        "secret",
        "task",
    },
    "links": {"client", "errors", "hooks", "task"},
    "triggers": {"errors", "hooks", "links", "protocol", "task", "text"},
    "operators": {
        "_compat",
        "client",
        "errors",
        "hooks",
        "landing",
        "links",
        "protocol",
        "task",
        "triggers",
    },
    "sensors": {"_compat", "client", "errors", "hooks", "links", "protocol", "task", "triggers"},
    "cli": {"client", "errors", "hooks", "landing", "protocol", "secret", "task", "text"},
    "__main__": {"cli"},
    "sandbox": set(),
    "testing": {"hooks", "sandbox"},
}
"""Room: the other rooms that it may import from, for types too."""
WITH_AIRFLOW = {
    "_compat",
    "cli",
    "hooks",
    "landing",
    "links",
    "operators",
    "retry_policy",
    "sensors",
    "task",
    "triggers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import statement's view of one module."""

    where: str
    """File and line."""
    room: str
    """The room it stands in."""
    module: str
    """What is imported, from the top."""
    for_types_only: bool

    @property
    def library(self) -> str:
        """The top-level module."""
        return self.module.partition(".")[0]

    @property
    def target(self) -> str | None:
        """The room that is imported from; None outside of the package."""
        head, _, rest = self.module.partition(".")
        return (rest.partition(".")[0] or "__init__") if head == PACKAGE else None


class _Collector(ast.NodeVisitor):
    """Finds the imports of one file, those inside functions included."""

    def __init__(self, path: Path) -> None:
        self.found: list[Import] = []
        self._path = path.relative_to(FOLDER)
        self._for_types_only = False

    def visit_If(self, node: ast.If) -> None:
        outside = self._for_types_only
        self._for_types_only = outside or ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.body:
            self.visit(child)
        self._for_types_only = outside
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self._path}:{node.lineno} imports relatively"
        for alias in node.names:
            is_room = node.module == PACKAGE and alias.name in ALLOWED
            self._add(node, f"{PACKAGE}.{alias.name}" if is_room else str(node.module))

    def _add(self, node: ast.stmt, module: str) -> None:
        self.found.append(
            Import(
                where=f"{self._path}:{node.lineno}",
                room=self._path.parts[0].removesuffix(".py"),
                module=module,
                for_types_only=self._for_types_only,
            )
        )


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package."""

    def found() -> Iterator[Import]:
        for path in sorted(FOLDER.rglob("*.py")):
            collector = _Collector(path)
            collector.visit(ast.parse(path.read_text(encoding="utf-8")))
            yield from collector.found

    return tuple(found())


def libraries_loaded_by(statement: str, *, after: str = "pass") -> set[str]:
    """Tell which top-level modules a statement loads, in a fresh interpreter, after another one."""
    code = (
        f"import json, sys\n{after}\nbefore = set(sys.modules)\n{statement}\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_airflow_finds_the_provider_by_its_entry_point():
    """The entry point ``apache_airflow_provider`` leads to the provider info."""
    (entry_point,) = [
        entry_point
        for entry_point in metadata.entry_points(group="apache_airflow_provider")
        if entry_point.dist is not None and entry_point.dist.name == DISTRIBUTION
    ]
    assert entry_point.load()() == get_provider_info()
    assert get_provider_info()["package-name"] == DISTRIBUTION


@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")
def test_the_provider_manager_accepts_the_provider_info():
    """Airflow's own manager knows the provider, its connection type and its hook."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert airflow_provider_reportrun.__version__ == manager.providers[DISTRIBUTION].version
    hook = manager.hooks["reportrun"]
    assert hook is not None
    assert hook.hook_class_name == f"{PACKAGE}.hooks.report_run.ReportRunHook"
    assert hook.hook_name == "Stripe Reporting"
    assert hook.connection_id_attribute_name == "reportrun_conn_id"


@pytest.fixture(scope="module")
def form():
    """What Airflow's own user interface is told of the connection type."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    from airflow.providers_manager import ProvidersManager

    ProvidersManager()._cleanup()  # Airflow 3.1 reads forms in the first place alone
    (found,) = (
        hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "reportrun"
    )
    return found


def test_the_connection_form_has_the_documented_fields(form):
    """The form shows every extra that a connection may hold, labelled and explained."""
    labels = {name: field["schema"]["title"] for name, field in form.extra_fields.items()}
    assert labels == {
        "api": "API",
        "stripe_version": "Stripe version",
        "stripe_context": "Stripe context",
        "max_requests_per_second": "Requests per second",
        "request_timeout": "Request timeout (seconds)",
        "download_hosts": "Download hosts",
        "idempotency_namespace": "Idempotency namespace",
        "ca_bundle": "CA bundle",
        "proxy": "Proxy",
        "allow_plain_http": "Allow plain http",
    }
    assert all(field["description"] for field in form.extra_fields.values())
    assert all("null" in field["schema"]["type"] for field in form.extra_fields.values())


def test_the_connection_form_shows_nothing_else(form):
    """Of Airflow's own fields, key and address have names and hints; the others are hidden."""
    assert form.hook_name == "Stripe Reporting"
    own = form.standard_fields
    assert own.password.title == "API key"
    assert own.host.title == "API address"
    assert own.host.placeholder == "https://api.stripe.com"
    assert all(field.hidden for field in (own.url_schema, own.login, own.port))
    assert not own.password.hidden
    assert not own.host.hidden


def test_the_provider_manager_knows_the_extra_links():
    """Airflow accepts the class that the provider info names."""
    from airflow.providers_manager import ProvidersManager

    links = ProvidersManager().extra_links_class_names
    assert f"{PACKAGE}.links.report_run.ReportRunLink" in links


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_modules_named_to_airflow_are_those_with_public_names(kind):
    """The provider info names every module with public names, and no other."""
    modules = [name for entry in get_provider_info()[kind] for name in entry["python-modules"]]
    assert sorted(modules) == [
        f"{PACKAGE}.{name}" for name in PUBLIC_NAMES if name.startswith(f"{kind}.")
    ]
    for name in modules:
        import_module(name)


def test_hook_classes_named_to_airflow_exist():
    """Every hook class named in the provider info exists and has the connection type and name."""
    for entry in get_provider_info()["connection-types"]:
        module, _, name = entry["hook-class-name"].rpartition(".")
        hook_class = getattr(import_module(module), name)
        assert entry["connection-type"] == hook_class.conn_type
        assert entry["hook-name"] == hook_class.hook_name


def test_integrations_are_named_consistently():
    """Every entry of the provider info belongs to an integration that is described there."""
    info = get_provider_info()
    described = {entry["integration-name"] for entry in info["integrations"]}
    for kind in ("hooks", "operators", "sensors", "triggers"):
        assert described == {entry["integration-name"] for entry in info[kind]}


def test_the_version_is_that_of_the_distribution():
    """``__version__`` and the installed metadata say the same."""
    assert metadata.version(DISTRIBUTION) == airflow_provider_reportrun.__version__


def test_types_ship_with_the_package():
    """Type checkers find ``py.typed``."""
    assert (FOLDER / "py.typed").is_file()


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in PUBLIC_NAMES.items() for name in names]
)
def test_public_names_are_where_they_are_promised(module, name):
    """Every documented class can be imported from its documented module, which defines it."""
    found = getattr(import_module(f"{PACKAGE}.{module}"), name)
    assert found.__module__.startswith(f"{PACKAGE}.{module}")


def test_importing_the_package_loads_nothing_else():
    """The top module costs an Airflow process nothing."""
    assert libraries_loaded_by(f"import {PACKAGE}") - sys.stdlib_module_names == {PACKAGE}


def test_the_provider_info_loads_no_library():
    """Airflow reads the provider info in every process; it must stay cheap."""
    loaded = libraries_loaded_by(f"import {PACKAGE}.get_provider_info")
    assert loaded & LIBRARIES == set()


@pytest.mark.parametrize(
    "module",
    [
        "hooks.report_run",
        "operators.query_run",
        "operators.report_run",
        "sensors.query_run",
        "sensors.report_run",
        "triggers.report_run",
    ],
)
def test_parsing_a_dag_loads_no_http_library(module):
    """Importing what DAG files import loads no HTTP library and no OpenLineage beside Airflow."""
    airflow = (
        "from airflow.sdk import Asset, BaseOperator; "
        f"from {PACKAGE} import _compat; _compat.default_deferrable()"
    )
    if module.startswith("triggers"):
        airflow += "; import airflow.triggers.base"
    loaded = libraries_loaded_by(f"import {PACKAGE}.{module}", after=airflow)
    assert PACKAGE in loaded
    assert loaded & (HTTP | {"aiolimiter", "openlineage", "starlette", "uvicorn"}) == set()


def test_the_commands_cost_next_to_nothing_until_one_is_carried_out():
    """Every command of Airflow reads which there are."""
    loaded = libraries_loaded_by(f"from {PACKAGE}.cli.definition import parser; parser()")
    assert loaded & LIBRARIES == set()


def test_only_the_command_line_loads_itself():
    """Nothing that DAG files import does."""
    modules = ", ".join(f"{PACKAGE}.{each}" for each in PUBLIC_NAMES)
    names = f"[each for each in sys.modules if f'{{each}}.'.startswith('{PACKAGE}.cli.')]"
    code = f"import sys, {modules}; print({names})"
    said = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert said.stdout.strip() == "[]"


def test_the_sandbox_runs_without_airflow():
    """The sandbox can be started, and tested against, without paying for Airflow's start."""
    loaded = libraries_loaded_by(f"import {PACKAGE}.sandbox")
    assert loaded & LIBRARIES == set()


def test_every_room_has_its_place():
    """The table of allowed imports names exactly the modules and folders that there are."""
    rooms = {path.relative_to(FOLDER).parts[0] for path in FOLDER.rglob("*.py")}
    assert set(ALLOWED) == {room.removesuffix(".py") for room in rooms}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_point_one_way(room):
    """A room imports from the rooms below it only, inside functions and for types too."""
    allowed = ALLOWED[room] | {room, None}
    ours = [found for found in imports() if found.room == room]
    assert [found for found in ours if found.target not in allowed] == []


def test_the_table_of_rooms_has_no_circle():
    """Each room can be put above all that it may import."""
    above = {room: set(below) for room, below in ALLOWED.items()}
    while lowest := {room for room, below in above.items() if not below}:
        above = {room: below - lowest for room, below in above.items() if room not in lowest}
    assert above == {}


def test_nothing_imports_the_sandbox_but_the_plugin_for_tests():
    """No code that runs in production depends on the sandbox."""
    users = {found.room for found in imports() if found.target == "sandbox"}
    assert users == {"sandbox", "testing"}


def test_only_the_transport_speaks_http():
    """HTTP libraries are imported by ``transport`` and its sessions alone, apart from types."""
    users = {
        found.where.partition(":")[0]
        for found in imports()
        if found.library in HTTP and not found.for_types_only
    }
    assert users == {"client/guarded.py", "client/transport.py"}


def test_the_core_knows_nothing_of_airflow():
    """Only the rooms that meet Airflow import it; client and protocol do not."""
    assert {found.room for found in imports() if found.library == "airflow"} <= WITH_AIRFLOW
