"""Hooks of one route: first old turns are replaced by a summary, then passages are added.

A hook that fails leaves the chat as it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from slipstream_runtime import logs
from slipstream_runtime.router import config
from slipstream_runtime.router.hooks import conversation, passages
from slipstream_runtime.router.hooks.condensing import Condenser, Made
from slipstream_runtime.router.hooks.conversation import Conversation
from slipstream_runtime.router.hooks.failures import Cause, HookError, Pauses
from slipstream_runtime.router.hooks.search import Search
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.metrics import HookMetrics, Metrics
from slipstream_runtime.router.proxy.calls import Call
from slipstream_runtime.router.proxy.exchange import Proxy
from slipstream_runtime.router.service import Service
from slipstream_runtime.web import openai
from slipstream_runtime.web.keyring import Client
from slipstream_runtime.web.refusal import Refusal

MOST_BYTES: Final = 1024 * 1024
MOST_OBJECTS: Final = 4096
MOST_ITEMS: Final = 32_768
"""Bytes, objects and items of a body that reaches hooks, which take some milliseconds at most."""
CONDENSE: Final = "condense"
RETRIEVE: Final = "retrieve"


Change = Callable[[Conversation, Request, "Sender", HookMetrics], Awaitable[Conversation | None]]


@dataclass(frozen=True)
class Sender:
    """Client of a chat, as the hooks need it."""

    key: bytes | None
    peer: str
    """Address, by which clients without a key get slots in turn."""
    clients: Sequence[Client]
    """Client of the key at each service of the route."""

    def tenant(self, others: Sequence[Client] = ()) -> str:
        """Return the tenant at all services, which shares nothing with other tenants."""
        return "\0".join(client.tenant for client in (*self.clients, *others))


@dataclass(frozen=True)
class Parts:
    """Parts of a router that the hooks of all its routes share."""

    search: Search
    condenser: Condenser
    proxy: Proxy
    find: Callable[[str], Service | None]
    """Returns the service of this name."""
    metrics: Metrics


class Hooks:
    """Hooks of one route, which may have none; belongs to one event loop."""

    def __init__(self, settings: config.Route, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._metrics: dict[str, HookMetrics] = {}
        self._pauses: dict[str, Pauses] = {}
        self.configure(settings)

    def configure(self, settings: config.Route) -> None:
        """Apply new settings."""
        for hook, old, new in (
            (CONDENSE, self._settings.condense, settings.condense),
            (RETRIEVE, self._settings.retrieve, settings.retrieve),
        ):
            if new is None and hook in self._metrics:
                self._metrics.pop(hook).forget()
            elif new is not None and hook not in self._metrics:
                self._metrics[hook] = HookMetrics(self._parts.metrics, settings.name, hook)
            if old != new or hook not in self._pauses:
                self._pauses[hook] = Pauses(self._parts.proxy.clock)
        self._settings = settings

    def forget(self) -> None:
        """Remove the metrics of a route that is gone."""
        for metrics in self._metrics.values():
            metrics.forget()

    def apply_to(self, path: str) -> bool:
        """Whether requests to this path reach a hook: chats, whose messages the hooks know."""
        return bool(self._metrics) and path == openai.CHAT

    async def apply(self, request: Request, sender: Sender) -> tuple[Request, list[str]]:
        """Return the request as the hooks change it, or the same request, and the hooks that changed it."""
        changed = []
        for hook, settings, change in (
            (CONDENSE, self._settings.condense, self._condensed),
            (RETRIEVE, self._settings.retrieve, self._with_passages),
        ):
            if settings is None:
                continue
            before = request
            request = await self._run(hook, before, sender, change)
            if request is not before:
                changed.append(hook)
        return request, changed

    def rejected(self, changed: Sequence[str]) -> None:
        """Count a request that these hooks changed, and that the model's service refused."""
        for hook in changed:
            if hook in self._metrics:
                self._metrics[hook].failed(Cause.REJECTED)

    async def _run(self, hook: str, request: Request, sender: Sender, change: Change) -> Request:
        """Return the changed request, or the same one if the hook fails; count both."""
        metrics, pauses, clock = self._metrics[hook], self._pauses[hook], self._parts.proxy.clock
        began, tenant = clock(), sender.tenant()
        try:
            _check_size(request.raw)
            found = conversation.parse(request.content)
            if found is None:
                metrics.outcome("unneeded")
                return request
            pauses.check(tenant)
            changed = await change(found, request, sender, metrics)
            if changed is None:
                metrics.outcome("unneeded")
                return request
            result = _replaced(request, changed)
        except HookError as error:
            cause = error.cause
        except Exception as error:
            # NB: a fault of a hook must not cost the client its answer.
            logs.failure("hook failed", route=self._settings.name, hook=hook, reason=repr(error))
            cause = Cause.INTERNAL
        else:
            pauses.succeeded(tenant)
            metrics.outcome("changed")
            difference = int(result.prompt_tokens) - int(request.prompt_tokens)
            (metrics.added if difference > 0 else metrics.saved).inc(abs(difference))
            return result
        finally:
            metrics.duration.observe(clock() - began)
        metrics.outcome("failed")
        metrics.failed(cause)
        pauses.failed(tenant, cause)
        return request

    async def _condensed(
        self, found: Conversation, request: Request, sender: Sender, metrics: HookMetrics
    ) -> Conversation | None:
        settings = self._settings.condense
        assert settings is not None
        if request.prompt_tokens <= settings.over_tokens:
            return None
        if len(found.turns) <= settings.keep_turns:
            return None
        service = self._parts.find(settings.service)
        if service is None:
            raise HookError(Cause.NO_SERVICE)
        client = service.client(sender.key)
        if client is None:
            raise HookError(Cause.NO_KEY)

        def call() -> Call:
            return Call(self._parts.proxy, service, client=client, peer=sender.peer)

        made = Made()
        try:
            async with asyncio.timeout(settings.timeout):
                shorter = await self._parts.condenser.condense(
                    found, settings, tenant=sender.tenant([client]), call=call, made=made
                )
        except TimeoutError:
            raise HookError(Cause.TIMEOUT) from None
        finally:
            metrics.used("cache", made.known)
            metrics.used("shared", made.shared)
            metrics.used("new", made.new)
            metrics.spent.inc(made.spent.prompt + made.spent.output)
        if shorter is not None and _tokens(shorter) >= _tokens(found):
            raise HookError(Cause.INVALID)
        return shorter

    async def _with_passages(
        self, found: Conversation, request: Request, sender: Sender, metrics: HookMetrics
    ) -> Conversation | None:
        settings = self._settings.retrieve
        assert settings is not None
        question = found.question
        if not question:
            return None
        results = await self._parts.search.passages(settings, question)
        text = passages.context(results, budget=settings.budget_tokens)
        return conversation.with_context(found, text) if text else None


def _check_size(raw: bytes) -> None:
    """Raise HookError for a body on which the hooks would work for long."""
    if (
        len(raw) >= MOST_BYTES
        or raw.count(b"{") > MOST_OBJECTS
        or raw.count(b",") + raw.count(b"[") > MOST_ITEMS
    ):
        raise HookError(Cause.TOO_LARGE)


def _replaced(request: Request, changed: Conversation) -> Request:
    """Return the request with the messages of a changed conversation, if there is memory for both bodies."""
    try:
        found = request.with_messages(conversation.messages(changed))
    except Refusal:
        raise HookError(Cause.INVALID) from None
    lease = request.lease
    if lease is not None and not lease.try_grow(lease.size + len(found.raw)):
        raise HookError(Cause.NO_MEMORY)
    return found


def _tokens(found: Conversation) -> int:
    return sum(map(conversation.tokens, conversation.messages(found)))
