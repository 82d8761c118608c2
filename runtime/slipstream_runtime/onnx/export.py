"""`python -m slipstream_runtime.onnx.export --model FOLDER --output FOLDER`: export an encoder for runtime onnx.

It needs PyTorch, transformers and onnx, which the engine itself does not need.
"""

import argparse
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import onnx
import torch
import transformers

from slipstream_runtime.errors import EngineError
from slipstream_runtime.onnx import exported

OPSET: Final = 17
_KEPT: Final = ("*.json", "*.txt", "*_Pooling/config.json")
_HEAD: Final = "ForSequenceClassification"


def export(model: Path, output: Path, *, opset: int = OPSET) -> None:
    """Write the graph, and beside it the files that describe its use."""
    network, name = load(model)
    output.mkdir(parents=True, exist_ok=True)
    for pattern in _KEPT:
        for file in model.glob(pattern):
            if file.name.startswith("."):
                continue
            target = output / file.relative_to(model)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
    ids = torch.ones((2, 8), dtype=torch.int64)
    # NB: with padding, because a mask of ones could be optimized away.
    inputs = {"input_ids": ids, "attention_mask": ids.tril(4)}
    if getattr(network.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    with tempfile.TemporaryDirectory(dir=output) as scratch, warnings.catch_warnings():
        # NB: the tracing exporter is deprecated, but the other one takes ten times as long and needs more packages.
        warnings.simplefilter("ignore")
        graph = Path(scratch) / "model.onnx"
        torch.onnx.export(
            _Named(network, tuple(inputs), name).eval(),
            tuple(inputs.values()),
            str(graph),
            input_names=list(inputs),
            output_names=[name],
            dynamic_axes={
                **{node: {0: "sequences", 1: "tokens"} for node in inputs},
                name: {0: "sequences"} if name == "logits" else {0: "sequences", 1: "tokens"},
            },
            opset_version=opset,
            dynamo=False,
        )
        _move(graph, output)
    exported.load(output, uri=f"file://{output.resolve()}", max_length=None)


def _move(graph: Path, output: Path) -> None:
    """Move the graph to the output; a graph over 2 GB, one file for each tensor, becomes two files."""
    if len(list(graph.parent.iterdir())) == 1:
        graph.rename(output / graph.name)
        return
    onnx.save_model(
        onnx.load(graph),
        output / graph.name,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{graph.name}_data",
    )


def load(model: Path) -> tuple[Any, str]:
    """Return the network as transformers loads it, and the name of its output."""
    config = transformers.AutoConfig.from_pretrained(model, trust_remote_code=False)
    architecture = next(iter(config.architectures or ()), "")
    head = architecture.endswith(_HEAD)
    kind = transformers.AutoModelForSequenceClassification if head else transformers.AutoModel
    # NB: when traced, other attention implementations leave needless checks in the graph.
    network = kind.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
    )
    return network.eval(), "logits" if head else "last_hidden_state"


class _Named(torch.nn.Module):  # type: ignore[misc] # torch is not read by mypy
    """Module with tensors as positional inputs and one output, as the exporter needs it."""

    def __init__(self, network: Any, inputs: tuple[str, ...], output: str) -> None:
        super().__init__()
        self._network = network
        self._inputs = inputs
        self._output = output

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Run the network once."""
        outputs = self._network(**dict(zip(self._inputs, tensors, strict=True)))
        tensor: torch.Tensor = getattr(outputs, self._output)
        return tensor


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="slipstream_runtime.onnx.export", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    try:
        export(options.model, options.output)
    except EngineError as error:
        parser.exit(error.exit_code, f"{error.reason}\n")


if __name__ == "__main__":
    main()
