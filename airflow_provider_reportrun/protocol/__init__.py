"""What to say to the API and how to read it: no sockets, no clock, no Airflow."""
