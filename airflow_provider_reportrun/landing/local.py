"""Download to one local file, for code that uses the hook without an operator."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.landing import archive
from airflow_provider_reportrun.landing.download import ResultSource, download
from airflow_provider_reportrun.landing.metrics import measure_landing
from airflow_provider_reportrun.landing.places import check_path
from airflow_provider_reportrun.landing.spool import Spool, owner_name
from airflow_provider_reportrun.landing.targets import LocalTarget

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.models import ResultFacts


def download_to_file(source: ResultSource, report_run_id: str, path: str | Path) -> ResultFacts:
    """
    Download a result to a local file, completely or not at all.

    :param path: replaced if it exists; missing folders are created.
    :raises InvalidInput: if it is a folder, or not a local path.
    :raises LandingFailed: if it cannot be written.
    :raises ReportRunError: as ``download`` and ``archive.verify`` do.
    """
    check_path(str(path))
    path = Path(path).absolute()
    if path.is_dir():
        raise InvalidInput(f"The path {path} is a folder. Name the file to download to.")
    # Tries of one caller cannot be told from two callers, so no call cleans up after another.
    owner = owner_name(report_run_id, uuid.uuid4().hex)
    with Spool(path.parent, owner, private=False) as spool:
        staged = spool.new_file()
        facts = download(source, report_run_id, staged)
        if facts.content_type == archive.ZIP:
            archive.verify(staged)
        LocalTarget(path.parent).publish(
            archive.LocalFile(name=path.name, path=staged, size=facts.size, sha256=facts.sha256),
            owner,
        )
    measure_landing(facts.report, facts.size)
    return facts
