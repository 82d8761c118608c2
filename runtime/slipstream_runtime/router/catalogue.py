"""Models that clients can use, as `GET /v1/models` of vLLM describes them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp
import orjson

from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.proxy.tokens import EngineTokens
from slipstream_runtime.router.proxy.upstream import Unanswered, Upstream
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.table import Table
from slipstream_runtime.web import answers, openai

_TIMEOUT_SECONDS: Final = 2.0
"""Seconds for an engine to describe its models."""

_MOST_BYTES: Final = 1 << 20
"""Bytes of an engine's list of models; a tenant's own image may send any number."""

Card = Mapping[str, object]


class Catalogue:
    """Descriptions of models: their names by the router's table, their lengths by one engine of each service."""

    def __init__(
        self, table: Table, upstream: Upstream, tokens: EngineTokens, *, now: Callable[[], float]
    ) -> None:
        self._table = table
        self._upstream = upstream
        self._tokens = tokens
        self._now = now
        self._created: dict[str, int] = {}
        self._lengths: dict[str, tuple[str, int | None]] = {}
        """Service -> its revision, and the length that an engine of it reported."""

    async def cards(self, names: Sequence[str], *, here: Service | None) -> Sequence[Card]:
        """Return the descriptions of these models."""
        services = [self._services(name, here=here) for name in names]
        asked = {service.name: service for found in services for service in found}
        await asyncio.gather(*(self._learn(service) for service in asked.values()))
        return [self._card(name, found) for name, found in zip(names, services, strict=True)]

    def _services(self, name: str, *, here: Service | None) -> Sequence[Service]:
        """Return the services that may answer for this model."""
        service = self._table.service(name, here=here)
        if service is not None:
            return (service,)
        route = self._table.route(name)
        return () if route is None else route.services

    def _card(self, name: str, services: Sequence[Service]) -> Card:
        lengths = [self._lengths.get(service.name, ("", None))[1] for service in services]
        known = [length for length in lengths if length is not None]
        base = services[0].settings.model if len(services) == 1 else name
        return {
            "id": name,
            "object": "model",
            "created": self._created.setdefault(name, int(self._now())),
            "owned_by": "slipstream",
            "root": name,
            "parent": None if base == name else base,
            "max_model_len": min(known) if known and len(known) == len(lengths) else None,
        }

    async def _learn(self, service: Service) -> None:
        """Ask an engine for the length of the service's model, once for each revision."""
        revision = service.revision
        if self._lengths.get(service.name, ("", None))[0] == revision:
            return
        endpoint = next(iter(service.pool), None)
        if endpoint is None:
            return
        found = await self._ask(endpoint)
        if found is not None:
            self._lengths[service.name] = (revision, _length(found, service.settings.model))

    async def _ask(self, endpoint: Endpoint) -> Any:
        """Return the engine's list of models; None if it gives none in time."""
        token = self._tokens.value(endpoint.revision)
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        try:
            async with self._upstream.get(
                endpoint, openai.MODELS, headers=headers, seconds=_TIMEOUT_SECONDS
            ) as reply:
                if reply.status != 200:
                    return None
                return orjson.loads(await answers.read(reply, most=_MOST_BYTES))
        except (aiohttp.ClientError, TimeoutError, Unanswered, ValueError):
            return None


def _length(found: Any, model: str) -> int | None:
    """Return the context length of the model in an engine's list; None if the list does not say."""
    cards = found.get("data") if isinstance(found, dict) else None
    for card in cards if isinstance(cards, list) else ():
        if isinstance(card, dict) and card.get("id") == model:
            length = card.get("max_model_len")
            return length if isinstance(length, int) else None
    return None
