"""The first real request, over the real socket: the only proof that an engine can serve.

Some checkpoints load on a CPU without the kernels for them; /health is 200 and the first request kills the engine.
"""

import http.client
import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from slipstream_runtime.engine.errors import EngineError, one_line
from slipstream_runtime.engine.front import PROBE_HEADER

_TIMEOUT_SECONDS: Final = 3600
"""Compiling may be part of the first request; the pod's startup probe sets the real limit."""
_TEXT: Final = "one two three one two three one two"
"""Repeats itself, so that an n-gram lookup has something to propose."""


def request(tasks: Collection[str], *, model: str, draft_tokens: int) -> tuple[str, dict[str, Any]]:
    """Path and body of the probe: long enough for a draft to be made and verified."""
    if "generate" in tasks:
        return "/v1/completions", {
            "model": model,
            "prompt": _TEXT,
            "max_tokens": 2 + draft_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
    return "/v1/embeddings", {"model": model, "input": _TEXT}


def fault(status: int, body: bytes) -> str | None:
    """What is wrong with the answer to the probe; None if it is a real one."""
    if status != 200:
        return one_line(f"status {status}: {body.decode(errors='replace')}", limit=500)
    try:
        answer: Mapping[str, Any] = json.loads(body)
    except ValueError:
        return "the answer is not JSON"
    if answer.get("data"):
        return None
    if not answer.get("usage", {}).get("completion_tokens"):
        return "the answer has no tokens"
    return None


def run(path: str, body: Mapping[str, Any], *, port: int, key: str) -> None:
    """Send the request and wait for its answer; blocks, raises EngineError if there is no real answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/json", PROBE_HEADER.decode(): key}
    try:
        connection.request("POST", path, body=json.dumps(body), headers=headers)
        response = connection.getresponse()
        wrong = fault(response.status, response.read())
    except (OSError, http.client.HTTPException) as error:
        wrong = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    if wrong is not None:
        raise EngineError(f"the first request failed: {wrong}")
