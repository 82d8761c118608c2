"""Export to ONNX for runtime onnx: fused, in INT8 if asked, and compared with the source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import build_support
from slipstream_runtime.build import shapes
from slipstream_runtime.build.recipe import Export, Step
from slipstream_runtime.build.steps.step import Checkpoint, Context, Estimate
from slipstream_runtime.errors import UnsuitableError

LIBRARIES: Final = 1000 << 20
"""Bytes of a process that has imported torch, transformers and onnxruntime."""
OPSETS: Final = range(14, 21)
"""Operator sets that torch's tracing exporter writes, from the first that has all operators of attention."""
TOLERANCES: Final[Mapping[str, float]] = {"fp32": 1e-3, "int8": 0.05}
"""Default of the greatest difference; all-MiniLM-L6-v2 has 2e-6 in fp32, and 0.02 of the cosine in int8."""
_COPIES: Final = 4
"""Copies of the weights in float32 at the same time: network, graph, optimized graph and session."""
_OPERATIONS: Final = 2e9
"""Parameters per second that are exported, fused, written and compared, on one core."""


def refuse(step: Step, source: Checkpoint, device: build_support.Device) -> str | None:
    """Return the reason why the checkpoint can't be exported."""
    wanted = _wanted(step)
    architecture = next(iter(source.config.get("architectures") or ()), "")
    if architecture.endswith(("ForCausalLM", "ForConditionalGeneration")):
        return (
            f'export.format: "{wanted.format}" can\'t work because runtime onnx serves no {architecture}, which'
            " generates text. Leave the step out, and serve it by runtime: vllm."
        )
    if source.config.get("quantization_config"):
        return (
            f'export.format: "{wanted.format}" can\'t work because the weights are quantized already.'
            " Export before a quantize step, with precision: int8."
        )
    if reason := shapes.unsupported(source.config):
        return f'export.format: "{wanted.format}" can\'t work because {reason}.'
    if wanted.opset is not None and wanted.opset not in OPSETS:
        return (
            f'export.opset: "{wanted.opset}" can\'t work because torch writes {OPSETS[0]} to {OPSETS[-1]}.'
            " Leave it out."
        )
    return None


def estimate(step: Step, source: Checkpoint, device: build_support.Device) -> Estimate:
    """Return the cost: four copies of the weights in float32 in memory, and two on the disk."""
    weights = 4 * source.parameters
    return Estimate(
        memory=LIBRARIES + _COPIES * weights,
        disk=2 * weights,
        seconds=30 + 4 * source.parameters / _OPERATIONS,
    )


def run(step: Step, source: Path, target: Path, context: Context) -> Mapping[str, Any]:
    """Write model.onnx and the files beside it; UnsuitableError if it differs from the source by too much."""
    from slipstream_runtime.build import libraries

    libraries.quiet()
    from slipstream_runtime.build import graphs, models
    from slipstream_runtime.onnx import export

    wanted = _wanted(step)
    export.export(source, target, opset=wanted.opset or export.OPSET)
    facts = dict(graphs.fuse(target / "model.onnx", models.config(source)))
    if wanted.precision == "int8":
        graphs.quantize(target / "model.onnx")
    found = graphs.compare(source, target)
    over = found["answer"] if wanted.precision == "int8" else found["output"]
    allowed = wanted.tolerance or TOLERANCES[wanted.precision]
    if not over <= allowed:
        raise UnsuitableError(
            f'export.tolerance: "{allowed}" is not met because the graph in {wanted.precision} differs from the source'
            f" by {over:.2g}. Use a greater tolerance{_remedy(wanted)}."
        )
    return {**facts, "precision": wanted.precision, **_rounded(found)}


def _remedy(wanted: Export) -> str:
    return ", or precision: fp32" if wanted.precision == "int8" else ""


def _rounded(found: Mapping[str, float]) -> dict[str, float]:
    names = {"output": "outputDifference", "answer": "answerDifference"}
    return {names[name]: float(f"{value:.3g}") for name, value in found.items()}


def _wanted(step: Step) -> Export:
    assert step.export is not None
    return step.export
