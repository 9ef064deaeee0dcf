"""
Read and check a connection of type ``reportrun``.

This module knows the fields and their defaults. It does not know how Airflow finds a connection,
and it opens no network connection.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.generations import DEFAULT as DEFAULT_API
from airflow_provider_reportrun.protocol.generations import NAMES as APIS
from airflow_provider_reportrun.secret import Secret

CONNECTION_TYPE = "reportrun"
DEFAULT_BASE_URL = "https://api.stripe.com"
DASHBOARD_URL = "https://dashboard.stripe.com"
DEFAULT_REQUESTS_PER_SECOND = 20.0
"""Below the 25 requests per second and endpoint that https://docs.stripe.com/rate-limits names."""
DEFAULT_REQUEST_TIMEOUT_SECONDS = 60.0
RESULT_HOST_SUFFIXES = (".stripe.com", ".stripeusercontent.com")
"""The hosts that Stripe serves result files from."""


_HOST = r"(?a)[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*"
"""A name or an address, as ``urlsplit`` returns it: lower case, IPv6 without brackets."""


class AirflowConnection(Protocol):
    """The fields of Airflow's ``Connection`` that this module reads."""

    conn_id: str
    host: str | None
    port: int | None
    schema: str | None
    password: str | None
    extra: str | None
    """JSON."""


EXTRAS = (
    "api",
    "stripe_version",
    "stripe_context",
    "max_requests_per_second",
    "request_timeout",
    "download_hosts",
    "idempotency_namespace",
    "ca_bundle",
    "proxy",
    "allow_plain_http",
)
_OLD_PREFIX = f"extra__{CONNECTION_TYPE}__"
"""The prefix that the connection forms of old Airflow versions put before names of extras."""
_KEY = r"(?ai)(?<![a-z0-9_])(sk|rk|ek|pk)_[a-z0-9]|(sk|rk|ek|pk)_(live|test|org)_"
"""How Stripe's API keys begin."""


