"""One InferenceRoute at run time: its services, and the account of what they answered."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipstream_runtime.router import config
from slipstream_runtime.router.cache.sharing import PATHS
from slipstream_runtime.router.cascade import decisions
from slipstream_runtime.router.cascade.totals import RouteTotals, Tokens
from slipstream_runtime.router.metrics import Metrics, RouteMetrics
from slipstream_runtime.router.service import Service


class Route:
    """State of one route in the router; belongs to one event loop.

    A position counts its stages, or its backends, from 0.
    """

    def __init__(
        self, settings: config.Route, services: Sequence[Service], *, metrics: Metrics
    ) -> None:
        self.settings = settings
        self.services = services
        self.totals = RouteTotals.empty(len(services))
        self._metrics = RouteMetrics(metrics, settings.name, self.names)

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the services, by position."""
        return [service.name for service in self.services]

    def configure(self, settings: config.Route, services: Sequence[Service]) -> None:
        """Go by these settings from now on; the services have the names of those before."""
        self.settings = settings
        self.services = services

    def positions(self, path: str, *, chance: Callable[[], float]) -> Sequence[int]:
        """Whom to ask, one after the other.

        Only answers that are text can be judged: of anything else the last stage answers all.
        """
        if self.settings.stages:
            last = len(self.services) - 1
            return range(last + 1) if path in PATHS else (last,)
        drawn = decisions.split(self.settings, chance())
        assert drawn is not None
        return (self.names.index(drawn),)

    def count_request(self) -> None:
        """A request came."""
        self.totals = self.totals.with_request()

    def count_kept(self, position: int, tokens: Tokens) -> None:
        """A client got the service's answer."""
        self.totals = self.totals.with_kept(position, tokens)
        self._metrics.kept(position, tokens.output)

    def count_discarded(self, position: int, tokens: Tokens) -> None:
        """Nobody got the service's answer."""
        self.totals = self.totals.with_discarded(position, tokens)
        self._metrics.discarded(position, tokens.output)

    def count_escalation(self, position: int, reason: decisions.Reason) -> None:
        """A request goes on to the next stage."""
        self._metrics.escalated(position, reason)

    def count_replaced(self) -> None:
        """The first answer of a request does not stand."""
        self.totals = self.totals.with_escalation()

    def status(self) -> Mapping[str, Any]:
        """For people who look for a fault."""
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
        """It is gone."""
        self._metrics.forget()
