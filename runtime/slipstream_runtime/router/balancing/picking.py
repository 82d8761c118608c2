"""Choice of the replica: the one that has computed most of the prompt, unless it is too busy. Pure.

All costs have one unit: the blocks of prompt that an engine has to compute. So no score needs a weight.
`benchmarks/routing` compares this with the endpoint picker of the Gateway API, which adds the scores
3 x prefix + 2 x queue + 2 x KV. It scales them between the busiest and the idlest engine, so a
difference of one waiting request outweighs half a prompt.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

Strategy = Literal["Prefix", "LeastLoad"]

REQUEST_COST: Final = 4.0
"""Cost of one more request in flight, in blocks of prompt: it slows down all other requests. From
`benchmarks/routing`."""
PENDING_COST: Final = 0.1
"""Cost of a pending block, in blocks of prompt: less than a miss, which also evicts. From `benchmarks/routing`."""
TYPICAL_PROMPT: Final = 128.0
"""Blocks of a prompt of unknown size: 2,000 tokens."""
LOAD_FACTOR: Final = 1.25
"""Most requests of an engine, as a factor of the mean (consistent hashing with bounded loads)."""
LOAD_SLACK: Final = 16
"""Most requests of an engine above the idlest engine, where few are in flight."""


class EndpointView(NamedTuple):
    """Load of one replica, as the router knows it; None is unknown, not zero.

    A tuple, because the router makes one per replica and request.
    """

    name: str
    in_flight: int
    """Requests that this router has sent and that are not finished."""
    waiting: float | None
    """Requests in the engine's own queue, as scraped."""
    kv: float | None
    """Used share of the KV cache, 0 to 1, as scraped."""
    capacity: int
    """Slots: most requests in flight."""
    weight_group: str
    """Revision; the caller passes the endpoints of one revision."""
    pending: float = 0.0
    """Blocks of prompt that were sent, are not cached, and have no first byte of an answer yet."""


def pick(
    endpoints: Iterable[EndpointView],
    prefix_hits: Mapping[str, float],
    *,
    strategy: Strategy,
    tie: Mapping[str, float],
    size: float = TYPICAL_PROMPT,
) -> EndpointView | None:
    """Return the endpoint where the request costs least; None if none has a free slot.

    `prefix_hits` is `prefixes.Index.hits` and `size` is `prefixes.length` of the prompt. `tie` has
    the time at which an endpoint was last picked; of equals, the least recently picked wins.
    """
    free = [endpoint for endpoint in endpoints if endpoint.in_flight < endpoint.capacity]
    if not free:
        return None
    # NB: a figure that one endpoint lacks is not compared: missing is not zero.
    queues = all(endpoint.waiting is not None for endpoint in free)
    caches = all(endpoint.kv is not None for endpoint in free)

    def cost(endpoint: EndpointView) -> tuple[float, float, float]:
        hit = prefix_hits.get(endpoint.name, 0.0) if strategy == "Prefix" else 0.0
        load = endpoint.in_flight + ((endpoint.waiting or 0.0) if queues else 0.0)
        work = size * (1 - hit) + PENDING_COST * endpoint.pending + REQUEST_COST * load
        kv = (endpoint.kv or 0.0) if caches else 0.0
        return work, kv, tie.get(endpoint.name, float("-inf"))

    bound = load_bound(free)
    return min((endpoint for endpoint in free if endpoint.in_flight < bound), key=cost)


def load_bound(endpoints: Sequence[EndpointView]) -> float:
    """Return the requests in flight from which an endpoint gets no more.

    The idlest endpoint is always below it. A hot prefix thus spreads over more engines.
    """
    loads = [endpoint.in_flight for endpoint in endpoints]
    mean = (sum(loads) + 1) / len(loads)
    return max(LOAD_FACTOR * mean, min(loads) + LOAD_SLACK)
