"""Progress of the pod over HTTP, which the operator shows in the service's status."""

import http.server

from slipstream_runtime.model_files.progress import Progress
from slipstream_runtime.web import status_server


def serve(progress: Progress, *, port: int, host: str = "") -> http.server.ThreadingHTTPServer:
    """Start a server on a new thread, which answers until the process ends."""
    return status_server.serve(lambda: status(progress), port=port, host=host)


def status(progress: Progress) -> dict[str, int | None]:
    """Return total bytes, present bytes and bytes per second; None if unknown."""
    rate = progress.rate
    return {
        "totalBytes": progress.total,
        "doneBytes": progress.done,
        "bytesPerSecond": None if rate is None else round(rate),
    }
