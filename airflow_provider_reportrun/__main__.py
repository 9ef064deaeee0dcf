"""``python -m airflow_provider_reportrun``: the command line, on every supported Airflow."""

import sys

from airflow_provider_reportrun.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
