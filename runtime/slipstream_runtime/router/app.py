"""Composition root of the router: the only module that knows all parts."""

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from slipstream_runtime import contract, logs
from slipstream_runtime.recording.recorder import Recorder
from slipstream_runtime.router import config
from slipstream_runtime.router.balancing.endpoints import Address, Endpoint, Pool
from slipstream_runtime.router.balancing.prefix_picker import PrefixPicker
from slipstream_runtime.router.balancing.scrape import Scrapes
from slipstream_runtime.router.cache.memory import CacheMemory
from slipstream_runtime.router.cascade.route import Route
from slipstream_runtime.router.catalogue import Catalogue
from slipstream_runtime.router.cluster import key_reports
from slipstream_runtime.router.cluster.activation import Activator, Renew
from slipstream_runtime.router.cluster.routers import Lending, Routers
from slipstream_runtime.router.front import Front
from slipstream_runtime.router.hooks.condensing import Condenser
from slipstream_runtime.router.hooks.hooks import Hooks, Parts
from slipstream_runtime.router.hooks.search import Search
from slipstream_runtime.router.hooks.summaries import Summaries
from slipstream_runtime.router.management import Management
from slipstream_runtime.router.messages.body_memory import BodyMemory
from slipstream_runtime.router.metrics import Metrics, ServiceMetrics
from slipstream_runtime.router.proxy.bodies import BODY_SECONDS, Bodies
from slipstream_runtime.router.proxy.exchange import Proxy
from slipstream_runtime.router.proxy.listener import (
    CONNECTIONS,
    HEAD_SECONDS,
    Listener,
)
from slipstream_runtime.router.proxy.readers import SLOW_SECONDS
from slipstream_runtime.router.proxy.tokens import EngineTokens
from slipstream_runtime.router.proxy.upstream import RouterToken, Upstream
from slipstream_runtime.router.recording.flight import FORM
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.table import Table
from slipstream_runtime.router.tenants.key_secrets import Entries, KeySecrets, WatchedSecret
from slipstream_runtime.web.certificates import Authorities, ServerCertificate
from slipstream_runtime.web.folder import Folder
from slipstream_runtime.web.keyring import Keyring

_ABORT_SECONDS: Final = 2.0
"""Seconds for the last bytes to clients after the drain."""


@dataclasses.dataclass(frozen=True)
class Tls:
    """Socket for clients with TLS, and its certificate."""

    socket: socket.socket
    certificate: ServerCertificate


