"""The page of a run, in place of that of an object in Stripe's Workbench."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from starlette.responses import HTMLResponse

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
_UNFINISHED = frozenset({"pending", "running"})
_LOOK_AGAIN_SECONDS = 2
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 3rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem; overflow-wrap: anywhere }
p { color: GrayText }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem; border-top: 1px solid #8884 }
th { font-weight: 500; white-space: nowrap }
td { font-family: ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
.status { border-radius: 1rem; padding: .1rem .7rem; background: #8883 }
.succeeded { background: #2a83 } .failed, .canceled { background: #c333 }
"""


def page_of(described: Mapping[str, Any]) -> HTMLResponse:
    """
    Return the page of a run, which looks again while the run is not finished.

    :param described: the run as the API writes it, without its result.
    """
    status = described["status"]
    rows = "".join(
        f"<tr><th>{escape(name)}<td>{escape(value)}\n" for name, value in _facts(described)
    )
    refresh = (
        f'<meta http-equiv="refresh" content="{_LOOK_AGAIN_SECONDS}">'
        if status in _UNFINISHED
        else ""
    )
    badge = f'<span class="status {escape(status)}">{escape(status)}</span>'
    return _page(
        str(described["id"]),
        f"<h1>{escape(described['id'])} {badge}</h1>\n<table>\n{rows}</table>",
        head=refresh,
    )


def unknown_page(object_id: str) -> HTMLResponse:
    """Return the page for an id that no run has."""
    said = f"This sandbox has no run {object_id}." if object_id else "Name a run: ?object=ID."
    return _page("Not found", f"<h1>{escape(said)}</h1>", status=404)


def _page(title: str, body: str, *, head: str = "", status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(title)}</title>{head}
<style>{_STYLE}</style></head>
<body>
{body}
<p>The sandbox shows this page in place of the one in Stripe's Workbench.</p>
</body>
</html>
""",
        status,
        _HEADERS,
    )


def _facts(described: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and values; a value within another one is named by its path."""
    for name, value in described.items():
        if isinstance(value, Mapping):
            yield from _facts(value, f"{prefix}{name}.")
        elif value is not None and (prefix or name != "id"):
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
