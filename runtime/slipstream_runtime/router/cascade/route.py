"""One InferenceRoute at run time: its services, and the account of what they answered."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipstream_runtime.router import config
from slipstream_runtime.router.cache.sharing import PATHS
from slipstream_runtime.router.cascade import decisions as cascade
from slipstream_runtime.router.cascade.totals import Account, Tokens
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
        self.account = Account.empty(len(services))
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
        drawn = cascade.split(self.settings, chance())
        assert drawn is not None
        return (self.names.index(drawn),)

    def asked(self) -> None:
        """A request came."""
        self.account = self.account.asked()

    def kept(self, position: int, tokens: Tokens) -> None:
        """A client got the service's answer."""
        self.account = self.account.kept(position, tokens)
        self._metrics.kept(position, tokens.output)

    def discarded(self, position: int, tokens: Tokens) -> None:
        """Nobody got the service's answer."""
        self.account = self.account.discarded(position, tokens)
        self._metrics.discarded(position, tokens.output)

    def passed(self, position: int, reason: cascade.Reason) -> None:
        """A request goes on to the next stage."""
        self._metrics.escalated(position, reason)

    def replaced(self) -> None:
        """The first answer of a request does not stand."""
        self.account = self.account.went_on()

    def status(self) -> Mapping[str, Any]:
        """For people who look for a fault."""
        account = self.account
        shares = account.shares or (None,) * len(self.services)
        return {
            "requests": account.requests,
            "escalated": account.escalated,
            "services": [
                {"name": name, "share": share}
                for name, share in zip(self.names, shares, strict=True)
            ],
            "savedTokens": account.saved.output if self.settings.stages else None,
            "discardedTokens": account.spent.output,
        }

    def forget(self) -> None:
        """It is gone."""
        self._metrics.forget()
