"""`python -m slipstream_runtime.simulator --config FILE`: one simulated engine pod."""

import argparse
import logging
from pathlib import Path

import pydantic

from slipstream_runtime import contract
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
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    process.run(
        settings,
        api_port=arguments.api_port,
        management_port=arguments.management_port,
    )


if __name__ == "__main__":
    main()
