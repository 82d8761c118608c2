"""Muon, the optimiser of the layers' matrices, in float32 and batched by shape.

NB: torch.optim.Muon works in bfloat16, which CPUs without that type run some ten times slower.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch


def orthogonalise(matrices: torch.Tensor, *, steps: int = 4) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, roughly, by Newton-Schulz; rows must not exceed columns."""
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (2.0315 * square @ square - 4.775 * square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal, scaled to the size of an AdamW step."""

    def __init__(self, params: Iterable[torch.nn.Parameter], *, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            shapes = defaultdict(list)
            for parameter in group["params"]:
                shapes[parameter.shape].append(parameter)
            for (rows, columns), alike in shapes.items():
                gradient = torch.stack([p.grad for p in alike])
                state = self.state[alike[0]]
                mean = state.setdefault("mean", torch.zeros_like(gradient))
                mean.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(mean, group["momentum"])
                tall = rows > columns
                update = orthogonalise(update.mT).mT if tall else orthogonalise(update)
                size = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                torch._foreach_add_(alike, list(update.unbind()), alpha=-size)
