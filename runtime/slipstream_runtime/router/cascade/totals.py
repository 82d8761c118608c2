"""Totals of a route: answers per service, and tokens of kept and discarded answers."""

from dataclasses import dataclass, replace
from typing import Final

from slipstream_runtime.router.messages.usage import Tokens

_ZERO: Final = Tokens()


@dataclass(frozen=True, slots=True)
class StageTotals:
    """Totals of one stage, without failed answers."""

    kept: int = 0
    """Answers that clients got."""
    discarded: int = 0
    kept_tokens: Tokens = _ZERO
    discarded_tokens: Tokens = _ZERO


@dataclass(frozen=True, slots=True)
class RouteTotals:
    """Totals of one route since the router's start; immutable."""

    stages: tuple[StageTotals, ...]
    requests: int = 0
    escalated: int = 0
    """Requests with a discarded answer."""

    @staticmethod
    def empty(stages: int) -> "RouteTotals":
        """Return zero totals."""
        return RouteTotals((StageTotals(),) * stages)

    def with_request(self) -> "RouteTotals":
        """Return the totals with one more request."""
        return replace(self, requests=self.requests + 1)

    def with_kept(self, stage: int, tokens: Tokens) -> "RouteTotals":
        """Return the totals with a stage's answer that the client got."""
        old = self.stages[stage]
        new = replace(old, kept=old.kept + 1, kept_tokens=old.kept_tokens + tokens)
        return self._with(stage, new)

    def with_escalation(self) -> "RouteTotals":
        """Return the totals with a request whose first answer was discarded."""
        return replace(self, escalated=self.escalated + 1)

    def with_discarded(self, stage: int, tokens: Tokens) -> "RouteTotals":
        """Return the totals with a stage's answer that no client got."""
        old = self.stages[stage]
        new = replace(
            old, discarded=old.discarded + 1, discarded_tokens=old.discarded_tokens + tokens
        )
        return self._with(stage, new)

    @property
    def saved(self) -> Tokens:
        """Output tokens that the last stage did not compute because an earlier stage's answer was kept."""
        return sum((stage.kept_tokens for stage in self.stages[:-1]), _ZERO)

    @property
    def spent(self) -> Tokens:
        """Output tokens of answers that no client got."""
        return sum((stage.discarded_tokens for stage in self.stages), _ZERO)

    @property
    def shares(self) -> tuple[float, ...] | None:
        """Share of the clients' answers that each stage gave; None before the first."""
        total = sum(stage.kept for stage in self.stages)
        return tuple(stage.kept / total for stage in self.stages) if total else None

    def _with(self, stage: int, totals: StageTotals) -> "RouteTotals":
        return replace(self, stages=(*self.stages[:stage], totals, *self.stages[stage + 1 :]))
