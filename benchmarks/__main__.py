"""
Run all benchmarks or the named ones, and write the table and the pictures.

``make bench``, or ``make bench ONLY="imports landing"``. ``ONLY=report`` only writes the table and
the pictures again, from the stored results.
"""

from __future__ import annotations

import signal
import sys
import time
from importlib import import_module
from typing import Final

from benchmarks import report
from benchmarks.common import say

BENCHMARKS: Final = (
    "imports",
    "landing",
    "largest",
    "formats",
    "capacity",
    "polls",
    "lists",
    "lengths",
    "backfill",
)


def main() -> None:
    """Run the benchmarks that the arguments name."""
    # Exit as on Ctrl-C, so every started process is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    named = sys.argv[1:] or list(BENCHMARKS)
    unknown = set(named) - {*BENCHMARKS, "report"}
    if unknown:
        raise SystemExit(f"There are {', '.join(BENCHMARKS)} and report, no {', '.join(unknown)}.")
    for name in named:
        if name == "report":
            continue
        began = time.monotonic()
        import_module(f"benchmarks.{name}").main()
        say(f"{name}: took {time.monotonic() - began:.0f} s")
    report.main()


if __name__ == "__main__":
    main()
