"""Good answers, refusals and pages of others, told apart."""

from __future__ import annotations

import pytest
from protocol.script import answer, refusal

from airflow_provider_reportrun.errors import (
    ApiError,
    AuthenticationError,
    CapacityExceeded,
    DataNotAvailable,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    UnexpectedAnswer,
)
from airflow_provider_reportrun.protocol.answers import read_json

HTML = b"<!doctype html><html><title>Sign in</title></html>"
IN_USE = {
    "error": {
        "type": "idempotency_error",
        "code": "idempotency_key_in_use",
        "message": "There is currently another in-progress request using this Idempotent Key.",
    }
}
UNKNOWN_PATH = {
    "error": {
        "type": "invalid_request_error",
        "message": "Unrecognized request URL (GET: /v2/reporting/report_runs).",
    }
}
CAPACITY = "report_run_rate_limit_exceeded"
NO_ACCESS = "Permission denied. Api key does not have permission to access account."


def error_of(response):
    """Give the error that an answer means."""
    with pytest.raises((ApiError, UnexpectedAnswer)) as raised:
        read_json(response, "get report run reprun_1", "more")
    return raised.value


def v1(kind):
    """Make the body of an error of the first generation, which has a type."""
    return {"error": {"type": kind, "message": "Said so."}}


def test_a_good_answer_is_its_json():
    """Whatever fields it has."""
    assert read_json(answer(200, {"id": "a", "new": [1]}), "ask", "more") == {"id": "a", "new": [1]}


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        (InvalidRequest, refusal(400, "invalid_fields")),
        (InvalidRequest, answer(400, v1("invalid_request_error"))),
        (InvalidRequest, refusal(402)),
        (InvalidRequest, refusal(415)),
        (InvalidRequest, refusal(422)),
        (AuthenticationError, refusal(401)),
        (AuthenticationError, answer(401, v1("invalid_request_error"))),
        (UnexpectedAnswer, answer(401, HTML)),
        (UnexpectedAnswer, answer(401, {"message": "Unauthorized"})),
        (UnexpectedAnswer, answer(400, {"error": "invalid_grant"})),
        (UnexpectedAnswer, answer(400, {"error": {}})),
        (UnexpectedAnswer, answer(400, {"error": None})),
        (UnexpectedAnswer, answer(400, {})),
        (UnexpectedAnswer, answer(400, {"error": {"code": 7, "message": ["b"]}})),
        (UnexpectedAnswer, answer(403, {"error": {"code": 403, "message": "Forbidden"}})),
        (UnexpectedAnswer, answer(404, {"message": "no Route matched"})),
        (UnexpectedAnswer, answer(405, {"message": "Method not allowed"})),
        (UnexpectedAnswer, answer(409, {"message": "Conflict"})),
        (NotFound, answer(404, UNKNOWN_PATH)),
        (NotFound, answer(400, UNKNOWN_PATH)),
        (ServerError, answer(409, IN_USE)),
        (ServerError, answer(400, IN_USE)),
        (ServerError, refusal(409, "idempotency_key_in_use")),
        (ServerError, refusal(409, "lock_timeout")),
        (RateLimited, answer(429, {"message": "API rate limit exceeded"})),
        (ServerError, answer(503, {"message": "no healthy upstream"})),
        (PermissionDenied, refusal(403, "report_inaccessible")),
        (NotFound, refusal(404, "not_found")),
        (IdempotencyMismatch, refusal(409, "idempotency_error")),
        (IdempotencyMismatch, answer(409, v1("idempotency_error"))),
        (IdempotencyMismatch, refusal(400, "idempotency_error")),
        (IdempotencyMismatch, answer(400, v1("idempotency_error"))),
        (ServerError, refusal(409, "idempotency_conflict")),
        (ServerError, answer(409, v1("invalid_request_error"))),
        (CapacityExceeded, refusal(429, CAPACITY)),
        (CapacityExceeded, refusal(429, "query_run_rate_limit_exceeded")),
        (RateLimited, refusal(429, "lock_timeout")),
        (RateLimited, answer(429, v1("rate_limit"))),
        (RateLimited, answer(429, b"")),
        (InvalidRequest, refusal(400, CAPACITY)),
        (ServerError, refusal(500, "idempotency_error")),
        (ServerError, refusal(500)),
        (ServerError, answer(502, HTML)),
        (ServerError, answer(503, b"")),
        (ServerError, answer(504, [])),
        (UnexpectedAnswer, answer(200, HTML)),
        (UnexpectedAnswer, answer(200, b"")),
        (UnexpectedAnswer, answer(200, ["a"])),
        (UnexpectedAnswer, answer(200, b"\xff\xfe\x00")),
        (UnexpectedAnswer, answer(200, b"null")),
        (UnexpectedAnswer, answer(201, {"id": "a"})),
        (UnexpectedAnswer, answer(204, b"")),
        (UnexpectedAnswer, answer(301, b"", Location="https://elsewhere.example")),
        (UnexpectedAnswer, answer(302, {"id": "a"}, Location="https://elsewhere.example")),
        (UnexpectedAnswer, answer(307, HTML)),
        (UnexpectedAnswer, answer(400, HTML)),
        (UnexpectedAnswer, answer(403, HTML)),
        (UnexpectedAnswer, answer(404, HTML)),
        (UnexpectedAnswer, answer(407, HTML)),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else f"{each.status}-{each.body[:40]}",
)
def test_each_answer_means_its_error(kind, response):
    """By status first, by code or type where one status has several meanings."""
    error = error_of(response)
    assert type(error) is kind
    assert error.status == response.status


