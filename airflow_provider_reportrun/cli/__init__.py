"""
The command line: ``airflow reportrun`` and ``python -m airflow_provider_reportrun``.

``definition`` says which commands there are, for both, and imports next to nothing, because every
``airflow`` command reads it. ``main`` carries one out and turns errors into exit codes;
``commands`` and ``running`` do the work; ``console`` shows progress and prints results.
"""