def looks_like_a_key(text: str) -> bool:
    """Tell whether a text contains something like an API key, which must not be shown."""
    return re.search(_KEY, text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAccess:
    """
    How to reach the API, and as whom.

    :param api_key: kept as a ``Secret``; so is ``proxy``, because its URL may contain a password.
    """

    conn_id: str
    api_key: Secret = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    """Scheme, host and port; no trailing slash."""
    api: str = DEFAULT_API
    """The generation of the API, as in ``protocol.generations``, unless a task names another."""
    stripe_version: str | None = None
    """Overrides the version of each request; None keeps that."""
    stripe_context: str | None = None
    max_requests_per_second: float = DEFAULT_REQUESTS_PER_SECOND
    request_timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS
    download_hosts: frozenset[str] = frozenset()
    """Additional hosts that may serve result files, lower case."""
    idempotency_namespace: str = ""
    ca_bundle: str | None = None
    proxy: Secret | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_key", Secret.of(self.api_key))
        if self.proxy is not None:
            object.__setattr__(self, "proxy", Secret.of(self.proxy))

    def __copy__(self) -> ApiAccess:
        return self

    def __deepcopy__(self, memo: object) -> ApiAccess:
        return self

    def __reduce__(self) -> NoReturn:
        self.serialize()

    def serialize(self) -> NoReturn:
        """
        Refuse to be pickled or written to an XCom; Airflow calls this before it writes one.

        :raises InvalidInput: always.
        """
        raise InvalidInput(
            "hook.access cannot be returned, because it contains the API key. Return a field such "
            "as access.base_url, and create a ReportRunHook in the task that needs the key."
        )

    @property
    def is_plain_loopback(self) -> bool:
        """Whether the API is reached over plain http on this machine, as the sandbox is."""
        parts = urlsplit(self.base_url)
        return parts.scheme == "http" and _is_loopback(parts.hostname or "")

    @property
    def dashboard_url(self) -> str:
        """
        The URL of the account's Dashboard; no trailing slash.

        The sandbox also stands in for Stripe's Dashboard. Pages of test keys are under ``/test``:
        https://docs.stripe.com/cli/open.
        """
        base = self.base_url if self.is_plain_loopback else DASHBOARD_URL
        return f"{base}/test" if "_test_" in self.api_key.reveal() else base

    def allows_download_from(self, host: str) -> bool:
        """
        Tell whether result files may be downloaded from a host.

        :param host: a host name without a port.
        """
        host = host.lower().rstrip(".")
        return (
            host == (urlsplit(self.base_url).hostname or "").rstrip(".")
            or host in self.download_hosts
            or f".{host}".endswith(RESULT_HOST_SUFFIXES)
        )


def read_connection(connection: AirflowConnection) -> ApiAccess:
    """
    Read an Airflow connection.

    :raises InvalidInput: if the key is missing or a field cannot be used; names the field.
    """
    try:
        return _read(connection)
    except InvalidInput as error:
        refusal = error.with_traceback(None)
    # Error reporters record the local variables of a traceback's frames. A new traceback without
    # the connection keeps the key out: Airflow prints a connection with its password, and the key
    # may be in another field.
    del connection
    raise refusal


def _read(connection: AirflowConnection) -> ApiAccess:
    fields = _Fields(connection)
    for name in ("password", "host", "schema"):
        # In a connection written as JSON, these fields may have any type.
        value = getattr(connection, name)
        if not isinstance(value, str | None):
            raise fields.bad(name, f"must be text; it is {_kind(value)}")
    api_key = Secret((connection.password or "").strip())
    if not api_key.reveal():
        raise InvalidInput(
            f"The connection {connection.conn_id!r} has no API key. Put one (sk_... or rk_...) "
            "into its password field."
        )
    if not re.fullmatch(r"[!-~]+", api_key.reveal()):
        raise fields.bad(
            "password", "must be an API key; it contains blanks or characters that no key has"
        )
    proxy = fields.proxy("proxy")
    base_url = _base_url(connection, fields)
    _check_plain_http(base_url, proxy, fields)
    return ApiAccess(
        conn_id=connection.conn_id,
        api_key=api_key,
        base_url=base_url,
        api=fields.choice("api", APIS) or DEFAULT_API,
        stripe_version=fields.header("stripe_version"),
        stripe_context=fields.header("stripe_context"),
        max_requests_per_second=fields.number(
            "max_requests_per_second", DEFAULT_REQUESTS_PER_SECOND
        ),
        request_timeout_seconds=fields.number("request_timeout", DEFAULT_REQUEST_TIMEOUT_SECONDS),
        download_hosts=fields.hosts("download_hosts"),
        idempotency_namespace=fields.text("idempotency_namespace") or "",
        ca_bundle=fields.text("ca_bundle"),
        proxy=proxy,
    )


def _check_plain_http(base_url: str, proxy: Secret | None, fields: _Fields) -> None:
    """
    Refuse to send the key unencrypted over a network.

    :raises InvalidInput: if it would be; names the extra that allows it.
    """
    parts = urlsplit(base_url)
    if fields.flag("allow_plain_http") or parts.scheme != "http":
        return
    if not _is_loopback(parts.hostname or ""):
        raise fields.bad(
            "host",
            "must begin with https://, because over http:// anyone on the network can read the "
            'API key. On a private network that you trust, set the extra "allow_plain_http": true',
        )
    # A plain http request does not go through a tunnel: the proxy itself receives it, with the key.
    if proxy is not None and not _is_loopback(urlsplit(proxy.reveal()).hostname or ""):
        raise fields.bad(
            "proxy",
            "must not be used with an http:// host, because it would receive the API key "
            'unencrypted. Remove the proxy, or set the extra "allow_plain_http": true',
        )


def _base_url(connection: AirflowConnection, fields: _Fields) -> str:
    host = fields.checked("host", connection.host or "")
    if not host:
        return DEFAULT_BASE_URL
    if "://" not in host:
        scheme = connection.schema if connection.schema in {"http", "https"} else "https"
        host = f"{scheme}://{host}"
    try:
        parts = urlsplit(host)
        port = parts.port or connection.port
    except ValueError:
        raise fields.bad("host", f"must be an address such as {DEFAULT_BASE_URL}") from None
    if not isinstance(port, int | None) or (port and not 0 < port < _PORTS):
        raise fields.bad("port", "must be a number from 1 to 65535, or empty")
    if "@" in parts.netloc:
        raise fields.bad("host", "must not contain a user; put the key into the password field")
    name = (parts.hostname or "").rstrip(".")
    if parts.scheme not in {"http", "https"} or not is_host(name):
        raise fields.bad("host", f"must look like {DEFAULT_BASE_URL}; it is {_kind(host)}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise fields.bad("host", "must contain only a scheme, a host and optionally a port")
    hostname = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{hostname}:{port}" if port else f"{parts.scheme}://{hostname}"


_PORTS = 1 << 16
_LONGEST_HOST = 253
_SHORTEST_KEY = 8
"""The shortest key that is looked for in other fields: a shorter one may be part of any word."""


def _kind(value: Any) -> str:
    """Describe a value without showing it, because it may be a key in the wrong field."""
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, bool | None):
        return json.dumps(value)
    if isinstance(value, int | float):
        return "another number"
    return f"a {type(value).__name__}"


def is_host(host: str, port: int | str | None = None) -> bool:
    """
    Tell whether a host and a port are valid.

    :param host: a name or an address; lower case, IPv6 without brackets.
    :param port: None for the scheme's default.

    Source: RFC 1035, section 2.3.4: at most 63 characters per label, 253 per name.
    """
    if not re.fullmatch(_HOST, host) or not (port is None or 0 < int(port) < _PORTS):
        return False
    if ":" in host:
        try:
            return bool(ipaddress.IPv6Address(host))
        except ValueError:
            return False
    try:
        return len(host) <= _LONGEST_HOST and bool(host.encode("idna").decode("idna"))
    except UnicodeError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Fields:
    """
    The fields of one connection. Errors name the connection and the field, and show no value.

    :raises InvalidInput: if the extras are not a JSON object, or one of them is unknown.
    """

    def __init__(self, connection: AirflowConnection) -> None:
        self._conn_id = connection.conn_id
        self._api_key = Secret(str(connection.password or "").strip().lower())
        self._extras: dict[str, Any] = {}
        for name, value in self._read_extras(connection.extra).items():
            known = name.removeprefix(_OLD_PREFIX)
            if known not in EXTRAS:
                raise self._unknown(known)
            self._extras.setdefault(known, value)

    def _read_extras(self, extra: Any) -> dict[str, Any]:
        """Parse the JSON here, because Airflow treats extras that it cannot parse as no extras."""
        try:
            extras = json.loads(extra.strip() or "{}") if isinstance(extra, str) else extra
        except (ValueError, RecursionError):
            extras = extra
        if not isinstance(extras, dict | None):
            raise self.bad(
                "extra",
                f'must be a JSON object such as {{"stripe_context": "acct_123"}}; it is '
                f"{_kind(extras)}",
            )
        return extras or {}

    def _unknown(self, name: str) -> InvalidInput:
        import difflib

        nearest = difflib.get_close_matches(name.lower(), EXTRAS, n=1, cutoff=0.5)
        advice = f": did you mean {nearest[0]!r}?" if nearest else "."
        is_shown = name.isidentifier() and name.isascii() and not self._is_a_key(name)
        shown = repr(name[:60]) if is_shown else f"of {len(name)} characters"
        return InvalidInput(
            f"Correct the unknown extra {shown}{advice} It is in the connection "
            f"{self._conn_id!r}. Known extras: {', '.join(EXTRAS)}; any other would have no effect."
        )

    def _is_a_key(self, text: str) -> bool:
        key = self._api_key.reveal()
        return looks_like_a_key(text) or (len(key) >= _SHORTEST_KEY and key in text.lower())

    def bad(self, name: str, why: str) -> InvalidInput:
        return InvalidInput(f"The field {name!r} of the connection {self._conn_id!r} {why}.")

    def checked(self, name: str, value: str) -> str:
        """
        Strip a text.

        :raises InvalidInput: if it contains an API key; the key is not shown.
        """
        if self._is_a_key(value):
            raise self.bad(name, "looks like an API key: move it into the password field")
        return value.strip()

    def text(self, name: str) -> str | None:
        value = self._extras.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or not value.isprintable():
            raise self.bad(name, f"must be one line of text; it is {_kind(value)}")
        return self.checked(name, value) or None

    def header(self, name: str) -> str | None:
        text = self.text(name)
        if text is not None and not text.isascii():
            raise self.bad(name, "must be ASCII text, because it is sent as a header")
        return text

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        text = self.text(name)
        if text is not None and text not in choices:
            words = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise self.bad(name, f"must be {words}; it is another text of {len(text)} characters")
        return text

    def proxy(self, name: str) -> Secret | None:
        text = self.text(name)
        try:
            parts = urlsplit(text or "")
            is_address = parts.scheme in {"http", "https"} and is_host(
                (parts.hostname or "").rstrip("."), parts.port
            )
        except ValueError:
            is_address = False
        if text is not None and not is_address:
            raise self.bad(name, "must be an address such as http://proxy:3128")
        return Secret(text) if text else None

    def number(self, name: str, default: float) -> float:
        value = self._extras.get(name)
        if value is None or value == "":
            return default
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = 0.0
        if isinstance(value, bool) or not 0 < number < float("inf"):
            raise self.bad(name, f"must be a number above 0; it is {_kind(value)}")
        return number

    def flag(self, name: str) -> bool:
        value = self._extras.get(name)
        if isinstance(value, str):
            value = {"true": True, "false": False, "": False}.get(value.strip().lower(), value)
        if not isinstance(value, bool | None):
            raise self.bad(name, f"must be true or false; it is {_kind(value)}")
        return bool(value)

    def hosts(self, name: str) -> frozenset[str]:
        value = self._extras.get(name) or ()
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(item, str) for item in names):
            raise self.bad(name, f"must be a list of host names; it is {_kind(value)}")
        hosts = [self.checked(name, item).lower().rstrip(".") for item in names if item.strip()]
        for index, host in enumerate(hosts):
            if set(host) & set("/:@*?# ") or not host.isprintable():
                raise self.bad(
                    name,
                    f"must contain host names such as files.internal; entry {index + 1} is not one",
                )
        return frozenset(hosts)
