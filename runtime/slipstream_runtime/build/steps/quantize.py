"""Quantization by llm-compressor, in the form of compressed-tensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import build_support
from slipstream_runtime.build import libraries, shapes, texts
from slipstream_runtime.build.recipe import Quantize, Step
from slipstream_runtime.build.steps.step import Checkpoint, Context, Estimate
from slipstream_runtime.errors import UnsuitableError

PRESETS: Final[Mapping[build_support.Scheme, str]] = {
    "fp8": "FP8_DYNAMIC",
    "fp8-static": "FP8",
    "w8a8": "W8A8",
    "w4a16": "W4A16",
    "nvfp4": "NVFP4",
    "mxfp4": "MXFP4",
}
"""Scheme -> name of compressed-tensors."""
_HEAD: Final = "lm_head"
"""Module that stays as it is by default; classifiers have none."""
SMOOTHING: Final = 0.8
"""Share of the outliers that SmoothQuant moves into the weights, as in llm-compressor's recipes for w8a8."""
KV_CACHE: Final = {
    "num_bits": 8,
    "type": "float",
    "strategy": "tensor",
    "dynamic": False,
    "symmetric": True,
}


def refuse(step: Step, source: Checkpoint, device: build_support.Device) -> str | None:
    """Return the reason why the checkpoint can't be quantized this way."""
    part = _part(step)
    if reason := build_support.quantization_refusal(part.scheme, part.method, device):
        return f'quantize.scheme: "{part.scheme}" by "{part.method}" can\'t work because {reason}.'
    if part.calibration is None and _calibrated(part):
        return (
            f'quantize.calibration: "" can\'t work because {_needing(part)} is computed from activations.'
            " Name a dataset."
        )
    if reason := shapes.unsupported(source.config):
        return f'quantize.scheme: "{part.scheme}" can\'t work because {reason}.'
    if device == "cpu" and shapes.experts(source.config):
        return (
            f'quantize.scheme: "{part.scheme}" can\'t work because vLLM has no kernel for quantized experts on CPUs.'
            " Use an accelerator with a GPU, or a source without experts."
        )
    if wrong_pattern := shapes.invalid(part.ignore):
        return f'quantize.ignore: "{wrong_pattern}" can\'t work because it is no regular expression. Correct it.'
    if torn := shapes.torn(part.ignore):
        return (
            f'quantize.ignore: "{", ".join(part.ignore)}" can\'t work because vLLM merges {", ".join(torn)} into one'
            " layer. Name all of them, or none."
        )
    group = build_support.GROUP_SIZES.get(part.scheme)
    wrong = group and shapes.indivisible(source.config, group, part.ignore)
    if wrong:
        return (
            f'quantize.scheme: "{part.scheme}" can\'t work because its groups of {group} inputs do not divide'
            f" {wrong}, the number of inputs of a linear layer. Use w8a8, or name the layer in ignore."
        )
    return None


def estimate(step: Step, source: Checkpoint, device: build_support.Device) -> Estimate:
    """Return the expected cost; `shapes` states the formulas."""
    part = _part(step)
    return shapes.compression_cost(
        source,
        device,
        samples=shapes.samples(part.calibration if _calibrated(part) else None),
        hessians=part.method == "gptq",
        calibrations=1 + (part.method == "smoothquant"),
        result=shapes.quantized_bytes(source, build_support.WEIGHT_BITS[part.scheme]),
    )


def run(step: Step, source: Path, target: Path, context: Context) -> Mapping[str, Any]:
    """Write the quantized checkpoint."""
    libraries.quiet()
    from slipstream_runtime.build import compression, models, zeros

    part = _part(step)
    model = models.load(source)
    if unknown := [one for one in part.ignore if one != _HEAD and not _names(model, one)]:
        raise UnsuitableError(
            f'quantize.ignore: "{unknown[0]}" can\'t work because the model has no such module. Write its whole name,'
            " or an expression after re:."
        )
    sparse = zeros.count(compression.linears(model)).two_of_four
    if reason := build_support.sparse_refusal("2of4" if sparse else None, part.method):
        raise UnsuitableError(f'quantize.method: "{part.method}" can\'t work because {reason}.')
    samples: Sequence[texts.Tokens] = ()
    if part.calibration is not None and _calibrated(part):
        samples = texts.tokenize(
            models.tokenizer(source),
            context.items(part.calibration),
            max_length=part.calibration.max_length,
        )
    modifiers = _modifiers(part, compression.outside(model))
    compression.compress(model, modifiers, samples, report=context.progress)
    quantized = sum(hasattr(one, "quantization_scheme") for one in model.modules())
    if not quantized:
        raise UnsuitableError(
            f'quantize.ignore: "{", ".join(part.ignore)}" can\'t work because no layer would be quantized. Name fewer.'
        )
    kept = zeros.count(compression.linears(model)).two_of_four
    models.save(model, source, target)
    return {
        "scheme": part.scheme,
        "method": part.method,
        "kvCache": part.kv_cache,
        "layers": quantized,
        "samples": len(samples),
        "sparse2of4": kept if sparse else None,
    }


def _names(model: Any, pattern: str) -> bool:
    """Whether a pattern of the recipe names any module of the model, or its class as llm-compressor allows."""
    return any(
        shapes.ignored(name, [pattern]) or type(module).__name__ == pattern
        for name, module in model.named_modules()
    )


def _modifiers(part: Quantize, ignored: Sequence[str]) -> list[Any]:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    options: dict[str, Any] = {
        "targets": ["Linear"],
        "scheme": PRESETS[part.scheme],
        "ignore": [*part.ignore, *ignored],
    }
    if part.kv_cache is not None:
        options["kv_cache_scheme"] = KV_CACHE
    if part.method == "gptq":
        return [GPTQModifier(**options)]
    if part.method == "smoothquant":
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        return [SmoothQuantModifier(smoothing_strength=SMOOTHING), QuantizationModifier(**options)]
    if part.method == "awq":
        from llmcompressor.modifiers.transform.awq import AWQModifier

        return [AWQModifier(), QuantizationModifier(**options)]
    return [QuantizationModifier(**options)]


def _calibrated(part: Quantize) -> bool:
    return part.kv_cache is not None or build_support.needs_calibration(part.scheme, part.method)


def _needing(part: Quantize) -> str:
    if part.kv_cache is not None:
        return f"kvCache {part.kv_cache}"
    return part.method if part.method in build_support.CALIBRATED else part.scheme


def _part(step: Step) -> Quantize:
    assert step.quantize is not None
    return step.quantize
