"""What a connection says: each field, its default, and what is refused by name."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection

from airflow_provider_reportrun._compat import BaseHook
from airflow_provider_reportrun.client.access import ApiAccess, read_connection
from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.generations import NAMES

KEY = "rk_test_abc"


def read(extra=None, **fields):
    """Read a connection as Airflow would hand it over."""
    arguments = {"conn_id": "stripe", "conn_type": "reportrun", "password": KEY} | fields
    return read_connection(
        Connection(**arguments, extra=json.dumps(extra) if extra is not None else None)
    )


def refusal(extra=None, **fields):
    """What is said of a connection that is refused."""
    with pytest.raises(InvalidInput) as refused:
        read(extra, **fields)
    return str(refused.value)


def access(base_url="https://api.stripe.com", *hosts):
    """Make an access to some address."""
    return ApiAccess(
        conn_id="stripe", api_key=KEY, base_url=base_url, download_hosts=frozenset(hosts)
    )


def test_a_key_is_enough():
    """All else has a default."""
    assert read() == ApiAccess(
        conn_id="stripe",
        api_key=KEY,
        base_url="https://api.stripe.com",
        api="v2.reporting",
        stripe_version=None,
        stripe_context=None,
        max_requests_per_second=20.0,
        request_timeout_seconds=60.0,
        download_hosts=frozenset(),
        idempotency_namespace="",
        ca_bundle=None,
        proxy=None,
    )


@pytest.mark.parametrize(
    ("field", "expected", "name", "given"),
    [
        ("api", "v2.reporting", "api", "v2.reporting"),
        ("api", "v2.data", "api", " v2.data "),
        ("api", "v1", "api", "v1"),
        ("stripe_version", "2026-10-14.preview", "stripe_version", "2026-10-14.preview"),
        ("stripe_context", "acct_1/acct_2", "stripe_context", " acct_1/acct_2 "),
        ("max_requests_per_second", 5.5, "max_requests_per_second", 5.5),
        ("max_requests_per_second", 100.0, "max_requests_per_second", "100"),
        ("request_timeout_seconds", 0.5, "request_timeout", "0.5"),
        ("request_timeout_seconds", 80.0, "request_timeout", 80),
        ("idempotency_namespace", "staging", "idempotency_namespace", "staging"),
        ("ca_bundle", "/home/josé/own.pem", "ca_bundle", "/home/josé/own.pem"),
        ("proxy", "http://proxy.internal:3128", "proxy", "http://proxy.internal:3128"),
        ("download_hosts", {"a.example", "b.example"}, "download_hosts", "a.example, B.example."),
        ("download_hosts", {"a.example"}, "download_hosts", ["A.example ", "", "a.example"]),
        ("download_hosts", set(), "download_hosts", " , "),
        ("download_hosts", set(), "download_hosts", []),
    ],
    ids=lambda value: repr(sorted(value) if isinstance(value, set) else value),
)
def test_a_field_that_is_filled_in(field, expected, name, given):
    """Text and numbers may be either, for forms and JSON differ; blanks around them are cut."""
    assert expected == getattr(read({name: given}), field)


@pytest.mark.parametrize(
    "name",
    [
        "api",
        "stripe_version",
        "stripe_context",
        "max_requests_per_second",
        "request_timeout",
        "download_hosts",
        "idempotency_namespace",
        "ca_bundle",
        "proxy",
    ],
)
@pytest.mark.parametrize("empty", [None, ""], ids=repr)
def test_an_empty_field_is_its_default(name, empty):
    """Forms send what was not filled in as empty text."""
    assert read() == read({name: empty})


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("api", 1),
        ("api", ["v1"]),
        ("api", "v2"),
        ("api", "V1"),
        ("api", "v2.data.query_runs"),
        ("stripe_version", 5),
        ("stripe_version", "a\nInjected: b"),
        ("stripe_version", "versão"),
        ("stripe_context", ["acct_1"]),
        ("stripe_context", "acct_1\r\nX: y"),
        ("stripe_context", "acct_日本"),
        ("max_requests_per_second", 0),
        ("max_requests_per_second", -1),
        ("max_requests_per_second", "many"),
        ("max_requests_per_second", True),
        ("max_requests_per_second", [20]),
        ("max_requests_per_second", float("inf")),
        ("max_requests_per_second", float("nan")),
        ("max_requests_per_second", 10**400),
        ("request_timeout", 0),
        ("request_timeout", "-5"),
        ("request_timeout", "a minute"),
        ("request_timeout", False),
        ("request_timeout", "inf"),
        ("idempotency_namespace", 5),
        ("ca_bundle", True),
        ("proxy", {"https": "x"}),
        ("proxy", "http://proxy\n"),
        ("download_hosts", 5),
        ("download_hosts", True),
        ("download_hosts", [5]),
        ("download_hosts", "https://a.example"),
        ("download_hosts", "a.example:443"),
        ("download_hosts", "a.example/path"),
        ("download_hosts", "*.example"),
        ("download_hosts", "me@a.example"),
        ("download_hosts", ["a.example b.example"]),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_field_that_cannot_be_used_is_named(name, given):
    """With the connection that it stands in; nothing is sent."""
    with pytest.raises(InvalidInput) as refused:
        read({name: given})
    assert f"The field '{name}' of the connection 'stripe'" in str(refused.value)


def test_an_unknown_generation_is_answered_with_those_there_are():
    """All of them, early enough to be read in a list of errors; the word itself is not shown."""
    said = refusal({"api": "reports"})
    assert said.startswith("The field 'api' of the connection 'stripe' must be ")
    assert all(name in said[:100] for name in NAMES)
    assert "reports" not in said


@pytest.mark.parametrize("password", [None, "", "   "], ids=repr)
def test_a_connection_without_a_key_is_refused(password):
    """The error says where the key goes."""
    with pytest.raises(InvalidInput, match=r"'stripe' has no API key.*password field"):
        read(password=password)


@pytest.mark.parametrize("password", ["sk_a sk_b", "sk_a\nX: y", "sk_é", "sk_\x00"], ids=repr)
def test_what_cannot_be_a_key_is_refused(password):
    """Without saying what it was, for it may be one with a slip."""
    with pytest.raises(InvalidInput, match="'password' of the connection 'stripe'") as refused:
        read(password=password)
    assert "sk_" not in str(refused.value)


def test_blanks_around_a_key_are_cut():
    """They come along when a key is pasted."""
    assert read(password=f" {KEY}\n").api_key.reveal() == KEY


def test_neither_key_nor_proxy_shows():
    """A proxy's address may hold a password."""
    found = read({"proxy": "http://user:5ec4e7@proxy.internal:3128"})
    assert "5ec4e7" in found.proxy.reveal()
    assert "5ec4e7" not in repr(found)
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        ("https://api.stripe.com", {}),
        ("https://api.stripe.com", {"host": ""}),
        ("https://api.stripe.com", {"host": "  "}),
        ("https://api.stripe.com", {"host": "api.stripe.com"}),
        ("https://api.stripe.com", {"host": "https://API.Stripe.com/"}),
        ("http://localhost:8080", {"host": "http://localhost:8080"}),
        ("http://localhost:8080", {"host": "http://localhost", "port": 8080}),
        ("http://localhost:8080", {"host": "http://localhost:8080", "port": 9090}),
        ("http://localhost:8080", {"host": "localhost", "port": 8080, "schema": "http"}),
        ("https://localhost:8080", {"host": "localhost", "port": 8080, "schema": "https"}),
        ("https://localhost:8080", {"host": "localhost:8080"}),
        ("https://localhost:8080", {"host": "localhost", "port": 8080, "schema": "other"}),
        ("https://localhost", {"host": "https://localhost", "schema": "http"}),
        ("http://[::1]:8080", {"host": "http://[::1]:8080"}),
        ("http://[::1]:8080", {"host": "[::1]", "port": 8080, "schema": "http"}),
        ("https://[::1]", {"host": "https://[::1]/"}),
        ("https://127.0.0.1", {"host": "127.0.0.1"}),
    ],
    ids=repr,
)
def test_the_address_of_the_api(expected, fields):
    """As one URL, or in Airflow's fields for host, port and schema; the URL wins."""
    assert expected == read(**fields).base_url


