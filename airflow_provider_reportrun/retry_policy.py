"""
A ready retry policy for Airflow 3.3: what to try again, and after how long.

Errors say themselves whether trying again could help (``errors.py``), and without a policy
``task/outcomes.py`` follows them on every Airflow version. The policy adds pauses that fit the
error instead of one ``retry_delay``, and a reason that Airflow shows with the try.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_reportrun.errors import (
    ApiError,
    CapacityExceeded,
    DataNotAvailable,
    LandingFailed,
    RateLimited,
    ReportRunError,
    ReportRunFailed,
    ResultCorrupt,
    ResultGone,
    ServerError,
    TransportError,
    UnexpectedAnswer,
)

if TYPE_CHECKING:
    from airflow.sdk import RetryPolicy

PAUSES: Final[dict[type[ReportRunError], timedelta]] = {
    RateLimited: timedelta(minutes=2),
    CapacityExceeded: timedelta(minutes=15),
    ServerError: timedelta(minutes=5),
    TransportError: timedelta(minutes=5),
    UnexpectedAnswer: timedelta(minutes=5),
    DataNotAvailable: timedelta(hours=1),
    ReportRunFailed: timedelta(minutes=5),
    ResultCorrupt: timedelta(minutes=1),
    ResultGone: timedelta(minutes=1),
    LandingFailed: timedelta(minutes=5),
}
"""
How long to wait before the next try, by error, where the error is transient.

By then the hook has asked again for some seconds already. Capacity is minutes away, for report runs
take minutes; Stripe prepares the data of a report twice a day.
"""
LONGEST_PAUSE: Final = timedelta(hours=1)
"""A ``Retry-After`` of the API is honoured up to this."""

REPORT_RUN_RETRY_POLICY: RetryPolicy | None
"""
Give it to tasks of this package, by ``default_args``: ``{"retries": 5, "retry_policy": ...}``.

Permanent errors fail the task at once, transient ones are retried after ``PAUSES``; any other
exception is left to Airflow. None before Airflow 3.3, which has no such policies; ``default_args``
takes that on every version.
"""

try:
    from airflow.sdk import ExceptionRetryPolicy, RetryDecision, RetryRule
except ImportError:  # before Airflow 3.3
    REPORT_RUN_RETRY_POLICY = None
else:

    class ReportRunRetryPolicy(ExceptionRetryPolicy):
        """
        Rules by error, after the error itself was asked whether trying again could help.

        An error's kind does not settle that: a report run that failed is worth another one, but for
        a file that was too large; a lost connection is worth another try, but for a certificate.
        """

        def evaluate(
            self,
            exception: BaseException,
            try_number: int,
            max_tries: int,
            context: Any = None,
        ) -> RetryDecision:
            """Decide on what left a task."""
            if isinstance(exception, ReportRunError) and not exception.transient:
                return RetryDecision.fail(f"{type(exception).__name__} does not pass by itself")
            decision = super().evaluate(exception, try_number, max_tries, context)
            hint = exception.retry_after if isinstance(exception, ApiError) else None
            if hint is None or decision.retry_delay is None:
                return decision
            pause = min(timedelta(seconds=hint), LONGEST_PAUSE)
            return RetryDecision.retry(max(pause, decision.retry_delay), decision.reason)

    REPORT_RUN_RETRY_POLICY = ReportRunRetryPolicy(
        rules=[
            RetryRule(exception=kind, retry_delay=pause, reason=f"{kind.__name__} may pass")
            for kind, pause in PAUSES.items()
        ]
    )
