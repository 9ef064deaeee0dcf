"""
One generation of Stripe's reporting API, as data and pure functions.

Everything else asks a ``Generation`` for what it needs to know, and never for its name. Only the
modules under ``generations/`` know paths, fields and encodings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Struct, field

from airflow_provider_reportrun.protocol.encoding import as_json
from airflow_provider_reportrun.protocol.messages import STRIPE_CONTEXT

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.messages import Body
    from airflow_provider_reportrun.protocol.models import Report, ReportRun
    from airflow_provider_reportrun.protocol.requests import ReportRequest, RunRequest

DAY: Final = 24 * 3600.0


class Idempotency(NamedTuple):
    """
    What the API answers to a repeated idempotency key. The defaults are those of v2.

    Source: https://docs.stripe.com/api-v2-overview, https://docs.stripe.com/api/idempotent_requests
    """

    window_seconds: float = 30 * DAY
    """How long a key belongs to its first request; after that it starts a new run."""
    answers_afresh: bool = True
    """
    Whether a repeat returns the run as it is now. If not, it returns the run as it was first, so a
    GET has to follow.
    """
    replays_errors: bool = False
    """
    Whether a repeat may return the error of the first request again, even if its cause has gone.
    Then only another key asks anew.
    """


class Permissions(NamedTuple):
    """Permissions of restricted keys, as Stripe names them, for errors."""

    create: str
    read: str
    file: str | None = None
    """For result files; None if they need no key."""

    @property
    def needs(self) -> str:
        """What a restricted key needs; continues "A restricted key needs"."""
        if self.create == self.read:
            needs = f"{self.read} to read and to create"
        else:
            needs = f"{self.read} to read and {self.create} to create"
        return f"{needs}, and {self.file} to download" if self.file else needs


class Lookup(NamedTuple):
    """How the definition of one report is requested and read."""

    path: str
    """Percent-encoded, with its query."""
    template: str
    """The path with a name in place of the id, for traces."""
    read: Callable[[Any], Report]


class RunPage(NamedTuple):
    """One page of a list of runs, newest first."""

    runs: tuple[ReportRun, ...]
    next_after: str | None
    """The id to pass for the next page; None on the last."""


class RunListing(NamedTuple):
    """How runs are listed."""

    query: Callable[[datetime | None, str | None], Mapping[str, str]]
    """Returns the query for runs since an instant, or all, after the run of an id."""
    read: Callable[[Any], RunPage]
    is_same: Callable[[ReportRequest, ReportRun], bool]
    """Tells whether a run is of the same report and parameters as a request."""


class ReportPage(NamedTuple):
    """One page of a list of reports."""

    reports: tuple[Report, ...]
    next_page: str | None
    """The page to pass for the next page; None on the last."""


class ReportListing(NamedTuple):
    """How reports are listed."""

    path: Callable[[str | None], str]
    """Returns the path of a page, percent-encoded; None is the first."""
    read: Callable[[Any], ReportPage]
    spell: Callable[[Report], tuple[str, ...]]
    """Returns what ``report`` may be to name a report of the list."""


class Generation(Struct, frozen=True, kw_only=True):
    """
    One generation of the API.

    A difference between generations becomes a named fact here before it becomes an ``if``.
    """

    name: str
    """As users write it in ``api=``."""
    docs: str
    """The URL of its documentation."""
    stripe_version: str
    """Sent if the connection names no version."""
    permissions: Permissions

    noun: str = "report run"
    """What a run is called, for logs and errors."""
    runs_path: str
    """The path that runs are created at; below it, one run."""
    create_body: Callable[[RunRequest], dict[str, Any]]
    """
    Returns what a create sends, as JSON values; the idempotency key hashes it.

    Raises ``InvalidInput``, with the fix, for what this generation cannot do.
    """
    encode: Callable[[Mapping[str, Any]], Body] = as_json
    read_run: Callable[[Any], ReportRun]
    """Raises ``UnexpectedAnswer`` if the answer is no run."""
    columns_query: Mapping[str, str] = {}
    """Requests the columns of a result too; empty if they come by themselves, or never."""
    run_listing: RunListing | None = None
    """None if runs cannot be listed."""

    lookup: Callable[[str], Lookup] | None = None
    """Returns how to get a report's definition; None if there are no reports (query runs)."""
    report_listing: ReportListing | None = None
    """None if reports cannot be listed."""
    known_reports: tuple[str, ...] = ()
    """Ids that reports may have, if reports cannot be listed; an account may have others."""
    shows_data_on_run: bool = False
    """
    Whether a run says in ``refreshed_at`` up to when its data are complete, and no definition does.
    """

    idempotency: Idempotency = field(default_factory=Idempotency)
    capacity_group: str
    """
    Runs of one group share a limit of runs at a time. Whether generations share one is not known,
    so each has its own: creates of one must not queue behind those of another that has no room.
    """
    account_header: str = STRIPE_CONTEXT
    """The header that names the account that a request is about."""
    key_hosts: frozenset[str] = frozenset()
    """
    Hosts whose result files need the API key, decided for each redirect anew. It goes to no other.
    """
    queries: str | None = None
    """The name of the generation of its query runs; None if it has none."""
