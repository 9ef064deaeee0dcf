"""The provider info that Airflow's provider manager reads: plain data, no logic, no imports."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Stripe Reporting"


def get_provider_info() -> dict[str, Any]:
    """
    Describe the provider to Airflow.

    :return: a mapping that follows Airflow's ``provider_info.schema.json``. From Airflow 3.2 on,
        ``conn-fields`` and ``ui-field-behaviour`` define the connection form.
    """
    return {
        "package-name": "airflow-provider-reportrun",
        "name": "Stripe Reporting",
        "description": "`Stripe reports <https://docs.stripe.com/reports>`__ as Airflow tasks.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.stripe.com/api/v2/reporting/report-runs",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_reportrun.hooks.report_run"],
            }
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_reportrun.operators.report_run",
                    "airflow_provider_reportrun.operators.query_run",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_reportrun.sensors.report_run",
                    "airflow_provider_reportrun.sensors.query_run",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider_reportrun.triggers.report_run"],
            }
        ],
        # Airflow 3.2 and later read this; others ignore it.
        "cli": ["airflow_provider_reportrun.cli.definition.airflow_commands"],
        "extra-links": ["airflow_provider_reportrun.links.report_run.ReportRunLink"],
        "connection-types": [
            {
                "connection-type": "reportrun",
                "hook-class-name": "airflow_provider_reportrun.hooks.report_run.ReportRunHook",
                "hook-name": "Stripe Reporting",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "port"],
                    "relabeling": {"password": "API key", "host": "API address"},
                    "placeholders": {
                        "password": "rk_live_... (a restricted key; the API decides what it needs)",
                        "host": "https://api.stripe.com",
                    },
                },
                "conn-fields": {
                    "api": {
                        "label": "API",
                        "description": (
                            "The generation of the API: v2.reporting for /v2/reporting, v2.data "
                            "for /v2/data, v1 for /v1/reporting. Default: v2.reporting."
                        ),
                        "schema": {
                            "type": ["string", "null"],
                            "enum": ["v2.reporting", "v2.data", "v1"],
                        },
                    },
                    "stripe_version": {
                        "label": "Stripe version",
                        "description": "Sent as Stripe-Version. Default: the generation's own.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "stripe_context": {
                        "label": "Stripe context",
                        "description": (
                            "The account that the reports are about, such as acct_123: sent as "
                            "Stripe-Context, with v1 as Stripe-Account. Organisation keys need it. "
                            "Default: the key's own account."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "max_requests_per_second": {
                        "label": "Requests per second",
                        "description": (
                            "The most that all triggers of one triggerer send together. Default: "
                            "20."
                        ),
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "request_timeout": {
                        "label": "Request timeout (seconds)",
                        "description": "Longest time of one request to the API. Default: 60.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "download_hosts": {
                        "label": "Download hosts",
                        "description": (
                            "Further hosts that may serve result files, separated by commas. "
                            "Always allowed: the API's own, *.stripe.com, *.stripeusercontent.com."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "idempotency_namespace": {
                        "label": "Idempotency namespace",
                        "description": (
                            "Distinguishes Airflow environments that use the same Stripe account; "
                            "without it, the same DAGs in both share their report runs."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "ca_bundle": {
                        "label": "CA bundle",
                        "description": "Path of a PEM file, which replaces the usual trusted ones.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "Such as http://proxy:3128. Default: from the environment.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "allow_plain_http": {
                        "label": "Allow plain http",
                        "description": (
                            "Whether the API key may be sent unencrypted, to an http:// address "
                            "on a private network. This machine's own address never needs it."
                        ),
                        "schema": {"type": ["boolean", "null"]},
                    },
                },
            }
        ],
    }
