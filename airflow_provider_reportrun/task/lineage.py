"""
Turn what a task has done into OpenLineage facets.

Only the OpenLineage provider calls this module, after a task and in a separate process. Without
that provider the module is never imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.openlineage.facet import (
    ExternalQueryRunFacet,
    OutputDataset,
    OutputStatisticsOutputDatasetFacet,
    SchemaDatasetFacet,
    SchemaDatasetFacetFields,
    SQLJobFacet,
)
from airflow.providers.openlineage.extractors import OperatorLineage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_reportrun.landing.landed import Landing, Member

SOURCE: Final = "stripe"
"""The system that ran the query, in OpenLineage's terms."""
_SAME_STORE: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss", "adl": "abfss"}
"""Schemes that are aliases of another one."""


def lineage_of(
    report_run_id: str | None, landing: Landing | None, sql: str | None
) -> OperatorLineage[Any, Any]:
    """
    Describe a report run and the files that were landed.

    An existing file that was kept is not an output, because nothing was written.

    :param report_run_id: None if the task ended before there was one.
    :param landing: None if nothing was landed.
    :param sql: the query of a query run; None for a report.
    """
    return OperatorLineage(
        outputs=[] if landing is None else _outputs(landing),
        run_facets={
            "externalQuery": ExternalQueryRunFacet(externalQueryId=report_run_id, source=SOURCE)
        }
        if report_run_id
        else {},
        job_facets={} if sql is None else {"sql": SQLJobFacet(query=sql)},
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
    """Return the columns that all files have, if they are known."""
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
    Name a file as OpenLineage prescribes for its store, so that all tools use the same name.

    :param uri: the landing's.
    :param holder: the storage account or server, if the URI does not name it.
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
