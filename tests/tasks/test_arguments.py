"""Arguments that take one of a few values: templated, strict, and checked when a DAG is read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.sdk import DAG, task
from landing.sources import zipped
from support.cases import BODY, FAST
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sensors.report_run import ReportDataSensor, ReportRunSensor

CREATE_FLAGS = ["validate", "wait_for_data", "wait_for_completion"]


def create(**arguments):
    """A create."""
    defaults = {"task_id": "t", "report": "balance_summary"}
    return CreateReportRunOperator(**defaults | FAST | arguments)


def download(**arguments):
    """A download."""
    defaults = {"task_id": "t", "report_run_id": "rr_1", "destination": "/nowhere/"}
    return DownloadReportResultOperator(**defaults | arguments)


def whole(**arguments):
    """The one task."""
    defaults = {"task_id": "t", "report": "balance_summary", "destination": "/nowhere/"}
    return ReportRunToStorageOperator(**defaults | FAST | arguments)


def data_sensor(**arguments):
    """A sensor of data."""
    return ReportDataSensor(**{"task_id": "t", "report": "balance_summary"} | arguments)


def run_sensor(**arguments):
    """A sensor of a report run."""
    return ReportRunSensor(**{"task_id": "t", "report_run_id": "rr_1"} | arguments)


# When a DAG file is read


@pytest.mark.parametrize(
    ("make", "name", "value", "words"),
    [
        *[(create, name, "maybe", f"{name} must be True or False") for name in CREATE_FLAGS],
        *[(create, name, 1, f"{name} must be True or False") for name in CREATE_FLAGS],
        (create, "validate", None, "validate must be True or False, not None"),
        (create, "validate", "", "validate must be True or False, not ''"),
        (create, "validate", "None", "validate must be True or False, not 'None'"),
        (create, "on_clear", "again", "on_clear must be 'new_run' or 'reuse', not 'again'"),
        (create, "on_clear", None, "on_clear must be 'new_run' or 'reuse', not None"),
        (create, "timezone", "Mars/Olympus", "timezone must be the name of a zone"),
        (create, "timezone", 2, "timezone must be the name of a zone"),
        (create, "report_parameters", 5, "report_parameters must be a mapping, not 5"),
        (create, "report_parameters", 0, "report_parameters must be a mapping, not 0"),
        (create, "report_parameters", ["usd"], "report_parameters must be a mapping, not ['usd']"),
        (create, "report_parameters", "currency", "report_parameters must be a mapping"),
        (create, "idempotency_key", 0, "idempotency_key must be 1 to 255 printable ASCII"),
        (create, "idempotency_key", False, "idempotency_key must be 1 to 255 printable ASCII"),
        (create, "idempotency_key", "Ä", "idempotency_key must be 1 to 255 printable ASCII"),
        (create, "deferrable", "False", "deferrable must be True or False, not 'False'"),
        (create, "deferrable", "{{ params.wait }}", "deferrable must be True or False"),
        (create, "deferrable", 0, "deferrable must be True or False"),
        (create, "timeout", 0, "timeout must be seconds above 0"),
        (create, "timeout", "{{ 5 }}", "timeout must be seconds above 0"),
        (create, "poll_interval", float("nan"), "poll_interval must be seconds above 0"),
        (create, "max_poll_interval", timedelta(seconds=-1), "max_poll_interval must be"),
        (whole, "deferrable", "true", "deferrable must be True or False"),
        (whole, "wait_for_data", "yes", "wait_for_data must be True or False"),
        (whole, "decompress", "unpack", "decompress must be True or False"),
        (download, "decompress", "1", "decompress must be True or False"),
        (download, "if_exists", "overwrite", "if_exists must be 'replace' or 'skip' or 'fail'"),
        (download, "marker", "a/b", "marker must be the name of a file"),
        (download, "marker", True, "marker must be the name of a file"),
        (download, "marker", "done\n.csv", "marker must be the name of a file"),
        (download, "marker", " .. ", "marker must be the name of a file"),
        (download, "marker", "ä" * 128, "marker must be the name of a file"),
        (download, "spool_dir", 5, "spool_dir must be the path of a folder, such as '/tmp', not 5"),
        (download, "spool_dir", b"/tmp", "spool_dir must be the path of a folder"),
        (download, "spool_dir", "/spool/\0", "spool_dir must be the path of a folder"),
        (download, "output_format", "csv", "output_format must be 'parquet' or 'csv.gz'"),
        (download, "column_names", "upper", "column_names must be 'snake', not 'upper'"),
        (download, "column_types", "fee=decimal", "column_types must be a mapping"),
        (download, "column_types", {"fee": "money"}, "type of the column 'fee'"),
        (download, "max_unpacked_bytes", "5 GB", "max_unpacked_bytes must be a whole number"),
        (download, "max_unpacked_bytes", True, "max_unpacked_bytes must be a whole number"),
        (download, "max_unpacked_bytes", "9" * 5000, "max_unpacked_bytes must be a whole number"),
        (download, "max_unpacked_bytes", 5e9, "max_unpacked_bytes must be a whole number"),
        (data_sensor, "timezone", "CEST?", "timezone must be the name of a zone"),
        (data_sensor, "deferrable", "True", "deferrable must be True or False"),
        (run_sensor, "deferrable", None, "deferrable must be True or False"),
        (run_sensor, "poke_interval", 0, "poke_interval must be seconds above 0"),
    ],
)
def test_a_known_mistake_is_an_error_of_import(make, name, value, words):
    """It shows when the DAG file is read, and names argument and fix at once."""
    with dag(), pytest.raises(InvalidInput) as caught:
        make(**{name: value})
    assert words in str(caught.value)[:100]
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (create, {"validate": "False", "wait_for_data": "TRUE", "timezone": None}),
        (create, {"timezone": ZoneInfo("Europe/Paris"), "on_clear": "reuse"}),
        (create, {"timezone": timezone.utc}),
        (create, {"timezone": pendulum.timezone("Asia/Tokyo")}),
        (download, {"column_types": {"{{ params.name }}": "decimal"}, "output_format": "parquet"}),
        (download, {"column_types": {"fee": "{{ params.type }}"}, "marker": "{{ ds }}_DONE"}),
        (download, {"column_types": '{"fee": "decimal"}', "max_unpacked_bytes": "500"}),
        (create, {"report_parameters": '{"currency": "usd"}', "idempotency_key": None}),
        (create, {"report_parameters": "{{ params.all | tojson }}"}),
        (create, {"report_parameters": None, "idempotency_key": "{{ ds }}"}),
        (download, {"spool_dir": Path("/var/spool"), "marker": "ä" * 127}),
        (download, {"spool_dir": "{{ params.folder }}"}),
        (download, {"decompress": "{% if 1 %}True{% endif %}", "if_exists": "{{ params.x }}"}),
    ],
)
def test_what_is_not_known_yet_is_left_to_the_run(make, arguments):
    """Templates stay as they are written, for Airflow to render; so do values that are right."""
    with dag():
        made = make(**arguments)
    assert {name: getattr(made, name) for name in arguments} == arguments
    assert set(arguments) <= set(made.template_fields)


# When a task runs


def unpack_forms():
    """Ways in which a DAG says whether to unpack: each with the value it stands for."""

    def parameter(value):
        with dag(params={"unpack": value}) as made:
            return made.param("unpack")

    return [
        ("{{ params.unpack }}", {"unpack": True}, True),
        ("{{ params.unpack }}", {"unpack": False}, False),
        ("{{ not params.unpack }}", {"unpack": False}, True),
        (" {{ params.unpack }}\n", {"unpack": "tRuE"}, True),
        ("False", {}, False),
        ("true", {}, True),
        (True, {}, True),
    ]


@pytest.mark.parametrize(("value", "params", "meant"), unpack_forms())
def test_a_flag_means_what_it_says(sandbox, tmp_path, value, params, meant):
    """A text that says False is not True for not being empty."""
    sandbox.deliver_next(zipped({"a.csv": BODY}), "zip")
    with dag(params=params):
        made = whole(destination=f"{tmp_path}/", decompress=value, deferrable=False)
    outcome = run_task(made)
    assert outcome.state == "success", outcome.error
    suffixes = {path.suffix for path in tmp_path.iterdir()}
    assert suffixes == {".csv" if meant else ".zip"}


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
@pytest.mark.parametrize("unpack", [False, True])
def test_a_flag_may_be_a_parameter_of_the_dag(sandbox, tmp_path, unpack, native):
    """What ``dag.param`` names, and what the run sets it to."""
    sandbox.deliver_next(zipped({"a.csv": BODY}), "zip")
    with dag(params={"unpack": not unpack}, render_template_as_native_obj=native) as made:
        task = whole(destination=f"{tmp_path}/", decompress=made.param("unpack"), deferrable=False)
    outcome = run_task(task, run_fields={"conf": {"unpack": unpack}})
    assert outcome.state == "success", outcome.error
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv" if unpack else ".zip"}


def test_a_flag_may_be_the_output_of_a_task(sandbox, tmp_path):
    """Upstream is told of it, as for every template field."""
    sandbox.deliver_next(zipped({"a.csv": BODY}), "zip")
    with dag():

        @task
        def decide():
            return False

        made = whole(destination=f"{tmp_path}/", decompress=decide(), deferrable=False)
    assert made.upstream_task_ids == {"decide"}
    outcome = run_task(made, xcom={"return_value": "False"})
    assert outcome.state == "success", outcome.error
    assert {path.suffix for path in tmp_path.iterdir()} == {".zip"}


@pytest.mark.parametrize(
    ("arguments", "params", "words"),
    [
        ({"decompress": "{{ params.x }}"}, {"x": None}, "decompress must be True or False, not 'N"),
        ({"validate": "{{ params.x }}"}, {"x": ""}, "validate must be True or False, not ''"),
        ({"wait_for_data": "{{ params.x }}"}, {"x": "no"}, "wait_for_data must be True or False"),
        ({"if_exists": "{{ params.x }}"}, {"x": "keep"}, "if_exists must be"),
        ({"on_clear": "{{ params.x }}"}, {"x": "keep"}, "on_clear must be"),
        ({"timezone": "{{ params.x }}"}, {"x": "Mars"}, "timezone must be the name of a zone"),
        ({"marker": "{{ params.x }}"}, {"x": "../x"}, "marker must be the name of a file"),
        ({"max_unpacked_bytes": "{{ params.x }}"}, {"x": -5}, "max_unpacked_bytes must be a whole"),
        (
            {"output_format": "{{ params.x }}"},
            {"x": "orc"},
            "output_format must be 'parquet' or 'csv.gz'",
        ),
        ({"column_types": "{{ params.x }}"}, {"x": [1]}, "column_types must be a mapping"),
        ({"report_parameters": "{{ params.x }}"}, {"x": [1]}, "report_parameters must be a mappi"),
        ({"idempotency_key": "{{ params.x }}"}, {"x": "Ä"}, "idempotency_key must be 1 to 255"),
        ({"spool_dir": "{{ params.x }}"}, {"x": "a\tb"}, "spool_dir must be the path of a folder"),
    ],
)
def test_what_a_template_brings_is_checked_before_any_request(sandbox, arguments, params, words):
    """Wrong values fail the task for good and spend nothing."""
    with dag(params=params):
        made = whole(retries=3, **arguments)
    outcome = run_task(made)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert words in str(outcome.error)[:100]
    assert sandbox.requests == []


def test_all_of_them_are_rendered(sandbox, tmp_path):
    """Each means what its template renders to."""
    sandbox.deliver_next(zipped({"a.csv": BODY}), "zip")
    params = {"yes": True, "no": False, "zone": "Europe/Paris", "most": 1000, "none": None}
    with dag(params=params):
        made = whole(
            destination=f"{tmp_path}/",
            interval_start="2026-10-26",
            interval_end="2026-11-02",
            deferrable=False,
            timezone="{{ params.zone }}",
            on_clear="{{ 're' ~ 'use' }}",
            validate="{{ params.no }}",
            wait_for_data="{{ params.no }}",
            if_exists="{{ 'skip' }}",
            decompress="{{ params.yes }}",
            marker=" {{ ds }}_DONE\n",
            spool_dir=tmp_path,
            max_unpacked_bytes="{{ params.most }}",
            output_format="{{ params.none }}",
            column_types="{{ params.none | tojson }}",
            column_names="{{ params.none }}",
        )
    outcome = run_task(made)
    assert outcome.state == "success", outcome.error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a.csv": BODY,
        "2026-10-26_DONE": b"",
    }
    (run,) = sandbox.runs
    assert run.report_parameters["interval_start"] == "2026-10-25T23:00:00.000Z"
    assert not [request for request in sandbox.requests if request.operation == "get_report"]


def test_types_may_come_as_json(sandbox, tmp_path):
    """A template renders to text, unless a DAG renders natively."""
    parquet = pytest.importorskip("pyarrow.parquet")
    sandbox.deliver_next(BODY)
    with dag(params={"types": {"a": "bigint"}}):
        made = whole(
            destination=f"{tmp_path}/r.parquet",
            output_format="parquet",
            column_types="{{ params.types | tojson }}",
            deferrable=False,
        )
    outcome = run_task(made)
    assert outcome.state == "success", outcome.error
    assert str(parquet.read_schema(tmp_path / "r.parquet").field("a").type) == "int64"


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_report_parameters_may_come_as_json(sandbox, native):
    """One template may render all of them, with the dates in the zone of the task."""
    given = {"currency": "usd", "interval_start": "2026-10-26"}
    with dag(params={"all": given}, render_template_as_native_obj=native):
        made = create(
            report_parameters="{{ params.all | tojson }}",
            interval_end="2026-11-02",
            timezone="Europe/Paris",
        )
    outcome = run_task(made)
    assert outcome.state == "success", outcome.error
    assert [run.report_parameters for run in sandbox.runs] == [
        {
            "currency": "usd",
            "interval_start": "2026-10-25T23:00:00.000Z",
            "interval_end": "2026-11-01T23:00:00.000Z",
        }
    ]


def test_a_key_that_is_no_text_is_refused_by_name(sandbox):
    """A number that counts as false is not a key that was left out."""
    with dag(params={"key": 0}, render_template_as_native_obj=True):
        made = create(idempotency_key="{{ params.key }}", retries=3)
    outcome = run_task(made)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert str(outcome.error).startswith("idempotency_key must be 1 to 255 printable ASCII")
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("make", "timeout"),
    [(whole, 1e12), (whole, 1e300), (data_sensor, 1e12), (data_sensor, timedelta.max)],
)
def test_the_longest_timeout_defers(sandbox, make, timeout):
    """Airflow can add the timeout of the deferral to the current time."""
    with dag():
        made = make(interval_end="2027-01-01T00:00:00Z", timeout=timeout, deferrable=True)
    outcome = run_task(made, event_of=None)
    assert outcome.state == "deferred", outcome.error
    (deferral,) = outcome.deferrals
    now = datetime.now(timezone.utc)
    assert now + timedelta(days=36_500 - 1) < now + deferral.trigger_timeout


@pytest.mark.parametrize("value", ["{{ params.zone }}", "Europe/Paris", ZoneInfo("Europe/Paris")])
def test_the_zone_of_a_sensor_is_rendered(sandbox, value):
    """Dates are meant in it."""
    with dag(params={"zone": "Europe/Paris"}):
        made = data_sensor(interval_end="2026-10-26", timezone=value, deferrable=True)
    outcome = run_task(made, event_of=None)
    assert outcome.state in {"success", "deferred"}, outcome.error
    for deferral in outcome.deferrals:
        assert deferral.trigger_kwargs["interval_end"] == "2026-10-25T23:00:00.000Z"


def test_a_sensor_refuses_a_zone_that_is_none(sandbox):
    """For good, by name."""
    with dag(params={"zone": "Nowhere"}):
        made = data_sensor(interval_end="2026-10-26", timezone="{{ params.zone }}", retries=3)
    outcome = run_task(made)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert "timezone must be the name of a zone" in str(outcome.error)[:100]


def test_a_deferred_task_goes_on_with_what_was_rendered(sandbox, tmp_path):
    """Flags are rendered and checked anew after the wait."""
    sandbox.deliver_next(zipped({"a.csv": BODY}), "zip")
    with dag(params={"unpack": False}):
        made = whole(destination=f"{tmp_path}/", decompress="{{ params.unpack }}")
    outcome = run_task(made)
    assert outcome.deferrals
    assert outcome.state == "success", outcome.error
    assert {path.suffix for path in tmp_path.iterdir()} == {".zip"}


def test_a_mapped_argument_is_checked_when_it_runs(sandbox):
    """A wrong one fails its own instance, for good."""
    with DAG("d", schedule=None):
        made = DownloadReportResultOperator.partial(
            task_id="t", report_run_id="rr_1", destination="/nowhere/", retries=3
        ).expand(decompress=[True, "maybe"])
    outcome = run_task(made.unmap({"decompress": "maybe"}), map_index=1)
    assert isinstance(outcome.error, InvalidInput), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert sandbox.requests == []
