"""``python -m airflow_provider_reportrun``: the command line, on every supported Airflow."""

import os
import sys

try:
    from airflow_provider_reportrun.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    # What Airflow logs while it is imported is not about the command.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    sys.exit(main())
