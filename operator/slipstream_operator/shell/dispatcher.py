"""Dispatch of each key to the reconciler of its kind."""

from slipstream_operator import names
from slipstream_operator.core.observed import Key
from slipstream_operator.shell.build_reconciler import BuildReconciler
from slipstream_operator.shell.route_reconciler import RouteReconciler
from slipstream_operator.shell.router_reconciler import RouterReconciler
from slipstream_operator.shell.service_reconciler import ServiceReconciler


class Dispatcher:
    """Reconciles the object of any key."""

    def __init__(
        self,
        *,
        services: ServiceReconciler,
        routers: RouterReconciler,
        routes: RouteReconciler,
        builds: BuildReconciler,
    ) -> None:
        self._services = services
        self._builds = builds
        self._routers = routers
        self._routes = routes

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile; return the seconds until the next reconcile, or None to wait for an event."""
        match key.kind:
            case names.ROUTER:
                return await self._routers.reconcile(key.namespace)
            case names.INFERENCE_ROUTE:
                return await self._routes.reconcile(key)
            case names.MODEL_BUILD:
                return await self._builds.reconcile(key)
            case _:
                return await self._services.reconcile(key)
