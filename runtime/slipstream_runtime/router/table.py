"""Which service a request means, by its Host or its model."""

from collections.abc import Callable, Collection, Mapping

from slipstream_runtime.router import cascade, config, reasons
from slipstream_runtime.router.asked import Asked
from slipstream_runtime.router.endpoints import Address, Endpoint
from slipstream_runtime.router.service import Service

Make = Callable[[config.Service], Service]
Changed = Callable[[Collection[Endpoint], Collection[Endpoint]], None]
"""Called with the engines that came, and those that went."""


class Table:
    """The services of a namespace, as the last configuration and the last addresses have them."""

    def __init__(self, *, make: Make, changed: Changed, gone: Callable[[Service], None]) -> None:
        self._make = make
        self._changed = changed
        self._gone = gone
        self._namespace = ""
        self._services: dict[str, Service] = {}
        self._routes: Mapping[str, config.Route] = {}
        self._by_model: Mapping[str, Service] = {}
        self._found: Mapping[str, Collection[Address]] = {}

    def configure(self, settings: config.Config) -> None:
        """Go by this configuration from now on; services that stay keep their requests and what they learned."""
        self._namespace = settings.namespace
        named = {service.name: service for service in settings.services}
        for name in [name for name in self._services if name not in named]:
            self._remove(self._services.pop(name))
        for name, service in named.items():
            if name in self._services:
                self._services[name].configure(service)
            else:
                self._services[name] = self._make(service)
        self._routes = {route.model: route for route in settings.routes}
        self._by_model = {
            model: self._services[service.name]
            for service in reversed(settings.services)
            for model in (*service.adapters, service.model)
        }
        self.update(self._found)

    def update(self, found: Mapping[str, Collection[Address]]) -> None:
        """Take the engines of each revision as they are now."""
        self._found = found
        for service in self._services.values():
            self._changed(*service.update(found))

    def services(self) -> Collection[Service]:
        """All of them."""
        return self._services.values()

    def by_host(self, host: str) -> Service | None:
        """The service that a Host names; None if it names the router."""
        name, _, rest = host.partition(":")[0].lower().partition(".")
        if rest and rest.partition(".")[0] != self._namespace:
            return None
        return self._services.get(name)

    def service(
        self, asked: Asked, *, here: Service | None, chance: Callable[[], float]
    ) -> Service | None:
        """The service for the request, whose model becomes the service's own if a route's was asked for."""
        if here is not None:
            return here if here.serves(asked.model) else None
        found = self._by_model.get(asked.model)
        if found is not None:
            return found
        route = self._routes.get(asked.model)
        chosen = None if route is None else self._of_route(route, chance=chance)
        if chosen is not None:
            asked.model = chosen.settings.model
            asked.set({"model": asked.model})
        return chosen

    def models(self, names: Collection[str], *, here: Service | None) -> list[str]:
        """What clients may call; of these services alone."""
        services = [self._services[name] for name in names if name in self._services]
        models = [m for s in services for m in (s.settings.model, *s.settings.adapters)]
        if here is None:
            models += [
                route.model
                for route in self._routes.values()
                if all(name in names for name in _services_of(route))
            ]
        return models

    def dismiss(self) -> None:
        """Send away all who wait."""
        for service in self._services.values():
            service.dismiss(reasons.draining())

    def _of_route(self, route: config.Route, *, chance: Callable[[], float]) -> Service | None:
        """By weight; of stages the last, which answers everything."""
        if route.stages:
            return self._services.get(route.stages[-1].service)
        services = self._services
        chosen = cascade.split(route, chance(), among=services)
        return None if chosen is None else services[chosen]

    def _remove(self, service: Service) -> None:
        service.dismiss(reasons.unknown_model(service.settings.model))
        _, gone = service.pool.update({}, weights={}, capacity=1)
        self._changed((), gone)
        self._gone(service)


def _services_of(route: config.Route) -> list[str]:
    return [b.service for b in route.backends] + [stage.service for stage in route.stages]
