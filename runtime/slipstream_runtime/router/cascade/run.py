"""One request to a route: tries its services in order until an answer is kept."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from aiohttp import web

from slipstream_runtime.router.cache import sharing
from slipstream_runtime.router.cascade import decisions
from slipstream_runtime.router.cascade.route import Route
from slipstream_runtime.router.hooks.hooks import Sender
from slipstream_runtime.router.messages import streams
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.messages.usage import Tokens
from slipstream_runtime.router.proxy.exchange import Buffering, Exchange, Proxy
from slipstream_runtime.web import openai
from slipstream_runtime.web.keyring import Client
from slipstream_runtime.web.refusal import Refusal

_FINAL: Final = frozenset({openai.Reason.DRAINING, openai.Reason.BUDGET})
"""Refusal reasons that concern the client or the router, not the stage."""
_TOO_MUCH: Final = frozenset({400, 413})
"""Status codes of a request that a service can't compute, such as one that is too long for its context."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    """Complete answer in the client's form, not sent yet."""

    position: int
    response: web.StreamResponse
    used: Tokens


class CascadeRun:
    """Request of one client to a route, until it is answered.

    A stage before the last is skipped if it has no ready replica, or no free slot soon.
    """

    def __init__(
        self,
        proxy: Proxy,
        http_request: web.BaseRequest,
        route: Route,
        request: Request,
        *,
        positions: Sequence[int],
        clients: Sequence[Client],
        arrived: float,
        sender: Sender,
    ) -> None:
        self._proxy = proxy
        self._http_request = http_request
        self._route = route
        self._settings = route.settings
        self._services = route.services
        self._request = request
        self._positions = positions
        self._clients = clients
        self._arrived = arrived
        self._sender = sender
        self._unchanged: Request | None = None
        """Request as the client sent it, if hooks changed it."""
        self._hooks: Sequence[str] = ()
        """Hooks that changed the request."""
        self._timeout: asyncio.Timeout | None = None
        self._exchange: Exchange | None = None
        self._replaceable: list[_Answer] = []
        self._aborted: Refusal | None = None
        self.service = route.services[positions[0]]
        """Service whose answer or refusal the client gets."""

    def abort(self, refusal: Refusal) -> None:
        """End the run now; the client gets the refusal."""
        self._aborted = refusal
        if self._timeout is not None:
            self._timeout.reschedule(0.0)
        if self._exchange is not None:
            self._exchange.abort(refusal)

    async def run(self) -> web.StreamResponse:
        """Return the client's response; Refusal if no stage gave an answer."""
        self._route.count_request()
        if self._route.hooks.apply_to(self._request.path):
            await self._apply_hooks()
        try:
            return await self._try_stages()
        except Refusal:
            if not self._replaceable:
                raise
            return self._fall_back()
        finally:
            for answer in self._replaceable:
                self._route.count_discarded(answer.position, answer.used)

    async def _apply_hooks(self) -> None:
        """Let the hooks change the request; the client's own is kept, because the services may refuse the other."""
        own = self._request
        try:
            async with asyncio.timeout(None) as self._timeout:
                self._request, self._hooks = await self._route.hooks.apply(own, self._sender)
        except TimeoutError:
            assert self._aborted is not None
            raise self._aborted from None
        finally:
            self._timeout = None
        if self._request is not own:
            self._unchanged = own

    async def _try_stages(self) -> web.StreamResponse:
        *earlier, last = self._positions
        for position in earlier:
            found = await self._try_stage(position)
            if not isinstance(found, decisions.EscalationReason):
                return found
            self._route.count_escalation(position, found)
        buffering = Buffering.FAILURES if self._replaceable else Buffering.NONE
        response, exchange = await self._send(last, buffering=buffering)
        if self._replaceable and decisions.failure(response.status) is not None:
            return self._fall_back()
        return self._kept(last, response, exchange)

    async def _try_stage(self, position: int) -> web.StreamResponse | decisions.EscalationReason:
        """Return the response of a stage before the last, or the reason to escalate."""
        settings, request = self._settings, self._request
        accept = settings.stages[position].accept
        reason = decisions.skipped(accept, request.content, prompt_tokens=request.prompt_tokens)
        if reason is not None:
            return reason
        judges = decisions.judges(settings, position)
        buffering = Buffering.ALL if judges else Buffering.FAILURES
        try:
            response, exchange = await self._send(position, buffering=buffering, has_fallback=True)
        except Refusal as refusal:
            if refusal.reason in _FINAL:
                raise
            return decisions.EscalationReason.ERROR
        if response.prepared:
            return self._kept(position, response, exchange)
        assert isinstance(response, web.Response)
        reason = self._judge(position, response) if judges else decisions.failure(response.status)
        again = bool(self._replaceable)
        totals = self._route.totals
        if reason is None or not decisions.escalates(settings, reason, totals, again=again):
            return self._kept(position, response, exchange)
        if reason not in decisions.UNANSWERED:
            if not again:
                self._route.count_replaced()
            self._replaceable.append(_Answer(position, response, exchange.used))
        return reason

    def _fall_back(self) -> web.StreamResponse:
        """Return the latest replaceable answer, because no later stage gave one."""
        answer = self._replaceable.pop()
        self.service = self._services[answer.position]
        self._route.count_kept(answer.position, answer.used)
        return answer.response

    async def _send(
        self, position: int, *, buffering: Buffering, has_fallback: bool = False
    ) -> tuple[web.StreamResponse, Exchange]:
        """Send the request to a service; if that refuses what the hooks made of it, send the client's own."""
        if self._unchanged is None:
            return await self._send_once(position, buffering, has_fallback=has_fallback)
        if buffering is Buffering.NONE:
            buffering = Buffering.FAILURES
        try:
            response, exchange = await self._send_once(
                position, buffering, has_fallback=has_fallback
            )
            if response.prepared or response.status not in _TOO_MUCH:
                return response, exchange
        except Refusal as refusal:
            longer = self._request.prompt_tokens > self._unchanged.prompt_tokens
            over_budget = longer and refusal.reason is openai.Reason.BUDGET
            if refusal.status not in _TOO_MUCH and not over_budget:
                raise
        self._route.hooks.rejected(self._hooks)
        self._request, self._unchanged = self._unchanged, None
        return await self._send_once(position, buffering, has_fallback=has_fallback)

    async def _send_once(
        self, position: int, buffering: Buffering, *, has_fallback: bool
    ) -> tuple[web.StreamResponse, Exchange]:
        if self._aborted is not None:
            raise self._aborted
        self.service = service = self._services[position]
        request = self._request.for_model(service.settings.model)
        if buffering is Buffering.ALL:
            request = request.unstreamed(decisions.probe(request.content))
        request.request_usage()
        arrived = self._arrived if self._exchange is None else self._proxy.clock()
        self._exchange = exchange = self._proxy.exchange(
            self._http_request,
            service,
            request,
            client=self._clients[position],
            arrived=arrived,
            buffering=buffering,
            has_fallback=has_fallback,
        )
        return await exchange.run(), exchange

    def _judge(self, position: int, response: web.Response) -> decisions.EscalationReason | None:
        """Return the reason to discard the response; convert an answer to the client's form."""
        failed = decisions.failure(response.status)
        if failed is not None:
            return failed
        try:
            answer = orjson.loads(response.body)  # type: ignore[arg-type]
            reason = decisions.objection(
                self._settings.stages[position].accept, self._request.content, answer=answer
            )
            _set_body(
                response, decisions.delivered(answer, self._request.content), request=self._request
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return decisions.EscalationReason.ERROR  # not an answer of the OpenAI API
        return reason

    def _kept(
        self, position: int, response: web.StreamResponse, exchange: Exchange
    ) -> web.StreamResponse:
        if response.status < 400 and not exchange.broken:
            self._route.count_kept(position, exchange.used)
        return response


def _set_body(response: web.Response, answer: Mapping[str, object], *, request: Request) -> None:
    """Set the answer as the body, as a stream if the client requested one."""
    body = orjson.dumps(answer)
    if request.stream:
        body = b"".join(streams.replayed(body, usage=request.wants_usage))
        response.headers["content-type"] = sharing.STREAM
    response.body = body
