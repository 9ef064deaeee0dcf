"""The links of tasks in Airflow's UI."""
