"""The hook against a sandbox that speaks TLS with a certificate of its own."""

from __future__ import annotations

import re

import pytest
import trustme

from airflow_provider_reportrun.errors import InvalidInput, ReportRunError, TransportError
from airflow_provider_reportrun.sandbox import Sandbox


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """An authority that nobody else trusts: its certificate, and one for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="module")
def secure(authority):
    """A sandbox behind TLS."""
    pem = authority / "server.pem"
    with Sandbox(run_seconds=0.0, certfile=pem, keyfile=pem) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(secure, monkeypatch):
    """The sandbox behind TLS, as the connection ``reportrun_default``."""
    secure.reset()
    monkeypatch.setenv("AIRFLOW_CONN_REPORTRUN_DEFAULT", secure.connection_uri)
    return secure


def test_a_ca_bundle_is_trusted(sandbox, form, connect, authority):
    """The one of the connection, for all requests."""
    connect({"ca_bundle": str(authority / "ca.pem")})
    run = form.get_run(form.create().id)
    assert run.file.url.reveal().startswith("https://127.0.0.1")
    assert len(sandbox.requests) == 2


def test_an_unknown_authority_is_not(sandbox, form, pauses):
    """Asked once, for it will not pass; the error says where a bundle goes."""
    with pytest.raises(TransportError, match="ca_bundle") as raised:
        form.get_report()
    assert not raised.value.transient
    assert sandbox.requests == []
    assert pauses == []


def test_the_environment_does_not_win(sandbox, form, connect, authority, monkeypatch):
    """A bundle of the environment stands in for none, not for the connection's own."""
    other = authority / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(other))
    connect({"ca_bundle": str(authority / "ca.pem")})
    assert form.get_report().id == "balance_summary"


def test_a_bundle_of_the_environment_is_trusted(sandbox, form, authority, monkeypatch):
    """Where the connection names none, as requests does, in both forms."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "ca.pem"))
    assert form.get_report().id == "balance_summary"


def test_a_bundle_of_the_environment_that_is_missing(sandbox, form, monkeypatch, tmp_path):
    """Is an error of ours, which names the file."""
    missing = str(tmp_path / "missing.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", missing)
    with pytest.raises(ReportRunError, match=re.escape(missing)) as raised:
        form.get_report()
    assert not raised.value.transient


def test_a_certificate_for_another_name_is_refused(sandbox, form, connect, authority):
    """The host is checked, not only the authority."""
    extra = {"ca_bundle": str(authority / "ca.pem")}
    connect(extra, host=sandbox.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(TransportError, match="certificate") as raised:
        form.get_report()
    assert not raised.value.transient
    assert sandbox.requests == []


def test_a_missing_ca_bundle(sandbox, form, connect, tmp_path):
    """Is named with its field and connection, before anything is sent."""
    missing = str(tmp_path / "missing.pem")
    connect({"ca_bundle": missing})
    with pytest.raises(InvalidInput, match="'ca_bundle' of the connection") as raised:
        form.get_report()
    assert missing in str(raised.value)
    assert sandbox.connections == 0


@pytest.mark.parametrize("kind", ["junk", "folder", "empty"])
def test_a_ca_bundle_that_is_none(sandbox, form, connect, tmp_path, kind):
    """Is an error of ours that names the field."""
    bundle = tmp_path / "bundle"
    if kind == "folder":
        bundle.mkdir()
    else:
        bundle.write_text("no certificate" if kind == "junk" else "")
    connect({"ca_bundle": str(bundle)})
    with pytest.raises(ReportRunError, match="ca_bundle") as raised:
        form.get_report()
    assert not raised.value.transient
    assert sandbox.requests == []


def test_plain_http_to_tls(sandbox, form, connect):
    """Fails in a way that can be read."""
    connect(host=sandbox.url.replace("https", "http"))
    with pytest.raises(ReportRunError, match="no whole answer"):
        form.get_report()
    assert sandbox.requests == []


def test_tls_to_plain_http(reportrun_sandbox, form, connect):
    """Fails in a way that can be read."""
    connect(host=reportrun_sandbox.url.replace("http", "https"))
    with pytest.raises(TransportError, match="no whole answer"):
        form.get_report()
