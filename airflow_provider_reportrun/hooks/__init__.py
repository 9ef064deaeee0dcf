"""The hook, which connects Airflow to the API."""
