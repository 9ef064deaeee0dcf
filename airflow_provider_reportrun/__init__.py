"""The version, and nothing else: every Airflow process imports this module."""

__version__ = "0.1.0.dev0"
