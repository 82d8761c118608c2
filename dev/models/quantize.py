"""Write an int8 copy of the target (weights and activations): `python -m dev.models.quantize`.

Data-free: each output channel is rounded to nearest, with the scale of its largest weight.
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
def quantize(model: LlamaForCausalLM) -> ModelCompressor:
    """Quantise the layers' matrices in place; the embedding and the output stay as they are."""
    config = QuantizationConfig(config_groups={"W8A8": ["Linear"]}, ignore=["lm_head"])
    apply_quantization_config(model, config)
    for module in filter(is_module_quantized, model.modules()):
        weight = module.weight
        scale, zero = calculate_qparams(
            weight.amin(1, keepdim=True),
            weight.amax(1, keepdim=True),
            module.quantization_scheme.weights,
        )
        module.weight_scale.copy_(scale)
        module.weight_zero_point.copy_(zero)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    return compressor


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=HERE / "target")
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "target-w8a8")
def main(*, model: Path, out: Path) -> None:
    """Read a model, quantise it, write it with its tokenizer."""
    loaded = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    compressor = quantize(loaded)
    train.save(loaded, tokenizer.load(model), out)
    compressor.update_config(str(out))


if __name__ == "__main__":
    main()
