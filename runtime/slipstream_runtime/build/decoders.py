"""Limits of a decoder by its config.json, and choices among its parts. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipstream_runtime.build import shapes

TOKENS: Final = 8192
"""Tokens of one pass through student and teacher, so that the logits of a large vocabulary fit in the memory."""
_ANY_HEADS: Final = frozenset({"qwen2", "qwen3", "mistral"})
"""Model types of which transformers takes any number of heads. All others must have a divisor of the width."""
MULTIPLE: Final = 32
"""Widths are kept in multiples of this, which matrix kernels prefer."""


def refusal(field: str, config: Mapping[str, Any]) -> str | None:
    """Return the reason why this checkpoint is no decoder that a step can work on."""
    architecture = next(iter(config.get("architectures") or ()), "")
    if not architecture.endswith("ForCausalLM"):
        return (
            f'{field}: "{architecture or config.get("model_type", "unknown")}" can\'t work because it is no decoder'
            " that generates text. Use a checkpoint of a ...ForCausalLM architecture."
        )
    if missing := [name for name in _NEEDED if not isinstance(shapes.text(config).get(name), int)]:
        return (
            f"{field}: {architecture} can't work because its config.json has no {missing[0]}."
            " Use a checkpoint such as Llama, Qwen or Mistral."
        )
    return None


_NEEDED: Final = ("num_hidden_layers", "hidden_size", "vocab_size")


def groups(config: Mapping[str, Any], hidden: int) -> list[int]:
    """Return the numbers of groups of heads that a model of this width can have, with the heads of one group as now."""
    found = shapes.shape(config)
    shared = found.heads // found.key_value_heads
    every = range(1, found.key_value_heads + 1)
    if shapes.text(config).get("model_type") in _ANY_HEADS:
        return list(every)
    return [count for count in every if hidden % (count * shared) == 0]


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Sizes of a decoder whose width is cut."""

    groups: int
    """Key and value heads."""
    channels: int
    """Channels of the feed-forward blocks."""


def narrowed(config: Mapping[str, Any], hidden: int) -> Narrowed:
    """Return the sizes that belong to a smaller width: heads and channels in proportion, as far as possible."""
    sizes = shapes.shape(config)
    share = hidden / sizes.hidden
    channels = max(MULTIPLE, round(sizes.inner * share / MULTIPLE) * MULTIPLE)
    return Narrowed(
        min(groups(config, hidden), key=lambda count: abs(count - sizes.key_value_heads * share)),
        min(channels, sizes.inner),
    )


def evenly(count: int, *, of: int) -> list[int]:
    """Return that many layers, evenly spread, with the first and the last."""
    if count == 1:
        return [0]
    return [round(at * (of - 1) / (count - 1)) for at in range(count)]


def best(scores: Sequence[float], count: int) -> list[int]:
    """Return the places of the greatest scores, in order of place."""
    ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return sorted(ranked[:count])


def passes(batch: int, max_length: int) -> int:
    """Return the number of equal passes that a batch is split into."""
    return next(
        parts
        for parts in range(1, batch + 1)
        if batch % parts == 0 and (batch // parts * max_length <= TOKENS or parts == batch)
    )
