"""Download to one local file, for those who use the hook by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_reportrun.landing import archive
from airflow_provider_reportrun.landing.download import ResultSource, download
from airflow_provider_reportrun.landing.spool import Spool, owner_name

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.models import ResultFacts

ZIP = "zip"
"""``content_type`` of a compressed result."""


def fetch(source: ResultSource, report_run_id: str, path: Path) -> ResultFacts:
    """
    Download a result into a new local file and verify it, a ZIP's checksums too.

    :raises ReportRunError: as ``download`` and ``archive.verify`` do.
    """
    facts = download(source, report_run_id, path)
    if facts.content_type == ZIP:
        archive.verify(path)
    return facts


def download_to_file(source: ResultSource, report_run_id: str, path: str | Path) -> ResultFacts:
    """
    Download a result to a local file, whole or not at all.

    :param path: replaced when it exists.
    """
    path = Path(path)
    with Spool(path.parent, owner_name(report_run_id)) as spool:
        staged = spool.new_file()
        facts = fetch(source, report_run_id, staged)
        staged.replace(path)
    return facts
