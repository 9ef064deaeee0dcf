"""The reports that the sandbox knows; ``data.py`` makes their rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, TypeAlias

from airflow_provider_reportrun.sandbox.clock import with_milliseconds

FIRST_DATA_AT = datetime(2020, 1, 1, tzinfo=timezone.utc)
"""No report has data before this instant."""

CURRENCIES = ("eur", "gbp", "usd")
CATEGORIES = ("charge", "dispute", "fee", "refund")


@dataclass(frozen=True, slots=True)
class Window:
    """An interval of data, UTC, half-open."""

    start: datetime
    end: datetime


def window_at(now: datetime, lag_hours: float) -> Window:
    """
    Return the data that is available at an instant.

    Stripe prepares data twice a day, so the end moves in half days.

    :param now: UTC.
    :param lag_hours: hours from the end of a half day until its data is available.
    """
    ready = now - timedelta(hours=lag_hours)
    end = ready.replace(hour=ready.hour // 12 * 12, minute=0, second=0, microsecond=0)
    return Window(FIRST_DATA_AT, max(end, FIRST_DATA_AT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a report, as the API describes it."""

    name: str
    type: Literal["array", "enum", "string", "timestamp"]
    description: str
    required: bool = False
    allowed_values: tuple[str, ...] = ()
    windowed: bool = False
    """Whether the report says which instants it accepts."""

    def as_json(self, window: Window) -> dict[str, Any]:
        """Build the parameter's entry; details that do not apply are null."""
        allowed = {"allowed_values": list(self.allowed_values)}
        bounds = {"min": with_milliseconds(window.start), "max": with_milliseconds(window.end)}
        elements = {"element_type": "enum", "enum_details": allowed}
        return {
            "array_details": elements if self.type == "array" else None,
            "description": self.description,
            "enum_details": allowed if self.type == "enum" else None,
            "required": self.required,
            "timestamp_details": bounds if self.windowed else None,
            "type": self.type,
        }


ColumnType: TypeAlias = Literal["boolean", "double", "bigint", "varchar", "timestamp"]
"""The type of a column in the schema of a result."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result file."""

    name: str
    type: ColumnType = "varchar"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDefinition:
    """
    One report of the catalogue.

    :param accessible: False for a report that no key of the sandbox may use.
    :param fails_with: the ``error_code`` of each of its runs; None if its runs succeed.
    """

    id: str
    name: str
    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    accessible: bool = True
    fails_with: str | None = None

    def as_json(self, window: Window) -> dict[str, Any]:
        """Build the ``v2.reporting.report`` object."""
        return {
            "id": self.id,
            "object": "v2.reporting.report",
            "name": self.name,
            "parameters": {each.name: each.as_json(window) for each in self.parameters},
            "livemode": False,
        }

    def chosen_columns(self, report_parameters: dict[str, Any]) -> tuple[Column, ...]:
        """Return the columns of a run's file: the requested ones in their order, or all."""
        wanted = report_parameters.get("columns")
        if wanted is None:
            return self.columns
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name.get(name, Column(name)) for name in wanted)


def is_metadata(column: str) -> bool:
    """Return whether this is a metadata column, ``payment_metadata[key]``; no list has them."""
    name, _, key = column.partition("[")
    return name.isidentifier() and len(key) > 1 and key.endswith("]")


_TYPES: dict[str, ColumnType] = {
    "created_utc": "timestamp",
    "created": "timestamp",
    "available_on_utc": "timestamp",
    "automatic_payout_effective_at_utc": "timestamp",
    "effective_at_utc": "timestamp",
    "gross": "double",
    "fee": "double",
    "net": "double",
    "net_amount": "double",
    "amount": "double",
    "tax": "double",
    "balance": "double",
    "balance_24hr_net_change": "double",
    "count": "bigint",
    "effective_at": "timestamp",
    "balance_transaction_created": "timestamp",
    "incurred_at": "timestamp",
}


def columns_named(names: str) -> tuple[Column, ...]:
    """Return columns with the types that these names have everywhere."""
    return tuple(Column(name, _TYPES.get(name, "varchar")) for name in names.split())


