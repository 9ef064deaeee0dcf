"""The error that ends ``make standalone``."""


class Failure(Exception):
    """Airflow does not run; the text says why, and what to do."""
