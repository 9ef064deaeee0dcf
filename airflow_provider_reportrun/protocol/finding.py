"""Find the reports that an account may run, and the one that a wrong id was meant to be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from airflow_provider_reportrun.errors import NotFound, PermissionDenied, ReportRunError
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.asking import REAL, Environment, ask
from airflow_provider_reportrun.protocol.models import Report, ReportList
from airflow_provider_reportrun.protocol.retry import RetryPolicy
from airflow_provider_reportrun.text import shown

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.generation import Generation
    from airflow_provider_reportrun.protocol.messages import Flow

log = logging.getLogger(__name__)

MOST_PAGES: Final = 100
"""10,000 reports, against an API whose list never ends."""
_ONCE: Final = RetryPolicy(attempts=1)
"""For a request that only improves an error."""
_MOST_NAMED: Final = 20


def list_reports(api: Generation, *, environment: Environment = REAL) -> Flow[ReportList]:
    """
    Get the reports that an account may run.

    If the API has no list, get each report whose id is known. Those that the account may not run
    are left out.

    :return: sorted by id.
    :raises PermissionDenied: if the key may not read any of them.
    :raises InvalidInput: if this generation has no reports.
    :raises ReportRunError: if the API cannot be reached.
    """
    if api.known_reports:
        return (yield from _known_reports(api, environment))
    reports: list[Report] = []
    page = None
    for _ in range(MOST_PAGES):
        found = yield from ask(calls.list_reports(api, page), environment=environment)
        reports += found.reports
        page = found.next_page
        if page is None:
            break
    return ReportList(_sorted(reports), is_complete=page is None)


def _known_reports(api: Generation, environment: Environment) -> Flow[ReportList]:
    answers: list[Report | ReportRunError] = []
    log.info("Getting %d known reports one by one", len(api.known_reports))
    for report_id in api.known_reports:
        found = yield from _report_or_refusal(api, report_id, environment)
        answers.append(found)
    reports = [each for each in answers if isinstance(each, Report)]
    refusals = [each for each in answers if isinstance(each, PermissionDenied)]
    if refusals and not reports:
        raise refusals[0]
    return ReportList(_sorted(reports), is_complete=False)


def _report_or_refusal(
    api: Generation, report_id: str, environment: Environment
) -> Flow[Report | NotFound | PermissionDenied]:
    try:
        return (yield from ask(calls.get_report(api, report_id), environment=environment))
    except PermissionDenied as error:
        return error
    except NotFound as error:
        if error.unknown_path:
            raise
        return error


def _sorted(reports: list[Report]) -> list[Report]:
    return sorted(reports, key=lambda each: each.id)


def get_report(api: Generation, report_id: str, *, environment: Environment = REAL) -> Flow[Report]:
    """
    Get a report's definition.

    :raises NotFound: if there is no such report; names the nearest that there are.
    """
    try:
        return (yield from ask(calls.get_report(api, report_id), environment=environment))
    except NotFound as error:
        missing = error
    raise (yield from nearest(api, report_id, missing, environment=environment)) or missing


def nearest(
    api: Generation, report_id: str, missing: NotFound, *, environment: Environment = REAL
) -> Flow[NotFound | None]:
    """
    Find out which report a wrong id was meant to be, with one more request.

    A 404 alone does not prove that there is no such report: some keys may create report runs and
    read no definitions. The answer about others proves it.

    :param missing: the answer about the report.
    :return: the error that names the nearest reports; None if the report may exist nevertheless.
    """
    if missing.unknown_path:
        return None
    report_id = report_id.strip()
    try:
        existing = yield from _existing(api, report_id, environment)
    except ReportRunError as error:  # must not hide the first error
        log.debug("The reports cannot be listed: %s", error)
        return None
    spellings = [each for names in existing for each in names]
    if not existing or report_id in spellings:
        return None
    why = unknown("report", report_id, spellings, named=[names[0] for names in existing])
    return NotFound(f"{why} {missing.message}", **missing.facts)


def _existing(
    api: Generation, report_id: str, environment: Environment
) -> Flow[Sequence[tuple[str, ...]]]:
    """
    Return what names reports that exist: those of the first page, or the nearest known one.

    :return: for each report, all that may name it.
    """
    if api.report_listing is not None:
        page = yield from ask(calls.list_reports(api), policy=_ONCE, environment=environment)
        return [api.report_listing.spell(each) for each in page.reports]
    if report_id in api.known_reports:
        return []
    for known in near(report_id, api.known_reports)[:1]:
        call = calls.get_report(api, known)
        report = yield from ask(call, policy=_ONCE, environment=environment)
        return [(report.id,)]
    return []


def near(word: str, among: Sequence[str]) -> list[str]:
    """
    Return the words that one was probably meant to be, the most similar first; at most three.

    Capitals make no difference.
    """
    import difflib

    words = {each.casefold(): each for each in among}
    return [words[each] for each in difflib.get_close_matches(word.casefold(), words, n=3)]


def unknown(noun: str, word: str, among: Sequence[str], named: Sequence[str] = ()) -> str:
    """
    Return a sentence about a word that does not exist, with the nearest ones, or else all.

    :param among: the words that exist.
    :param named: those to name if none is near; by default all of them.
    """
    found = near(word, among)
    if found:
        return f"Did you mean {' or '.join(map(repr, found))}? There is no {noun} {shown(word)}."
    named = named or among
    more = ", ..." if len(named) > _MOST_NAMED else ""
    return f"There is no {noun} {shown(word)}, only {', '.join(named[:_MOST_NAMED])}{more}."