_ACTIVITY = columns_named(
    "balance_transaction_id created_utc created available_on_utc currency gross fee net "
    "reporting_category source_id description"
)
_RECONCILIATION = (
    *columns_named("automatic_payout_id automatic_payout_effective_at_utc"),
    *_ACTIVITY,
)
_PAYOUTS = columns_named(
    "payout_id effective_at_utc created_utc created currency gross fee net reporting_category "
    "payout_status payout_type description"
)
_SUMMARY = columns_named("category description net_amount currency")
_FEES = columns_named("balance_transaction_id created_utc currency fee description")

_START = Parameter(
    name="interval_start",
    type="timestamp",
    description="The first instant of the interval, inclusive.",
    required=True,
    windowed=True,
)
_END = replace(_START, name="interval_end", description="The end of the interval, exclusive.")
_CURRENCY = Parameter(
    name="currency",
    type="enum",
    description="Only rows in this currency.",
    allowed_values=CURRENCIES,
)
_TIMEZONE = Parameter(
    name="timezone",
    type="string",
    description="IANA name of the zone that local times are written in. Default: Etc/UTC.",
)
_CATEGORY = Parameter(
    name="reporting_category",
    type="enum",
    description="Only rows of this reporting category.",
    allowed_values=CATEGORIES,
)


_PAYOUT = Parameter(
    name="payout",
    type="string",
    description="Id of the payout that the report is about.",
    required=True,
)


def _itemized(
    report_id: str, name: str, columns: tuple[Column, ...], *more: Parameter
) -> ReportDefinition:
    chosen = Parameter(
        name="columns",
        type="array",
        description="Set of output columns requested for inclusion in the report.",
        allowed_values=tuple(column.name for column in columns),
    )
    parameters = (_START, _END, _CURRENCY, chosen, _TIMEZONE, *more)
    return ReportDefinition(id=report_id, name=name, columns=columns, parameters=parameters)


def _by_payout(definition: ReportDefinition) -> ReportDefinition:
    # The rows of one payout, whatever their dates.
    others = (each for each in definition.parameters if each not in {_START, _END, _CURRENCY})
    return replace(definition, parameters=(_PAYOUT, *others))


def _without_window(definition: ReportDefinition) -> ReportDefinition:
    # Some reports do not say which data they have, and some require columns.
    def changed(parameter: Parameter) -> Parameter:
        required = parameter.required or parameter.name == "columns"
        return replace(parameter, windowed=False, required=required)

    return replace(definition, parameters=tuple(map(changed, definition.parameters)))


_DEFINITIONS = (
    ReportDefinition(
        id="balance_summary",
        name="Balance summary",
        columns=_SUMMARY,
        parameters=(_START, _END, _CURRENCY, _TIMEZONE),
    ),
    _itemized(
        "balance_change_from_activity_itemized",
        "Itemized balance change from activity",
        _ACTIVITY,
        _CATEGORY,
    ),
    _itemized("payouts_itemized", "Itemized payouts", _PAYOUTS),
    _itemized("payout_reconciliation_itemized", "Itemized payout reconciliation", _RECONCILIATION),
    _itemized(
        "ending_balance_reconciliation_itemized",
        "Itemized ending balance reconciliation",
        _ACTIVITY,
    ),
    ReportDefinition(
        id="ending_balance_reconciliation_summary",
        name="Ending balance reconciliation summary",
        columns=_SUMMARY,
        parameters=(_END, _CURRENCY, _TIMEZONE),
    ),
    _by_payout(
        _itemized(
            "payout_reconciliation_by_id_itemized",
            "Itemized payout reconciliation, by payout",
            _RECONCILIATION,
        )
    ),
    _without_window(_itemized("all_fees_itemized", "Itemized fees", _FEES)),
    replace(
        _itemized("card_transactions_itemized", "Itemized card transactions", _ACTIVITY),
        fails_with="file_size_above_limit",
    ),
    replace(
        _itemized("connected_account_payouts_itemized", "Connected account payouts", _PAYOUTS),
        accessible=False,
    ),
)

CATALOG = {definition.id: definition for definition in _DEFINITIONS}
"""
Every report by its id.

- ``balance_summary`` takes no columns.
- ``ending_balance_reconciliation_summary`` takes no ``interval_start``.
- ``payout_reconciliation_by_id_itemized`` takes no interval, but requires a ``payout``.
- ``all_fees_itemized`` requires columns, and has no ``timestamp_details``.
- Each run of ``card_transactions_itemized`` fails because its file is too large.
- ``connected_account_payouts_itemized`` is inaccessible to every key.
"""
