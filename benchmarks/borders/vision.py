"""A tiny random model that sees: a LLaVA over the test model's own Llama and tokenizer."""

import json
from pathlib import Path
from typing import Final

from benchmarks import servers

SIZE: Final = 56
"""Pixels of an edge that the model sees."""
_PATCH: Final = 14
_TOKEN: Final = "<image>"
_TEMPLATE: Final = (
    "{%- for m in messages -%}{%- if m.content is string -%}{{ m.content }}{%- else -%}{%- for part in m.content -%}"
    "{%- if part.type == 'text' -%}{{ part.text }}{%- else -%}<image>{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
)


def write(folder: Path) -> None:
    """Write the model. It needs torchvision, which its processor imports."""
    import tokenizers  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    folder.mkdir()
    tokenizer = tokenizers.Tokenizer.from_file(str(servers.MODEL / "tokenizer.json"))
    tokenizer.add_special_tokens([_TOKEN])
    number = tokenizer.token_to_id(_TOKEN)
    size = 64 * (number // 64 + 1)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=2048
    )
    wrapped.chat_template = _TEMPLATE
    text = transformers.LlamaConfig(
        **{
            **_text(),
            "vocab_size": size,
        }
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=_PATCH,
        projection_dim=32,
    )
    config = transformers.LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=number,
        image_seq_length=(SIZE // _PATCH) ** 2,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    config.dtype = "float32"
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    _name_tower(folder / "model.safetensors")
    pixels = {"height": SIZE, "width": SIZE}
    transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(
            size={"shortest_edge": SIZE}, crop_size=pixels
        ),
        tokenizer=wrapped,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        image_token=_TOKEN,
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE,
    ).save_pretrained(folder)


def _name_tower(file: Path) -> None:
    """Name the weights of the vision tower as published models do, and not as transformers 5 saves them."""
    from safetensors import torch  # noqa: PLC0415

    tower, inner = "vision_tower.", "vision_tower.vision_model."
    named = {
        name if inner in name else name.replace(tower, inner): weight
        for name, weight in torch.load_file(file).items()
    }
    torch.save_file(named, file, {"format": "pt"})


def _text() -> dict[str, object]:
    config = json.loads((servers.MODEL / "config.json").read_text())
    kept = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "max_position_embeddings", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    return {key: config[key] for key in kept}
