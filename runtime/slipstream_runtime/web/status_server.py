"""HTTP server of a job's progress, which the operator polls and shows in a status."""

import http.server
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from slipstream_runtime import contract


def serve(
    status: Callable[[], Mapping[str, Any]], *, port: int, host: str = ""
) -> http.server.ThreadingHTTPServer:
    """Start a server on a new thread, which answers until the process ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path != contract.STATUS_PATH:
                self.send_error(404)
                return
            content = json.dumps(status()).encode()
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
