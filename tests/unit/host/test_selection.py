"""The files of a repository that are downloaded: one form of the weights."""

import json

import pytest

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.model_files import selection

OTHERS = ["config.json", "tokenizer.json"]


def test_a_mistral_repository_is_not_downloaded_twice() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    names = [*OTHERS, *shards, "consolidated.safetensors", selection.INDEX, "params.json"]
    assert selection.choose(names, shards=shards) == sorted(
        set(names) - {"consolidated.safetensors"}
    )


def test_consolidated_weights_are_kept_where_there_are_no_others() -> None:
    names = [*OTHERS, "consolidated.safetensors"]
    assert selection.choose(names) == sorted(names)


def test_copies_in_other_forms_are_left_out() -> None:
    copies = [
        "original/model.safetensors",
        "metal/model.bin",
        "coreml/model.mlpackage/Data/weights.bin",
        "openvino/openvino_model.bin",
        "openvino_model.xml",
        "onnx/model.onnx",
        "model.onnx_data",
        "model-Q4.gguf",
        "tf_model.h5",
        "flax_model.msgpack",
        "consolidated.00.pth",
        "pytorch_model.bin",
        "model.fp16.safetensors",
    ]
    assert selection.choose([*OTHERS, "model.safetensors", *copies]) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_pickled_weights_are_kept_where_there_are_no_safetensors() -> None:
    assert selection.choose([*OTHERS, "pytorch_model.bin"]) == [
        "config.json",
        "pytorch_model.bin",
        "tokenizer.json",
    ]


def test_parts_of_a_model_in_folders_of_their_own_are_kept() -> None:
    names = ["model.safetensors", "2_Dense/model.safetensors", "adapter_model.safetensors"]
    assert selection.choose(names) == sorted(names)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"weight_map": 1}', b"{}"])
def test_an_index_that_cannot_be_read_is_reported(text: bytes) -> None:
    with pytest.raises(UnsuitableError, match="not a valid index"):
        selection.shards(text, uri="hf://a/b")


def test_an_index_names_each_shard_once() -> None:
    text = json.dumps({"weight_map": {"x": "b", "y": "a", "z": "b"}}).encode()
    assert selection.shards(text, uri="hf://a/b") == ["a", "b"]


def test_consolidated_weights_beside_shards_are_left_out_without_an_index_too() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert selection.choose([*shards, "consolidated.safetensors"]) == shards
    assert selection.choose(["consolidated.safetensors"]) == ["consolidated.safetensors"]


def test_an_index_nested_without_end_is_reported() -> None:
    with pytest.raises(UnsuitableError, match="not a valid index"):
        selection.shards(b"[" * 100_000, uri="hf://a/b")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "a/../../b", "./a", "a\0b", ""])
def test_an_index_that_names_files_outside_of_the_folder_is_refused(name: str) -> None:
    text = json.dumps({"weight_map": {"x": name}}).encode()
    with pytest.raises(UnsuitableError, match="is outside the model's folder"):
        selection.shards(text, uri="hf://a/b")


@pytest.mark.parametrize(
    "names",
    [
        ["config.json"],
        ["model.safetensors", "m.gguf"],
        ["pytorch_model.bin", "tf_model.h5"],
        ["consolidated.safetensors", "original/consolidated.00.pth"],
    ],
)
def test_a_model_with_weights_that_vllm_reads_or_with_none_is_not_judged(names: list[str]) -> None:
    selection.check_form(names, uri="hf://a/b")


@pytest.mark.parametrize(
    "foreign", ["m.gguf", "tf_model.h5", "flax_model.msgpack", "original/consolidated.00.pth"]
)
def test_weights_for_other_programs_alone_are_refused(foreign: str) -> None:
    with pytest.raises(UnsuitableError, match=foreign):
        selection.check_form(["config.json", foreign], uri="hf://a/b")