def test_an_error_says_what_to_do_what_came_and_what_was_tried():
    """One line, with Stripe's id of the request last."""
    response = refusal(404, "not_found", Request_Id="req_1")
    assert str(error_of(response)) == (
        "Check the id, the key and stripe_context: the API finds no report run reprun_1 in the "
        "account. The API answered 404 not_found: Said so. Tried to get report run reprun_1. "
        "(Request-Id: req_1)"
    )


def test_a_page_is_named_by_its_type_and_not_quoted():
    """A login page may hold anything, so its text stays out; its type tells what it is."""
    error = error_of(answer(403, HTML, Content_Type="text/html", Request_Id="req_1"))
    assert "HTTP 403 came with text/html, not JSON" in str(error)
    assert "Sign in" not in str(error)
    assert error.transient
    assert error.request_id == "req_1"


@pytest.mark.parametrize(
    ("said", "body"),
    [
        ("a: b. ", {"error": {"code": "a", "message": "b"}}),
        ("a. ", {"error": {"code": "a"}}),
        ("b. ", {"error": {"message": "b"}}),
        ("Why? ", {"error": {"message": "Why?"}}),
        ("no message. ", {"error": {"type": "api_error"}}),
        ("a\ufffd: b\ufffd c. ", {"error": {"code": "a\ud83d", "message": "b\udc00\nc"}}),
    ],
    ids=repr,
)
def test_refusals_of_any_shape_are_read(said, body):
    """What the API says is shown; what it leaves out is no reason to fail."""
    assert f"The API answered 400 {said}" in str(error_of(answer(400, body)))


@pytest.mark.parametrize("code", ["invalid_fields", "c" * 10_000])
def test_long_messages_are_cut(code):
    """An answer cannot flood the log."""
    error = error_of(answer(400, {"error": {"code": code, "message": "m" * 10_000}}))
    assert 500 < len(str(error)) < 700


def test_long_content_types_are_cut():
    """Nor can its headers."""
    assert len(str(error_of(answer(200, HTML, Content_Type="x" * 10_000)))) < 1000


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        ({"should_retry": True}, {"Stripe_Should_Retry": "true"}),
        ({"should_retry": False}, {"Stripe_Should_Retry": "False"}),
        ({"should_retry": None}, {"Stripe_Should_Retry": "maybe"}),
        ({"should_retry": None}, {}),
        ({"retry_after": 2.5}, {"Retry_After": "2.5"}),
        ({"retry_after": None}, {"Retry_After": "soon"}),
        ({"retry_after": None}, {"Retry_After": "-1"}),
        ({"retry_after": None}, {"Retry_After": "1e999"}),
        ({"request_id": "req_1"}, {"request_id": "req_1"}),
        ({"request_id": None}, {}),
        ({"code": "some_code", "status": 500}, {}),
    ],
    ids=repr,
)
def test_the_facts_of_a_refusal(expected, headers):
    """Headers are read in any case; what cannot be read counts as absent."""
    error = error_of(refusal(500, **headers))
    assert expected == {name: getattr(error, name) for name in expected}


