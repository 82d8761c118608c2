"""Replicas of both revisions during a rollout.

Both get replicas in proportion to their shares of the requests, as far as the bounds allow. So they are compared at
about the same load per replica.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Counts:
    """Replicas of each revision."""

    stable: int
    canary: int


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of the replicas of both revisions together."""

    replicas: int
    """Replicas that the service needs."""
    surge: int | None = None
    """Maximum additional replicas; None for no limit."""
    quota: int | None = None
    """Maximum replicas of both revisions by the namespace's quota; None without a quota."""

    @property
    def has_room(self) -> bool:
        """Whether a replica of each revision can run."""
        return self.surge is None or self.replicas + self.surge >= 2


def of_step(share: int, limits: Limits) -> Counts:
    """Return the replicas for a step in which the canary gets `share` percent of the requests."""
    need = limits.replicas
    if need == 0:
        return Counts(0, 0)
    wanted = min(max(math.ceil(need * share / (100 - share)), 1), need)
    if limits.surge is None or wanted <= limits.surge:
        return Counts(need, wanted)
    total = need + limits.surge
    canary = min(max(round(total * share / 100), 1), need)
    return Counts(min(max(total - canary, 1), need), canary)


def of_promotion(limits: Limits) -> Counts:
    """Return the replicas before all requests move to the canary."""
    need = limits.replicas
    if limits.surge is None or limits.surge >= need:
        return Counts(need, need)
    total = need + limits.surge
    canary = max(min(need, total - 1), 1)
    return Counts(total - canary, canary)


def toward(target: Counts, limits: Limits, *, ready: int) -> Counts:
    """Return the next replicas on the way to the target, from the canary's `ready` replicas.

    With a limited surge, old replicas stop only as new ones are ready.
    """
    if limits.surge is None or limits.replicas == 0:
        return _within_quota(target, limits)
    canary = min(target.canary, ready + max(limits.surge, 1))
    total = limits.replicas + limits.surge
    stable = max(min(total - canary, limits.replicas), target.stable)
    return _within_quota(Counts(stable, canary), limits)


def _within_quota(counts: Counts, limits: Limits) -> Counts:
    """Return the counts with as few replicas of the canary as the quota leaves."""
    if limits.quota is None:
        return counts
    return Counts(counts.stable, max(0, min(counts.canary, limits.quota - counts.stable)))
