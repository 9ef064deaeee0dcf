"""The server itself: start, stop, cleanup and counts."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import ssl
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_reportrun.sandbox import Delivery, Fault, Hold, Refuse, Sandbox


def test_leaves_nothing(client_of, tmp_path, monkeypatch):
    """After the stop no thread, port or file is left, whatever was in progress."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = threading.active_count()
    with Sandbox(run_seconds=0) as sandbox:
        client = client_of(sandbox)
        url = client.url()
        sandbox.faults.add(Fault("get_run", Hold(seconds=60)))
        sandbox.faults.add(Fault("download", Delivery(stall_at=10)))
        held = [
            threading.Thread(target=_ignoring, args=(client.run, "x")),
            threading.Thread(target=_ignoring, args=(client.download, url)),
        ]
        for thread in held:
            thread.start()
        while len(sandbox.requests) < 4:
            pass
        assert len(list(tmp_path.iterdir())) == 1
    for thread in held:
        thread.join(5)
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(requests.ConnectionError):
        client.run("x")
    sandbox.stop()


def _ignoring(call, *arguments):
    with contextlib.suppress(requests.RequestException):
        call(*arguments)


def test_starts_again(client_of):
    """A sandbox may be started again on the same port, but not while it runs."""
    sandbox = Sandbox()
    sandbox.start()
    port = sandbox.port
    with pytest.raises(RuntimeError):
        sandbox.start()
    sandbox.stop()
    with sandbox:
        assert sandbox.port == port
        assert client_of(sandbox).create().status_code == 200


def test_port_taken(sandbox):
    """A port in use raises OSError at the start."""
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=sandbox.port).start()


def test_connection(sandbox):
    """The URI and the JSON contain server and key in the two forms that Airflow reads."""
    strange = Sandbox(port=1, api_key="rk_test_a/b@c:d%e")
    for each in (sandbox, strange):
        by_uri = urlsplit(each.connection_uri)
        assert by_uri.scheme == "reportrun"
        assert (by_uri.hostname, by_uri.port) == ("127.0.0.1", each.port)
        assert by_uri.path == "/http"
        assert unquote(by_uri.password) == each.api_key
        by_json = json.loads(each.connection_json)
        assert by_json == {"conn_type": "reportrun", "host": each.url, "password": each.api_key}


def test_counts_connections(client, sandbox):
    """Connections are counted; a kept one counts once."""
    with requests.Session() as session:
        for _ in range(5):
            session.get(f"{sandbox.url}/x", timeout=5)
        assert sandbox.connections == 1
        assert sandbox.open_connections >= 1
    client.run("x")
    assert sandbox.connections == 2
    assert len({request.client for request in sandbox.requests}) == 2


def test_remembers_requests(client, sandbox):
    """Requests are remembered with everything they contained."""
    client.create(key="k", currency="eur")
    client.get("/v2/reporting/report_runs/x?include[0]=result.file.schema")
    first, second = sandbox.requests
    assert (first.method, first.path, first.query) == ("POST", "/v2/reporting/report_runs", "")
    assert first.operation == "create"
    assert first.headers["idempotency-key"] == "k"
    assert first.json["report_parameters"]["currency"] == "eur"
    assert first.client[0] == "127.0.0.1"
    assert first.status == 200
    assert abs(first.at - datetime.now(timezone.utc)) < timedelta(seconds=10)
    assert second.target.endswith("x?include%5B0%5D=result.file.schema")
    assert second.status == 404


def test_client_that_leaves(client, sandbox):
    """A request whose body never arrives is ignored, and the server goes on."""
    headers = "\r\n".join(f"{name}: {value}" for name, value in client.headers().items())
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as peer:
        head = f"POST /v2/reporting/report_runs HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
        peer.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
    assert client.create().status_code == 200
    assert len(sandbox.requests) == len(sandbox.runs) == 1


def test_key_is_not_shown(client, sandbox):
    """The repr of a run does not show its API key."""
    client.create()
    assert sandbox.api_key not in repr(sandbox.runs)


@pytest.mark.anyio
async def test_within_the_process(sandbox):
    """The application can be called without a socket."""
    transport = httpx.ASGITransport(app=sandbox.app)
    headers = {"Authorization": f"Bearer {sandbox.api_key}", "Stripe-Version": "2026-04-22.dahlia"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://sandbox", headers=headers
    ) as client:
        week = {"interval_start": "2025-08-18T00:00:00Z", "interval_end": "2025-08-25T00:00:00Z"}
        body = {"report": "balance_summary", "report_parameters": week}
        created = await client.post("/v2/reporting/report_runs", json=body)
        sandbox.advance(5)
        run = await client.get(f"/v2/reporting/report_runs/{created.json()['id']}")
        url = run.json()["result"]["file"]["download_url"]["url"]
        assert url.startswith("http://sandbox/files/")
        del client.headers["Authorization"], client.headers["Stripe-Version"]
        file = await client.get(url)
        assert file.text.startswith("category,")
        sandbox.faults.add(Fault("download", Refuse()))
        with pytest.raises(ConnectionResetError):
            await client.get(url)


@pytest.fixture
def anyio_backend():
    """Run async tests on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox")])
    now = datetime.now(timezone.utc)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder: Path = tmp_path_factory.mktemp("tls")
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls(certificate):
    """With a certificate the sandbox speaks TLS, its URLs say so, and cuts work too."""
    certfile, keyfile = certificate
    with Sandbox(certfile=certfile, keyfile=keyfile, run_seconds=0) as sandbox:
        assert sandbox.url.startswith("https://")
        assert sandbox.connection_uri.endswith("/https")
        headers = {
            "Authorization": f"Bearer {sandbox.api_key}",
            "Stripe-Version": "2026-04-22.dahlia",
        }
        week = {"interval_start": "2025-08-18T00:00:00Z", "interval_end": "2025-08-25T00:00:00Z"}
        runs = f"{sandbox.url}/v2/reporting/report_runs"
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(certfile)
            body = {"report": "balance_summary", "report_parameters": week}
            run = session.post(runs, json=body, headers=headers, timeout=5).json()
            run = session.get(f"{runs}/{run['id']}", headers=headers, timeout=5).json()
            url = run["result"]["file"]["download_url"]["url"]
            assert url.startswith(sandbox.url)
            assert session.get(url, timeout=5).text.startswith("category,")
            sandbox.faults.add(Fault("download", Delivery(cut_after=10)))
            with pytest.raises(requests.RequestException):
                session.get(url, timeout=5)


def test_unusable_settings():
    """The error names an invalid setting."""
    with pytest.raises(ValueError, match="zip_members must be at least 1"):
        Sandbox(zip_members=0)


def test_unreadable_certificate(tmp_path):
    """An unreadable certificate raises an error at the start."""
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ssl.SSLError):
        Sandbox(certfile=tmp_path / "cert.pem", keyfile=tmp_path / "cert.pem").start()
