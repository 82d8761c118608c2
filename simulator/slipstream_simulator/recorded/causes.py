"""Time of a request by cause, from the router's record and from the engine's, if there is one. Pure."""

from collections.abc import Mapping
from typing import Final

from slipstream_simulator.recorded.requests import Recorded

LABELS: Final = {
    "queue": "waiting for a slot",
    "wake": "waking from zero",
    "retry": "failed attempts",
    "router": "router itself",
    "first": "replica, to first token",
    "engine_queue": "engine's queue",
    "others_prefill": "others' prompts",
    "cold_prefix": "own prompt, cold prefix",
    "prefill": "own prompt",
    "decode": "decoding",
    "preemption": "preemption",
    "engine": "engine, other",
    "stream": "replica, later tokens",
    "transfer": "network",
    "client": "slow client",
}
"""Cause -> its name in tables, in the order in which a request meets them.

`first` and `stream` are the time in replicas without records of their own. `transfer` is the time that the router
counts in a replica, and the replica itself does not.
"""
CAUSES: Final = tuple(LABELS)
_NAMES: Final = {"queue": "engine_queue"}
"""Causes of engines whose names the router uses for another cause."""

Parts = dict[str, float]


def until_first_token(one: Recorded) -> Parts | None:
    """Return the seconds of each cause up to the first token; None if that is unknown."""
    if one.ttft is None:
        return None
    parts = _before(one)
    parts["router"] = one.received
    engine = one.engine
    if engine is None or engine.first is None:
        return {**parts, "first": one.seconds["first"]}
    took = one.seconds["first"] if one.streamed else sum(engine.first.values())
    return {**parts, **_split(took, engine.first)}


def until_end(one: Recorded) -> Parts:
    """Return the seconds of each cause up to the end of the answer."""
    seconds = one.seconds
    parts = {**_before(one), "router": seconds["router"], "client": seconds["client"]}
    engine = one.engine
    if engine is None or engine.first is None:
        return {**parts, "first": seconds["first"], "stream": seconds["stream"]}
    whole = {
        cause: engine.first.get(cause, 0.0) + engine.rest.get(cause, 0.0)
        for cause in {*engine.first, *engine.rest}
    }
    return {**parts, **_split(seconds["first"] + seconds["stream"], whole)}


def _before(one: Recorded) -> Parts:
    return {cause: one.seconds[cause] for cause in ("queue", "wake", "retry")}


def _split(took: float, by_cause: Mapping[str, float]) -> Parts:
    """Return seconds in a replica by the causes of its engine, which never add up to more than the router measured."""
    total = sum(by_cause.values())
    scale = min(1.0, took / total) if total > 0 else 0.0
    parts = {_NAMES.get(cause, cause): scale * spent for cause, spent in by_cause.items()}
    return {**parts, "transfer": took - scale * total}
