"""`python -m slipstream_runtime.engine --config FILE`: one engine pod.

NB: vLLM's processes import this module again, so it imports nothing heavy and does nothing at import.
"""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from slipstream_runtime import contract
from slipstream_runtime.host import process

if TYPE_CHECKING:
    from slipstream_runtime.engine.launch import Launch


def main() -> NoReturn:
    """Read the configuration and run the engine until the pod is stopped."""
    process.main(module=contract.ENGINE_MODULE, description=__doc__, prepare=_prepare)


def _prepare(file: Path, api: socket.socket) -> "Launch":
    from slipstream_runtime.engine import config, launch  # noqa: PLC0415

    return launch.prepare(config.load(file), api=api)


if __name__ == "__main__":
    main()
