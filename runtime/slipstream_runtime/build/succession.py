"""Shape of the checkpoint that a step leaves to the next one, by its config.json. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from slipstream_runtime.build import decoders, shapes
from slipstream_runtime.build.recipe import Prune, Shape, Step
from slipstream_runtime.build.steps import prune
from slipstream_runtime.build.steps.step import Checkpoint


def after(step: Step, source: Checkpoint) -> Checkpoint:
    """Return the facts about the step's checkpoint. Its bytes stay those of the source, which is an upper bound.

    A student by URI counts like its teacher, because its config.json is not known yet.
    """
    changes: Mapping[str, Any] = {}
    if step.distill is not None and isinstance(step.distill.student, Shape):
        changes = _student(step.distill.student, source.config)
    elif step.prune is not None:
        changes = _pruned(step.prune, source.config)
    return dataclasses.replace(source, config={**source.config, **changes})


def _student(wanted: Shape, config: Mapping[str, Any]) -> Mapping[str, Any]:
    sizes = shapes.shape(config)
    changes: dict[str, Any] = {"num_hidden_layers": wanted.layers}
    if wanted.hidden in (None, sizes.hidden):
        return changes
    narrow = decoders.narrowed(config, wanted.hidden)
    return {
        **changes,
        "hidden_size": wanted.hidden,
        "intermediate_size": narrow.channels,
        **_heads(narrow.groups, sizes),
    }


def _pruned(wanted: Prune, config: Mapping[str, Any]) -> Mapping[str, Any]:
    sizes = shapes.shape(config)
    if wanted.layers is not None:
        return {"num_hidden_layers": prune.kept(sizes.layers, wanted.layers, "layers")}
    if wanted.channels is not None:
        return {"intermediate_size": prune.kept(sizes.inner, wanted.channels, "channels")}
    assert wanted.heads is not None
    return _heads(prune.kept(sizes.key_value_heads, wanted.heads, "heads"), sizes)


def _heads(groups: int, sizes: shapes.Shape) -> Mapping[str, Any]:
    return {
        "num_key_value_heads": groups,
        "num_attention_heads": groups * (sizes.heads // sizes.key_value_heads),
        "head_dim": sizes.head,
    }
