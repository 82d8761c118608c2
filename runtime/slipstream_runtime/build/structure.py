"""Structure of a decoder: whole layers, attention heads, feed-forward channels and the width, cut by torch-pruning.

A cut changes the model in place. `rebuilt` returns a new model of transformers with the same weights, whose
configuration says the new sizes: that one is trained and saved.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch_pruning

from slipstream_runtime.build import decoders
from slipstream_runtime.errors import UnsuitableError


def decoder(model: Any) -> Any:
    """Return the module that holds the decoder's layers."""
    found = model.get_decoder() if hasattr(model, "get_decoder") else None
    if found is None or not hasattr(found, "layers"):
        raise UnsuitableError(
            f"source: {type(model).__name__} can't be cut because it has no list of decoder layers."
            " Use a decoder such as Llama, Qwen or Mistral."
        )
    return found


def settings(model: Any) -> Any:
    """Return the configuration of the decoder."""
    return model.config.get_text_config()


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Remove all other layers."""
    config, old = settings(model), decoder(model).layers
    decoder(model).layers = torch.nn.ModuleList(old[at] for at in kept)
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == len(old) and name != "architectures":
            setattr(config, name, [value[at] for at in kept])
    config.num_hidden_layers = len(kept)


def attention(layer: Any) -> Any:
    """Return the attention of a layer, with separate projections."""
    return _part(layer, ("q_proj", "k_proj", "v_proj", "o_proj"), "heads")


def feed_forward(layer: Any) -> Any:
    """Return the feed-forward block of a layer."""
    return _part(layer, ("down_proj",), "channels")


def _part(layer: Any, names: Iterable[str], what: str) -> Any:
    for child in layer.children():
        if all(hasattr(child, name) for name in names):
            return child
    raise UnsuitableError(
        f"prune.{what}: {type(layer).__name__} can't be cut because it has no {' and '.join(names)}."
        " Use layers instead."
    )


def head_size(model: Any) -> int:
    """Return the width of one attention head."""
    config = settings(model)
    size: int = (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    return size


def group_size(model: Any) -> int:
    """Return the width of one key and value head's query heads."""
    config = settings(model)
    return head_size(model) * int(config.num_attention_heads // config.num_key_value_heads)


def cut_heads(model: Any, kept: Sequence[Sequence[int]]) -> None:
    """Keep these groups of heads in each layer: a key and value head, with the query heads that share it."""
    config, size = settings(model), head_size(model)
    shared = config.num_attention_heads // config.num_key_value_heads
    for layer, groups in zip(decoder(model).layers, kept, strict=True):
        block = attention(layer)
        cut = [group for group in range(config.num_key_value_heads) if group not in groups]
        queries = _places(cut, shared * size)
        torch_pruning.prune_linear_out_channels(block.q_proj, queries)
        torch_pruning.prune_linear_in_channels(block.o_proj, queries)
        for projection in (block.k_proj, block.v_proj):
            torch_pruning.prune_linear_out_channels(projection, _places(cut, size))
    config.head_dim = size
    config.num_key_value_heads = len(kept[0])
    config.num_attention_heads = len(kept[0]) * shared


def _places(blocks: Iterable[int], size: int) -> list[int]:
    return [place for block in blocks for place in range(block * size, (block + 1) * size)]


def cut_channels(model: Any, kept: Sequence[Sequence[int]]) -> None:
    """Keep these channels of the feed-forward block of each layer."""
    graph = dependencies(model)
    for layer, places in zip(decoder(model).layers, kept, strict=True):
        down = feed_forward(layer).down_proj
        cut = sorted(set(range(down.in_features)) - set(places))
        if cut:
            graph.get_pruning_group(down, torch_pruning.prune_linear_in_channels, cut).prune()
    settings(model).intermediate_size = len(kept[0])


def cut_width(model: Any, kept: Sequence[int]) -> None:
    """Keep these channels of the stream that all layers add to."""
    config, size = settings(model), head_size(model)
    _width(model, sorted(set(range(config.hidden_size)) - set(kept))).prune()
    config.head_dim = size
    config.hidden_size = len(kept)


def _width(model: Any, places: Sequence[int]) -> Any:
    """Return the matrices that these channels of the stream touch, as a group of torch-pruning."""
    return dependencies(model).get_pruning_group(
        model.get_input_embeddings(), torch_pruning.prune_embedding_out_channels, list(places)
    )


def narrow(model: Any, hidden: int) -> None:
    """Cut the width, and heads and feed-forward channels in proportion. The weights decide: greater squares stay."""
    sizes = decoders.narrowed(settings(model).to_dict(), hidden)
    queries = group_size(model)
    layers = decoder(model).layers
    outputs = [_squares(attention(layer).o_proj.weight, axis=0) for layer in layers]
    cut_heads(model, [decoders.best(_sums(one, queries), sizes.groups) for one in outputs])
    downs = [_squares(feed_forward(layer).down_proj.weight, axis=0) for layer in layers]
    cut_channels(model, [decoders.best(one, sizes.channels) for one in downs])
    cut_width(model, decoders.best(_width_squares(model), hidden))


def _sums(values: Sequence[float], size: int) -> list[float]:
    return [sum(values[at : at + size]) for at in range(0, len(values), size)]


def _squares(weight: Any, *, axis: int) -> list[float]:
    """Return each channel's share of the squared weights."""
    squares = weight.detach().double().pow(2)
    found: list[float] = (squares.sum(axis) / squares.sum()).tolist()
    return found


def _width_squares(model: Any) -> list[float]:
    """Return for each channel of the stream its shares of all matrices that it touches, added."""
    total = [0.0] * settings(model).hidden_size
    for dependency, _ in _width(model, range(len(total))):
        module = dependency.target.module
        if not isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
            continue
        columns = module.weight.shape[1] == len(total) and "in_channels" in str(dependency)
        axis = 0 if columns or isinstance(module, torch.nn.Embedding) else 1
        for place, value in enumerate(_squares(module.weight, axis=axis)):
            total[place] += value
    return total


def rebuilt(model: Any) -> Any:
    """Return a new model of the changed sizes with the weights of the cut one, in float32."""
    made = type(model)(copy.deepcopy(model.config))
    made.load_state_dict(model.state_dict())
    made.generation_config = copy.deepcopy(model.generation_config)
    return made.eval()


def dependencies(model: Any) -> Any:
    """Return the graph by which torch-pruning finds all matrices that one channel touches."""

    class Scale(torch_pruning.pruner.BasePruningFunc):  # type: ignore[misc]
        """Norm with one weight for each channel."""

        def prune_out_channels(self, layer: Any, idxs: Sequence[int]) -> Any:
            kept = sorted(set(range(layer.weight.shape[0])) - set(idxs))
            layer.weight = torch.nn.Parameter(layer.weight.data[kept])
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: Any) -> int:
            return int(layer.weight.shape[0])

        get_in_channels = get_out_channels

    norms = {
        type(module)
        for module in model.modules()
        if [name for name, _ in module.named_parameters()] == ["weight"]
        and next(module.parameters()).ndim == 1
    }
    ids = torch.arange(8, device=model.device)[None] % settings(model).vocab_size
    return torch_pruning.DependencyGraph().build_dependency(
        model,
        example_inputs={"input_ids": ids, "use_cache": False},
        output_transform=lambda out: out.logits,
        customized_pruners={norm: Scale() for norm in norms},
    )
