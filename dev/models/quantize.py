"""Write a quantised copy of the target: `python -m dev.models.quantize [--scheme W8A8|W4A16]`.

Data-free: the weights of an output channel, or of a group of its inputs, are rounded to nearest with the scale of the
largest among them.
"""

from pathlib import Path

import click
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from compressed_tensors.quantization.utils import calculate_qparams, is_module_quantized
from transformers import LlamaForCausalLM

from dev.models import tokenizer, train

HERE = Path(__file__).parent


@torch.no_grad()
def quantize(model: LlamaForCausalLM, *, scheme: str = "W8A8") -> ModelCompressor:
    """Quantise the layers' matrices in place; the embedding and the output stay as they are."""
    config = QuantizationConfig(config_groups={scheme: ["Linear"]}, ignore=["lm_head"])
    apply_quantization_config(model, config)
    for module in filter(is_module_quantized, model.modules()):
        arguments = module.quantization_scheme.weights
        groups = module.weight.unflatten(1, (-1, arguments.group_size or module.in_features))
        scale, zero = calculate_qparams(groups.amin(2), groups.amax(2), arguments)
        module.weight_scale.copy_(scale)
        module.weight_zero_point.copy_(zero)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    return compressor


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=HERE / "target")
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "target-w8a8")
@click.option("--scheme", type=click.Choice(["W8A8", "W4A16"]), default="W8A8")
def main(*, model: Path, out: Path, scheme: str) -> None:
    """Read a model, quantise it, write it with its tokenizer."""
    write(model, out, scheme=scheme)


def write(model: Path, out: Path, *, scheme: str) -> None:
    """A quantised copy of the model, with its tokenizer."""
    loaded = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    compressor = quantize(loaded, scheme=scheme)
    train.save(loaded, tokenizer.load(model), out)
    compressor.update_config(str(out))


if __name__ == "__main__":
    main()