@pytest.mark.parametrize(
    "host",
    [
        "ftp://api.stripe.com",
        "file:///etc/passwd",
        "https://",
        "https://api.stripe.com/v2",
        "https://api.stripe.com?x=y",
        "https://api.stripe.com#x",
        "https://user:5ec4e7@api.stripe.com",
        "https://:5ec4e7@api.stripe.com",
        "https://user:5ec4e7@api..stripe.com",
        "https://api.stripe.com:port",
        "https://api.stripe.com:99999",
        "https://[::1",
        "https://api stripe com",
        "https://api..stripe.com",
        "https://.",
        "::1",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(host):
    """The error names the field and the connection, and shows no password."""
    with pytest.raises(InvalidInput, match="'host' of the connection 'stripe'") as refused:
        read(host=host)
    assert "5ec4e7" not in str(refused.value)


@pytest.mark.parametrize(
    ("expected", "host"),
    [
        (True, "api.stripe.com"),
        (True, "files.stripe.com"),
        (True, "stripe.com"),
        (True, "FILES.Stripe.COM"),
        (True, "files.stripe.com."),
        (True, "stripeusercontent.com"),
        (True, "a.b.stripeusercontent.com"),
        (True, "files.internal"),
        (True, "FILES.internal."),
        (False, "evilstripe.com"),
        (False, "evilstripeusercontent.com"),
        (False, "stripe.com.evil.com"),
        (False, "stripeusercontent.com.evil.com"),
        (False, "stripe.com@evil.com"),
        (False, "stripe-com.evil.com"),
        (False, "sub.files.internal"),
        (False, "internal"),
        (False, "com"),
        (False, ".com"),
        (False, ""),
        (False, "."),
        (False, "127.0.0.1"),
        (False, "localhost"),
        (False, "169.254.169.254"),
    ],
)
def test_where_result_files_may_come_from(expected, host):
    """Stripe's two domains whole, the API's own host, and the hosts that were named."""
    assert expected is access("https://api.stripe.com", "files.internal").allows_download_from(host)


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1"),
        ("http://[::1]:8080", "::1"),
        ("https://proxy.internal:8443", "PROXY.internal"),
        ("https://proxy.internal.", "proxy.internal."),
    ],
)
def test_the_apis_own_host_may_serve_files(base_url, host):
    """As the sandbox does, or a proxy in front of all of Stripe."""
    assert access(base_url).allows_download_from(host)
    assert not access().allows_download_from(host)


