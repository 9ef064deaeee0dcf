"""Both forms of the hook, to be called alike."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from support.cases import INTERVAL

from airflow_provider_reportrun.hooks.report_run import ReportRunHook

REPORTS = {
    "v2.reporting": "balance_summary",
    "v2.data": "report_test_000001",
    "v1": "balance.summary.1",
}
"""The same report in each generation."""
OWN = object()
"""The report of the generation, where none is given."""
HTML = "<html><body>Sign in</body></html>"


@dataclass
class Form:
    """
    The hook's methods, blocking or awaiting, which must make no difference.

    :param name: ``blocking`` or ``awaiting``.
    :param api: the generation that the connection speaks.
    """

    name: str
    api: str = "v2.reporting"

    @property
    def report(self):
        """The id of a report of the generation."""
        return REPORTS[self.api]

    def create(self, report=OWN, parameters=INTERVAL, options=None, key=None, context=None):
        """Create a report run."""
        return self._call(
            "create_report_run",
            context,
            self.report if report is OWN else report,
            parameters,
            options,
            idempotency_key=key,
        )

    def get_run(self, report_run_id, context=None):
        """Get a report run."""
        return self._call("get_report_run", context, report_run_id)

    def get_report(self, report_id=OWN, context=None):
        """Get a report."""
        return self._call("get_report", context, self.report if report_id is OWN else report_id)

    def _call(self, method, context, *arguments, **named):
        hook = ReportRunHook(stripe_context=context)
        if self.name == "blocking":
            with hook:
                return getattr(hook, method)(*arguments, **named)

        async def awaited():
            return await getattr(hook, f"a{method}")(*arguments, **named)

        return asyncio.run(awaited())
