"""
From a succeeded report run to files where their readers look, whole or not at all.

``download`` fetches into a local spool file and verifies; ``archive`` checks and unpacks ZIPs;
``emptiness`` tells a result without rows;
``parquet`` converts, to the types that ``columns`` tells; ``targets`` publish verified files;
``land`` is the order of these steps.
"""

from typing import Final

MAX_UNPACKED_BYTES: Final = 50 * 10**9
"""
Ten times the 5 GB that Stripe's results may have; a ZIP bomb unpacks to far more.

Here, where operators find it without importing what unpacks.
"""
MAX_MEMBERS: Final = 1_000
"""Stripe's ZIPs hold a few files; each one is told in XCom, a row of Airflow's database."""
REPLACE: Final = "replace"
SKIP: Final = "skip"
FAIL: Final = "fail"
LAND: Final = "land"
PARQUET: Final = "parquet"
