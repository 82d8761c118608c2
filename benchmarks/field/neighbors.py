"""F6: a long stream, and twenty changes of another service, of routes and of API keys in its namespace."""

import contextlib
import time
from typing import Final

from dev import waiting
from dev.cluster.kube import Kube
from tests.support import neighbors

CHANGES: Final = 20
_DRAIN_SECONDS: Final = 180.0
"""Limit for the end of routers that are replaced."""


def run(kube: Kube, namespace: str) -> dict[str, float | str]:
    """Make the changes one after the other; return what became of the stream."""
    url = neighbors.start(kube, namespace)
    before = neighbors.router_pods(kube, namespace)
    stream = neighbors.Stream(url)
    began = time.monotonic()
    with stream.open():
        for number in range(CHANGES // neighbors.CHANGES):
            for _ in neighbors.change(kube, namespace, url, number):
                pass
        replaced = bool(before - neighbors.router_pods(kube, namespace))
        if replaced:
            waiting.until(
                lambda: not before & neighbors.router_pods(kube, namespace),
                seconds=_DRAIN_SECONDS,
                what="the end of the first routers",
                interval=0.5,
            )
        with contextlib.suppress(AssertionError):  # the stream was cut
            stream.grows()
    return {
        "f6_stream": "alive" if stream.cut is None else "cut",
        "f6_stream_s": "never" if stream.cut_at is None else round(stream.cut_at - began, 1),
        "f6_routers_replaced": "yes" if replaced else "no",
    }
