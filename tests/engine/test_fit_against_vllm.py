"""The fit check's arithmetic against vLLM's own: heads, KV cache, and numbers of weights. Needs no cluster."""

import dataclasses
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from slipstream_operator.core.fit import architecture, config_json, kv, parameters, split
from slipstream_operator.core.parallelism import Split
from tests.support.configs import CONFIGS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch warns of itself while vLLM is imported
    from vllm.config import ModelConfig, ParallelConfig
    from vllm.distributed.utils import get_pp_indices
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.kv_cache_interface import (
        FullAttentionSpec,
        KVCacheConfig,
        MambaSpec,
        MLAAttentionSpec,
        SlidingWindowSpec,
    )

pytestmark = pytest.mark.filterwarnings("ignore::Warning")
READ_BY_VLLM = ("Qwen3-8B", "gpt-oss-20b", "DeepSeek-V3")
"""Each costs the start of a process, in which vLLM looks at the model's class."""
TENSOR_SIZES = (1, 2, 3, 4, 5, 6, 8, 16, 32, 64)
IN_FLIGHT = 4096


def read(name: str) -> architecture.Architecture:
    found = config_json.read(CONFIGS[name])
    assert found is not None
    return found


@pytest.fixture(scope="module", params=READ_BY_VLLM)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model by name, and vLLM's view of its config.json."""
    folder: Path = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(CONFIGS[request.param]))
    return request.param, ModelConfig(model=str(folder), skip_tokenizer_init=True, dtype="bfloat16")


def test_attention_heads_are_divided_as_vllm_demands(model: Any) -> None:
    name, config = model
    known = read(name)
    for tensor in TENSOR_SIZES:
        parallel = SimpleNamespace(
            enable_hc_sp=False,
            tensor_parallel_size=tensor,
            enable_expert_parallel=False,
            pipeline_parallel_size=1,
            decode_context_parallel_size=1,
        )
        try:
            config.verify_with_parallel_config(parallel)
            refused = False
        except ValueError:
            refused = True
        said = split.problem(known, Split(tensor=tensor)) or ""
        assert ("attention heads can't be divided" in said) == refused, (name, tensor)


def test_sizes_are_read_as_vllm_reads_them(model: Any) -> None:
    name, config = model
    known, read_by_vllm = read(name), config.model_arch_config
    assert known.heads == read_by_vllm.total_num_attention_heads
    assert known.vocabulary == read_by_vllm.vocab_size
    assert known.layer_count == read_by_vllm.total_num_hidden_layers
    assert (known.latent is not None) == config.use_mla
    assert (known.experts.count if known.experts else 0) == read_by_vllm.num_experts
    if known.latent is None:
        assert known.head_size == read_by_vllm.head_size
        assert known.kv_heads == read_by_vllm.total_num_kv_heads
    assert known.max_length == read_by_vllm.derived_max_model_len_and_key[0]


def test_each_rank_has_as_many_kv_heads_as_in_vllm(model: Any) -> None:
    name, config = model
    known = read(name)
    for tensor in TENSOR_SIZES:
        parallel = ParallelConfig.__new__(ParallelConfig)
        object.__setattr__(parallel, "tensor_parallel_size", tensor)
        assert max(known.kv_heads // tensor, 1) == config.get_num_kv_heads(parallel)


def mamba(known: architecture.Architecture) -> tuple[int, MambaSpec]:
    """Block size of attention beside linear layers, and their state, as vLLM's platforms/interface.py sets them."""
    from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator

    part = known.linear
    assert part is not None
    shapes = MambaStateShapeCalculator.gated_delta_net_state_shape(
        1, part.key_heads, part.value_heads, part.key_size, part.value_size, part.kernel
    )
    state = MambaSpec(
        block_size=1,
        shapes=shapes,
        dtypes=(torch.bfloat16, torch.bfloat16),
        mamba_cache_mode="align",
    )
    token = 2 * known.kv_heads * known.head_size * 2
    block = 16 * -(-state.page_size_bytes // (16 * token))
    return block, dataclasses.replace(state, block_size=block, page_size_padded=block * token)


@pytest.mark.parametrize(
    "name", ["Qwen3-8B", "DeepSeek-V3", "gpt-oss-20b", "gemma-3-12b", "Qwen3-Next-80B-A3B"]
)
@pytest.mark.parametrize("length", [1000, 40960, 131072])
def test_a_request_holds_as_many_bytes_as_in_vllm(name: str, length: int) -> None:
    known = read(name)
    specs: dict[str, Any] = {}
    block, state = mamba(known) if known.linear else (kv.BLOCK, None)
    for index, layer in enumerate(known.layers or ()):
        sizes: dict[str, Any] = {
            "block_size": block,
            "num_kv_heads": layer.kv_heads,
            "head_size": layer.head_size,
            "dtype": torch.bfloat16,
        }
        if layer.kind == "linear":
            specs[f"{index}"] = state
        elif layer.latent is not None:
            specs[f"{index}"] = MLAAttentionSpec(**sizes)
        elif layer.kind == "sliding":
            assert layer.window is not None
            specs[f"{index}"] = SlidingWindowSpec(
                **sizes, dcp_sharded=False, sliding_window=layer.window
            )
        else:
            specs[f"{index}"] = FullAttentionSpec(**sizes)
    vllm: Any = SimpleNamespace(
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        model_config=SimpleNamespace(max_model_len=length, hf_text_config=None),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        attention_config=SimpleNamespace(hisparse_config=None),
        cache_config=SimpleNamespace(
            get_resolved_kv_cache_layout=lambda: SimpleNamespace(is_block_outermost=False),
            mamba_cache_mode="align",
        ),
        speculative_config=None,
        max_in_flight_tokens=IN_FLIGHT,
    )
    groups = kv_cache_utils.get_kv_cache_groups(vllm, specs)
    layers = max(len(group.layer_names) for group in groups)
    page = groups[0].kv_cache_spec.page_size_bytes
    blocks = 1_000_000
    config = KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=groups)
    concurrency = kv_cache_utils.get_max_concurrency_for_kv_cache_config(vllm, config)
    ours = kv.request_bytes(
        [(known, 1)], tensor=1, value_bytes=2, length=length, in_flight=IN_FLIGHT
    )
    assert ours == pytest.approx(blocks * layers * page / concurrency)


@pytest.mark.parametrize("layers", [24, 36, 61])
@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5, 8])
def test_stages_have_as_many_layers_as_in_vllm(layers: int, stages: int) -> None:
    spans = [get_pp_indices(layers, rank, stages) for rank in range(stages)]
    assert kv.stage_layers(layers, stages) == sorted(end - start for start, end in spans)


def test_vocabularies_are_padded_as_in_vllm() -> None:
    from vllm.model_executor.layers.vocab_parallel_embedding import pad_vocab_size

    for vocabulary in (50257, 128256, 151936, 151937):
        padding = split.VOCABULARY_PADDING
        assert -(-vocabulary // padding) * padding == pad_vocab_size(vocabulary)


@pytest.mark.parametrize("name", ["gpt-oss-20b", "DeepSeek-V3", "Qwen3-Next-80B-A3B"])
def test_weights_are_as_many_as_in_the_model_itself(name: str) -> None:
    fields = {
        key: value for key, value in CONFIGS[name].items() if key not in ("quantization_config",)
    }
    config = CONFIG_MAPPING[fields.pop("model_type")](**fields)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    exact = sum(weight.numel() for weight in {id(w): w for w in built.parameters()}.values())
    assert parameters.count(read(name)).total == pytest.approx(exact, rel=0.001)
