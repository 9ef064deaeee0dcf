"""
Land a result of the largest size that Stripe makes once, on a local path and in S3.

Time should be proportional to the size, and memory should not grow: see ``landing`` for 1 GiB. S3
is moto's server, which keeps all data in memory, and is skipped if there is not enough memory.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks import landing, landing_s3
from benchmarks.common import KIB, Server, keep, say

SIZE: Final = 5 * 10**9
"""Stripe makes no larger file: ``file_size_above_limit``."""
MOTO_BYTES: Final = 3 * SIZE


def main() -> None:
    """Land it twice."""
    with Server("benchmarks.file_server:serve", size=SIZE) as server:
        url = server.facts["url"]
        with tempfile.TemporaryDirectory(prefix="reportrun-bench-") as folder:
            on_disk = landing.landing(url, folder)
        say(f"largest: {on_disk}")
        in_s3 = _in_s3(url)
        say(f"largest in S3: {in_s3}")
    keep("largest", {"size": SIZE, "on_disk": on_disk, "in_s3": in_s3})


def _in_s3(url: str) -> dict[str, Any] | None:
    if _available_bytes() < MOTO_BYTES:
        say(f"largest in S3: skipped, because moto needs {MOTO_BYTES} bytes of memory")
        return None
    return landing_s3.once("landing", url)


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * KIB
    return 0


if __name__ == "__main__":
    main()