@pytest.mark.parametrize(
    ("expected", "base_url"),
    [
        (True, "http://127.0.0.1:8080"),
        (True, "http://127.9.9.9"),
        (True, "http://localhost:1"),
        (True, "http://[::1]:8080"),
        (False, "https://127.0.0.1:8080"),
        (False, "https://localhost"),
        (False, "http://localhost.evil.com"),
        (False, "http://127.0.0.1.evil.com"),
        (False, "http://128.0.0.1"),
        (False, "http://0.0.0.0"),
        (False, "http://10.0.0.1"),
        (False, "http://api.stripe.com"),
    ],
)
def test_what_plain_loopback_is(expected, base_url):
    """Only there may result files come over plain http."""
    assert expected is access(base_url).is_plain_loopback


def test_the_sandbox_says_how_it_is_reached(sandbox, monkeypatch):
    """Both of its forms of a connection lead to it."""
    for form in (sandbox.connection_uri, sandbox.connection_json):
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE", form)
        found = read_connection(BaseHook.get_connection("stripe"))
        assert (found.base_url, found.api_key.reveal()) == (sandbox.url, sandbox.api_key)
        assert found.is_plain_loopback


# Keys in the wrong place, and other values that are not shown

MISPLACED = ["sk_live_5ec4e7", "SK_LIVE_5EC4E7", "x-rk_test_5ec4e7", "rk_5ec4e7", "ek_5ec4e7", KEY]
TEXTS = [
    "api",
    "stripe_version",
    "stripe_context",
    "download_hosts",
    "idempotency_namespace",
    "ca_bundle",
    "proxy",
    "max_requests_per_second",
    "request_timeout",
    "allow_plain_http",
]


@pytest.mark.parametrize("given", MISPLACED)
@pytest.mark.parametrize("form", ["{}", "https://{}", "https://{}.example", "https://a.example/{}"])
def test_a_key_in_the_host_is_refused_and_not_shown(given, form):
    """Neither as it is nor in lower case."""
    said = refusal(host=form.format(given))
    assert "'host' of the connection 'stripe' looks like an API key: move it into the pass" in said
    assert "5ec4e7" not in said.lower()
    assert KEY not in said


@pytest.mark.parametrize(
    "given", [*MISPLACED, "5ec4e7\n5ec4e7", ["5ec4e7\n5ec4e7"], {"a": "5ec4e7"}]
)
@pytest.mark.parametrize("name", TEXTS)
def test_a_value_that_is_refused_is_not_shown(name, given):
    """Its kind and length say enough; the field is named."""
    said = refusal({name: given})
    assert f"The field '{name}' of the connection 'stripe'" in said
    assert "5ec4e7" not in said.lower()
    assert KEY not in said


@pytest.mark.parametrize("host", ["https://a.example:5ec4e7", "ftp://5ec4e7", "https://[5ec4e7"])
def test_an_address_that_is_refused_is_not_shown(host):
    """Neither by us nor in the words of a library."""
    assert "5ec4e7" not in refusal(host=host)


@pytest.mark.parametrize(
    "given", ["risk_prod", "task_eu", "acct_1", "desk_1", "production", "brisk_live"]
)
def test_what_is_no_key_is_taken(given):
    """Words that only end like one."""
    assert read({"idempotency_namespace": given}).idempotency_namespace == given


