"""Records of routers, and records that a simulated service would leave."""

import json
import random
from typing import Any

from slipstream_operator.core.objectives import Objective
from slipstream_runtime.simulator import model
from slipstream_simulator.recorded import fleet, requests
from slipstream_simulator.recorded.fleet import Arrival, Span
from slipstream_simulator.recorded.requests import Recorded

CAUSES = ("queue", "wake", "retry", "first", "stream", "client", "router")
TTFT = Objective("ttft", "p95", 0.5, "500ms")
E2E = Objective("e2e", "p95", 4.0, "4s")
_SENDING = 1e-6
"""Seconds until a replica has a request that the router sends: after the step that begins at the same time."""


def line(**fields: Any) -> dict[str, Any]:
    """A record as a router writes it; seconds that are not given are 0."""
    seconds = dict.fromkeys(CAUSES, 0.0) | fields.pop("seconds", {})
    return {
        "request": "00" * 8,
        "arrived": 1000.0,
        "service": "chat",
        "replica": "pod-0",
        "status": 200,
        "outcome": "answered",
        "streamed": True,
        "retries": 0,
        "promptTokens": 100,
        "outputTokens": 11,
        **fields,
        "seconds": seconds,
    }


def record(**fields: Any) -> Recorded:
    return requests.read([json.dumps(line(**fields))])[0]


def traffic(*, seed: int, rate: float, number: int, prompt: int, output: int) -> list[Arrival]:
    """Poisson arrivals with lengths around these medians."""
    dice, at, found = random.Random(seed), 1000.0, []
    for _ in range(number):
        at += dice.expovariate(rate)
        lengths = [max(2, round(size * dice.lognormvariate(0, 0.5))) for size in (prompt, output)]
        found.append(Arrival(at, *lengths))
    return found


def play(
    parameters: model.Parameters,
    arrivals: list[Arrival],
    *,
    replicas: int,
    overhead: float = 0.0,
    streamed: bool = True,
) -> list[Recorded]:
    """Return the records of a service of such replicas. Each request waits in the router for a slot of its own."""
    played = fleet.replay(parameters, (Span(0.0),) * replicas, arrivals)
    found = []
    for number, (arrival, times) in enumerate(zip(arrivals, played, strict=True)):
        assert times.first is not None and times.finished is not None and times.sent is not None
        replica, sent = times.replica, times.sent + _SENDING
        first, rest = times.first - sent + overhead, times.finished - times.first
        seconds = {"queue": sent - arrival.at}
        seconds |= {"first": first, "stream": rest} if streamed else {"first": first + rest}
        found.append(
            record(
                request=f"{number:016x}",
                arrived=arrival.at,
                replica=f"pod-{replica}",
                streamed=streamed,
                seconds=seconds,
                promptTokens=arrival.prompt,
                outputTokens=arrival.output,
            )
        )
    return found


def engine_line(**fields: Any) -> str:
    """A record as an engine writes it."""
    return json.dumps(
        {
            "request": "00" * 8,
            "arrived": 1000.0,
            "seconds": {"queue": 0.1, "prefill": 0.2, "others_prefill": 0.4, "decode": 0.6},
            "firstSeconds": {"queue": 0.1, "prefill": 0.2, "others_prefill": 0.3, "decode": 0.0},
            "promptTokens": 100,
            "outputTokens": 11,
            "cachedTokens": 64,
            **fields,
        }
    )
