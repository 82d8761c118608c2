"""The committed page of the table."""

from typing import Final

from dev import paths
from slipstream_operator.core.vllm_versions import PINNED
from tests.gpu import table
from tests.gpu.contract import Answers

PAGE: Final = paths.REPOSITORY / "docs" / "gpu-kernels.md"


def text(found: Answers) -> str:
    """Return what the page must hold."""
    return table.markdown(found, version=PINNED.name)
