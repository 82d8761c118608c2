"""`python -m slipstream_runtime.simulator --config FILE`: one simulated engine pod."""

import argparse
from pathlib import Path

import pydantic

from slipstream_runtime import contract, errors, logs
from slipstream_runtime.simulator import config, process


def main() -> None:
    """Read the configuration and serve until the pod is stopped."""
    parser = argparse.ArgumentParser(prog="slipstream_runtime.simulator", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--api-port", type=int, default=contract.API_PORT)
    parser.add_argument("--management-port", type=int, default=contract.MANAGEMENT_PORT)
    arguments = parser.parse_args()
    try:
        settings = config.load(arguments.config)
    except (OSError, pydantic.ValidationError) as error:
        parser.exit(2, f"{arguments.config}: {error}\n")
    logs.configure()
    try:
        process.run(
            settings,
            api_port=arguments.api_port,
            management_port=arguments.management_port,
        )
    except errors.EngineError as error:
        parser.exit(error.exit_code, f"{error.reason}\n")


if __name__ == "__main__":
    main()
