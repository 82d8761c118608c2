"""Schemes, methods and devices of a build that work together, and the reason of each that doesn't.

Standard library only: the operator refuses a build by this table before its Job starts, and the builder again before
its first step. `tests/build` keeps it true by running the entries on the CPU.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal, get_args

Device = Literal["cpu", "cuda"]
Scheme = Literal["fp8", "fp8-static", "w8a8", "w4a16", "nvfp4", "mxfp4"]
Method = Literal["rtn", "gptq", "awq", "smoothquant"]
Pattern = Literal["2of4", "unstructured"]
PruningMethod = Literal["magnitude", "wanda", "sparsegpt"]

SCHEMES: Final[tuple[Scheme, ...]] = get_args(Scheme)
METHODS: Final[tuple[Method, ...]] = get_args(Method)
PATTERNS: Final[tuple[Pattern, ...]] = get_args(Pattern)
PRUNING_METHODS: Final[tuple[PruningMethod, ...]] = get_args(PruningMethod)

SCHEME_METHODS: Final[Mapping[Scheme, tuple[Method, ...]]] = {
    "fp8": ("rtn", "gptq", "smoothquant"),
    "fp8-static": ("rtn", "gptq", "smoothquant"),
    "w8a8": ("rtn", "gptq", "smoothquant"),
    "w4a16": ("rtn", "gptq", "awq"),
    "nvfp4": ("rtn", "gptq"),
    "mxfp4": ("rtn", "gptq"),
}
"""Methods by which each scheme can be made; the first is the default."""
CALIBRATED: Final[frozenset[Method]] = frozenset({"gptq", "awq", "smoothquant"})
"""Methods that need a dataset; the schemes of `CALIBRATED_SCHEMES` need one with every method."""
CALIBRATED_SCHEMES: Final[frozenset[Scheme]] = frozenset({"fp8-static", "nvfp4"})
"""Schemes that scale activations by numbers of a dataset."""
FILLING: Final[frozenset[Method]] = frozenset({"gptq", "awq"})
"""Methods that correct all weights of a layer, also those that are zero."""
GROUP_SIZES: Final[Mapping[Scheme, int]] = {"w4a16": 128, "nvfp4": 16, "mxfp4": 32}
"""Number of inputs that share a scale, in the schemes of compressed-tensors; it must divide those of each layer."""
WEIGHT_BITS: Final[Mapping[Scheme, float]] = {
    "fp8": 8.0,
    "fp8-static": 8.0,
    "w8a8": 8.0,
    "w4a16": 4 + 16 / 128,
    "nvfp4": 4 + 8 / 16,
    "mxfp4": 4 + 8 / 32,
}
"""Bits per quantized weight, with its share of the scales of a group."""

_CPU_REFUSALS: Final[Mapping[tuple[Scheme | None, Method | None], str]] = {
    (None, "awq"): "llm-compressor's AWQ needs a GPU. Use gptq, or an accelerator with a GPU",
    (
        "fp8-static",
        None,
    ): "vLLM has no kernel for static fp8 on CPUs. Use fp8, or an accelerator with a GPU",
    ("nvfp4", None): "vLLM has no kernel for nvfp4 on CPUs. Use w8a8, or an accelerator with a GPU",
    ("mxfp4", None): "vLLM has no kernel for mxfp4 on CPUs. Use w8a8, or an accelerator with a GPU",
}


def quantization_refusal(scheme: Scheme, method: Method, device: Device) -> str | None:
    """Return the reason why the device can't make or serve this checkpoint, with a remedy; None if it can."""
    methods = SCHEME_METHODS[scheme]
    if method not in methods:
        return f"{method} is not offered for {scheme}. Use {' or '.join(methods)}"
    if device == "cpu":
        for key in ((scheme, None), (None, method)):
            if reason := _CPU_REFUSALS.get(key):
                return reason
    return None


def needs_calibration(scheme: Scheme, method: Method) -> bool:
    """Whether the build needs a dataset."""
    return method in CALIBRATED or scheme in CALIBRATED_SCHEMES


def sparsity_refusal(pattern: Pattern, method: PruningMethod) -> str | None:
    """Return the reason why the method can't make this pattern, with a remedy; None if it can."""
    if pattern == "2of4" and method == "magnitude":
        return "magnitude can't make 2of4. Use wanda or sparsegpt"
    return None


def sparse_refusal(pattern: Pattern | None, method: Method) -> str | None:
    """Return the reason why a checkpoint that the step before made sparse can't be quantized by this method."""
    if pattern == "2of4" and method in FILLING:
        return f"the source is sparse by 2of4, and {method} would fill its zeros. Use rtn or smoothquant, which do not"
    return None


def order_refusal(kinds: Sequence[str]) -> str | None:
    """Return the reason why steps of these kinds can't follow each other, with a remedy; None if they can."""
    for kind, following in pairwise(kinds):
        if kind == "export":
            return f"export can't be followed by {following}. Make export the last step"
        if kind == "quantize":
            remedy = (
                "Use export with precision int8 alone"
                if following == "export"
                else f"Put {following} before quantize"
            )
            return f"quantize can't be followed by {following}, which needs weights that are not quantized. {remedy}"
    return None


def quality_refusal(
    kinds: Sequence[str],
    *,
    draft: int | None,
    metrics: bool,
    regression: bool,
    task: bool,
    acceptance: bool,
) -> str | None:
    """Return the reason why an evaluation of these steps can't prove anything, after its field; None if it can.

    `draft` is the number of the first step that makes a draft. `regression` and `acceptance` say whether a metric has a
    greatest loss, and a draft a least acceptance.
    """
    evaluated = [number for number, kind in enumerate(kinds) if kind != "export"]
    if not evaluated:
        return (
            "quality: can't work because an export is compared with its source by its own step. Leave quality out, and "
            "set tolerance of the export"
        )
    if draft is None and acceptance:
        return (
            "quality.minAcceptance: can't work because no step makes a draft. Use metrics[].maxRegression, or distill "
            "with purpose: Draft"
        )
    if draft is not None and task:
        return "quality.dataset.task: can't work because a draft is measured on questions. Use configMap, claim or uri"
    answers = [number for number in evaluated if draft is None or number < draft]
    if answers and not (metrics or task):
        return (
            "quality.metrics: is missing, so that nothing would be compared. Name a metric such as ExactMatch with its "
            "maxRegression"
        )
    if regression and not answers:
        return (
            "quality.metrics: maxRegression can't work because a draft is scored by its accepted tokens alone. Leave "
            "it out, and set minAcceptance"
        )
    return None


SPEEDUP: Final = "none"
"""Gain in speed of sparse weights in the locked vLLM; `speedup_reason` says why."""


def speedup_reason(pattern: Pattern) -> str:
    """Return the reason why a sparse checkpoint is not served faster, short enough for a status."""
    if pattern == "unstructured":
        return "vLLM skips single zeros on no hardware"
    return "vLLM 0.32 has no kernel for 2of4 on any hardware"


def sparsity_note(pattern: Pattern) -> str:
    """Return the facts about hardware that whoever plans a sparse build should know."""
    if pattern == "unstructured":
        more = "The file stores the zeros, so neither time nor memory is saved"
    else:
        more = (
            "It was removed with sparsity in compressed-tensors. GPUs since NVIDIA Ampere could skip the zeros by"
            " cuSPARSELt, as PyTorch's to_sparse_semi_structured does"
        )
    return f"No gain in speed: {speedup_reason(pattern)}. {more}."
