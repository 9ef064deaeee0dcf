"""
Land a result of the largest size that Stripe makes once, on a local path and in S3.

Time should be proportional to the size, and memory should not grow: see ``landing`` for 1 GiB.
"""

from __future__ import annotations

import tempfile
from typing import Final

from benchmarks import landing, landing_s3
from benchmarks.common import Server, keep, say

SIZE: Final = 5 * 10**9
"""Stripe makes no larger file: ``file_size_above_limit``."""


def main() -> None:
    """Land it twice."""
    with Server("benchmarks.file_server:serve", size=SIZE) as server:
        with tempfile.TemporaryDirectory(prefix="reportrun-bench-") as folder:
            on_disk = landing.landing(server.facts["url"], folder)
        say(f"largest: {on_disk}")
        in_s3 = landing_s3.once("landing", server)
        say(f"largest in S3: {in_s3}")
    keep("largest", {"size": SIZE, "on_disk": on_disk, "in_s3": in_s3})


if __name__ == "__main__":
    main()
