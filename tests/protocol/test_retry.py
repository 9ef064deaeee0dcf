"""Which answers are asked for again, and when."""

from __future__ import annotations

import pytest
from protocol.script import answer, lost, refusal

from airflow_provider_reportrun.errors import ReportRunError, TransportError
from airflow_provider_reportrun.protocol.answers import read_json
from airflow_provider_reportrun.protocol.retry import Pace, RetryPolicy

POLICY = RetryPolicy()
LONGEST = POLICY.longest_delay_seconds


def longest(_, most):
    """Jitter that takes the longer of both."""
    return most


def shortest(least, _):
    """Jitter that takes the shorter of both."""
    return least


def error_of(response):
    """Give the error that an answer means."""
    if isinstance(response, ReportRunError):
        return response
    with pytest.raises(ReportRunError) as raised:
        read_json(response, "ask", "more")
    return raised.value


def delay(response, attempt=1, policy=POLICY, jitter=longest):
    """Say how long to wait after an answer."""
    return policy.delay(attempt, error_of(response), jitter)


HTML = b"<html><body>Bad gateway</body></html>"
V1_IDEMPOTENCY = {"error": {"type": "idempotency_error", "message": "Other parameters."}}

AGAIN = {
    "500": refusal(500),
    "502": refusal(502),
    "503 without JSON": answer(503, HTML),
    "504": refusal(504),
    "599": refusal(599),
    "409 conflict": refusal(409, "idempotency_conflict"),
    "409 lock": refusal(409, "lock_timeout"),
    "409 without code": answer(409, {"error": {}}),
    "429 limiter": refusal(429, "rate_limit", Stripe_Rate_Limited_Reason="endpoint-rate"),
    "429 lock": refusal(429, "lock_timeout"),
    "429 without JSON": answer(429, b"slow down"),
    "no answer": lost(),
    "a proxy's page": answer(200, HTML),
    "a proxy's login": answer(403, HTML),
    "a redirect": answer(302, b"", Location="https://elsewhere.example"),
    "true: 400": refusal(400, "invalid_fields", Stripe_Should_Retry="true"),
    "true: 404": refusal(404, "not_found", Stripe_Should_Retry="true"),
    "true: 409 idempotency": refusal(409, "idempotency_error", Stripe_Should_Retry="true"),
    "TRUE: 401": refusal(401, Stripe_Should_Retry=" TRUE "),
    "junk: 500": refusal(500, Stripe_Should_Retry="perhaps"),
}
NOT_AGAIN = {
    "400": refusal(400, "invalid_fields"),
    "401": refusal(401),
    "402": refusal(402),
    "403": refusal(403),
    "404": refusal(404, "not_found"),
    "415": refusal(415),
    "422": refusal(422),
    "409 idempotency by code": refusal(409, "idempotency_error"),
    "409 idempotency by type": answer(409, V1_IDEMPOTENCY),
    "400 idempotency by type": answer(400, V1_IDEMPOTENCY),
    "429 capacity": refusal(429, "report_run_rate_limit_exceeded"),
    "true: 429 capacity": refusal(
        429, "report_run_rate_limit_exceeded", Stripe_Should_Retry="true"
    ),
    "TLS": TransportError("Tried to ask: the certificate.", transient=False),
    "false: 500": refusal(500, Stripe_Should_Retry="false"),
    "false: 503 without JSON": answer(503, HTML, Stripe_Should_Retry="false"),
    "false: 409": refusal(409, "idempotency_conflict", Stripe_Should_Retry="False"),
    "false: 429": refusal(429, "rate_limit", Stripe_Should_Retry="false"),
    "false: 429 with a hint": refusal(429, Stripe_Should_Retry="false", Retry_After="1"),
    "junk: 400": refusal(400, Stripe_Should_Retry="perhaps"),
}


@pytest.mark.parametrize("said", AGAIN.values(), ids=AGAIN)
def test_asked_for_again(said):
    """The API's own word counts first; then what may pass is asked for again."""
    assert delay(said) == POLICY.first_delay_seconds


@pytest.mark.parametrize("said", NOT_AGAIN.values(), ids=NOT_AGAIN)
def test_not_asked_for_again(said):
    """The API's own word counts first; then what stays as it is, or takes minutes, is not."""
    assert delay(said) is None


def test_an_unreadable_report_run_is_asked_for_again():
    """An answer that is no report run may come from a proxy, which may let go."""
    assert delay(answer(200, ["no", "object"])) == POLICY.first_delay_seconds


@pytest.mark.parametrize(
    ("expected", "hint"),
    [
        (0.0, "0"),
        (1.5, "1.5"),
        (LONGEST, str(LONGEST)),
        (LONGEST, "3600"),
        (POLICY.first_delay_seconds, "-1"),
        (POLICY.first_delay_seconds, "nan"),
        (POLICY.first_delay_seconds, "inf"),
        (POLICY.first_delay_seconds, ""),
        (POLICY.first_delay_seconds, "Wed, 21 Oct 2026 07:28:00 GMT"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_up_to_the_ceiling(expected, hint, status):
    """A number of seconds wins over our arithmetic; anything else is passed over."""
    assert expected == delay(refusal(status, Retry_After=hint))


def test_delays_double_up_to_the_ceiling():
    """Half a second, doubled, and never more than the ceiling."""
    policy = RetryPolicy(attempts=10)
    found = [delay(lost(), attempt, policy) for attempt in range(1, 10)]
    assert found == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0]


def test_jitter_takes_off_half_at_most():
    """Clients that failed together do not come back together, nor at once."""
    found = [delay(lost(), attempt, jitter=shortest) for attempt in (1, 2, 3)]
    assert found == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("said", AGAIN.values(), ids=AGAIN)
@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_bounded(attempts, said):
    """Nothing is asked for more often than allowed, the API's own word included."""
    policy = RetryPolicy(attempts=attempts)
    allowed = [delay(said, attempt, policy) is not None for attempt in range(1, attempts + 2)]
    assert allowed == [True] * (attempts - 1) + [False, False]


@pytest.mark.parametrize(
    ("expected", "age"),
    [(30, 0), (30, 100), (30, 200), (45, 300), (150, 1000), (300, 2000), (300, 86400)],
)
def test_the_pace_grows_with_age_within_its_bounds(expected, age):
    """A share of the age, so that an end is noticed so much later at most."""
    assert expected == pytest.approx(Pace().delay(age, longest))


def test_the_pace_is_jittered_downwards():
    """Many waits of one age spread out, and none of them is later than its share."""
    assert Pace().delay(1000, shortest) == pytest.approx(135)
    assert Pace(shortest_seconds=1, longest_seconds=2).delay(0, shortest) == 1
