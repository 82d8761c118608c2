"""The table GPU x model kind x kernel, as Markdown and for a terminal."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rich.table import Table

from tests.gpu import needs
from tests.gpu.cases import FAMILIES
from tests.gpu.contract import Answers

_PLAIN: Final = {
    "UnquantizedLinearMethod": "PyTorch",
    "UnquantizedEmbeddingMethod": "PyTorch",
}
COLUMNS: Final = ("model", "GPUs", "attention", "linear layers", "experts", "compiled in the pod")
INTRODUCTION: Final = """\
# Kernels by GPU

This page shows platform teams which kernels vLLM {version} uses for a model in the GPU image, and which compilers
run in the pod before it is ready.

`make gpu-kernels` generates it without a GPU. A fake driver replaces NVIDIA's, and vLLM's own code chooses the
kernels. The table is for clusters that can't reach NVIDIA's server of compiled kernels. It says nothing about
speed.

- **refused**: the engine or vLLM refuses the combination before it loads the model.
- **Kernels with a \\*** exist only in compiled form. FlashInfer downloads them from NVIDIA's server at start.
  These models need access to it, or an image that contains flashinfer-cubin.
- **compiled in the pod**: compilers that the kernels of the row need. For every model, Triton also compiles for
  torch.compile and for sampling.
"""


class Row(NamedTuple):
    """A model kind on the GPUs that make the same choice."""

    model: str
    gpus: tuple[str, ...]
    attention: str
    linear: str
    experts: str
    compiled: str


def rows(found: Answers) -> list[Row]:
    """Return the rows in the order of the cases, GPUs with equal choices together."""
    result = []
    for case in FAMILIES:
        groups: dict[tuple[str, ...], list[str]] = {}
        for gpu in case.gpus:
            groups.setdefault(_cells(found.found[gpu.key][case.name]), []).append(gpu.key)
        for gpu, reason in case.unsuited.items():
            groups.setdefault((f"fails: {reason}", "", "", ""), []).append(gpu)
        result += [Row(case.name, tuple(gpus), *cells) for cells, gpus in groups.items()]
    return result


def _cells(answer: Mapping[str, Any]) -> tuple[str, ...]:
    kernels = answer.get("kernels")
    if kernels is None:
        return ("refused", "", "", "")
    wanted = {need for names in kernels.values() for name in names for need in needs.of(name)}
    compilers = sorted(needs.COMPILED[need] for need in wanted & needs.COMPILED.keys())
    return (
        *(_joined(kernels[part]) for part in ("attention", "linear", "experts")),
        ", ".join(compilers),
    )


def _joined(names: list[str]) -> str:
    return ", ".join(sorted({_PLAIN.get(name, _short(name)) + _mark(name) for name in names}))


def _mark(name: str) -> str:
    return "*" if "cubins" in needs.of(name) else ""


def _short(name: str) -> str:
    """Return vLLM's name of a kernel without what all of its kind end in."""
    return name.removesuffix("LinearKernel").removesuffix("Kernel")


def markdown(found: Answers, *, version: str) -> str:
    """Return the page."""
    lines = [INTRODUCTION.format(version=version), "| " + " | ".join(COLUMNS) + " |"]
    lines.append("|" + "---|" * len(COLUMNS))
    for row in rows(found):
        cells = (row.model, ", ".join(row.gpus), *row[2:])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def terminal(found: Answers) -> Table:
    """Return the table for people."""
    table = Table(*COLUMNS, title="Kernels by GPU")
    for row in rows(found):
        table.add_row(row.model, ", ".join(row.gpus), *row[2:])
    return table
