"""Importance of the parts of a decoder, measured on texts: of layers, of groups of heads, and of channels."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from slipstream_runtime.build import structure
from slipstream_runtime.build.texts import Tokens

Report = Callable[[int, int], None]


def of_layers(model: Any, samples: Sequence[Tokens], *, report: Report) -> list[float]:
    """Return for each layer the loss of the model without it, per token."""
    stack = structure.decoder(model)
    layers, losses = stack.layers, []
    for left_out in range(len(layers)):
        stack.layers = torch.nn.ModuleList(
            layer for at, layer in enumerate(layers) if at != left_out
        )
        with torch.no_grad():
            losses.append(sum(float(_loss(model, one)) for one in samples))
        report(left_out + 1, len(layers))
    stack.layers = layers
    tokens = sum(len(one.ids) - max(1, one.answer) for one in samples)
    return [loss / tokens for loss in losses]


def of_heads(model: Any, samples: Sequence[Tokens], *, report: Report) -> list[list[float]]:
    """Return for each layer the importance of its groups of heads, as `structure.cut_heads` counts them."""
    outputs = [structure.attention(layer).o_proj for layer in structure.decoder(model).layers]
    size = structure.group_size(model)
    return [
        [sum(row[at : at + size]) for at in range(0, len(row), size)]
        for row in _of_inputs(model, outputs, samples, report=report)
    ]


def of_channels(model: Any, samples: Sequence[Tokens], *, report: Report) -> list[list[float]]:
    """Return for each layer the importance of the channels of its feed-forward block."""
    downs = [structure.feed_forward(layer).down_proj for layer in structure.decoder(model).layers]
    return _of_inputs(model, downs, samples, report=report)


def _of_inputs(
    model: Any, matrices: Sequence[Any], samples: Sequence[Tokens], *, report: Report
) -> list[list[float]]:
    """Return for each matrix the importance of its inputs.

    It is the change of the loss if an input were zero, to first order: value times gradient, added over the tokens
    of a text, and its size added over the texts (Michel et al. 2019, Molchanov et al. 2019).
    """
    found = [torch.zeros(matrix.in_features, dtype=torch.float64) for matrix in matrices]
    with _recorded(matrices) as inputs:
        for done, one in enumerate(samples, start=1):
            inputs.clear()
            _loss(model, one).backward()
            for total, matrix in zip(found, matrices, strict=True):
                value = inputs[matrix]
                change = (value * value.grad).sum(dim=tuple(range(value.ndim - 1)))
                total += change.abs().double().cpu()
            model.zero_grad(set_to_none=True)
            report(done, len(samples))
    return [total.tolist() for total in found]


@contextlib.contextmanager
def _recorded(matrices: Sequence[Any]) -> Iterator[dict[Any, Any]]:
    """Keep the inputs of the matrices, with their gradients, while the block runs."""
    kept: dict[Any, Any] = {}

    def keep(matrix: Any, inputs: tuple[Any, ...]) -> None:
        inputs[0].retain_grad()
        kept[matrix] = inputs[0]

    hooks = [matrix.register_forward_pre_hook(keep) for matrix in matrices]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _loss(model: Any, one: Tokens) -> Any:
    """Return the cross entropy of an answer, or of a whole text, added over its tokens."""
    ids = torch.tensor([one.ids], device=model.device)
    begin = max(1, one.answer)
    logits = model(input_ids=ids, use_cache=False).logits[0, begin - 1 : -1].float()
    return functional.cross_entropy(logits, ids[0, begin:], reduction="sum")
