"""
Land the result of a succeeded report run in files that readers see complete or not at all.

``download`` fetches a result and verifies it; ``intake`` decides whether it goes to a local spool
file or, by ``uploads``, to the store at once; ``archive`` checks and unpacks ZIPs; ``emptiness``
recognizes a result without rows; ``parquet`` converts, to the types in ``columns``; ``rewriting``
renames columns of a CSV and compresses it, with the ``header`` and the ``names``; ``targets``
publish verified files; ``land`` calls these steps in order. A ``destination`` says where to and
how, and ``landed`` is what a landing reports.
"""

from typing import Final, Literal, TypeAlias

MAX_UNPACKED_BYTES: Final = 50 * 10**9
"""
Ten times the 5 GB that Stripe allows a result; a ZIP bomb unpacks to far more.

Defined here so that operators can import it without the code that unpacks.
"""
MAX_MEMBERS: Final = 1_000
"""Stripe's ZIPs contain a few files; each is reported in XCom, which is a row of a database."""
REPLACE: Final = "replace"
FAIL: Final = "fail"
LAND: Final = "land"
PARQUET: Final = "parquet"
CSV_GZ: Final = "csv.gz"
IfExists: TypeAlias = Literal["replace", "skip", "fail"]
"""What to do with an existing file."""
IfEmpty: TypeAlias = Literal["land", "skip", "fail"]
"""What to do with a result without rows."""
OutputFormat: TypeAlias = Literal["parquet", "csv.gz"]
"""What a result can be converted to."""
ColumnNames: TypeAlias = Literal["snake"]
"""How columns can be renamed."""
