"""
A text that must never be shown: an API key, a pre-signed URL, a proxy URL with a password.

It shows ``***`` when it is printed, copied into a dict or recorded as a local variable. Pickling
leaves the text out. Call ``reveal`` only in the expression that sends the text.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from airflow_provider_reportrun.errors import InvalidInput


class Secret:
    """
    A text whose ``repr`` is ``***``; it is equal to the same text.

    :param value: the text; None if pickling left it out.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | None = None) -> None:
        self._value = value

    @classmethod
    def of(cls, value: str | Secret) -> Secret:
        """Wrap a plain text; return a ``Secret`` unchanged."""
        return value if isinstance(value, Secret) else cls(value)

    def reveal(self) -> str:
        """
        Return the text. Use it in place, and never assign it to a variable.

        :raises InvalidInput: if the text was left out when this was pickled.
        """
        if self._value is None:
            raise InvalidInput(
                "The key or URL was left out when this value was pickled. Ask for it again with a "
                "ReportRunHook in the process that needs it."
            )
        return self._value

    def cut(self, data: Any) -> Any:
        """
        Replace the text by ``***`` in another text or in decoded JSON.

        Upper and lower case match, and so do percent, JSON and HTML escapes.

        :return: ``data``, or a copy of it.
        """
        if isinstance(data, str):
            return self._cut_text(data)
        if isinstance(data, dict):
            return {self.cut(name): self.cut(value) for name, value in data.items()}
        return [self.cut(value) for value in data] if isinstance(data, list) else data

    def may_be_in(self, text: str) -> bool:
        """
        Tell whether ``cut`` may find the text in another one, which is much faster than to cut.

        :param text: any text; for JSON that is not decoded yet, the answer holds for each text in
            it too.
        """
        if not self._value:
            return False
        has_escapes = "\\" in text or "%" in text or "&#" in text
        return has_escapes or self.reveal().lower() in text.lower()

    def _cut_text(self, text: str) -> str:
        if not self.may_be_in(text):
            return text
        return re.sub("".join(map(_spelled, self.reveal())), "***", text, flags=re.IGNORECASE)

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Secret):
            return self._value == other._value
        return self._value == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[()]]:
        return Secret, ()

    def serialize(self) -> NoReturn:
        """
        Refuse to be written to an XCom; Airflow calls this before it writes one.

        :raises InvalidInput: always.
        """
        raise InvalidInput(
            "An API key or a URL of a result must not go into an XCom. Return the report run or "
            "its id, and ask for the URL again in the task that needs it."
        )


def _spelled(letter: str) -> str:
    """Return a pattern that matches all spellings of an ASCII character."""
    code = f"{ord(letter):02x}"
    escaped = rf"%(?:25)*{code}|\\+(?:u00|x){code}|&#(?:0*{ord(letter)}|x0*{code});"
    return f"(?:{re.escape(letter)}|{escaped})"
