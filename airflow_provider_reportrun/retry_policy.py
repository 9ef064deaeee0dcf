"""
A ready-made retry policy for Airflow 3.3: what to retry, and after which delay.

Each error says whether trying again could help (``errors.py``). Without a policy,
``task/outcomes.py`` acts on that, on every Airflow version. The policy adds delays that fit the
error, in place of one ``retry_delay``, and a reason that Airflow shows with the try.
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
Delay before the next try, by error, if the error is transient.

Before that, the hook has already repeated the request for some seconds. Capacity takes minutes to
become free, because report runs take minutes. Stripe prepares the data of a report twice a day.
"""
LONGEST_PAUSE: Final = timedelta(hours=1)
"""The API's ``Retry-After`` is honoured up to this."""

REPORT_RUN_RETRY_POLICY: RetryPolicy | None
"""
Pass it to tasks of this package in ``default_args``: ``{"retries": 5, "retry_policy": ...}``.

Permanent errors fail the task at once, transient errors are retried after ``PAUSES``, and other
exceptions are left to Airflow. Before Airflow 3.3, which has no retry policies, it is None;
``default_args`` accepts None on every version.
"""

try:
    from airflow.sdk import ExceptionRetryPolicy, RetryDecision, RetryRule
except ImportError:  # before Airflow 3.3
    REPORT_RUN_RETRY_POLICY = None
else:

    class ReportRunRetryPolicy(ExceptionRetryPolicy):
        """
        Applies a rule by error class, but only if the error says that trying again could help.

        The class alone does not decide that. A failed report run is worth another one, unless its
        file was too large. A lost connection is worth another try, unless a certificate failed.
        """

        def evaluate(
            self,
            exception: BaseException,
            try_number: int,
            max_tries: int,
            context: Any = None,
        ) -> RetryDecision:
            """Decide whether to retry after an exception left a task."""
            if isinstance(exception, ReportRunError) and not exception.transient:
                return RetryDecision.fail(f"{type(exception).__name__} is permanent")
            decision = super().evaluate(exception, try_number, max_tries, context)
            hint = exception.retry_after if isinstance(exception, ApiError) else None
            if hint is None or decision.retry_delay is None:
                return decision
            pause = min(timedelta(seconds=hint), LONGEST_PAUSE)
            return RetryDecision.retry(max(pause, decision.retry_delay), decision.reason)

    REPORT_RUN_RETRY_POLICY = ReportRunRetryPolicy(
        rules=[
            RetryRule(exception=kind, retry_delay=pause, reason=f"{kind.__name__} may be temporary")
            for kind, pause in PAUSES.items()
        ]
    )
