"""Versions of vLLM that the operator knows, with their arguments and parsers: the pinned one and the minor before.

`python -m dev.vllm_arguments` writes the modules of this package, with the vLLM of its interpreter.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Final

from slipstream_operator.core.vllm_versions import v0_31_0, v0_32_0


@dataclasses.dataclass(frozen=True)
class VllmVersion:
    """Arguments and parsers of one version."""

    name: str
    arguments: Mapping[str, tuple[str, ...]]
    """Long name -> kind, and the choices of a choice."""
    tool_parsers: Sequence[str]
    reasoning_parsers: Sequence[str]


def _read(module: ModuleType) -> VllmVersion:
    return VllmVersion(
        module.VERSION, module.ARGUMENTS, module.TOOL_PARSERS, module.REASONING_PARSERS
    )


PINNED: Final = _read(v0_32_0)
"""Version of the images that are built from this repository."""
KNOWN: Final[Mapping[str, VllmVersion]] = {
    version.name: version for version in (_read(v0_31_0), PINNED)
}
