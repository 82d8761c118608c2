"""The files of an exported model are anybody's. A file that can't be used ends the engine with a reason."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.onnx import exported
from tests.support.odd import Odd

EXPORTS: Final = 200
KEYS: Final = (
    "architectures", "id2label", "num_labels", "max_position_embeddings", "model_type", "pad_token_id", "vocab_size",
    "problem_type", "sentence_transformers", "activation_fn", "path", "pooling_mode", "max_seq_length",
    "model_max_length", "do_lower_case", "type",
)  # fmt: skip
GOOD: Final[dict[str, Any]] = {
    "config.json": {"architectures": ["BertModel"], "max_position_embeddings": 512},
    "tokenizer_config.json": {"model_max_length": 512},
    "sentence_bert_config.json": {"max_seq_length": 256},
    "modules.json": [{"type": "m.Transformer"}, {"type": "m.Pooling", "path": "1_Pooling"}],
    "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
}


def _write(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "1_Pooling").mkdir()
    _write(tmp_path, {"model.onnx": "", "tokenizer.json": {}, **GOOD})
    return tmp_path


def test_odd_values_are_refused_with_a_reason(folder: Path) -> None:
    refused = 0
    for number in range(EXPORTS):
        odd = Odd(number, keys=KEYS)
        name = odd.random.choice([*GOOD])
        good = GOOD[name]
        changed = odd.changed(good) if isinstance(good, dict) else [odd.changed(good[1])]
        _write(folder, {name: odd.value() if odd.random.random() < 0.2 else changed})
        try:
            found = exported.load(folder, uri="hf://org/name", max_length=None)
        except EngineError as error:
            refused += 1
            assert len(error.reason) <= 1000
        else:
            assert 1 <= found.max_length <= found.reading.positions
        _write(folder, {name: good})
    assert EXPORTS / 10 < refused < EXPORTS


def test_files_nested_without_an_end_are_refused(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(EngineError, match=r"config\.json can't be read"):
        exported.load(folder, uri="hf://org/name", max_length=None)


def test_labels_without_number_take_no_memory(folder: Path) -> None:
    _write(folder, {"config.json": {**GOOD["config.json"], "num_labels": 10**12}})
    with pytest.raises(UnsuitableError, match="num_labels"):
        exported.load(folder, uri="hf://org/name", max_length=None)


@pytest.mark.parametrize("path", ["../other", "/etc"])
def test_a_folder_outside_the_model_is_not_read(folder: Path, path: str) -> None:
    _write(folder, {"modules.json": [{"type": "m.Pooling", "path": path}]})
    with pytest.raises(UnsuitableError, match="outside the model's folder"):
        exported.load(folder, uri="hf://org/name", max_length=None)
