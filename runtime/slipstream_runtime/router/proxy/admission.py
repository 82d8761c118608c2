"""Lets a request into one service, counted in and out, and has it answered."""

from aiohttp import web

from slipstream_runtime.router.cache import sharing
from slipstream_runtime.router.messages import refusals
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.proxy.exchange import Exchange
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.tenants.keyring import Client
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal


async def admitted(
    http_request: web.BaseRequest,
    service: Service,
    request: Request,
    *,
    client: Client,
    exchange: Exchange,
) -> web.StreamResponse:
    """The service's response; Refusal if the client got no byte."""
    metrics = service.metrics
    service.in_flight += 1
    metrics.requests.inc()
    try:
        if not client.may_use(request.model):
            raise refusals.forbidden(request.model)
        request.tenant, request.priority = client.tenant, client.priority
        return await _answered(http_request, service, request, client=client, exchange=exchange)
    except Refusal as refusal:
        metrics.refused(refusal.reason or Reason.OTHER)
        raise
    finally:
        service.in_flight -= 1


async def _answered(
    http_request: web.BaseRequest,
    service: Service,
    request: Request,
    *,
    client: Client,
    exchange: Exchange,
) -> web.StreamResponse:
    """The exchange's answer, or one that the service's response cache shares."""
    cache = service.cache
    if cache is None:
        return await exchange.run(client)
    key = sharing.key(
        request, headers=http_request.headers, revision=service.revision, tenant=client.tenant
    )
    if key is None:
        return await exchange.run(client)
    return await sharing.answered(
        cache,
        key,
        request,
        run=lambda copy: exchange.run(client, copy=copy),
        seconds=service.settings.limits.timeout,
    )
