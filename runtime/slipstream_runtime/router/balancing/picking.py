"""Choice of the replica: the one that has computed most of the prompt, unless it is too busy. Pure.

Both sides of the choice are counted in one unit, the prompt that an engine has to compute, so no
score has to be weighed against another. `benchmarks/routing` compares it with the scores of the
Gateway API's endpoint picker (3 x prefix + 2 x queue + 2 x KV), which fills its formula from the
busiest and the idlest engine: a difference of one waiting request there outweighs half a prompt.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

Strategy = Literal["Prefix", "LeastLoad"]

REQUEST_COST: Final = 4.0
"""What one more request in flight costs, in blocks of prompt: it makes all others' tokens slower."""
PENDING_COST: Final = 0.1
"""What a block costs that is to be computed first: that one waits, while a miss is work and evicts, too."""
TYPICAL_PROMPT: Final = 128.0
"""Blocks of a prompt whose size the caller doesn't know: 2 000 tokens."""
LOAD_FACTOR: Final = 1.25
"""How far above the mean an engine's requests may be (consistent hashing with bounded loads)."""
LOAD_SLACK: Final = 16
"""How far above the idlest engine they may be where few are in flight."""


class EndpointView(NamedTuple):
    """One replica as the router sees it now; None is not known, which is not zero.

    A tuple, for one is made for each replica and request.
    """

    name: str
    in_flight: int
    """Requests that this router has sent and that have not ended."""
    waiting: float | None
    """Requests in the engine's own queue, as scraped."""
    kv: float | None
    """The used share of its KV cache, 0 to 1, as scraped."""
    capacity: int
    """Requests in flight that it may have."""
    weight_group: str
    """Its revision; the caller offers the endpoints of the one that the weights drew."""
    pending: float = 0.0
    """Blocks of prompt that were sent, are not in its cache and have yielded no first byte yet."""


def pick(
    endpoints: Iterable[EndpointView],
    prefix_hits: Mapping[str, float],
    *,
    strategy: Strategy,
    tie: Mapping[str, float],
    size: float = TYPICAL_PROMPT,
) -> EndpointView | None:
    """The endpoint where the request costs least; None if all are full.

    `prefix_hits` is `prefixes.Index.hits` and `size` is `prefixes.length` of the prompt; `tie` has
    the time at which an endpoint was last picked, and of equals the longest unpicked wins.
    """
    free = [endpoint for endpoint in endpoints if endpoint.in_flight < endpoint.capacity]
    if not free:
        return None
    # NB: A figure that one of them lacks says nothing about any: missing is not zero.
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
    """Requests in flight at which an endpoint gets no more while others have fewer.

    The idlest is always below it. A hot prefix spreads over more engines from there on.
    """
    loads = [endpoint.in_flight for endpoint in endpoints]
    mean = (sum(loads) + 1) / len(loads)
    return max(LOAD_FACTOR * mean, min(loads) + LOAD_SLACK)
