"""DAGs of one way to run well and of one more that tells its secrets on purpose."""

from __future__ import annotations

import os
import time
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, BaseOperator

from airflow_provider_reportrun.hooks.report_run import ReportRunHook
from airflow_provider_reportrun.operators.report_run import (
    CreateReportRunOperator,
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)
from airflow_provider_reportrun.sensors.report_run import ReportRunSensor
from airflow_provider_reportrun.triggers.report_run import ReportRunTrigger

FOLDER = os.environ["DISCLOSING_FOLDER"]
DATA = {"api": "v2.data", "report": "name:balance.summary"}
V1 = {"api": "v1", "report": "balance.summary.1"}
INTERVAL = {"interval_start": "2026-10-26T00:00:00Z", "interval_end": "2026-11-02T00:00:00Z"}


def single(dag_id: str, **arguments: Any) -> DAG:
    """A DAG of one task that does it all."""
    defaults = {
        "report": "balance_summary",
        "destination": f"{FOLDER}/landed/{dag_id}.csv",
        "poll_interval": 0.05,
        "max_poll_interval": 0.1,
    }
    with DAG(dag_id, schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
        ReportRunToStorageOperator(
            task_id="report",
            outlets=[Asset("landed", uri="x-report://landed")],
            **INTERVAL,
            **defaults | arguments,
        )
    return dag


def three_tasks(dag_id: str) -> DAG:
    """A DAG of the three tasks, waiting in the triggerer."""
    with DAG(dag_id, schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
        create = CreateReportRunOperator(task_id="create", report="balance_summary", **INTERVAL)
        wait = ReportRunSensor(
            task_id="wait", report_run_id=create.output, deferrable=True, poke_interval=0.05
        )
        land = DownloadReportResultOperator(
            task_id="land",
            report_run_id=create.output,
            destination=f"{FOLDER}/landed/{dag_id}.csv",
            outlets=[Asset("landed", uri="x-report://landed")],
        )
        create >> wait >> land
    return dag


class LeakyOperator(BaseOperator):
    """Tells the URL and the key of a result wherever a task can tell anything."""

    template_fields = ("shown",)
    overwrite_rtif_after_execution = True

    def __init__(self, *, shown: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shown = shown

    def execute(self, context: Any) -> None:
        """Tell, and go on in the triggerer."""
        with ReportRunHook() as hook:
            run = hook.create_report_run("balance_summary", INTERVAL)
            file = hook.wait_for_report_run(run.id, poll_interval=0.05, timeout=60).file
            assert file is not None
            assert file.url is not None
            secrets = f"{file.url.reveal()} {hook.access.api_key.reveal()}"
        self.log.info("The secrets are %s", secrets)
        context["ti"].xcom_push(key="leak", value=secrets)
        if "task_state_store" in context:
            context["task_state_store"].set("leak", secrets)
        self.defer(
            trigger=ReportRunTrigger(
                report_run_id=secrets,
                reportrun_conn_id="reportrun_default",
                deadline=time.time() + 60,
            ),
            method_name="resume",
            kwargs={"secrets": secrets},
        )

    def resume(self, context: Any, **kwargs: Any) -> None:  # noqa: ARG002 - as Airflow calls it
        """Tell the rest."""
        self.shown = context["ti"].xcom_pull(task_ids="leak", key="leak")
        context["outlet_events"][self.outlets[0]].extra["leak"] = self.shown

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Tell OpenLineage as well."""
        from airflow_provider_reportrun.task.lineage import lineage_of

        return lineage_of(self.shown, None, None)


def leaky() -> DAG:
    """A DAG that keeps nothing to itself."""
    with DAG("leaky", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
        LeakyOperator(task_id="leak", outlets=[Asset("leaked", uri="x-report://leaked")])
    return dag


ARGUMENTS: dict[str, dict[str, Any]] = {
    "landed": {},
    "in_place": {"deferrable": False},
    "no_room": {},
    "wrong_key": {"reportrun_conn_id": "reportrun_wrong"},
    "refused_key": {},
    "refused_later": {},
    "bad_request": {"report": "no_such_report", "validate": False},
    "failed_run": {},
    "refused_url": {},
    "expired_url": {},
    "cut": {},
    "no_zip": {"destination": f"{FOLDER}/landed/no_zip/"},
    "other_host": {},
    "other_url": {},
    "unreachable_files": {},
    "no_store": {"destination": "nowhere://bucket/r.csv"},
    "bad_folder": {"destination": f"{FOLDER}/file/r.csv"},
    "broken_store": {"destination": "s3://bucket/r.csv", "storage_conn_id": "store"},
    "proxy": {"reportrun_conn_id": "reportrun_proxy", "wait_for_data": False},
    "data_landed": DATA,
    "data_canceled": DATA,
    "data_refused_key": DATA,
    "v1_landed": V1,
    "v1_refused_key": V1,
    "v1_refused_file": V1,
    "v1_other_host": V1,
}
"""By DAG of a single task, what its task is given."""
DAGS = {name: single(name, **arguments) for name, arguments in ARGUMENTS.items()}
DAGS |= {"three_tasks": three_tasks("three_tasks"), "leaky": leaky()}
globals().update(DAGS)  # where Airflow looks for DAGs
