"""What a server repeats and libraries log: neither the key nor the URL of a result is shown."""

from __future__ import annotations

import json
import logging
import socket
import threading
from contextlib import contextmanager

import pytest

from airflow_provider_reportrun.client import transport
from airflow_provider_reportrun.client.access import ApiAccess
from airflow_provider_reportrun.errors import ApiError
from airflow_provider_reportrun.protocol import calls
from airflow_provider_reportrun.protocol.answers import read_json
from airflow_provider_reportrun.protocol.generations import named
from airflow_provider_reportrun.secret import Secret

KEY = "rk_test_5ec4e7"
TOLD = f"Key {KEY} is unlucky."
BODY = json.dumps({"error": {"message": TOLD}})


@contextmanager
def speaking(answer: bytes):
    """Serve one answer, byte by byte, and give the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        speaker = threading.Thread(target=speak)
        speaker.start()
        yield server.getsockname()[1]
        speaker.join(5)


@pytest.mark.parametrize(
    "body",
    [
        BODY.encode(),
        BODY.replace("rk_", "\\u0072k_").encode(),
        BODY.replace(KEY, "".join(f"\\u{ord(each):04x}" for each in KEY)).encode(),
        BODY.replace(KEY, KEY.upper()).encode(),
        BODY.replace(KEY, "".join(f"%{ord(each):02x}" for each in KEY)).encode(),
        BODY.replace(KEY, "".join(f"&#{ord(each)};" for each in KEY)).encode(),
        BODY.encode("utf-8-sig"),
        *(BODY.encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
    ],
)
def test_a_key_that_is_repeated_is_cut_out(body):
    """In whichever encoding and spelling, and nothing else is."""
    head = f"HTTP/1.1 400 No\r\nRequest-Id: req_{KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    with speaking(head.encode() + body) as port:
        access = ApiAccess(conn_id="c", api_key=Secret(KEY), base_url=f"http://127.0.0.1:{port}")
        with transport.new_session(access) as session:
            response = transport.send(
                session, access, calls.get_report(named("v2.reporting"), "r").request
            )
    with pytest.raises(ApiError) as caught:
        read_json(response, "get a report", "more")
    assert "400 Key *** is unlucky." in str(caught.value)
    assert caught.value.request_id == "req_***"


@pytest.mark.parametrize("header", ["a line without a colon", " : x", "X: y\r\nno colon"])
def test_no_library_logs_the_url_of_a_result(caplog, header):
    """At no level, though the download succeeds; others of the process go on logging."""
    caplog.set_level("DEBUG")
    for name in ("urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).setLevel("DEBUG")
    answer = f"HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 4\r\n\r\na,b\n"
    with speaking(answer.encode()) as port:
        access = ApiAccess(conn_id="c", api_key=Secret(KEY), base_url=f"http://127.0.0.1:{port}")
        url = Secret(f"http://127.0.0.1:{port}/r.csv?X-Amz-Signature=5ec4e7")
        with (
            transport.new_bare_session() as session,
            transport.open_stream(session, access, url, {}) as stream,
        ):
            body = b""
            for chunk in stream.chunks:
                body += chunk
                logging.getLogger("urllib3.connectionpool").warning("between")
                other = threading.Thread(
                    target=logging.getLogger("urllib3.connection").warning, args=("other",)
                )
                other.start()
                other.join()
    assert body == b"a,b\n"
    assert "5ec4e7" not in caplog.text
    assert "r.csv" not in caplog.text
    assert {"between", "other"} <= set(caplog.messages)
    logging.getLogger("urllib3.connection").warning("after")
    assert "after" in caplog.messages
