"""Results without rows: how they are recognized, and landed, skipped or refused."""

from __future__ import annotations

import pytest
from airflow.sdk import Asset
from landing.sources import zipped
from support.cases import BODY
from support.task_instances import dag, run_task

from airflow_provider_reportrun._compat import AirflowFailException
from airflow_provider_reportrun.errors import InvalidInput, ResultEmpty
from airflow_provider_reportrun.landing.emptiness import is_empty
from airflow_provider_reportrun.operators.report_run import (
    DownloadReportResultOperator,
    ReportRunToStorageOperator,
)

HEADER = b"a,b\n"
OLD = b"old\n"


def download_task(run_id, destination, **arguments):
    """Return a task that lands a report run."""
    with dag(params={"if_empty": "skip"}):
        return DownloadReportResultOperator(
            task_id="land", report_run_id=run_id, destination=destination, **arguments
        )


def single_task(destination, **arguments):
    """Return a task that creates, waits and lands."""
    with dag():
        return ReportRunToStorageOperator(
            task_id="land",
            report="balance_summary",
            destination=destination,
            deferrable=False,
            **arguments,
        )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", True),
        (b"\n\n", True),
        (b"a,b", True),
        (b"a,b\r\n", True),
        (b"a,b\n\n\r\n", True),
        (b"\xef\xbb\xbfa,b\n", True),
        (b'"a\nb",c\n', True),
        (b'"a,""b""\r\nc"\r\n', True),
        (b"a\n", True),
        (b"\na,b\n", True),
        (b"a,b\n1,2", False),
        (b"a,b\n,\n", False),
        (b"a,b\n\n1,2\n", False),
        (b'"a\nb",c\n1,2\n', False),
        (b"a\n\n", False),
        (b'a\n""\n', False),
        (b"a,b\n\xff,1\n", False),
        (b"a" * 3_000_000, False),
        (b"a,b\n" + b"x" * 200_000 + b",1\n", False),
        (b"\n" * 1_048_575 + b"a,b\n" + b"\r\n" * 1_048_576, True),
        (b"\n" * 1_048_575 + b"a,b\n" + b"\r\n" * 1_048_576 + b",", False),
    ],
)
def test_a_header_alone_is_no_row(tmp_path, body, expected):
    """Line ends in quotes are not rows, nor are blank lines if there are several columns."""
    path = tmp_path / "r"
    path.write_bytes(body)
    assert is_empty(path, "csv") is expected
    path.write_bytes(zipped({"r.csv": body}))
    assert is_empty(path, "zip") is expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"a.csv": HEADER, "x/b.CSV": b""}, True),
        ({"a.csv": HEADER, "b.csv": BODY}, False),
        ({"a.txt": b"", "b.csv": b"a\n"}, True),
        ({"a.txt": b"\n", "b.csv": b"a\n"}, False),
    ],
)
def test_a_zip_is_empty_if_all_of_it_is(tmp_path, members, expected):
    """A file that is not CSV is empty only without bytes."""
    path = tmp_path / "r"
    path.write_bytes(zipped(members))
    assert is_empty(path, "zip") is expected


RESULTS = pytest.mark.parametrize(
    ("body", "content_type", "arguments", "destination"),
    [
        (HEADER, "csv", {}, "r.csv"),
        (b"", "csv", {}, "week/"),
        (zipped({"a.csv": HEADER, "b.csv": b""}), "zip", {"decompress": True}, "week/"),
        (zipped({"a.csv": HEADER}), "zip", {}, "r.zip"),
        (HEADER, "csv", {"output_format": "parquet"}, "r.parquet"),
        (b"", "csv", {"output_format": "parquet"}, "week/"),
    ],
    ids=["header", "nothing", "members", "zip", "parquet", "parquet of nothing"],
)


@RESULTS
def test_skip_publishes_nothing_and_says_so(
    folder, result, body, content_type, arguments, destination
):
    """The task is skipped, an existing file is kept, and XCom says why."""
    folder.put("r.csv", OLD)
    run_id = result(body, content_type)
    task = download_task(
        run_id,
        folder.destination(destination),
        if_empty="{{ params.if_empty }}",
        outlets=[Asset("weekly", uri="x-report://weekly")],
        **{"marker": "_SUCCESS"} | arguments if destination.endswith("/") else arguments,
    )
    outcome = run_task(task)
    assert outcome.state == "skipped", outcome.error
    assert folder.files() == {"r.csv": OLD}
    told = outcome.xcom["landing"]
    assert (told["skipped"], told["rows"], told["size"], told["sha256"]) == (True, 0, 0, None)
    assert (told["report_run_id"], told["content_type"]) == (run_id, content_type)
    assert told["uri"] == folder.uri(destination)
    assert told["members"] == []
    assert not outcome.outlet_events
    assert "return_value" not in outcome.xcom


@RESULTS
def test_fail_publishes_nothing_and_is_not_retried(
    folder, sandbox, body, content_type, arguments, destination
):
    """The error is not retried."""
    folder.put("r.csv", OLD)
    sandbox.deliver_next(body, content_type)
    options = {"compress_file": True} if content_type == "zip" else None
    outcome = run_task(
        single_task(
            folder.destination(destination),
            if_empty="fail",
            retries=3,
            result_options=options,
            **arguments,
        )
    )
    assert isinstance(outcome.error, ResultEmpty), outcome.error
    assert isinstance(outcome.error, AirflowFailException)
    assert "has no rows, and if_empty is 'fail'" in str(outcome.error)[:100]
    assert outcome.error.report_run_id == sandbox.runs[0].id
    assert outcome.error.uri == folder.uri(destination)
    assert folder.files() == {"r.csv": OLD}


@pytest.mark.parametrize("if_empty", ["land", "skip", "fail"])
def test_a_result_with_rows_is_landed(folder, result, if_empty):
    """A result with rows lands, whatever if_empty is."""
    outcome = run_task(download_task(result(BODY), folder.destination("r.csv"), if_empty=if_empty))
    assert outcome.state == "success", outcome.error
    assert folder.files() == {"r.csv": BODY}


def test_an_empty_result_is_landed_by_default(folder, result):
    """By default a result without rows lands like any other."""
    outcome = run_task(download_task(result(HEADER), folder.destination("r.csv")))
    assert outcome.state == "success", outcome.error
    assert folder.files() == {"r.csv": HEADER}
    assert outcome.xcom["landing"]["skipped"] is False


@pytest.mark.parametrize("value", ["", None, True, "raise"])
def test_what_to_do_is_one_of_three(value):
    """A wrong value in a DAG file is an import error."""
    with pytest.raises(InvalidInput, match=r"^if_empty must be 'land' or 'skip' or 'fail'"):
        single_task("/srv/r.csv", if_empty=value)


@pytest.mark.parametrize("account", [None, "acct_1"])
def test_the_account_is_told(folder, sandbox, account):
    """XCom contains the account and the parameters of the report."""
    sandbox.deliver_next(BODY)
    outcome = run_task(
        single_task(
            folder.destination("r.csv"),
            report_parameters={"currency": "eur"},
            stripe_context=account,
        )
    )
    assert outcome.state == "success", outcome.error
    (run,) = sandbox.runs
    assert outcome.xcom["landing"]["report_parameters"] == run.report_parameters
    assert outcome.xcom["landing"]["report_parameters"]["currency"] == "eur"
    assert outcome.xcom["landing"]["stripe_context"] == account
    assert outcome.xcom["landing"]["livemode"] is False