@pytest.mark.parametrize(
    ("expected", "message"), [(True, NO_ACCESS), (False, "The key lacks reporting_read.")]
)
def test_a_missing_context_is_told_from_a_missing_permission(expected, message):
    """Both are a 403; only the message differs."""
    error = error_of(answer(403, {"error": {"code": "permission_denied", "message": message}}))
    assert expected is error.context_missing


def test_nesting_without_end_is_no_answer():
    """What makes the JSON reader give up is not the API speaking."""
    assert type(error_of(answer(200, b"[" * 200_000))) is UnexpectedAnswer


@pytest.mark.parametrize(
    ("through", "words"),
    [
        ("2026-11-08T12:00:00.000Z", "is only available through 2026-11-08 12:00:00 UTC; you"),
        ("2026-11-08T12:00:00.000Z", "is only available through `2026-11-08T12:00:00Z`."),
        ("2026-11-08T12:00:00.250Z", "is Available Until 2026-11-08 12:00:00.250 UTC."),
        (None, "is only available through yesterday."),
        (None, "is not yet available."),
    ],
)
def test_data_that_are_not_there_yet_in_words(through, words):
    """The API has no code for it."""
    said = {"error": {"code": "invalid_fields", "message": f"Data for the report type x {words}"}}
    with pytest.raises(DataNotAvailable, match="wait_for_data=True") as raised:
        read_json(answer(400, said, Request_Id="req_1"), "create a report run of x", "more")
    assert through == raised.value.available_through
    assert raised.value.request_id == "req_1"


@pytest.mark.parametrize(
    "words",
    [
        "This report is only available through the Dashboard.",
        "The report payout_x is not yet available for your account.",
        "`currency` can be given up to 3 times, and is available until version 2025-01.",
    ],
)
def test_a_feature_that_is_not_available_does_not_come_by_waiting(words):
    """It is not about data: to wait for it would last until the deadline."""
    error = error_of(answer(400, {"error": {"code": "invalid_fields", "message": words}}))
    assert type(error) is InvalidRequest
    assert not error.transient


def test_wrong_sql_does_not_come_right_by_waiting():
    """Its words are the user's own, so they mean nothing here."""
    message = "line 1:8: Column 'data available through 2026-11-02T00:00:00Z' cannot be resolved"
    error = {"code": "query_run_invalid_sql", "message": message}
    with pytest.raises(InvalidRequest, match="line 1:8") as raised:
        read_json(answer(400, {"error": error}), "create a query run", "more")
    assert not raised.value.transient


@pytest.mark.parametrize("needs", ["data_reports_read to read and to create", "{odd} 50 %"])
def test_a_refused_key_learns_what_it_needs(needs):
    """By the names that the generation's permissions have at Stripe."""
    with pytest.raises(PermissionDenied) as raised:
        read_json(refusal(403), "get report run rrun_1", needs)
    assert raised.value.message.startswith(f"The key may not do this: it needs {needs}. A key of ")


def test_an_interval_before_the_first_data_is_refused_for_good():
    """That does not pass; the error knows which bound it is about."""
    words = "only available starting at 2020-01-01 00:00:00 UTC; you requested `interval_start` = x"
    error = error_of(answer(400, {"error": {"type": "invalid_request_error", "message": words}}))
    assert type(error) is InvalidRequest
    assert error.about == "interval_start"
    assert not error.transient


def test_an_unknown_path_names_version_and_access():
    """It is what a wrong version or a missing preview gives."""
    error = error_of(answer(404, UNKNOWN_PATH))
    assert error.unknown_path
    assert "stripe_version" in str(error)
    assert "preview" in str(error)
