"""
From what a task has done to what OpenLineage tells of it.

Called by the OpenLineage provider alone, after a task and in a process of its own: where it is not
installed nothing of this is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.openlineage.facet import (
    ExternalQueryRunFacet,
    OutputDataset,
    OutputStatisticsOutputDatasetFacet,
    SchemaDatasetFacet,
    SchemaDatasetFacetFields,
)
from airflow.providers.openlineage.extractors import OperatorLineage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_reportrun.landing.land import Landing, Member

SOURCE: Final = "stripe"
"""Who knows the report run, as OpenLineage calls a system that runs queries for others."""
_SAME_STORE: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss", "adl": "abfss"}
"""Schemes that are spellings of another one."""


def lineage_of(report_run_id: str | None, landing: Landing | None) -> OperatorLineage[Any, Any]:
    """
    Tell of a report run and of the files that were landed.

    What stood there already and was kept is no output, for nothing was written.

    :param report_run_id: None where the task ended before there was one.
    :param landing: None where nothing was landed.
    """
    return OperatorLineage(
        outputs=[] if landing is None else _outputs(landing),
        run_facets={
            "externalQuery": ExternalQueryRunFacet(externalQueryId=report_run_id, source=SOURCE)
        }
        if report_run_id
        else {},
    )


def _outputs(landing: Landing) -> list[OutputDataset]:
    files: Sequence[Landing | Member] = landing.members or [landing]
    written = [file for file in files if file.sha256 is not None]
    schema = _schema(landing)
    outputs = []
    for file in written:
        namespace, name = dataset_name(file.uri, landing.holder)
        statistics = OutputStatisticsOutputDatasetFacet(size=file.size, rowCount=file.rows)
        outputs.append(
            OutputDataset(
                namespace=namespace,
                name=name,
                facets={} if schema is None else {"schema": schema},
                outputFacets={"outputStatistics": statistics},
            )
        )
    return outputs


def _schema(landing: Landing) -> SchemaDatasetFacet | None:
    """Give the columns that all of the files have, where they are known."""
    if landing.columns is None:
        return None
    return SchemaDatasetFacet(
        fields=[
            SchemaDatasetFacetFields(name=column.name, type=column.type)
            for column in landing.columns
        ]
    )


def dataset_name(uri: str, holder: str | None) -> tuple[str, str]:
    """
    Name a file as OpenLineage prescribes for its store, so that all who use it name it alike.

    :param uri: as the landing tells it.
    :param holder: the storage account or server, where the URI does not name it.
    :return: namespace and name.

    Source: https://openlineage.io/docs/spec/naming
    """
    scheme, _, rest = uri.partition("://")
    scheme = _SAME_STORE.get(scheme, scheme)
    bucket, _, key = rest.partition("/")
    match scheme:
        case "file":
            return "file", rest
        case "sftp" | "ssh":
            return f"file://{holder or bucket}", f"/{key}"
        case "abfss" if holder:
            return f"abfss://{bucket}@{holder}.dfs.core.windows.net", key
        case _:
            return f"{scheme}://{bucket}", key
