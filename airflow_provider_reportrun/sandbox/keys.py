"""The API keys that the sandbox knows, and the account that a request is about."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from airflow_provider_reportrun.sandbox.problems import Problem, permission_denied

OWN_ACCOUNT = "acct_sandbox"
"""The account of every key but the organisation's."""

Right: TypeAlias = Literal["read", "write", "download"]
"""What a request needs: to read, to write, or to download a file that wants the key."""

_CONTEXT = re.compile(r"acct_\w+(/acct_\w+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """
    One API key and what it may do.

    :param value: the key itself.
    :param rights: what it may do.
    :param account: the key's own account; None for an organisation's key.
    """

    value: str
    rights: frozenset[Right] = frozenset({"read", "write", "download"})
    account: str | None = OWN_ACCOUNT

    @property
    def is_live(self) -> bool:
        """Whether it is a live-mode key: ``sk_live_...`` or ``rk_live_...``."""
        return "_live_" in self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An API key and the account that a request is about."""

    key: Key
    account: str

    def must(self, right: Right, permission: str) -> None:
        """
        Refuse a key that lacks a right.

        :param permission: the name that the generation gives to the right.
        :raises Problem: 403.
        """
        if right not in self.key.rights:
            raise permission_denied(
                f"The provided key '{masked(self.key.value)}' does not have the required "
                f"permissions for this endpoint on account '{self.account}'. "
                f"Having the '{permission}' permission would allow this request to continue."
            )


class Keyring:
    """
    The keys of one sandbox, all derived from the main one.

    :param api_key: the main key; the others are the same with a suffix.
    """

    def __init__(self, api_key: str) -> None:
        self.main = Key(value=api_key)
        self.second = Key(value=f"{api_key}_second")
        """The same account and rights, with a concurrency limit of its own."""
        self.read_only = Key(value=f"{api_key}_read", rights=frozenset({"read", "download"}))
        """May not write, which a create of v2.reporting requires; v1 and v2.data do not."""
        self.without_files = Key(value=f"{api_key}_nofiles", rights=frozenset({"read", "write"}))
        """Lacks the Files permission, which only the result files of v1 require."""
        self.powerless = Key(value=f"{api_key}_none", rights=frozenset())
        self.organization = Key(value=f"{api_key}_org", account=None)
        every = (
            self.main,
            self.second,
            self.read_only,
            self.without_files,
            self.powerless,
            self.organization,
        )
        self._keys = {key.value: key for key in every}

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """
        Identify the sender of a request.

        :param headers: with names in lower case.
        :raises Problem: 401 for a missing or unknown key, 403 for an account that the key
            has no access to, 400 for two accounts.
        """
        key = self._key(headers.get("authorization", ""))
        context = _account_named(headers)
        if context is None:
            if key.account is None:
                raise permission_denied(
                    "Permission denied. Api key does not have permission to access account."
                )
            return Caller(key=key, account=key.account)
        if not _CONTEXT.fullmatch(context):
            raise permission_denied(
                "Permission denied. Stripe-Context does not name an account that this "
                "API key has access to."
            )
        # Platform and connected account form a path; the request is about its last part.
        return Caller(key=key, account=context.rsplit("/", 1)[-1])

    def _key(self, authorization: str) -> Key:
        value = _credential(authorization)
        if not value:
            raise _unauthorized(
                "You did not provide an API key. Send it in the Authorization header, "
                "as 'Authorization: Bearer YOUR_SECRET_KEY'."
            )
        if value not in self._keys:
            raise _unauthorized(f"Invalid API Key provided: {masked(value)}")
        return self._keys[value]


def _account_named(headers: Mapping[str, str]) -> str | None:
    named = {headers[each] for each in ("stripe-context", "stripe-account") if each in headers}
    if len(named) > 1:
        raise Problem(
            400,
            "invalid_request",
            "Stripe-Context and Stripe-Account name different accounts. Send one of them.",
            "invalid_request_error",
        )
    return named.pop() if named else None


def _credential(authorization: str) -> str:
    """Read the key from a Bearer token, or from the user name of Basic authentication."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


_SHOWN_HEAD = 8
_SHOWN_TAIL = 4


def masked(value: str) -> str:
    """Return the kind and the end of a key, with stars in between."""
    hidden = len(value) - _SHOWN_HEAD - _SHOWN_TAIL
    if hidden <= 0:  # a short key: all of it is hidden
        return "*" * len(value)
    return f"{value[:_SHOWN_HEAD]}{'*' * hidden}{value[-_SHOWN_TAIL:]}"


def _unauthorized(message: str) -> Problem:
    # The body is v1's, which has no code; the v2 schema requires one.
    return Problem(401, "api_key_invalid", message, "invalid_request_error")
