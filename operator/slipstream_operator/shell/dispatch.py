"""Dispatch of each key to its reconciler."""

from slipstream_operator import names
from slipstream_operator.core.observed import Key
from slipstream_operator.shell.route_reconciler import RouteReconciler
from slipstream_operator.shell.router_reconciler import RouterReconciler
from slipstream_operator.shell.service_reconciler import ServiceReconciler


class Dispatcher:
    """One look at whatever a key stands for."""

    def __init__(
        self, *, services: ServiceReconciler, routers: RouterReconciler, routes: RouteReconciler
    ) -> None:
        self._services = services
        self._routers = routers
        self._routes = routes

    async def reconcile(self, key: Key) -> float | None:
        """Seconds until the key wants to be looked at again, if nothing happens before."""
        match key.kind:
            case names.ROUTER:
                return await self._routers.reconcile(key.namespace)
            case names.INFERENCE_ROUTE:
                return await self._routes.reconcile(key)
            case _:
                return await self._services.reconcile(key)
