"""
From a succeeded report run to files where their readers look, whole or not at all.

``download`` fetches into a local spool file and verifies; ``archive`` checks and unpacks ZIPs;
``parquet`` converts, to the types that ``columns`` tells; ``targets`` publish verified files;
``land`` is the order of these steps.
"""
