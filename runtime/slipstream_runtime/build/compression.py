"""One run of llm-compressor over a model: its calibration, its modifiers and its progress."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from llmcompressor import oneshot

from slipstream_runtime.build.steps.step import Tick
from slipstream_runtime.build.texts import Tokens

Report = Callable[[Tick], None]


def blocks(model: Any) -> list[Any]:
    """Return the repeated blocks of a model: its list of modules with the most parameters."""
    lists = [list(part) for part in model.modules() if isinstance(part, torch.nn.ModuleList)]
    return max(lists, key=_size, default=[])


def _size(parts: Sequence[Any]) -> int:
    return sum(weight.numel() for part in parts for weight in part.parameters())


def linears(model: Any) -> dict[str, Any]:
    """Return the linear layers inside the blocks by name."""
    inside = {id(part) for block in blocks(model) for part in block.modules()}
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and id(part) in inside
    }


def outside(model: Any) -> list[str]:
    """Return names of linear layers outside the blocks, such as the head of a classifier."""
    inside = linears(model)
    return [
        name
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and name not in inside
    ]


def passes(blocks_count: int, samples: int, calibrations: int) -> int:
    """Return how often a sample passes a block: once to calibrate it and once to feed the next, per modifier."""
    return max(1, 2 * blocks_count * samples * calibrations)


def compress(
    model: Any, modifiers: Sequence[Any], samples: Sequence[Tokens], *, report: Report
) -> None:
    """Apply the modifiers to the model in place."""
    parts = blocks(model)
    calibrations = sum(bool(one.requires_calibration_data) for one in modifiers)
    total = passes(len(parts), len(samples), calibrations)
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done = min(done + 1, total)
        report(Tick(done, total))

    hooks = [part.register_forward_hook(count) for part in parts]
    report(Tick(0, total))
    try:
        oneshot(
            model=model,
            recipe=list(modifiers),
            dataset=_loader(samples) if samples else None,
        )
    finally:
        for hook in hooks:
            hook.remove()
    report(Tick(total, total))


def _loader(samples: Sequence[Tokens]) -> Any:
    """Return one batch per sample, so that no sample is cut to the length of another."""

    def batch(rows: Sequence[Tokens]) -> dict[str, Any]:
        ids = torch.tensor([list(rows[0].ids)])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return torch.utils.data.DataLoader(list(samples), batch_size=1, collate_fn=batch)
