"""Answers of a route's services, and the tokens spent on discarded answers. Values."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of prompts and of answers, by the engines' own counts."""

    prompt: int = 0
    output: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.output + other.output)


@dataclass(frozen=True, slots=True)
class StageTotals:
    """One stage; answers that failed count in neither."""

    kept: int = 0
    """Answers that clients got."""
    discarded: int = 0
    kept_tokens: Tokens = Tokens()
    discarded_tokens: Tokens = Tokens()


@dataclass(frozen=True, slots=True)
class RouteTotals:
    """One route since the router's start; every method returns a new one."""

    stages: tuple[StageTotals, ...]
    requests: int = 0
    escalated: int = 0
    """Requests of which an answer did not stand."""

    @staticmethod
    def empty(stages: int) -> "RouteTotals":
        """Before the first request."""
        return RouteTotals((StageTotals(),) * stages)

    def with_request(self) -> "RouteTotals":
        """A request came."""
        return replace(self, requests=self.requests + 1)

    def with_kept(self, stage: int, tokens: Tokens) -> "RouteTotals":
        """A stage's answer went to the client."""
        old = self.stages[stage]
        new = replace(old, kept=old.kept + 1, kept_tokens=old.kept_tokens + tokens)
        return self._with(stage, new)

    def with_escalation(self) -> "RouteTotals":
        """The first answer of a request did not stand, and the next stage is asked."""
        return replace(self, escalated=self.escalated + 1)

    def with_discarded(self, stage: int, tokens: Tokens) -> "RouteTotals":
        """Nobody got a stage's answer."""
        old = self.stages[stage]
        new = replace(
            old, discarded=old.discarded + 1, discarded_tokens=old.discarded_tokens + tokens
        )
        return self._with(stage, new)

    @property
    def saved(self) -> Tokens:
        """Output tokens that the last stage did not compute because an earlier stage's answer was kept."""
        return sum((stage.kept_tokens for stage in self.stages[:-1]), Tokens())

    @property
    def spent(self) -> Tokens:
        """Output tokens of answers that no client got."""
        return sum((stage.discarded_tokens for stage in self.stages), Tokens())

    @property
    def shares(self) -> tuple[float, ...] | None:
        """The share of the clients' answers that each stage gave; None before the first."""
        total = sum(stage.kept for stage in self.stages)
        return tuple(stage.kept / total for stage in self.stages) if total else None

    def _with(self, stage: int, totals: StageTotals) -> "RouteTotals":
        return replace(self, stages=(*self.stages[:stage], totals, *self.stages[stage + 1 :]))
