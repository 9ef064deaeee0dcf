"""The hook: where Airflow and the API meet."""
