"""
The report types of v1 that the sandbox offers, with the parameters that they really take.

Each has the columns of its rows here, which are some of those that Stripe documents.

Source: https://docs.stripe.com/reports/report-types
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_reportrun.sandbox.catalog import CATALOG, Column, columns_named

_INTERVAL = ("interval_start", "interval_end")
_FEES_LAG = 8.0
"""Fees come within 96 hours, balances within 12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportType:
    """
    One report type.

    :param view: the rows of ``data.py`` that it shows.
    :param required: the parameters that it requires.
    :param optional: the parameters that it takes besides.
    :param live_only: whether keys of test mode are refused.
    :param lag_factor: how many times the lag of balances its data takes.
    :param sums_up_from_the_start: whether it has all rows before its end.
    """

    id: str
    name: str
    view: str
    columns: tuple[Column, ...]
    required: tuple[str, ...] = _INTERVAL
    optional: tuple[str, ...] = ()
    live_only: bool = False
    lag_factor: float = 1.0
    sums_up_from_the_start: bool = False


def _columns_of(view: str) -> tuple[Column, ...]:
    return CATALOG[view].columns


_BY_CATEGORY = columns_named("reporting_category currency count gross fee net")
_PAYOUTS = columns_named(
    "payout_id effective_at_utc effective_at balance_transaction_id currency gross fee net "
    "reporting_category payout_status payout_type description"
)
_FEES = columns_named(
    "balance_transaction_id balance_transaction_created fee_transaction_id incurred_at amount tax "
    "currency product fee_description"
)
_NEGATIVE_BALANCES = columns_named(
    "account_id business_name country currency balance balance_24hr_net_change"
)

_TYPES = (
    ReportType(
        id="balance.summary.1",
        name="Balance summary",
        view="balance_summary",
        columns=_columns_of("balance_summary"),
        optional=("timezone", "currency", "columns"),
    ),
    ReportType(
        id="balance_change_from_activity.summary.1",
        name="Balance change from activity summary",
        view="balance_change_from_activity_summary",
        columns=_BY_CATEGORY,
        optional=("currency", "timezone", "columns"),
    ),
    ReportType(
        id="balance_change_from_activity.itemized.1",
        name="Itemized balance change from activity",
        view="balance_change_from_activity_itemized",
        columns=_columns_of("balance_change_from_activity_itemized"),
        optional=("currency", "reporting_category", "columns"),
    ),
    ReportType(
        id="balance_change_from_activity.itemized.3",
        name="Itemized balance change from activity",
        view="balance_change_from_activity_itemized",
        columns=_columns_of("balance_change_from_activity_itemized"),
        optional=("timezone", "currency", "reporting_category", "columns"),
    ),
    ReportType(
        id="payouts.itemized.3",
        name="Itemized payouts",
        view="payouts_itemized",
        columns=_PAYOUTS,
        optional=("timezone", "currency", "reporting_category", "columns"),
    ),
    ReportType(
        id="payout_reconciliation.itemized.5",
        name="Itemized payout reconciliation",
        view="payout_reconciliation_itemized",
        columns=_columns_of("payout_reconciliation_itemized"),
        optional=("timezone", "currency", "reporting_category", "columns"),
    ),
    ReportType(
        id="payout_reconciliation.by_id.itemized.4",
        name="Itemized reconciliation for a single payout",
        view="payout_reconciliation_by_id_itemized",
        columns=_columns_of("payout_reconciliation_by_id_itemized"),
        required=("payout",),
        optional=("reporting_category", "timezone", "columns"),
    ),
    ReportType(
        id="ending_balance_reconciliation.summary.1",
        name="Ending balance reconciliation summary",
        view="ending_balance_by_category",
        columns=_BY_CATEGORY,
        required=("interval_end",),
        optional=("currency", "timezone", "columns"),
        sums_up_from_the_start=True,
    ),
    ReportType(
        id="ending_balance_reconciliation.itemized.4",
        name="Itemized ending balance reconciliation",
        view="ending_balance_reconciliation_itemized",
        columns=_columns_of("ending_balance_reconciliation_itemized"),
        required=("interval_end",),
        optional=("currency", "reporting_category", "timezone", "columns"),
        sums_up_from_the_start=True,
    ),
    ReportType(
        id="connected_account_balance_change_from_activity.itemized.3",
        name="Connected account itemized balance change from activity",
        view="balance_change_from_activity_itemized",
        columns=_columns_of("balance_change_from_activity_itemized"),
        optional=("connected_account", "timezone", "currency", "reporting_category", "columns"),
    ),
    ReportType(
        id="connected_account_payout_reconciliation.by_id.itemized.4",
        name="Connected account itemized single payout reconciliation",
        view="payout_reconciliation_by_id_itemized",
        columns=_columns_of("payout_reconciliation_by_id_itemized"),
        required=("connected_account", "payout"),
        optional=("timezone", "reporting_category", "columns"),
    ),
    ReportType(
        id="connect.negative_balance_refunds_disputes_overview.1",
        name="Connected accounts with negative balances disputes and refunds",
        view="nothing",
        columns=_NEGATIVE_BALANCES,
        required=("interval_end",),
    ),
    ReportType(
        id="all_fees.balance_transaction_created.itemized.2",
        name="Itemized fees",
        view="all_fees",
        columns=_FEES,
        optional=("timezone", "columns"),
        live_only=True,
        lag_factor=_FEES_LAG,
    ),
)

REPORT_TYPES = {each.id: each for each in _TYPES}
"""
Every report type by its id.

- ``payout_reconciliation.by_id.itemized.4`` takes a ``payout`` and no interval.
- ``ending_balance_reconciliation.*`` and ``connect.*`` take only ``interval_end``.
- ``balance_change_from_activity.itemized.1`` takes no ``timezone``.
- ``connect.*`` takes no ``columns`` either, and its file has no row.
- ``all_fees.*`` are for live keys only, and their data takes eight times as long.
"""
