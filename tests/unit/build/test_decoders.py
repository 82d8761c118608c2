"""Facts about a decoder that need no weights."""

from typing import Any

import pytest

from slipstream_runtime.build import decoders, shapes

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 4,
    "hidden_size": 128,
    "vocab_size": 800,
    "num_attention_heads": 4,
    "intermediate_size": 384,
}


@pytest.mark.parametrize(
    ("count", "of", "expected"),
    [(2, 4, [0, 3]), (1, 4, [0]), (3, 5, [0, 2, 4]), (4, 4, [0, 1, 2, 3]), (3, 4, [0, 2, 3])],
)
def test_layers_are_spread_evenly_with_the_first_and_the_last(
    count: int, of: int, expected: list[int]
) -> None:
    assert decoders.evenly(count, of=of) == expected


def test_a_choice_of_layers_has_no_layer_twice() -> None:
    for of in range(1, 90):
        for count in range(1, of + 1):
            assert len(set(decoders.evenly(count, of=of))) == count


def test_the_greatest_scores_stay_in_order_of_place() -> None:
    assert decoders.best([0.1, 5.0, 3.0, 5.0], 2) == [1, 3]
    assert decoders.best([1.0, 1.0, 1.0], 2) == [0, 1]


@pytest.mark.parametrize(
    ("batch", "length", "expected"),
    [(8, 1024, 1), (8, 2048, 2), (8, 8192, 8), (8, 100_000, 8), (6, 4096, 3), (7, 2048, 7)],
)
def test_a_batch_is_split_into_equal_passes_that_fit(
    batch: int, length: int, expected: int
) -> None:
    assert decoders.passes(batch, length) == expected


def test_an_encoder_is_refused_by_the_name_of_its_architecture() -> None:
    reason = decoders.refusal("distill", LLAMA | {"architectures": ["BertModel"]})
    assert reason is not None
    assert reason.startswith('distill: "BertModel" can\'t work because it is no decoder')


def test_a_config_without_a_size_is_refused_by_the_name_of_the_size() -> None:
    reason = decoders.refusal("prune", {k: v for k, v in LLAMA.items() if k != "vocab_size"})
    assert reason is not None
    assert "vocab_size" in reason
    assert decoders.refusal("prune", LLAMA) is None


def test_tied_embeddings_count_once() -> None:
    assert shapes.shape(LLAMA).embedding == 2 * 800 * 128
    assert shapes.shape(LLAMA | {"tie_word_embeddings": True}).embedding == 800 * 128


def test_sizes_of_a_nested_text_model_are_found() -> None:
    nested = {"architectures": ["Gemma3ForCausalLM"], "text_config": LLAMA}
    assert decoders.refusal("distill", nested) is None
    assert shapes.shape(nested).layers == 4
