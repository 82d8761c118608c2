"""Choice of an engine by cached prefix and load, and the index of the prompts that each engine has."""

from collections.abc import Sequence
from typing import Final

from slipstream_runtime.router.balancing import picking, prefixes
from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.messages.request import Request

_BLOCK_TOKENS: Final = 16
"""Tokens of a `prefixes.SMALL` block."""


class PrefixPicker:
    """Picker of the engine where a request costs least by a service's strategy."""

    def __init__(self, *, strategy: picking.Strategy, kv_tokens: int | None = None) -> None:
        self.strategy = strategy
        capacity = kv_tokens // _BLOCK_TOKENS if kv_tokens else prefixes.DEFAULT_CAPACITY
        self._index = prefixes.Index(capacity)
        self._picked: dict[str, float] = {}

    def pick(self, candidates: Sequence[Endpoint], request: Request, *, now: float) -> Endpoint:
        """Return the cheapest engine, and add the part of the prompt that it has to compute to its pending blocks."""
        blocks = self._blocks(request)
        hits = self._index.hits(blocks)
        request.known_prefix = max(hits.values(), default=0.0) if blocks else None
        size = prefixes.length(blocks) if blocks else picking.TYPICAL_PROMPT
        chosen = candidates[0]
        if len(candidates) > 1:
            found = picking.pick(
                (_view(endpoint, now) for endpoint in candidates),
                hits,
                strategy=self.strategy,
                tie=self._picked,
                size=size,
            )
            chosen = next(each for each in candidates if found and each.name == found.name)
        self._picked[chosen.name] = now
        chosen.expect(request, size * (1 - hits.get(chosen.name, 0.0)) if blocks else 0.0)
        return chosen

    def served(self, endpoint: Endpoint, request: Request) -> None:
        """Add the prompt to the engine's prefixes."""
        if not endpoint.removed:
            self._index.insert(endpoint.name, self._blocks(request))

    def forget(self, endpoint: Endpoint) -> None:
        """Drop an engine that is gone."""
        self._index.forget(endpoint.name)
        self._picked.pop(endpoint.name, None)

    def _blocks(self, request: Request) -> Sequence[int]:
        if self.strategy != "Prefix":
            return ()
        if request.blocks is None:
            request.blocks = prefixes.blocks(
                request.content, model=request.model, tenant=request.prefix_scope
            )
        return request.blocks


def _view(endpoint: Endpoint, now: float) -> picking.EndpointView:
    load = endpoint.fresh_load(now)
    return picking.EndpointView(
        name=endpoint.name,
        in_flight=endpoint.in_flight,
        waiting=load.waiting if load else None,
        kv=load.kv if load else None,
        capacity=endpoint.capacity,
        weight_group=endpoint.revision,
        pending=endpoint.pending,
    )
