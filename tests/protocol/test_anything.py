"""Any JSON at all as an answer or an event: only errors of the package leave, and all encodes."""

from __future__ import annotations

import json
import random

import pytest
from protocol.script import answer

from airflow_provider_reportrun.errors import ReportRunError, from_json, to_json
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.answers import read_json
from airflow_provider_reportrun.protocol.checks import check_parameters
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.protocol.generations.v2_reporting import read_report
from airflow_provider_reportrun.protocol.generations.v2_reporting import read_run as read_report_run
from airflow_provider_reportrun.triggers.report_run import resumed_after_data, resumed_report_run_id

CASES = 3000
RUN = {
    "id": "reprun_1",
    "status": "failed",
    "report": "r",
    "report_name": "R",
    "report_parameters": {"columns": ["a"]},
    "created": "2026-01-01T00:00:00Z",
    "livemode": True,
    "status_details": {"failed": {"error_code": "internal_error", "error_message": "m"}},
    "result": {
        "file": {
            "content_type": "csv",
            "size": "5",
            "download_url": {"url": "https://files.stripe.com/x", "expires_at": None},
            "schema": [{"name": "a", "type": "varchar"}],
        }
    },
}
REPORT = {
    "id": "r",
    "name": "R",
    "parameters": {
        "currency": {
            "type": "enum",
            "required": True,
            "enum_details": {"allowed_values": ["eur"]},
            "timestamp_details": {"min": "2020-01-01T00:00:00Z", "max": None},
        }
    },
}
REFUSAL = {"error": {"code": "c", "message": "m", "type": "t", "param": "p"}}
EVENT = {
    "outcome": "error",
    "report_run_id": "reprun_1",
    "error": {"kind": "ApiError", "message": "m", "facts": {"status": 400}},
}
DEEP = json.loads("[" * 500 + "]" * 500)
ODD = [
    None, True, False, 0, -1, 7, 1 << 70, 10**4000, 1e999, float("nan"), 1.5, "", " ", "x",
    "9" * 5000, "\ud83d", "a\udc00b", "\0", "a\nb", "\x1b[31m", "\u2028", "x" * 100_000,
    "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    [], {}, [[]], [None], [{}], {"": 1}, {"__type": "x", "__var": 1}, {"__classname__": "x"},
    {"\ud83d": "\ud83d"}, DEEP, {"a": DEEP},
]  # fmt: skip


def changed(rng, value):
    """Put something odd in one place of a value, or a few."""
    if rng.random() < 0.2 or not isinstance(value, dict | list) or not value:
        return rng.choice(ODD)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        return [changed(rng, each) if at == i else each for i, each in enumerate(value)]
    name = rng.choice(list(value))
    both = {**value, name: changed(rng, value[name])}
    if rng.random() < 0.1:
        both[rng.choice(["\ud83d", "__type", "x" * 1000, ""])] = rng.choice(ODD)
    return both


def left(function, *arguments):
    """Give what leaves a function, a value or an error of the package, as JSON values."""
    try:
        return function(*arguments)
    except ReportRunError as error:
        return [str(error), to_json(error), from_json(to_json(error)).message]


def summarised(data):
    """Give what leaves a task of a report run, and its failure."""
    found = read_report_run(data)
    failure = to_json(found.failure) if found.failure else None
    columns = [each.name for each in (found.file and found.file.schema) or ()]
    return [found.summary(), failure, columns]


def checked(data):
    """Give what checks say of a definition."""
    check_parameters(read_report(data), {"currency": "yen"})


def refused(rng, data):
    """Give what an answer of any status means."""
    status = rng.choice([200, 201, 302, 400, 401, 403, 404, 405, 409, 422, 429, 500, 503])
    headers = {"Request_Id": rng.choice(["req_1", "\udc80", "x" * 5000]), "Retry_After": "1e99"}
    response = answer(status, json.dumps(data).encode(), Content_Type="\udcff\n", **headers)
    return read_json(response, "ask", "more") and None


def fits(value):
    """Encode a value as strictly as any of Airflow's stores does, PostgreSQL's included."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()
    assert "\\u0000" not in text
    assert len(text) < 100_000
    return True


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_only_errors_of_the_package_leave(seed):
    """And all that leaves can be encoded, by any of Airflow's stores."""
    rng = random.Random(seed)  # noqa: S311 - the same cases each time
    for _ in range(CASES // 3):
        assert fits(left(summarised, changed(rng, RUN)))
        assert fits(left(checked, changed(rng, REPORT)))
        assert fits(left(refused, rng, changed(rng, REFUSAL)))
        event = changed(rng, EVENT)
        assert fits(left(resumed_report_run_id, event))
        assert fits(left(resumed_after_data, event))


@pytest.mark.parametrize("bad", ["reprun_\ud83d", "reprun 1", "a\n", "\0", "x" * 256], ids=repr)
def test_what_cannot_be_an_id_is_no_answer_of_the_api(bad):
    """An id goes into paths, logs, links and XCom."""
    call = calls.get_run(named("v2.reporting"), "reprun_1")
    said = left(call.read, {"id": bad, "status": "running"})
    assert "'id' that cannot be that of a report run" in said[0]
    assert said[1]["kind"] == "UnexpectedAnswer"
