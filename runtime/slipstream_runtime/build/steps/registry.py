"""Table of the steps' modules."""

import importlib
from typing import Final, cast

from slipstream_runtime.build.steps.step import Module

_MODULES: Final = {
    kind: f"slipstream_runtime.build.steps.{kind}"
    for kind in ("quantize", "sparsify", "prune", "distill", "export")
}


def module(kind: str) -> Module:
    """Return the module of a step's kind."""
    return cast(Module, importlib.import_module(_MODULES[kind]))
