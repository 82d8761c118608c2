"""Command line of an engine pod, and the start of a supervised engine.

NB: vLLM's processes import the engine's main module again, so this module imports nothing heavy.
"""

import argparse
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from slipstream_runtime import contract

if TYPE_CHECKING:
    from slipstream_runtime.host.supervisor import Engine


def main(
    *, module: str, description: str | None, prepare: Callable[[Path, socket.socket], "Engine"]
) -> NoReturn:
    """Prepare an engine from the configuration file and the API's socket, and run it until the pod is stopped."""
    # NB: the first process of a container ignores SIGTERM unless it handles it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    parser = argparse.ArgumentParser(prog=module, description=description)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--api-port", type=int, default=contract.API_PORT)
    parser.add_argument("--management-port", type=int, default=contract.MANAGEMENT_PORT)
    parser.add_argument("--termination-log", type=Path, default=Path(contract.TERMINATION_LOG))
    options = parser.parse_args()

    from slipstream_runtime import errors, logs  # noqa: PLC0415
    from slipstream_runtime.host import supervisor  # noqa: PLC0415
    from slipstream_runtime.machine import memory  # noqa: PLC0415
    from slipstream_runtime.web import sockets  # noqa: PLC0415

    logs.configure()
    if (shared := os.environ.get(contract.SHARED_MEMORY_ENV)) is not None:
        logs.event("cleared shared memory", bytes=memory.clear(Path(shared), owner=os.getuid()))
    try:
        with contextlib.ExitStack() as stack:
            api = stack.enter_context(sockets.bind(options.api_port))
            manage = stack.enter_context(sockets.bind(options.management_port))
            supervisor.Supervisor(
                prepare(options.config, api),
                manage=manage,
                termination_log=options.termination_log,
            ).run()
    except errors.EngineError as error:
        logs.leave_reason(options.termination_log, error.reason)
        parser.exit(error.exit_code, f"{error.reason}\n")
