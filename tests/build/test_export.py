"""Exports to ONNX by the builder's libraries, compared with their sources, and one of them served."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

import httpx
import transformers

from slipstream_runtime import contract
from tests.support import encoders
from tests.support.builders import Builder
from tests.support.processes import Process

TEXTS = ["A kitten sleeps on the sofa.", "cats", "The engine would not start. " * 20]
SIZES: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
DECODER = SIZES | {"num_key_value_heads": 2, "head_dim": 16}


def export(builder: Builder, source: Path, name: str, **options: Any) -> dict[str, Any]:
    return builder.run({"export": options}, source, name)


def facts(found: dict[str, Any]) -> dict[str, Any]:
    assert "facts" in found, found
    made: dict[str, Any] = found["facts"]
    return made


def classifier(folder: Path, kind: str, sizes: dict[str, Any], *, labels: int) -> Path:
    """A random model with a head, and MiniLM's tokenizer."""
    transformers.set_seed(1)
    config = getattr(transformers, f"{kind}Config")(**sizes, num_labels=labels)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((encoders.SOURCE / name).read_bytes())
    return folder


def test_a_sentence_encoder_is_fused_and_equal_to_its_source(builder: Builder) -> None:
    found = facts(export(builder, encoders.SOURCE, "fp32"))
    assert found["outputDifference"] < 1e-3
    assert found["nodesOptimized"] < found["nodes"] / 5


def test_an_int8_encoder_is_a_quarter_as_large_and_is_served(
    builder: Builder, tmp_path: Path
) -> None:
    found = facts(export(builder, encoders.SOURCE, "int8", precision="int8"))
    assert 1e-6 < found["answerDifference"] < 0.05
    graph = builder.folder / "int8" / "model.onnx"
    assert graph.stat().st_size < 0.3 * (encoders.SOURCE / "model.safetensors").stat().st_size
    model = {"uri": f"file://{graph.parent}", "name": "small"}
    settings = {"model": model, "device": "cpu", "cores": 1, "drainSeconds": 60}
    engine = Process(contract.ONNX_MODULE, tmp_path, settings)
    try:
        engine.until_ready()
        answer = httpx.post(f"{engine.api}/v1/embeddings", json={"input": TEXTS}, timeout=60)
        assert answer.status_code == 200, answer.text
        vectors = np.array([one["embedding"] for one in answer.json()["data"]])
    finally:
        engine.kill()
    likeness = (vectors * encoders.reference().vectors(TEXTS)).sum(axis=1)
    assert likeness.min() > 0.95


@pytest.mark.parametrize(
    ("kind", "sizes", "labels"),
    [
        ("Bert", SIZES, 3),
        ("XLMRoberta", SIZES, 1),
        (
            "ModernBert",
            SIZES | {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 3, "sep_token_id": 4},
            2,
        ),
        ("Qwen3", DECODER, 2),
        ("Llama", DECODER, 1),
    ],
)
def test_classifiers_and_rerankers_are_equal_to_their_sources(
    builder: Builder, tmp_path: Path, kind: str, sizes: dict[str, Any], labels: int
) -> None:
    source = classifier(tmp_path, kind, sizes, labels=labels)
    found = facts(export(builder, source, kind))
    assert found["outputDifference"] < 1e-3
    assert found["nodesOptimized"] < found["nodes"]


def test_a_graph_that_differs_by_more_than_the_tolerance_is_no_artifact(
    builder: Builder, tmp_path: Path
) -> None:
    source = classifier(tmp_path, "Bert", SIZES, labels=3)
    found = export(builder, source, "strict", precision="int8", tolerance=1e-6)
    assert found["code"] == 2
    assert found["error"].startswith(
        'export.tolerance: "1e-06" is not met because the graph in int8'
    )


def test_a_decoder_that_generates_is_refused(builder: Builder, tmp_path: Path) -> None:
    config = transformers.LlamaConfig(**DECODER)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    refused = export(builder, tmp_path, "refused")["refused"]
    assert "serves no LlamaForCausalLM" in refused
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"
