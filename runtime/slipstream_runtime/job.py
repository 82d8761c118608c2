"""Process of a Job's pod: fails when it is stopped, shows its progress, and exits at once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from slipstream_runtime import logs
from slipstream_runtime.web import status_server

_LOG_SECONDS: Final = 15.0
"""Seconds between two lines of progress in the log."""
_STOPPED: Final = 128 + signal.SIGTERM


def fail_when_stopped() -> None:
    """End the process with a failure at SIGTERM: the first process of a container ignores what it does not handle."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_STOPPED))


def show(status: Callable[[], Mapping[str, Any]], *, port: int) -> None:
    """Serve the progress on the management port, and log it from time to time, until the process ends."""
    server = status_server.serve(status, port=port)
    logs.event("listening", management=server.server_address[1])
    threading.Thread(target=_follow, args=(status,), daemon=True).start()


def leave(code: int) -> NoReturn:
    """Exit at once, so that no thread of a library can keep the pod alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _follow(status: Callable[[], Mapping[str, Any]]) -> None:
    while True:
        time.sleep(_LOG_SECONDS)
        logs.event("progress", **status())
