"""`python -m slipstream_runtime.engine --config FILE`: one engine pod.

NB: vLLM's processes import this module again, so it imports nothing heavy and does nothing at import.
"""

import argparse
import contextlib
import os
import signal
from pathlib import Path
from typing import NoReturn

from slipstream_runtime import contract


def main() -> NoReturn:
    """Read the configuration and run the engine until the pod is stopped."""
    # NB: the first process of a container has no default for SIGTERM: unhandled, it is lost.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    parser = argparse.ArgumentParser(prog="slipstream_runtime.engine", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--api-port", type=int, default=contract.API_PORT)
    parser.add_argument("--management-port", type=int, default=contract.MANAGEMENT_PORT)
    parser.add_argument("--termination-log", type=Path, default=Path(contract.TERMINATION_LOG))
    options = parser.parse_args()

    from slipstream_runtime.engine import config, launch  # noqa: PLC0415
    from slipstream_runtime.host import errors, logs, supervisor  # noqa: PLC0415
    from slipstream_runtime.web import server  # noqa: PLC0415

    logs.configure()
    try:
        with contextlib.ExitStack() as sockets:
            settings = config.load(options.config)
            api = sockets.enter_context(server.bind(options.api_port))
            manage = sockets.enter_context(server.bind(options.management_port))
            supervisor.Supervisor(
                launch.prepare(settings, api=api),
                manage=manage,
                termination_log=options.termination_log,
            ).run()
    except errors.EngineError as error:
        logs.leave_reason(options.termination_log, error.reason)
        parser.exit(error.exit_code, f"{error.reason}\n")


if __name__ == "__main__":
    main()
