"""Reference of build steps: schemes, methods and devices, read from the table that refuses builds."""

from collections.abc import Iterator
from typing import Final

from slipstream_runtime import build_support

_GPU_NOTES: Final[dict[build_support.Scheme, str]] = {
    "w8a8": "yes, except Blackwell (B200)",
    "nvfp4": "yes; activations in 4 bits only on Blackwell",
    "mxfp4": "yes; activations in 4 bits only on Blackwell",
}
"""Exceptions of vLLM's kernels, as docs/precision.md explains them."""


def page() -> str:
    """Markdown page of what the steps quantize and sparsify can make, and where it is served."""
    return "\n".join([*_head(), *_schemes(), *_methods(), *_sparsity()]) + "\n"


def _head() -> Iterator[str]:
    yield "# Steps of builds"
    yield ""
    yield (
        "This page lists for app and ML teams which schemes and methods of a `ModelBuild` work together, and on which "
        "devices. It is generated from the table that refuses all other builds before they start."
    )
    yield ""
    yield (
        "Tests make and serve the entries of CPUs on every change. The entries of GPUs follow from what llm-compressor "
        "can make and from vLLM's choice of kernels, and were not run on a GPU."
    )


def _schemes() -> Iterator[str]:
    yield from ("", "## Schemes of quantize", "")
    yield "| `scheme` | Bits of a weight | Inputs that share a scale | Needs `calibration` | CPU | GPU |"
    yield "|---|---:|---:|---|---|---|"
    for scheme in build_support.SCHEMES:
        group = build_support.GROUP_SIZES.get(scheme)
        always = scheme in build_support.CALIBRATED_SCHEMES
        methods = build_support.SCHEME_METHODS[scheme]
        asked = [f"`{method}`" for method in methods if method in build_support.CALIBRATED]
        refusal = build_support.quantization_refusal(scheme, methods[0], "cpu")
        yield (
            f"| `{scheme}` | {build_support.WEIGHT_BITS[scheme]:g} | {group or 'all'} "
            f"| {'always' if always else 'with ' + ' or '.join(asked)} "
            f"| {'yes' if refusal is None else f'no: {refusal}'} | {_GPU_NOTES.get(scheme, 'yes')} |"
        )
    yield ""
    yield "The numbers of inputs of every layer must be multiples of those that share a scale."
    yield "Layers in `ignore` are left out."
    yield "`kvCache: fp8` needs `calibration` with every scheme. vLLM then uses an fp8 cache by default."
    yield "[Precision](../precision.md) explains what each generation of GPUs computes."


def _methods() -> Iterator[str]:
    yield from ("", "## Methods of quantize", "")
    yield f"| `scheme` | {' | '.join(f'`{method}`' for method in build_support.METHODS)} |"
    yield f"|---|{'---|' * len(build_support.METHODS)}"
    for scheme in build_support.SCHEMES:
        cells = [_offered(scheme, method) for method in build_support.METHODS]
        yield f"| `{scheme}` | {' | '.join(cells)} |"


def _offered(scheme: build_support.Scheme, method: build_support.Method) -> str:
    """Devices of a method, or nothing."""
    if method not in build_support.SCHEME_METHODS[scheme]:
        return ""
    devices = [
        name
        for device, name in (("cpu", "CPU"), ("cuda", "GPU"))
        if build_support.quantization_refusal(scheme, method, device) is None
    ]
    return ", ".join(devices)


def _sparsity() -> Iterator[str]:
    yield from ("", "## Patterns of sparsify", "")
    yield "| `pattern` | Methods | Gain in speed |"
    yield "|---|---|---|"
    for pattern in build_support.PATTERNS:
        methods = [
            f"`{method}`"
            for method in build_support.PRUNING_METHODS
            if build_support.sparsity_refusal(pattern, method) is None
        ]
        yield f"| `{pattern}` | {', '.join(methods)} | {build_support.sparsity_note(pattern)} |"
