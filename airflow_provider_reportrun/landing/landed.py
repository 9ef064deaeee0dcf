"""What a landing reports: in XCom, on asset events and to OpenLineage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from airflow_provider_reportrun.protocol.models import Column

_OF_PARQUET: Final = ("rows", "columns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file that was landed, or was kept."""

    uri: str
    name: str
    """Relative to the destination's folder."""
    size: int
    """Bytes."""
    sha256: str | None
    """None if an existing file was kept, which is not read."""
    rows: int | None = None
    """None unless the file was converted to Parquet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What Stripe sent, before it was unpacked or converted."""

    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """The facts of a landing, as JSON values."""

    uri: str
    """Of the file, or of the folder that a ZIP was unpacked into; without a connection id."""
    size: int
    """Bytes of all files."""
    sha256: str | None
    """Of the only file; None for several files, and for an existing file that was kept."""
    content_type: str | None = None
    """What the API announced, such as ``csv`` or ``zip``; None if all files were kept."""
    report_run_id: str | None = None
    """None if all files were kept, because another report run may have made them."""
    query_run_id: str | None = None
    """The same, if it is a query run; otherwise None."""
    report: str | None = None
    """None for a query run, like its parameters and its interval."""
    report_parameters: dict[str, Any] | None = None
    """As the API returns them."""
    stripe_context: str | None = None
    """The account that the task named; None for the key's own."""
    livemode: bool | None = None
    api: str | None = None
    """The generation of the API, as in the argument ``api``; None if all files were kept."""
    interval_start: str | None = None
    interval_end: str | None = None
    members: list[Member] = field(default_factory=list)
    """With ``decompress``, all files; otherwise empty."""
    rows: int | None = None
    """Of all files together; None unless all were converted to Parquet."""
    columns: list[Column] | None = None
    """Names and types as landed; None if files differ in them, or are not Parquet."""
    received: Received | None = None
    """None unless the result was converted."""
    skipped: bool = False
    """Whether nothing was published, because all files exist or the result is empty."""
    is_empty: bool = field(default=False, repr=False)
    """Whether nothing was published because the result has no rows."""
    is_folder: bool = field(default=False, repr=False)
    """Whether a ZIP was unpacked into a folder."""
    holder: str | None = field(default=None, repr=False)
    """The storage account or server, if the URI does not name it; only for lineage."""

    def as_json(self) -> dict[str, Any]:
        """Return the facts for XCom and asset events; those of a conversion only after one."""
        facts = asdict(self)
        del facts["is_folder"], facts["holder"], facts["is_empty"]
        if self.query_run_id is None:
            del facts["query_run_id"]
        if self.received is None:
            del facts["received"]
        if not self._is_parquet:
            for each in (facts, *facts["members"]):
                for name in _OF_PARQUET:
                    each.pop(name, None)
        if self.is_empty:
            facts["rows"] = 0
        return facts

    @property
    def _is_parquet(self) -> bool:
        of_members = any(member.rows is not None for member in self.members)
        return of_members or self.rows is not None or self.columns is not None

    @property
    def returned(self) -> str | list[str]:
        """What the task returns: the URI, or a list of URIs for a ZIP unpacked into a folder."""
        return [member.uri for member in self.members] if self.is_folder else self.uri
