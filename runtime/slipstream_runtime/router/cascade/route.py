"""State of one InferenceRoute: its services, and totals of their answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipstream_runtime.router import config
from slipstream_runtime.router.cache.sharing import PATHS
from slipstream_runtime.router.cascade import decisions
from slipstream_runtime.router.cascade.totals import RouteTotals
from slipstream_runtime.router.hooks.hooks import Hooks
from slipstream_runtime.router.messages.usage import Tokens
from slipstream_runtime.router.metrics import Metrics, RouteMetrics
from slipstream_runtime.router.service import Service


class Route:
    """State of one route in the router; belongs to one event loop.

    A position is the index of a stage or a backend.
    """

    def __init__(
        self,
        settings: config.Route,
        services: Sequence[Service],
        *,
        metrics: Metrics,
        hooks: Hooks,
    ) -> None:
        self.settings = settings
        self.services = services
        self.hooks = hooks
        self.totals = RouteTotals.empty(len(services))
        self._metrics = RouteMetrics(metrics, settings.name, self.names)

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the services, by position."""
        return [service.name for service in self.services]

    def configure(self, settings: config.Route, services: Sequence[Service]) -> None:
        """Apply new settings; the services have the same names as before."""
        self.settings = settings
        self.services = services
        self.hooks.configure(settings)

    def positions(self, path: str, *, chance: Callable[[], float]) -> Sequence[int]:
        """Return the positions to try, in order.

        Only text can be judged: requests to other paths go to the last stage.
        """
        if self.settings.stages:
            last = len(self.services) - 1
            return range(last + 1) if path in PATHS else (last,)
        drawn = decisions.split(self.settings, chance())
        assert drawn is not None
        return (self.names.index(drawn),)

    def count_request(self) -> None:
        """Count a request."""
        self.totals = self.totals.with_request()

    def count_kept(self, position: int, tokens: Tokens) -> None:
        """Count an answer that a client got."""
        self.totals = self.totals.with_kept(position, tokens)
        self._metrics.kept(position, tokens.output)

    def count_discarded(self, position: int, tokens: Tokens) -> None:
        """Count an answer that no client got."""
        self.totals = self.totals.with_discarded(position, tokens)
        self._metrics.discarded(position, tokens.output)

    def count_escalation(self, position: int, reason: decisions.EscalationReason) -> None:
        """Count an escalation from this position."""
        self._metrics.escalated(position, reason)

    def count_replaced(self) -> None:
        """Count a request whose first answer was discarded."""
        self.totals = self.totals.with_escalation()

    def status(self) -> Mapping[str, Any]:
        """Return the totals, for troubleshooting."""
        totals = self.totals
        shares = totals.shares or (None,) * len(self.services)
        return {
            "requests": totals.requests,
            "escalated": totals.escalated,
            "services": [
                {"name": name, "share": share}
                for name, share in zip(self.names, shares, strict=True)
            ],
            "savedTokens": totals.saved.output if self.settings.stages else None,
            "discardedTokens": totals.spent.output,
        }

    def forget(self) -> None:
        """Remove the metrics of a route that is gone."""
        self._metrics.forget()
        self.hooks.forget()