# Plain http


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "http://stripe-proxy.example"},
        {"host": "HTTP://stripe-proxy.example:8080"},
        {"host": "stripe-proxy.example", "schema": "http"},
        {"host": "http://10.0.0.1"},
        {"host": "http://localhost.example"},
        {"host": "http://0.0.0.0"},
        {"host": "http://[fd00::1]:80"},
    ],
    ids=str,
)
def test_plain_http_is_for_this_machine_alone(fields):
    """For the key would be sent in the clear; an extra may allow it."""
    assert "must begin with https://, because over http:// anyone" in refusal(**fields)
    assert "must begin with https://" in refusal({"allow_plain_http": False}, **fields)
    for yes in (True, "true", " True "):
        assert read({"allow_plain_http": yes}, **fields).base_url.startswith("http://")


@pytest.mark.parametrize("given", ["yes", "1", 1, 0, [], {}, "on"], ids=repr)
def test_whether_plain_http_is_allowed_is_said_plainly(given):
    """Nothing but true and false."""
    assert "'allow_plain_http' of the connection 'stripe' must be true or false" in refusal(
        {"allow_plain_http": given}
    )


def test_a_proxy_does_not_get_the_key():
    """What is sent in plain http to this machine would reach a proxy of another with the key."""
    proxy = {"proxy": "http://proxy.example:3128"}
    assert "The field 'proxy'" in refusal(proxy, host="http://127.0.0.1:8080")
    assert read(proxy, host="https://127.0.0.1:8080").proxy == proxy["proxy"]
    assert read({"proxy": "http://127.0.0.1:3128"}, host="http://localhost").proxy


# Extras


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("stripe_account", "stripe_context"),
        ("stripe-context", "stripe_context"),
        ("Stripe_Version", "stripe_version"),
        ("timeout", "request_timeout"),
        ("proxies", "proxy"),
        ("download_host", "download_hosts"),
    ],
)
def test_an_unknown_extra_is_named_with_the_nearest(name, nearest):
    """It would be dropped without a word."""
    said = refusal({name: "acct_1"})
    assert name in said or name.replace("-", "") not in said
    assert f"did you mean '{nearest}'?" in said[:140]


@pytest.mark.parametrize("name", ["sk_live_5ec4e7", "5ec4e7" * 50, KEY, "a\nb5ec4e7"])
def test_an_extra_whose_name_must_not_be_shown(name):
    """A key may have been pasted where a name belongs."""
    said = refusal({name: 1})
    assert "unknown extra" in said
    assert KEY not in said
    assert "\n" not in said
    assert "sk_live" not in said
    assert len(said) < 400


@pytest.mark.parametrize("extra", ["[1]", '"text"', "5", "true", "no json", "{", '[{"a": 1}]'])
def test_extras_that_are_no_object(extra):
    """Airflow takes what it cannot read for none at all."""
    connection = Connection(conn_id="stripe", conn_type="reportrun", password=KEY, extra=extra)
    with pytest.raises(InvalidInput, match="'extra' of the connection 'stripe' must be a JSON obj"):
        read_connection(connection)


@pytest.mark.parametrize("extra", [None, "", " ", "{}", "null"])
def test_no_extras(extra):
    """However that is written."""
    connection = Connection(conn_id="stripe", conn_type="reportrun", password=KEY, extra=extra)
    assert read_connection(connection) == read()


def test_extras_as_airflow_writes_them(monkeypatch):
    """In a URI, nested in one, and with the prefix of old forms."""
    for form in (
        f"reportrun://:{KEY}@/?stripe_context=acct_1",
        f"reportrun://:{KEY}@/?__extra__=%7B%22stripe_context%22%3A+%22acct_1%22%7D",
        f"reportrun://:{KEY}@/?extra__reportrun__stripe_context=acct_1",
        json.dumps(
            {"conn_type": "reportrun", "password": KEY, "extra": {"stripe_context": "acct_1"}}
        ),
    ):
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE", form)
        assert read_connection(BaseHook.get_connection("stripe")).stripe_context == "acct_1"


@pytest.mark.parametrize("host", ["HTTPS://api.example", "Https://API.example"])
def test_a_scheme_in_capitals(host):
    """Schemes and hosts have no case."""
    assert read(host=host).base_url == "https://api.example"


@pytest.mark.parametrize("port", [-1, 65536, 99999, "443"])
def test_a_port_that_is_none(port):
    """Refused where it is read, not by a library later."""
    assert "'port' of the connection 'stripe' must be a number from 1" in refusal(
        host="https://a.example", port=port
    )


@pytest.mark.parametrize("name", ["password", "host", "schema"])
@pytest.mark.parametrize("given", [12, True, [KEY], {KEY: 1}], ids=repr)
def test_a_field_that_is_no_text(name, given):
    """A connection written as JSON may hold any type; the value is not shown."""
    said = refusal(**{name: given})
    assert f"The field {name!r} of the connection 'stripe' must be text" in said
    assert KEY not in said
