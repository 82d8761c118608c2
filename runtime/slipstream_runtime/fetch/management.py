"""Progress of the pod over HTTP, which the operator shows in the service's status."""

import http.server
import json
import threading
from typing import Any

from slipstream_runtime import contract
from slipstream_runtime.model_files.progress import Progress


def serve(progress: Progress, *, port: int, host: str = "") -> http.server.ThreadingHTTPServer:
    """Start a server on a new thread, which answers until the process ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path != contract.STATUS_PATH:
                self.send_error(404)
                return
            content = json.dumps(status(progress)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Log nothing, because the operator polls every few seconds."""

    server = http.server.ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="management", daemon=True).start()
    return server


def status(progress: Progress) -> dict[str, int | None]:
    """Return total bytes, present bytes and bytes per second; None if unknown."""
    rate = progress.rate
    return {
        "totalBytes": progress.total,
        "doneBytes": progress.done,
        "bytesPerSecond": None if rate is None else round(rate),
    }
