"""`python -m slipstream_runtime.build --config FILE --stage NAME`: run one stage of a build, or plan it.

It exits with 0 and a report in the termination log, or with the reason of its failure there: 1 if another run may
succeed, 2 if none can. A run continues a killed one.
"""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final, NoReturn

from slipstream_runtime import contract, logs
from slipstream_runtime.build.progress import Progress
from slipstream_runtime.web import status_server

_LOG_SECONDS: Final = 15.0
"""Seconds between two lines of progress in the log."""
_STOPPED: Final = 128 + signal.SIGTERM


def main() -> NoReturn:
    """Run one stage and exit."""
    # NB: the first process of a container ignores SIGTERM unless it handles it; a stopped stage must fail.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_STOPPED))
    parser = argparse.ArgumentParser(prog=contract.BUILD_MODULE, description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="recipe")
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--stage", metavar="NAME", help="stage, such as source or 0-quantize")
    work.add_argument("--plan", action="store_true", help="print memory, disk and time as JSON")
    parser.add_argument("--management-port", type=int, default=contract.MANAGEMENT_PORT)
    parser.add_argument("--termination-log", type=Path, default=Path(contract.TERMINATION_LOG))
    options = parser.parse_args()
    logs.configure()
    # NB: --help needs none of the libraries.
    from slipstream_runtime.build import command  # noqa: PLC0415

    if options.plan:
        _exit(command.plan(options.config))
    progress = Progress(options.stage, clock=time.monotonic)
    server = status_server.serve(progress.status, port=options.management_port)
    logs.event("listening", management=server.server_address[1])
    threading.Thread(target=_follow, args=(progress,), daemon=True).start()
    _exit(
        command.stage(
            options.config,
            options.stage,
            progress=progress,
            termination_log=options.termination_log,
        )
    )


def _follow(progress: Progress) -> None:
    while True:
        time.sleep(_LOG_SECONDS)
        logs.event("progress", **progress.status())


def _exit(code: int) -> NoReturn:
    """Exit at once, so that no thread of a library can keep the pod alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
