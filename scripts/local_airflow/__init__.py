"""An Airflow on this machine: its PostgreSQL, its processes and its folder."""
