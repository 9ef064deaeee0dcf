"""The connection form and the connection test, as a user meets them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from browser.conftest import WAIT_SECONDS

from airflow_provider_reportrun.get_provider_info import get_provider_info

pytestmark = pytest.mark.browser

(CONNECTION_TYPE,) = get_provider_info()["connection-types"]
FIELDS = CONNECTION_TYPE["conn-fields"]
FILLED = {
    "api": "v2.data",
    "stripe_version": "2026-10-28.preview",
    "stripe_context": "acct_1",
    "max_requests_per_second": 12.5,
    "request_timeout": 30,
    "download_hosts": "files.internal, more.internal",
    "idempotency_namespace": "emea",
    "ca_bundle": None,
    "proxy": "http://proxy:3128",
    "allow_plain_http": None,
}
KEY = "rk_test_sandbox_0001"


def sandbox_of(airflow):
    """The address of the sandbox, as the connection has it."""
    return airflow.api("GET", "/connections/reportrun_default")["host"]


def open_form(page):
    """Open the form of a new connection of our type."""
    page.goto("/connections")
    page.get_by_role("button", name=re.compile("add connection", re.IGNORECASE)).click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox").first.fill("Stripe")
    page.get_by_role("option", name="Stripe Reporting", exact=True).click()
    form.get_by_label("API key").wait_for()
    return form


def test_form(airflow, page, picture):
    """Every field has its label and its help; what is filled in is what is saved."""
    form = open_form(page)
    assert form.get_by_label("API address").get_attribute("placeholder") == "https://api.stripe.com"
    key = form.get_by_label("API key")
    assert key.get_attribute("type") == "password"
    assert "rk_live_" in key.get_attribute("placeholder")
    for hidden in ("Login", "Port", "Schema", "Password", "Host"):
        assert form.get_by_label(hidden, exact=True).count() == 0
    form.get_by_label("Connection ID").fill("stripe_emea")
    form.get_by_label("API address").fill("https://api.stripe.com")
    key.fill(KEY)
    picture(form, "connection-form")

    form.get_by_role("button", name="Extra Fields", exact=True).click()
    field = form.locator("[name=element_stripe_version]")
    field.wait_for()
    said = form.inner_text()
    for name, described in FIELDS.items():
        assert described["label"] in said
        assert described["description"] in said
        if "enum" in described["schema"]:
            form.locator(f"#element_{name}").click()
            page.get_by_role("option", name=FILLED[name], exact=True).click()
        elif FILLED[name] is not None:
            form.locator(f"[name=element_{name}]").fill(str(FILLED[name]))
    page.set_viewport_size({"width": 1280, "height": 1700})
    picture(form, "connection-extras")

    form.get_by_role("button", name="Save").click()
    page.get_by_text("stripe_emea").first.wait_for()
    saved = airflow.api("GET", "/connections/stripe_emea")
    assert saved["conn_type"] == "reportrun"
    assert saved["host"] == "https://api.stripe.com"
    assert saved["password"] == "***"  # noqa: S105 - Airflow shows no key
    assert json.loads(saved["extra"]) == FILLED | {"proxy": "***"}


def test_test_button(airflow, page):
    """The connection to the sandbox works, and the button turns green."""
    page.goto("/connections")
    row = page.get_by_role("row", name=re.compile("reportrun_default"))
    with page.expect_response(re.compile("/connections/test")) as got:
        row.get_by_role("button", name="Test Connection").click()
    assert got.value.json()["status"] is True
    page.get_by_text("Test Connection Successful").first.wait_for()


@pytest.mark.parametrize(
    ("works", "words", "fields"),
    [
        (True, "may read report runs", {}),
        (False, "does not know this key", {"password": "rk_test_wrong"}),
        (False, "reporting_read", {"password": f"{KEY}_none"}),
        (False, "stripe_context", {"password": f"{KEY}_org"}),
        (
            False,
            "stripe_context",
            {"password": f"{KEY}_org", "extra": json.dumps({"stripe_context": "nonsense"})},
        ),
        (
            True,
            "acct_1",
            {"password": f"{KEY}_org", "extra": json.dumps({"stripe_context": "acct_1"})},
        ),
        (False, "Check the connection's host", {"host": "http://127.0.0.1:1"}),
        (False, "has no API key", {"password": ""}),
    ],
    ids=["right", "wrong", "permission", "no context", "bad context", "context", "host", "no key"],
)
def test_what_the_test_says(airflow, works, words, fields):
    """The API behind the button tells what to do."""
    connection = {
        "connection_id": "new",
        "conn_type": "reportrun",
        "host": sandbox_of(airflow),
        "password": KEY,
    }
    said = airflow.api("POST", "/connections/test", connection | fields)
    assert said["status"] is works, said
    assert words in said["message"]


@pytest.mark.parametrize(
    ("code", "words", "key"),
    [(0, "Connection success", KEY), (1, "does not know this key", "rk_test_wrong")],
    ids=["right", "wrong"],
)
def test_command(airflow, tmp_path, code, words, key):
    """``airflow connections test`` tells the same, and its exit code too."""
    values = {"conn_type": "reportrun", "host": sandbox_of(airflow), "password": key}
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW_CONN_MINE": json.dumps(values),
    }
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "connections", "test", "mine"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert words in " ".join(done.stdout.split())
