"""Entry point `python -m slipstream_operator`: read the environment and run one replica."""

import os
import sys

from slipstream_operator import app, logs
from slipstream_operator.config import Config


def main() -> int:
    """Return exit code 0 after a clean stop, 1 if the Lease or the API was lost, 2 for invalid settings."""
    logs.configure()
    try:
        config = Config.from_env(os.environ)
    except ValueError as error:
        sys.stderr.write(f"slipstream-operator: {error}\n")
        return 2
    return app.run(config)


if __name__ == "__main__":
    sys.exit(main())
