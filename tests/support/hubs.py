"""A model hub on this machine: the endpoints that huggingface_hub asks, over HTTP or TLS, with ranges and faults."""

import contextlib
import hashlib
import http.server
import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipstream_runtime.web.certificates import CERTIFICATE, PRIVATE_KEY

COMMIT = "a" * 40
HUGE = 1 << 20
"""The gate stops files of at least this many bytes."""
LARGE = 1024
"""Files of at least this many bytes have a SHA-256, as files in git-lfs have."""


@dataclass
class Hub:
    """What the server holds and does."""

    files: Mapping[str, bytes]
    """Of the one repository, org/name."""
    token: str | None = None
    gated: bool = False
    cut_after: int | None = None
    """Answers to GET end after this many bytes, once for each file."""
    gate: threading.Event | None = None
    """Answers to GET of huge files stop in their middle until it is set."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set once an answer stopped in its middle."""
    corrupt: str | None = None
    """A file that arrives with another content of the same length."""
    url: str = ""
    asked: list[str] = field(default_factory=list)
    """Method, path and range of each request, in order."""
    cut: set[str] = field(default_factory=set)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            code = "GatedRepo" if self.hub.gated else "RepoNotFound"
            self._send(401, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"}, body=body)
        elif not path.removeprefix("/api/models").startswith("/org/name"):
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif path.startswith("/api/models/org/name/tree/"):
            self._send(200, json.dumps(self._tree()).encode(), {}, body=body)
        elif path.startswith("/api/models/org/name"):
            self._info(path, body=body)
        elif (name := path.split("/", 5)[5] if path.count("/") >= 5 else "") in self.hub.files:
            self._file(name, body=body)
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)

    def _info(self, path: str, *, body: bool) -> None:
        revision = path.partition("/revision/")[2]
        if revision not in ("", "main", "v1", COMMIT):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body=body)
            return
        siblings = [{"rfilename": name} for name in self.hub.files]
        info = {"id": "org/name", "sha": COMMIT, "siblings": siblings}
        self._send(200, json.dumps(info).encode(), {}, body=body)

    def _tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
            | (
                {"lfs": {"oid": _sha256(content), "size": len(content), "pointerSize": 100}}
                if len(content) >= LARGE
                else {}
            )
            for name, content in self.hub.files.items()
        ]

    def _file(self, name: str, *, body: bool) -> None:
        content = self.hub.files[name]
        tag = _sha256(content) if len(content) >= LARGE else _oid(content)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        if name == self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        part, status = content[start:], 206 if start else 200
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.hub.cut_after
        if body and cut is not None and len(part) > cut and name not in self.hub.cut:
            self.hub.cut.add(name)
            self._send(status, part, headers, body=True, only=cut)
            self.close_connection = True
            return
        self._send(status, part, headers, body=body)

    def _send(
        self,
        status: int,
        content: bytes,
        headers: Mapping[str, str],
        *,
        body: bool,
        only: int | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body and self.hub.gate is not None and len(content) >= HUGE and not only:
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.wfile.flush()
            self.hub.stopped.set()
            self.hub.gate.wait(60)
            with contextlib.suppress(OSError):
                self.wfile.write(content[half:])
        elif body:
            self.wfile.write(content[:only])


@contextlib.contextmanager
def serve(hub: Hub, *, certificate: Path | None = None) -> Iterator[Hub]:
    """Serve the hub on a free port; with a folder of a certificate and its key over TLS."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / CERTIFICATE, certificate / PRIVATE_KEY)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        scheme = "https"
    hub.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
