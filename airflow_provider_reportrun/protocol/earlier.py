"""
Find a run that was created before, in the API's list of runs.

An idempotency key finds it again as long as it is kept, unless the API answers a repeat with the
error that came first. Then only the list knows whether there is a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.models import SUCCEEDED

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_reportrun.protocol.calls import Call
    from airflow_provider_reportrun.protocol.generation import Generation, RunPage
    from airflow_provider_reportrun.protocol.messages import Flow
    from airflow_provider_reportrun.protocol.models import ReportRun
    from airflow_provider_reportrun.protocol.requests import ReportRequest

MOST_PAGES: Final = 50
"""5000 runs; a task that has made more of them since its try began has another problem."""


def find_earlier(
    api: Generation,
    request: ReportRequest,
    *,
    since: datetime,
    gone: frozenset[str] = frozenset(),
    ask: Callable[[Call[RunPage]], Flow[RunPage]],
) -> Flow[ReportRun | None]:
    """
    Find a run of the same report and parameters that has not failed.

    A succeeded one is taken before a running one, and a newer one before an older one. Who created
    it cannot be told: the API keeps neither keys nor creators.

    :param since: aware; the creation of the oldest run that will do.
    :param gone: runs that will not do, because their files no longer exist.
    :param ask: sends a call, repeated as its caller wants.
    :return: None if there is none, or if this generation has no list.
    """
    listing = api.run_listing
    if listing is None:
        return None
    after = None
    for _ in range(MOST_PAGES):
        page = yield from ask(calls.list_runs(api, since=since, after=after))
        alive = [run for run in page.runs if run.failure is None and run.id not in gone]
        same = [run for run in alive if listing.is_same(request, run)]
        if same:
            return max(same, key=lambda run: run.status == SUCCEEDED)
        after = page.next_after
        if after is None:
            break
    return None
