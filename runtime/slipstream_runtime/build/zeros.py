"""Zeros of linear layers, counted one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Zeros:
    """Counts over all linear layers inside the blocks of a model."""

    weights: int
    zeros: int
    groups: int
    """Number of groups of 4 neighboring inputs of one output; 0 if a layer has no whole number of them."""
    groups_of_two: int
    """Number of those groups that have at least 2 zeros."""

    @property
    def share(self) -> float:
        """Return the share of weights that are zero."""
        return self.zeros / max(1, self.weights)

    @property
    def two_of_four(self) -> bool:
        """Whether every group of 4 has at least 2 zeros."""
        return 0 < self.groups == self.groups_of_two


def count(linears: Mapping[str, Any]) -> Zeros:
    """Count the zeros of these layers of torch."""
    found = [_count(layer.weight) for layer in linears.values()]
    whole = all(one.groups for one in found)
    return Zeros(
        weights=sum(one.weights for one in found),
        zeros=sum(one.zeros for one in found),
        groups=sum(one.groups for one in found) if whole else 0,
        groups_of_two=sum(one.groups_of_two for one in found),
    )


def _count(weight: Any) -> Zeros:
    zero = weight == 0
    whole = weight.shape[-1] % 4 == 0
    pairs = zero.unflatten(-1, (-1, 4)).sum(-1) >= 2 if whole else zero[:0]
    return Zeros(
        weights=zero.numel(),
        zeros=int(zero.sum()),
        groups=pairs.numel(),
        groups_of_two=int(pairs.sum()),
    )
