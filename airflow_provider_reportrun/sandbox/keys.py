"""The API keys that the sandbox knows, and the account that a request is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_reportrun.sandbox.problems import Problem, permission_denied

OWN_ACCOUNT = "acct_sandbox"
"""The account of every key but the organisation's."""

_CONTEXT = re.compile(r"acct_\w+(/acct_\w+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """
    One API key and what it may do.

    :param value: the key itself.
    :param may_read: has ``reporting_read``.
    :param may_write: has ``reporting_write``, which a create requires.
    :param account: the key's own account; None for an organisation's key.
    """

    value: str
    may_read: bool = True
    may_write: bool = True
    account: str | None = OWN_ACCOUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An API key and the account that a request is about."""

    key: Key
    account: str

    def must_read(self) -> None:
        """Refuse a key that may not read."""
        if not self.key.may_read:
            raise _lacks(self, "reporting_read")

    def must_write(self) -> None:
        """Refuse a key that may not create report runs."""
        if not self.key.may_write:
            raise _lacks(self, "reporting_write")


class Keyring:
    """
    The keys of one sandbox, all derived from the main one.

    :param api_key: the main key; the others are the same with a suffix.
    """

    def __init__(self, api_key: str) -> None:
        self.main = Key(value=api_key)
        self.second = Key(value=f"{api_key}_second")
        """The same account and rights, with a concurrency limit of its own."""
        self.read_only = Key(value=f"{api_key}_read", may_write=False)
        self.powerless = Key(value=f"{api_key}_none", may_read=False, may_write=False)
        self.organization = Key(value=f"{api_key}_org", account=None)
        every = (self.main, self.second, self.read_only, self.powerless, self.organization)
        self._keys = {key.value: key for key in every}

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """
        Identify the sender of a request.

        :param headers: with names in lower case.
        :raises Problem: 401 for a missing or unknown key, 403 for an account that the key
            has no access to.
        """
        key = self._key(headers.get("authorization", ""))
        context = headers.get("stripe-context")
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
        scheme, _, value = authorization.partition(" ")
        value = value.strip()
        if scheme.lower() != "bearer" or not value:
            raise _unauthorized(
                "You did not provide an API key. Send it in the Authorization header, "
                "as 'Authorization: Bearer YOUR_SECRET_KEY'."
            )
        if value not in self._keys:
            raise _unauthorized(f"Invalid API Key provided: {masked(value)}")
        return self._keys[value]


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


def _lacks(caller: Caller, permission: str) -> Problem:
    return permission_denied(
        f"The provided key '{masked(caller.key.value)}' does not have the required permissions "
        f"for this endpoint on account '{caller.account}'. "
        f"Having the '{permission}' permission would allow this request to continue."
    )
