"""The files of a model and of an adapter are anybody's. A file that can't be used gives a reason, not a traceback."""

import json
from pathlib import Path
from typing import Final

import pytest

from slipstream_runtime.engine import adapters, checkpoint, families
from slipstream_runtime.errors import EngineError
from slipstream_runtime.model_files import selection
from tests.support.odd import Odd

FILES: Final = 200
RANKS: Final = 3000
KEYS: Final = (
    "quantization_config", "text_config", "compression_config", "config_groups", "weights", "input_activations",
    "num_bits", "type", "group_size", "layer_types", "architectures", "dtype", "quant_method", "quant_algo", "bits",
    "sliding_window", "use_sliding_window", "quantization", "qformat_weight", "chat_template", "template",
)  # fmt: skip
GROUPS: Final = {"g": {"weights": {"num_bits": 4, "type": "int"}}}
CONFIG: Final = {
    "architectures": ["Qwen3ForCausalLM"],
    "quantization_config": {"quant_method": "compressed-tensors", "config_groups": GROUPS},
    "text_config": {"layer_types": ["full_attention"], "sliding_window": 16},
}
TEMPLATES: Final = {"chat_template": [{"name": "default", "template": "x"}]}


@pytest.mark.parametrize("name", ["config.json", selection.MISTRAL_CONFIG])
def test_an_odd_configuration_is_refused_or_known(tmp_path: Path, name: str) -> None:
    for number in range(FILES):
        odd = Odd(number, keys=KEYS)
        content = odd.value() if odd.random.random() < 0.1 else odd.changed(CONFIG)
        (tmp_path / name).write_text(json.dumps(content))
        try:
            found = checkpoint.load(tmp_path, uri="hf://org/name")
            checkpoint.check("awq", found, uri="hf://org/name")
            checkpoint.check_gpu(found, (10, 0), uri="hf://org/name")
        except EngineError as error:
            assert len(error.reason) <= 1000


def test_an_odd_chat_template_is_no_family(tmp_path: Path) -> None:
    for number in range(FILES):
        content = Odd(number, keys=KEYS).changed(TEMPLATES)
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(content))
        template = families.template(tmp_path)
        families.parser(families.TOOLS, architectures=["Qwen3ForCausalLM"], template=template)


def test_an_odd_adapter_has_no_rank() -> None:
    known = 0
    for number in range(RANKS):
        config = Odd(number, keys=("r", "rank_pattern")).changed({"r": 8, "rank_pattern": {"a": 3}})
        try:
            rank = adapters.rank_of(config)
        except ValueError:
            continue
        known += 1
        assert type(rank) is int and rank > 0
    assert RANKS / 10 < known < RANKS


def test_an_odd_index_of_weights_is_refused() -> None:
    for number in range(RANKS):
        content = Odd(number, keys=("weight_map",)).changed({"weight_map": {"a": "b.safetensors"}})
        try:
            names = selection.shards(json.dumps(content).encode(), uri="hf://org/name")
        except EngineError:
            continue
        assert all(".." not in name and not name.startswith("/") for name in names)
