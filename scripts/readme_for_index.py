"""
Make the README's links absolute in the metadata of distributions: a hook of hatchling.

A package index shows the README without the repository, so it cannot follow a relative link. The
links lead to the tag of the release, below the ``Source`` address in ``[project.urls]``. Without
such an address, they stay as they are, and ``make release-check TAG=...`` refuses to go on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

README = "README.md"
LINK = re.compile(r"(?P<picture>!?)(?P<text>\[[^\]]*\])\((?!#|[a-z]+:)(?P<path>[^)\s]+)\)")
"""A link or a picture in Markdown that leads to a path of the repository."""


class ReadmeHook(MetadataHookInterface):
    """Provides the ``readme`` of the metadata."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Read the README and change its links."""
        text = Path(self.root, README).read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        if source:
            text = absolute(text, source=source, version=metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def absolute(text: str, *, source: str, version: str) -> str:
    """
    Return the text with absolute links.

    :param source: address of the repository on GitHub, or on a host with the same paths.
    :param version: version whose tag the links lead to; a development version has none.
    """
    revision = "HEAD" if ".dev" in version else f"v{version}"

    def replaced(link: re.Match[str]) -> str:
        kind = "raw" if link["picture"] else "blob"
        address = f"{source.rstrip('/')}/{kind}/{revision}/{link['path']}"
        return f"{link['picture']}{link['text']}({address})"

    return LINK.sub(replaced, text)