class Router:
    """One router in this process; serves while its context is open."""

    def __init__(
        self,
        *,
        api: socket.socket | None,
        management: socket.socket,
        renew: Renew,
        clock: Callable[[], float],
        now: Callable[[], float],
        chance: Callable[[], float],
        keys: Path = Path(contract.ROUTER_KEYS_DIRECTORY),
        token: Path = Path(contract.ROUTER_TOKEN_DIRECTORY),
        tls: Tls | None = None,
        authorities: Authorities | None = None,
        engines_host: str | None = None,
        connections: int = CONNECTIONS,
        head_seconds: float = HEAD_SECONDS,
        body_seconds: float = BODY_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        self._sockets = (api, management)
        self._keys = keys
        self._key_secrets = KeySecrets()
        self._clock = clock
        self._now = now
        self._chance = chance
        self.metrics = Metrics()
        self._tls = tls
        self._authorities = authorities
        self._upstream = Upstream(authorities=authorities, engines_host=engines_host)
        self._scrapes = Scrapes(self._upstream.session, clock=clock, grown=self._dispatch)
        self._activator = Activator(renew, clock=clock)
        self.table = Table(
            make=self._service,
            make_route=self._route,
            changed=self._changed,
            removed=self._removed,
        )
        router_token = RouterToken(token, clock=clock)
        self.engine_tokens = EngineTokens(self._key_secrets, own=router_token.value)
        self.recorder = Recorder(FORM, now=now)
        self._proxy = Proxy(
            self._upstream,
            self.engine_tokens,
            recorder=self.recorder,
            clock=clock,
            leaving=lambda: self.front.leaving,
        )
        self._hooks = Parts(
            search=Search(self._upstream.session, read_key=self._hook_key, authorities=authorities),
            condenser=Condenser(Summaries(clock=clock)),
            proxy=self._proxy,
            find=self.table.named,
            metrics=self.metrics,
        )
        self._began = clock()
        self._routers = Routers(self._upstream.session, token=router_token.value, clock=clock)
        self.memory = BodyMemory(config.BODY_MEMORY)
        self.caches = CacheMemory()
        self._bodies = Bodies(self.memory, seconds=body_seconds)
        self.front = Front(
            table=self.table,
            proxy=self._proxy,
            metrics=self.metrics,
            chance=chance,
            clock=clock,
            bodies=self._bodies,
            catalogue=Catalogue(self.table, self._upstream, self.engine_tokens, now=now),
        )
        self._listener = Listener(
            self.front.handle,
            memory=self.memory,
            connections=connections,
            head_seconds=head_seconds,
            slow_seconds=slow_seconds,
        )
        self.metrics.connections.set_function(lambda: self._listener.connected)
        lending = Lending(self.table.named, token=router_token.value)
        self._management = Management(
            self, self.metrics, lending=lending, recorder=self.recorder
        ).listener()
        self._known = {"config": False, "endpoints": False, "keys": False}

    @property
    def ready(self) -> bool:
        """Whether the router takes new requests: it knows its endpoints, has tried to read all keys, and does not
        drain."""
        certified = self._tls is None or self._tls.certificate.usable
        return all(self._known.values()) and certified and not self.front.leaving

    def configure(self, settings: config.Config) -> None:
        """Apply a new configuration."""
        self._key_secrets.keep(settings.watched_secrets)
        self.engine_tokens.configure(settings)
        self.table.configure(settings)
        self._bodies.limit = settings.bodies.size
        self.memory.most = settings.bodies.memory
        self.caches.most = settings.caches
        self.memory.largest = settings.bodies.size
        self._known["config"] = True
        self._check_keys()

    def update(self, found: Mapping[str, Collection[Address]]) -> None:
        """Apply the present endpoints of each revision."""
        if self._authorities is None:
            found = {
                revision: [address for address in addresses if address.scheme == "http"]
                for revision, addresses in found.items()
            }
        self.table.update(found)
        self._known["endpoints"] = True

    def update_routers(self, found: Collection[Address]) -> None:
        """Apply the other routers of the namespace, which hold shares of the same budgets."""
        self._routers.update(found)

    def update_keys(self, secret: str, entries: Entries | None) -> None:
        """Apply the content of a Secret with API keys; None if it could not be read."""
        self._key_secrets.put(secret, entries)
        self._check_keys()

    def key_report(self) -> str | None:
        """Return the problems with API keys as the operator reads them; None if there is nothing to report."""
        routes = (route.settings for route in self.table.routes())
        return key_reports.report(self.table.services(), routes, self._key_secrets)

    def status(self) -> Mapping[str, Any]:
        """Return the state of services and routes, for troubleshooting."""
        now = self._clock()
        return {
            "ready": self.ready,
            **self._known,
            **({} if self._tls is None else {"certificate": self._tls.certificate.usable}),
            "inFlight": self.front.in_flight,
            "services": {
                service.name: {
                    "inFlight": service.in_flight,
                    "queued": service.queued,
                    "refusedKeys": [*service.refused_keys],
                    "endpoints": [_endpoint_status(endpoint, now) for endpoint in service.pool],
                }
                for service in self.table.services()
            },
            "routes": {route.settings.name: route.status() for route in self.table.routes()},
        }

    async def __aenter__(self) -> Self:
        api, management = self._sockets
        await self._management.listen(management)
        if api is not None:
            await self._listener.listen(api)
        if self._tls is not None:
            await self._listener.listen(self._tls.socket, tls=self._tls.certificate.context)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.close()
        await self._activator.close()
        await self._routers.close()
        await self._scrapes.close()
        await self._management.close()
        await self._upstream.__aexit__()

    @property
    def longest_drain(self) -> float:
        """Longest drain of any service in seconds; 0 if no service sets one."""
        return max(
            (service.settings.limits.drain or 0 for service in self.table.services()), default=0
        )

    async def drain(self, *, linger: float, grace: float) -> None:
        """Drain: become unready at once, refuse new and queued requests after `linger`, abort the rest after `grace`.

        Both are in seconds.
        """
        front = self.front
        front.leaving = True
        logs.event("draining", inFlight=front.in_flight)
        await asyncio.sleep(linger)
        front.closed = True
        self.table.reject_waiting()
        self._listener.close_idle()
        if not await front.emptied(within=grace):
            logs.event("aborting", inFlight=front.in_flight)
            front.abort()
            await front.emptied(within=_ABORT_SECONDS)

    def _check_keys(self) -> None:
        """Note once that all Secrets were tried. Those of later services keep no other service waiting."""
        named = (service.settings.key_secret for service in self.table.services())
        tried = all(map(self._key_secrets.tried, filter(None, named))) and self.engine_tokens.tried
        if self._known["config"] and tried:
            self._known["keys"] = True

    def _service(self, settings: config.Service) -> Service:
        clock = self._clock
        picker = PrefixPicker(strategy=settings.strategy, kv_tokens=settings.kv_tokens)
        return Service(
            settings,
            pool=Pool(picker=picker, chance=self._chance, clock=clock),
            make_keyring=self._keyring,
            metrics=ServiceMetrics(self.metrics, settings.name),
            activate=self._activator.activate,
            clock=clock,
            caches=self.caches,
            lenders=self._routers.of(settings.name),
            began=self._began,
            now=self._now,
        )

    def _route(self, settings: config.Route, services: Sequence[Service]) -> Route:
        hooks = Hooks(settings, self._hooks)
        return Route(settings, services, metrics=self.metrics, hooks=hooks)

    def _hook_key(self, named: config.SecretEntry) -> str | None:
        """Return the API key in the entry of a Secret; None if it is not there."""
        return self._key_secrets.bearer(named.secret, named.entry)

    def _keyring(self, settings: config.Service) -> Keyring:
        source = (
            Folder(self._keys / settings.name, clock=self._clock)
            if settings.key_secret is None
            else WatchedSecret(self._key_secrets, settings.key_secret)
        )
        return Keyring(source, now=self._now)

    def _changed(self, added: Collection[Endpoint], removed: Collection[Endpoint]) -> None:
        self._scrapes.follow(added, removed)
        for event, endpoints in (("endpoint added", added), ("endpoint removed", removed)):
            for endpoint in endpoints:
                logs.event(event, endpoint=endpoint.name, revision=endpoint.revision)

    def _dispatch(self) -> None:
        """Give free slots to the requests that wait."""
        for service in self.table.services():
            service.dispatch()

    def _removed(self, service: Service) -> None:
        self.metrics.forget(service.name)


def _endpoint_status(endpoint: Endpoint, now: float) -> Mapping[str, Any]:
    load = endpoint.fresh_load(now)
    return {
        "name": endpoint.name,
        "revision": endpoint.revision,
        "inFlight": endpoint.in_flight,
        "ejected": endpoint.ejected(now),
        "waiting": None if load is None else load.waiting,
        "kvUsage": None if load is None else load.kv,
    }
