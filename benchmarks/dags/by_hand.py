"""
A weekly report as one would write it with the HTTP provider; ``backfill.py`` tells the choices.

``by_hand`` and ``by_hand_rescheduled`` differ in the sensor's mode alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException
from weekly import (
    LANDING,
    MAX_RETRY_DELAY,
    POLL_SECONDS,
    REPORT,
    RETRY_DELAY,
    WEEKLY,
    scaled,
)

CONNECTION = "stripe"
RUNS = "/v2/reporting/report_runs"
INSTANT = "%Y-%m-%dT%H:%M:%S.000Z"
REQUEST = {
    "report": REPORT,
    "report_parameters": {
        "interval_start": f"{{{{ data_interval_start.strftime('{INSTANT}') }}}}",
        "interval_end": f"{{{{ data_interval_end.strftime('{INSTANT}') }}}}",
    },
}


def is_succeeded(response: requests.Response) -> bool:
    """Tell whether the report run has succeeded; one that failed fails the task."""
    run = response.json()
    if run["status"] == "failed":
        raise AirflowFailException(f"Report run {run['id']} failed: {run['status_details']}")
    return run["status"] == "succeeded"


@task
def download(report_run_id: str, destination: str) -> str:
    """Download the result beside its destination, and move it there when it is whole."""
    run = HttpHook("GET", http_conn_id=CONNECTION).run(f"{RUNS}/{report_run_id}").json()
    file = Path(destination)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    url = run["result"]["file"]["download_url"]["url"]
    with requests.get(url, stream=True, timeout=60) as answer, part.open("wb") as out:
        answer.raise_for_status()
        for chunk in answer.iter_content(1 << 20):
            out.write(chunk)
    part.replace(file)
    return destination


for dag_id, mode, poke_interval in (
    ("by_hand", "poke", POLL_SECONDS),
    ("by_hand_rescheduled", "reschedule", scaled(60)),
):
    with DAG(dag_id, **WEEKLY) as dag:
        create = HttpOperator(
            task_id="create",
            http_conn_id=CONNECTION,
            endpoint=RUNS,
            headers={"Content-Type": "application/json"},
            data=json.dumps(REQUEST),
            response_filter=lambda response: response.json()["id"],
            retries=20,
            retry_delay=RETRY_DELAY,
            retry_exponential_backoff=True,
            max_retry_delay=MAX_RETRY_DELAY,
        )
        wait = HttpSensor(
            task_id="wait",
            http_conn_id=CONNECTION,
            endpoint=f"{RUNS}/{{{{ ti.xcom_pull(task_ids='create') }}}}",
            response_check=is_succeeded,
            mode=mode,
            poke_interval=poke_interval,
            deferrable=True,
        )
        land = download(
            create.output,
            f"{LANDING}/{dag_id}/{{{{ data_interval_start | ds }}}}.csv",
        )
        create >> wait >> land
    globals()[dag_id] = dag
