"""
Start gcp-storage-emulator with what it lacks: resumable uploads that can be canceled.

It answers 501 to a cancellation, which gcsfs repeats for half a minute.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

from gcp_storage_emulator import server
from gcp_storage_emulator.__main__ import main
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def cancel(request: Any, response: Any, storage: Any) -> None:
    """
    Forget an upload, and answer as Google does.

    Source: https://cloud.google.com/storage/docs/performing-resumable-uploads#cancel-upload
    """
    with contextlib.suppress(NotFound):
        storage.delete_resumable_file_obj(request.query["upload_id"][0])
    response.status = SimpleNamespace(value=499, phrase="Client Closed Request")


if __name__ == "__main__":
    for _, methods in server.HANDLERS:
        if methods.get(server.PUT) is objects.upload_partial:
            methods[server.DELETE] = cancel
    main()
