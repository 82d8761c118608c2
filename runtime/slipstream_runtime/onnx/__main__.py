"""`python -m slipstream_runtime.onnx --config FILE`: one engine pod."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from slipstream_runtime import contract
from slipstream_runtime.host import process

if TYPE_CHECKING:
    from slipstream_runtime.onnx.launch import Launch


def main() -> NoReturn:
    """Read the configuration and run the engine until the pod is stopped."""
    process.main(module=contract.ONNX_MODULE, description=__doc__, prepare=_prepare)


def _prepare(file: Path, api: socket.socket) -> "Launch":
    from slipstream_runtime import config_file  # noqa: PLC0415
    from slipstream_runtime.onnx import config, launch  # noqa: PLC0415

    return launch.prepare(config_file.load(file, config.OnnxConfig), api=api)


if __name__ == "__main__":
    main()
