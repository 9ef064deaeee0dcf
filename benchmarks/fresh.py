"""The process that ``common.started`` starts: call a function by name, and print its result."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from benchmarks.common import tell


def main() -> None:
    """Call what the arguments name."""
    module, _, function = sys.argv[1].partition(":")
    result = getattr(import_module(module), function)(**json.loads(sys.argv[2]))
    if result is not None:
        tell(result)


if __name__ == "__main__":
    main()
