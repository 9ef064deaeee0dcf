"""
Measure how fast 1 GiB of CSV is converted to Parquet, and how much memory that takes.

The conversion is that of ``output_format="parquet"``, including the hash, to the types that the API
announces: money becomes DECIMAL(38,18). One alternative is DuckDB with the same types and the same
compression. The others are pandas, pyarrow and DuckDB, each as in the first pages of its
documentation. They guess types from values, so money becomes a float. All of them use all cores.
Each runs in its own process, after a small file that pays for imports and pools.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from benchmarks.common import MIB, in_fresh_process, keep, peak_resident_bytes, say

SIZE: Final = 1024 * MIB
SMALL: Final = 8 * MIB
REPORT: Final = "balance_change_from_activity_itemized"
OURS: Final = "landing"
PANDAS: Final = "pandas"
ARROW: Final = "pyarrow"
DUCKDB: Final = "duckdb"
EXACT: Final = "duckdb, same types"
WAYS: Final = (OURS, EXACT, PANDAS, ARROW, DUCKDB)
LIBRARIES: Final = (PANDAS, ARROW, DUCKDB)
ROUNDS: Final = 3
BOUNDS: Final = {"of_exact": 1.3, "memory_mib": 128}
_DUCKDB_TYPES: Final = {"varchar": "VARCHAR", "timestamp": "TIMESTAMP", "double": "DECIMAL(38,18)"}
"""The announced type: DuckDB's name of the type that it lands as."""


def write_csv(path: Path, size: int) -> None:
    """Write an invented report of ``size`` bytes."""
    from airflow_provider_reportrun.sandbox import files
    from airflow_provider_reportrun.sandbox.catalog import CATALOG, Window
    from airflow_provider_reportrun.sandbox.data import Query

    interval = Window(
        datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 10, 1, tzinfo=timezone.utc)
    )
    plan = files.Plan(
        report_id=REPORT,
        columns=CATALOG[REPORT].columns,
        query=Query(seed=1, account="acct_1", interval=interval, zone=ZoneInfo("UTC")),
        size=size,
    )
    with path.open("wb") as out:
        files.write_csv(plan, out)


def _landing(source: Path, target: Path) -> None:
    from airflow_provider_reportrun.landing import parquet
    from airflow_provider_reportrun.landing.archive import LocalFile
    from airflow_provider_reportrun.landing.columns import ColumnTypes
    from airflow_provider_reportrun.landing.spool import Spool
    from airflow_provider_reportrun.protocol.models import Column
    from airflow_provider_reportrun.sandbox.catalog import CATALOG

    announced = [Column(each.name, each.type) for each in CATALOG[REPORT].columns]
    file = LocalFile(name=target.name, path=source, size=source.stat().st_size, sha256="")
    with Spool(target.parent, "benchmark") as spool:
        parquet.convert(file, spool, ColumnTypes(announced=announced)).path.rename(target)


def _pandas(source: Path, target: Path) -> None:
    import pandas as pd

    pd.read_csv(source).to_parquet(target)


def _pyarrow(source: Path, target: Path) -> None:
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(source), target)


def _duckdb(source: Path, target: Path) -> None:
    import duckdb

    duckdb.sql(f"COPY (FROM '{source}') TO '{target}' (FORMAT parquet)")


def _exact(source: Path, target: Path) -> None:
    import duckdb

    from airflow_provider_reportrun.sandbox.catalog import CATALOG

    types = {each.name: _DUCKDB_TYPES[each.type] for each in CATALOG[REPORT].columns}
    duckdb.sql(
        f"COPY (FROM read_csv('{source}', header = true, columns = {types})) "
        f"TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    )


_HOW: Final = {
    OURS: _landing,
    EXACT: _exact,
    PANDAS: _pandas,
    ARROW: _pyarrow,
    DUCKDB: _duckdb,
}


def convert(way: str, folder: str) -> dict[str, Any]:
    """Convert in this process, after a small file."""
    small, large = Path(folder) / "small.csv", Path(folder) / "large.csv"
    write_csv(small, SMALL)
    _HOW[way](small, Path(folder) / "small.parquet")
    target = Path(folder) / "large.parquet"
    before, cpu, began = peak_resident_bytes(), time.process_time(), time.perf_counter()
    _HOW[way](large, target)
    return {
        "seconds": round(time.perf_counter() - began, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "memory_mib": round((peak_resident_bytes() - before) / MIB, 1),
        "size": target.stat().st_size,
    }


def main() -> None:
    """Measure in turn, so other load on the machine affects all equally."""
    raw: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="reportrun-bench-") as home:
        made = Path(home) / "large.csv"
        write_csv(made, SIZE)
        for number in range(ROUNDS):
            for way in WAYS if number % 2 else reversed(WAYS):
                with tempfile.TemporaryDirectory(dir=home) as folder:
                    (Path(folder) / made.name).hardlink_to(made)
                    raw[way].append(
                        in_fresh_process("benchmarks.formats:convert", way=way, folder=folder)
                    )
                say(f"formats: {way} {raw[way][-1]}")
    seconds = {way: statistics.median(each["seconds"] for each in raw[way]) for way in WAYS}
    keep(
        "formats",
        {
            "bounds": BOUNDS,
            "size": SIZE,
            "libraries": {each: metadata.version(each) for each in LIBRARIES},
            "median_seconds": seconds,
            "mib_per_second": {way: round(SIZE / MIB / took) for way, took in seconds.items()},
            "of_exact": round(seconds[EXACT] / seconds[OURS], 2),
            "cpu_seconds": {
                way: statistics.median(each["cpu_seconds"] for each in raw[way]) for way in WAYS
            },
            "memory_mib": {way: max(each["memory_mib"] for each in raw[way]) for way in WAYS},
            "raw": raw,
        },
    )


if __name__ == "__main__":
    main()
