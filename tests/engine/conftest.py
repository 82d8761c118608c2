"""Model that several files of tests serve."""

from pathlib import Path

import pytest

from slipstream_runtime.onnx import export
from tests.support import encoders


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real encoder, exported once."""
    folder = tmp_path_factory.mktemp("minilm")
    export.export(encoders.SOURCE, folder)
    return folder
