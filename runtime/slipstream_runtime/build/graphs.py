"""Graphs of ONNX: fused, quantized to INT8, and compared with the network that they were exported from."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer

from slipstream_runtime.build import models
from slipstream_runtime.onnx import export, exported, pooling

TEXTS: Final = (
    "Hello",
    "A kitten sleeps on the sofa.",
    "The engine of the old car would not start this morning.",
    "Bring water to a boil, add salt, and cook the pasta for nine minutes.",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "Die Sitzung wurde auf Donnerstag, den 14. März, verschoben.",
    "Le chat dort sur le canapé pendant que la pluie tombe.",
    "El tren de las 18:45 a Sevilla sale del andén 3.",
    "会議は来週の火曜日の午後三時に変更されました。",
    "Встреча перенесена на среду.",
    "Invoice 2024-0117: 3 items, 149.90 EUR, due within 30 days. Thank you for your order! 🙂",
    "The committee reviewed the proposal in detail, asked for a second estimate of the costs, and decided to "
    "postpone the vote until the engineers had measured how the bridge behaves under load. " * 4,
)
"""Real texts of several lengths, languages and alphabets, on which graph and source are compared."""
_FUSED: Final = frozenset({"bert", "roberta", "xlm-roberta", "distilbert", "camembert", "electra"})
"""Model types whose attention the optimizer of onnxruntime.transformers fuses."""


def fuse(graph: Path, config: Mapping[str, Any]) -> Mapping[str, int]:
    """Optimize the graph in place; return its number of nodes before and after.

    Encoders of BERT's kind get the fusions of onnxruntime.transformers. All others get what ONNX Runtime itself
    does on every device: folded constants and removed nodes.
    """
    before = _nodes(graph)
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    if config.get("model_type") in _FUSED:
        found = optimizer.optimize_model(
            str(graph),
            model_type="bert",
            num_heads=int(config.get("num_attention_heads") or config.get("n_heads") or 0),
            hidden_size=int(config.get("hidden_size") or config.get("dim") or 0),
            opt_level=0,
        )
        _name_domains(found.model)
        _save(found.model, graph)
    else:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        made = graph.with_name("optimized.onnx")
        options.optimized_model_filepath = str(made)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        _save(onnx.load(made), graph)
        made.unlink()
    return {"nodes": before, "nodesOptimized": _nodes(graph)}


def quantize(graph: Path) -> None:
    """Replace the weights of the graph's matrices by INT8; activations get their scales while it runs.

    Weights use 7 of 8 bits, because CPUs without VNNI overflow with 8.
    """
    made = graph.with_name("quantized.onnx")
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(
        onnx.load(graph),
        made,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    _save(onnx.load(made), graph)
    made.unlink()


def _save(model: Any, graph: Path) -> None:
    """Write the graph, with its tensors in a second file if both are over 2 GB."""
    data = graph.with_name(f"{graph.name}_data")
    data.unlink(missing_ok=True)
    large = model.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF
    onnx.save_model(
        model,
        graph,
        save_as_external_data=large,
        all_tensors_to_one_file=True,
        location=data.name if large else None,
    )


def _name_domains(model: Any) -> None:
    """Import the domains of all operators, which the optimizer leaves out."""
    known = {entry.domain for entry in model.opset_import}
    for domain in sorted({node.domain for node in model.graph.node} - known - {""}):
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))


def _nodes(graph: Path) -> int:
    return len(onnx.load(graph, load_external_data=False).graph.node)


def compare(source: Path, target: Path) -> Mapping[str, float]:
    """Return the greatest differences of the exported graph from the source's network, over all texts.

    `output` is that of raw outputs. `answer` is that of what clients get: 1 minus the cosine similarity of vectors,
    or the difference of scores and probabilities.
    """
    found = exported.load(target, uri=f"file://{target}", max_length=None)
    network, name = export.load(source)
    session = onnxruntime.InferenceSession(found.graph, providers=["CPUExecutionProvider"])
    batches = list(_batches(models.tokenizer(source), found))
    output = answer = 0.0
    for batch in batches:
        fed = {node.name: batch[node.name] for node in session.get_inputs()}
        (ours,) = session.run([name], fed)
        with torch.inference_mode():
            given = {key: torch.from_numpy(value) for key, value in fed.items()}
            theirs = getattr(network(**given), name).numpy()
        present = batch["attention_mask"].astype(bool)
        rows = (present,) if name == "last_hidden_state" else (slice(None),)
        output = max(output, float(np.abs(ours[rows] - theirs[rows]).max()))
        mask = batch["attention_mask"]
        answer = max(answer, _answers(found.reading, mask, ours=ours, theirs=theirs))
    return {"output": output, "answer": answer}


def _answers(
    reading: exported.Reading, mask: pooling.Mask, *, ours: pooling.Floats, theirs: pooling.Floats
) -> float:
    if reading.task != "embed":
        scores = [pooling.activate(one, by=reading.activation) for one in (ours, theirs)]
        return float(np.abs(scores[0] - scores[1]).max())
    vectors = [pooling.normalize(pooling.pool(o, mask, by=reading.pooling)) for o in (ours, theirs)]
    return float(1 - (vectors[0] * vectors[1]).sum(axis=1).min())


def _batches(tokenizer: Any, found: exported.Exported) -> Sequence[Mapping[str, pooling.Mask]]:
    """Return texts as batches with padding; pairs of texts for rerankers."""
    pairs = found.reading.task == "rerank"
    rows = []
    for number, text in enumerate(TEXTS):
        other = TEXTS[(number + 1) % len(TEXTS)]
        rows.append(
            tokenizer(
                text,
                other if pairs else None,
                truncation=True,
                max_length=found.max_length,
                return_token_type_ids=True,
            )
        )
    rows.sort(key=lambda row: len(row["input_ids"]))
    return [
        _batch(rows[at : at + 4], padding=found.reading.padding) for at in range(0, len(rows), 4)
    ]


def _batch(rows: Sequence[Mapping[str, Any]], *, padding: int) -> Mapping[str, pooling.Mask]:
    longest = max(len(row["input_ids"]) for row in rows)
    shape = (len(rows), longest)
    batch = {
        "input_ids": np.full(shape, padding, np.int64),
        "attention_mask": np.zeros(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    for number, row in enumerate(rows):
        size = len(row["input_ids"])
        batch["input_ids"][number, :size] = row["input_ids"]
        batch["attention_mask"][number, :size] = 1
        batch["token_type_ids"][number, :size] = row["token_type_ids"]
    return batch
