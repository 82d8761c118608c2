"""Lookup of the service or route that a request names by its Host or its model."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from slipstream_runtime.router import config
from slipstream_runtime.router.balancing.endpoints import Address, Endpoint
from slipstream_runtime.router.cascade.route import Route
from slipstream_runtime.router.messages import refusals
from slipstream_runtime.router.service import Service

Make = Callable[[config.Service], Service]
MakeRoute = Callable[[config.Route, Sequence[Service]], Route]
Changed = Callable[[Collection[Endpoint], Collection[Endpoint]], None]
"""Callback with the endpoints that were added, and those that were removed."""


class Table:
    """Services and routes of a namespace, from the last configuration and endpoints."""

    def __init__(
        self,
        *,
        make: Make,
        make_route: MakeRoute,
        changed: Changed,
        removed: Callable[[Service], None],
    ) -> None:
        self._make = make
        self._make_route = make_route
        self._changed = changed
        self._removed = removed
        self._namespace = ""
        self._services: dict[str, Service] = {}
        self._routes: Mapping[str, Route] = {}
        self._by_model: Mapping[str, Service] = {}
        self._found: Mapping[str, Collection[Address]] = {}

    def configure(self, settings: config.Config) -> None:
        """Apply a new configuration; services that remain keep their state and requests."""
        self._namespace = settings.namespace
        named = {service.name: service for service in settings.services}
        for name in [name for name in self._services if name not in named]:
            self._remove(self._services.pop(name))
        for name, service in named.items():
            if name in self._services:
                self._services[name].configure(service)
            else:
                self._services[name] = self._make(service)
        self._configure_routes(settings.routes)
        self._by_model = {
            model: self._services[service.name]
            for service in reversed(settings.services)
            for model in (*service.adapters, service.model)
        }
        self.update(self._found)

    def update(self, found: Mapping[str, Collection[Address]]) -> None:
        """Apply the present endpoints of each revision."""
        self._found = found
        for service in self._services.values():
            self._changed(*service.update(found))

    def services(self) -> Collection[Service]:
        """Return all services."""
        return self._services.values()

    def named(self, name: str) -> Service | None:
        """Return the service of this name; None if there is none."""
        return self._services.get(name)

    def by_host(self, host: str) -> Service | None:
        """Return the service that the Host header names; None if it names the router."""
        name, _, rest = host.partition(":")[0].lower().partition(".")
        if rest and rest.partition(".")[0] != self._namespace:
            return None
        return self._services.get(name)

    def service(self, model: str, *, here: Service | None) -> Service | None:
        """Return the service of a model; with a service `here` from the Host, only that one if it serves the model."""
        if here is not None:
            return here if here.serves(model) else None
        return self._by_model.get(model)

    def route(self, model: str) -> Route | None:
        """Return the route with this model name."""
        return self._routes.get(model)

    def routes(self) -> Collection[Route]:
        """Return all routes."""
        return self._routes.values()

    def models(self, names: Collection[str], *, here: Service | None) -> list[str]:
        """Return the model names of these services, and of routes over them alone."""
        services = [self._services[name] for name in names if name in self._services]
        models = [m for s in services for m in (s.settings.model, *s.settings.adapters)]
        if here is None:
            models += [
                model
                for model, route in self._routes.items()
                if all(name in names for name in route.names)
            ]
        return models

    def reject_waiting(self) -> None:
        """Refuse all waiting requests."""
        for service in self._services.values():
            service.reject_waiting(refusals.draining())

    def _configure_routes(self, routes: Iterable[config.Route]) -> None:
        known = {route.settings.name: route for route in self._routes.values()}
        found = [self._route(settings, known.get(settings.name)) for settings in routes]
        self._routes = {route.settings.model: route for route in found if route is not None}
        for name in known.keys() - {route.settings.name for route in self._routes.values()}:
            known[name].forget()

    def _route(self, settings: config.Route, known: Route | None) -> Route | None:
        """Return the route without services that are gone or have weight 0; None if no service is left."""
        shares = [s for s in settings.backends if s.weight and s.service in self._services]
        stages = [stage for stage in settings.stages if stage.service in self._services]
        named = [share.service for share in shares] or [stage.service for stage in stages]
        if not named:
            return None
        left = settings.model_copy(update={"backends": tuple(shares), "stages": tuple(stages)})
        services = [self._services[name] for name in named]
        if known is not None and known.names == named:
            known.configure(left, services)
            return known
        if known is not None:
            known.forget()
        return self._make_route(left, services)

    def _remove(self, service: Service) -> None:
        service.close(refusals.unknown_model(service.settings.model))
        _, removed = service.pool.update({}, weights={}, concurrency=1)
        self._changed((), removed)
        self._removed(service)
