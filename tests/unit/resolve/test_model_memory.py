"""Memory of a model on an accelerator, and its splits, computed from its config.json."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core.facts import ModelFacts
from slipstream_operator.core.fit import (
    architecture,
    config_json,
    demands,
    kv,
    memory,
    model_types,
    parameters,
    split,
    verdict,
)
from slipstream_operator.core.fit.memory import GIB, Demand
from slipstream_operator.core.parallelism import Split
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from tests.support.configs import BILLIONS, CONFIGS

H100 = 79 * GIB


def read(name: str, **changes: Any) -> architecture.Architecture:
    found = config_json.read({**CONFIGS[name], **changes})
    assert found is not None
    return found


def demand(name: str = "Qwen3-8B", **fields: Any) -> Demand:
    model = ModelFacts(bytes=fields.pop("size", None), config=CONFIGS[name])
    base = Demand(model=model, draft=None, split=Split(), memory=H100, accelerator="nvidia-h100")
    return dataclasses.replace(base, **fields)


def estimate(name: str = "Qwen3-8B", **fields: Any) -> memory.Estimate:
    found = memory.estimate(demand(name, **fields))
    assert found is not None
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_are_counted_from_the_configuration_alone(name):
    assert parameters.count(read(name)).total / 1e9 == pytest.approx(BILLIONS[name], rel=0.01)


def test_weights_are_divided_by_tensor_and_pipeline_size_and_not_by_data_size():
    whole = estimate().weights
    assert whole == pytest.approx(2 * 8.19e9, rel=0.001)
    assert estimate(split=Split(tensor=4)).weights == pytest.approx(whole / 4, rel=0.001)
    assert estimate(split=Split(data=4)).weights == whole
    # Each of two stages holds half the layers, and the embedding or the output matrix.
    assert estimate(split=Split(pipeline=2)).weights == pytest.approx(whole / 2, rel=0.001)


def test_experts_are_divided_by_data_size_too_and_attention_is_not():
    split_four = estimate("Mixtral-8x7B", split=Split(data=4)).weights
    experts = parameters.count(read("Mixtral-8x7B")).experts
    assert split_four == pytest.approx(2 * (46.70e9 - experts * 3 / 4), rel=0.001)


def test_ranks_beyond_the_number_of_kv_heads_hold_copies():
    sixteen = estimate("Llama-3.1-70B", split=Split(tensor=16)).weights
    copied = parameters.count(read("Llama-3.1-70B")).key_value * (1 / 8 - 1 / 16)
    assert sixteen == pytest.approx(2 * (70.55e9 / 16 + copied), rel=0.001)


def test_weights_of_a_known_size_are_what_is_stored():
    assert estimate(size=16_381_470_720).weights == 16_381_470_720


def test_layers_of_multi_token_prediction_count_only_where_they_are_used():
    config = {**CONFIGS["DeepSeek-V3"], "num_nextn_predict_layers": 1}
    asked = demand(model=ModelFacts(bytes=688 * 10**9, config=config), split=Split(tensor=8))
    without = memory.estimate(asked)
    used = memory.estimate(dataclasses.replace(asked, mtp=True))
    assert without is not None and used is not None
    assert used.weights / without.weights == pytest.approx(62 / 61, rel=0.001)


def test_float32_weights_are_loaded_in_half_the_size():
    config = {**CONFIGS["Qwen3-8B"], "torch_dtype": "float32"}
    found = memory.estimate(demand(model=ModelFacts(bytes=32_000_000_000, config=config)))
    assert found is not None
    assert found.weights == pytest.approx(16e9, rel=0.1)


def test_quantizing_to_fp8_halves_all_but_the_vocabulary():
    vocabulary = 2 * 2 * 151936 * 4096
    assert estimate(fp8=True).weights == pytest.approx(
        (2 * 8.19e9 - vocabulary) / 2 + vocabulary, rel=0.001
    )


def test_a_quantized_checkpoint_is_not_quantized_again():
    assert estimate("gpt-oss-20b", fp8=True) == estimate("gpt-oss-20b")
    assert estimate("gpt-oss-20b").weights / 1e9 == pytest.approx(13.5, rel=0.1)


@pytest.mark.parametrize(
    ("name", "tensor", "value_bytes", "expected"),
    [
        ("Qwen3-8B", 1, 2, 36 * 8 * 2 * 128 * 2),
        ("Qwen3-8B", 1, 1, 36 * 8 * 2 * 128),
        ("Qwen3-8B", 4, 2, 36 * 2 * 2 * 128 * 2),
        ("Qwen3-8B", 16, 2, 36 * 1 * 2 * 128 * 2),
        ("DeepSeek-V3", 8, 2, 61 * (512 + 64) * 2),
        ("gpt2", 1, 2, 12 * 12 * 2 * 64 * 2),
    ],
)
def test_a_token_takes_its_kv_heads_of_this_accelerator(name, tensor, value_bytes, expected):
    found = kv.request_bytes(
        [(read(name), 1)], tensor=tensor, value_bytes=value_bytes, length=1600, in_flight=0
    )
    assert found == 1600 * expected


def test_layers_with_a_window_keep_the_window_and_what_is_under_way():
    found = kv.request_bytes(
        [(read("gpt-oss-20b"), 1)], tensor=1, value_bytes=2, length=131072, in_flight=2048
    )
    layer = 8 * 2 * 64 * 2
    window = (127 + 2048 + 15) // 16 + 1
    assert found == 12 * layer * (131072 + 16 * window)


def test_a_shared_cache_layer_takes_nothing():
    config = {**CONFIGS["Qwen3-8B"], "num_kv_shared_layers": 18}
    known = config_json.read(config)
    assert known is not None and known.layers is not None
    assert len(known.layers) == 18


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "jamba", "attn_layer_period": 8},
        {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*"},
        {"model_type": "bert"},
        {"model_type": "deepseek_v4", "compress_ratios": [4, 128]},
        {"layer_types": ["conv"] * 36},
        {"model_type": "kimi_linear", "linear_attn_config": {"full_attn_layers": [4, 8]}},
        {"model_type": "unknown_latent", "kv_lora_rank": 512, "qk_rope_head_dim": 64},
    ],
)
def test_of_layers_that_are_not_known_only_the_weights_are_checked(fields):
    config = {**CONFIGS["Qwen3-8B"], **fields}
    found = memory.estimate(demand(model=ModelFacts(bytes=16_381_470_720, config=config)))
    assert found is not None
    assert found.request is None
    assert found.weights == 16_381_470_720
    assert not found.impossible


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"num_key_value_heads": None, "n_head_kv": 8}, 8),
        ({"num_key_value_heads": None, "multi_query": True}, 1),
        ({"num_key_value_heads": None, "multi_query": True, "new_decoder_architecture": True}, 32),
        ({"num_key_value_heads": None}, 32),
    ],
)
def test_kv_heads_are_found_under_each_name(fields, expected):
    assert read("Qwen3-8B", **fields).kv_heads == expected


def test_every_key_that_is_read_is_reported():
    text = Path(config_json.__file__).read_text()
    keys = set(re.findall(r'config(?:\.get\(|\[)"(\w+)"', text))
    keys |= {
        key
        for call in re.findall(r"_number\((?:config|whole|rope),([^)]*)\)", text)
        for key in re.findall(r'"(\w+)"', call)
    }
    nested = {"original_max_position_embeddings"}
    assert keys - nested <= set(contract.FACT_KEYS)
    assert set(model_types.OTHER_CACHES) <= set(contract.FACT_KEYS)


def test_the_window_of_the_object_replaces_the_models():
    longer = estimate("gpt-oss-20b", sliding_window=4096).request
    assert longer is not None and longer > (estimate("gpt-oss-20b").request or 0)
    assert estimate(sliding_window=4096) == estimate()


def test_a_draft_takes_weights_and_kv_cache_beside_the_model():
    draft = ModelFacts(config=CONFIGS["Qwen3-0.6B"])
    with_draft, alone = estimate(draft=draft), estimate()
    assert with_draft.draft == pytest.approx(2 * 0.596e9, rel=0.01)
    assert (with_draft.request or 0) - (alone.request or 0) == 40960 * 28 * 8 * 2 * 128 * 2
    assert (with_draft.tokens or 0) < (alone.tokens or 0)


def test_a_draft_that_is_quantized_takes_less():
    draft = ModelFacts(config=CONFIGS["Qwen3-0.6B"])
    assert estimate(draft=draft, draft_fp8=True).draft < 0.7 * estimate(draft=draft).draft
    halved = {"draft": "hf://org/draft", "draftQuantization": "fp8"}
    h100 = Accelerator(name="gpu", memory="79Gi")
    assert demands.of({"speculation": halved}, h100, None).draft_fp8


def test_slots_of_adapters_take_memory_by_their_rank():
    small, large = (estimate(adapter_slots=4, adapter_rank=rank).adapters for rank in (16, 64))
    assert large == 4 * small > 0


def test_the_cache_is_what_is_left_of_the_share_that_vllm_takes():
    found = estimate()
    assert found.usable == int(0.92 * H100)
    assert found.kv == found.usable - found.weights - found.activations - found.graphs
    assert found.tokens == int(found.kv / (found.request or 0) * 40960)
    assert estimate(kv_memory=10 * GIB).kv == 10 * GIB


def test_yarn_lengthens_the_context():
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert read("Qwen3-8B", rope_scaling=rope).max_length == 131072


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("Qwen3-8B", Split(tensor=3), "32 attention heads can't be divided by 3"),
        ("Qwen3-8B", Split(tensor=8), None),
        ("Qwen3-8B", Split(tensor=16), None),
        ("Qwen3-30B-A3B", Split(tensor=8), None),
        ("gpt2", Split(tensor=5), "12 attention heads can't be divided by 5"),
        ("DeepSeek-V3", Split(tensor=16), None),
        ("DeepSeek-V3", Split(tensor=32), "not whole blocks of 128"),
        ("Qwen3-8B", Split(pipeline=37), "36 layers can't make 37 stages"),
        ("Qwen3-Next-80B-A3B", Split(tensor=16), None),
        ("Qwen3-30B-A3B", Split(tensor=32, data=16), "experts' intermediate size of 768"),
    ],
)
def test_a_model_is_split_as_vllm_can(name, sizes, expected):
    found = split.problem(read(name), sizes)
    assert (found is None) if expected is None else (expected in (found or ""))


def test_kv_heads_are_divided_or_copied_evenly():
    odd = read("Qwen3-8B", num_attention_heads=24, num_key_value_heads=4, intermediate_size=12288)
    assert "4 KV heads" in (split.problem(odd, Split(tensor=6)) or "")


def test_the_vocabulary_is_divided_after_padding():
    odd = read("Qwen3-8B", num_attention_heads=24, num_key_value_heads=3, vocab_size=151900)
    assert "padded to 151936" in (split.problem(odd, Split(tensor=3)) or "")


def test_the_size_of_layers_that_are_not_known_does_not_follow_from_their_number():
    config = {**CONFIGS["Qwen3-8B"], "model_type": "jamba", "mamba_d_state": 16, "num_experts": 16}
    assert memory.estimate(demand(model=ModelFacts(config=config), memory=10 * GIB)) is None


def test_an_mlp_that_is_not_stated_as_one_size_leaves_the_weights_unknown():
    config = {**CONFIGS["Qwen3-8B"], "intermediate_size": [12288] * 36}
    assert memory.estimate(demand(model=ModelFacts(config=config), memory=1 * GIB)) is None


@pytest.mark.parametrize(
    "blocks", [["x"], [0, 0], [None], [-128, 128], [1.5], [[128]], [True, True], []]
)
def test_a_block_size_that_is_no_size_is_unknown(blocks):
    quantization = {"quant_method": "fp8", "weight_block_size": blocks}
    known = read("DeepSeek-V3", quantization_config=quantization)
    assert known.block is None
    assert split.problem(known, Split(tensor=32)) is None


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -4.0, 0, 1e300])
def test_a_context_length_without_sense_refuses_nothing(factor):
    rope = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": 32768}
    config = {**CONFIGS["Qwen3-8B"], "rope_scaling": rope}
    verdict.check(demand(model=ModelFacts(config=config)), [])


def test_a_stage_with_more_layers_than_the_first_holds_no_embedding():
    # 61 layers over four stages are 15, 15, 16 and 15; embedding and output matrix are in the first and the last.
    found = estimate("DeepSeek-V3", split=Split(pipeline=4)).weights
    counted = parameters.count(read("DeepSeek-V3"))
    inner = counted.total - counted.embedding - counted.head
    first = 15 / 61 * inner + 2 * counted.embedding
    assert found == pytest.approx(max(first, 16 / 61 * inner), rel=1e-6)


def test_a_model_that_shares_its_embedding_by_default_is_counted_with_one():
    config = {**CONFIGS["Qwen3-8B"], "model_type": "falcon"}
    del config["tie_word_embeddings"]
    known = config_json.read(config)
    assert known is not None and parameters.count(known).head == 0


@pytest.mark.parametrize(
    ("name", "fields", "gigabytes", "per_token"),
    [
        # Parameters of the model cards x 2 bytes; layers x KV heads x K and V x head size x 2 bytes.
        ("Llama-3.1-8B", {}, 16.06, 32 * 8 * 2 * 128 * 2),
        ("Llama-3.1-70B", {"split": Split(tensor=4)}, 141.1 / 4, 80 * 8 // 4 * 2 * 128 * 2),
        ("Qwen3-30B-A3B", {}, 61.06, 48 * 4 * 2 * 128 * 2),
        # An eighth of the split parts of 671 GB, and the down-projections and routers whole; 61 x (512 + 64) x 2 bytes.
        ("DeepSeek-V3", {"split": Split(tensor=8)}, 85.01, 61 * 576 * 2),
    ],
)
def test_memory_is_that_of_a_calculation_by_hand(name, fields, gigabytes, per_token):
    found = estimate(name, **fields)
    assert found.weights / 1e9 == pytest.approx(gigabytes, rel=0.002)
    assert found.request == per_token * found.max_length


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@drawn(
    st.sampled_from(sorted(CONFIGS)),
    st.dictionaries(
        st.sampled_from(
            ["hidden_size", "num_hidden_layers", "num_attention_heads", "layer_types", "sliding_window",
             "vocab_size", "num_key_value_heads", "quantization_config", "rope_scaling", "num_experts",
             "text_config", "kv_lora_rank", "first_k_dense_replace", "dtype", "weight_block_size", "factor"]
        ),
        junk | st.integers(-3, 3),
        max_size=3,
    ),
)  # fmt: skip
def test_a_malformed_configuration_never_fails(name, changes):
    config = {**CONFIGS[name], **changes}
    if "weight_block_size" in changes:
        blocks = [changes["weight_block_size"]] * 2
        config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": blocks}
    if "factor" in changes:
        rope = {"rope_type": "yarn", "original_max_position_embeddings": 4096}
        config["rope_scaling"] = {**rope, "factor": changes["factor"]}
    asked = demand(model=ModelFacts(config=config))
    memory.estimate(asked)
    try:
        verdict.check(asked, [Accelerator(name="other", memory="10Gi")])
    except PermanentError as error:
        assert error.reason in (Reason.DOES_NOT_FIT, Reason.INVALID_PARALLELISM)
