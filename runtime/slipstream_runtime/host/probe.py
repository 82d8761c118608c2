"""First real requests, over the real socket: the only proof that an engine can serve.

Some checkpoints load on a CPU that has no kernels for them: /health is 200, and the first request kills the engine.
"""

import dataclasses
import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from slipstream_runtime.errors import EngineError, one_line
from slipstream_runtime.host.front import PROBE_HEADER
from slipstream_runtime.web.body import JSON, MULTIPART

_TIMEOUT_SECONDS: Final = 3600
"""Seconds for one probe, which may include compiling; the pod's startup probe sets the real limit."""

_BOUNDARY: Final = b"slipstream-probe-boundary"

Answer = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Probe:
    """Request that a client could send; `fault` returns what is wrong with its answer, or None."""

    what: str
    """Name for the error, such as "a completion"."""
    path: str
    body: Mapping[str, Any]
    fault: Callable[[Answer], str | None]
    file: bytes | None = None
    """Content of the field `file` of a form whose other fields are those of `body`; None sends JSON."""


def fault(probe: Probe, status: int, body: bytes) -> str | None:
    """Return what is wrong with an answer; None for a valid one."""
    if status != 200:
        return one_line(f"status {status}: {body.decode(errors='replace')}", limit=500)
    try:
        answer = json.loads(body)
    except ValueError:
        return "the answer is not JSON"
    return probe.fault(answer)


def run(probe: Probe, *, port: int, key: str, tls: ssl.SSLContext | None = None) -> None:
    """Send the request and wait for its answer; EngineError if the answer is not valid."""
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
        if tls is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS, context=tls)
    )
    kind, content = _content(probe)
    headers = {"Content-Type": kind, PROBE_HEADER.decode(): key}
    try:
        connection.request("POST", probe.path, body=content, headers=headers)
        response = connection.getresponse()
        wrong = fault(probe, response.status, response.read())
    except (OSError, http.client.HTTPException) as error:
        wrong = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    if wrong is not None:
        raise EngineError(f"the first request ({probe.what}) failed: {wrong}")


def _content(probe: Probe) -> tuple[str, bytes]:
    """Return the content type and the body of the request."""
    if probe.file is None:
        return JSON, json.dumps(probe.body).encode()
    parts = [(f'name="{name}"', str(value).encode()) for name, value in probe.body.items()]
    parts.append(('name="file"; filename="probe"', probe.file))
    lines = [
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n"
        % (_BOUNDARY, head.encode(), value)
        for head, value in parts
    ]
    kind = f"{MULTIPART}; boundary={_BOUNDARY.decode()}"
    return kind, b"".join(lines) + b"--%b--\r\n" % _BOUNDARY
