"""Families of models -> vLLM's parsers of their tool calls and their reasoning.

The architecture alone doesn't decide it: a Llama can be Llama 3.1, a Hermes or a distilled DeepSeek-R1. A family is
therefore known by a text in the model's chat template as well. A template without it writes no tool calls.
"""

import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import Final

_TEMPLATE: Final = "chat_template.jinja"
_SETTINGS: Final = "tokenizer_config.json"


@dataclasses.dataclass(frozen=True)
class Family:
    """Models of these architectures whose chat template has all texts of `markers`."""

    architectures: tuple[str, ...]
    markers: tuple[str, ...]
    parser: str
    """Name of the parser in vLLM."""


_LLAMA: Final = ("LlamaForCausalLM",)
_QWEN2: Final = ("Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen2_5_VLForConditionalGeneration")
_QWEN3: Final = (
    "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM",
    "Qwen3NextForCausalLM",
    "Qwen3VLForConditionalGeneration",
    "Qwen3VLMoeForConditionalGeneration",
)
_MISTRAL: Final = (
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Mistral3ForConditionalGeneration",
    "PixtralForConditionalGeneration",
)
_DEEPSEEK: Final = ("DeepseekV3ForCausalLM",)
_GLM: Final = ("Glm4MoeForCausalLM",)
_MINIMAX: Final = ("MiniMaxM2ForCausalLM",)
_GEMMA4: Final = ("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration")
_DEEPSEEK_CALLS: Final = "<｜tool▁calls▁begin｜>"  # noqa: RUF001 (DeepSeek's own characters)

TOOLS: Final = (
    Family((*_QWEN3, "NemotronHForCausalLM"), ("<function=",), "qwen3_coder"),
    Family((*_QWEN2, *_QWEN3, *_LLAMA, "MistralForCausalLM"), ("<tool_call>",), "hermes"),
    Family(("SmolLM3ForCausalLM",), ("<tool_call>",), "hermes"),
    Family(_LLAMA, ("Environment: ipython",), "llama3_json"),
    Family(("Llama4ForConditionalGeneration",), ("<|python_start|>",), "llama4_pythonic"),
    Family(_MISTRAL, ("[TOOL_CALLS]",), "mistral"),
    Family(_DEEPSEEK, ("tool_declare<|im_middle|>",), "kimi_k2"),
    Family(_DEEPSEEK, (_DEEPSEEK_CALLS, "thinking is defined"), "deepseek_v31"),
    Family(_DEEPSEEK, (_DEEPSEEK_CALLS,), "deepseek_v3"),
    Family(_GLM, ("<arg_key>",), "glm45"),
    Family(("GptOssForCausalLM",), ("<|channel|>",), "openai"),
    Family(("GraniteForCausalLM",), ("<|tool_call|>",), "granite"),
    Family(("GraniteMoeHybridForCausalLM",), ("<tool_call>",), "granite4"),
    Family(_MINIMAX, ("<minimax:tool_call>",), "minimax_m2"),
    Family(("HunYuanMoEV1ForCausalLM",), ("<tool_calls>",), "hunyuan_a13b"),
    Family(("Phi3ForCausalLM",), ("<|tool|>",), "phi4_mini_json"),
    Family(("Cohere2ForCausalLM",), ("<|START_ACTION|>",), "cohere_command3"),
    Family(("SeedOssForCausalLM",), ("<seed:tool_call>",), "seed_oss"),
    Family(("JambaForCausalLM",), ("<tool_calls>",), "jamba"),
    Family(("Lfm2ForCausalLM", "Lfm2MoeForCausalLM"), ("<|tool_list_start|>",), "lfm2"),
    Family(("Olmo3ForCausalLM",), ("<function_calls>",), "olmo3"),
    Family(_GEMMA4, ("<|tool_call>",), "gemma4"),
)
"""Families by the form of their tool calls; the first that matches counts."""

REASONING: Final = (
    Family(_QWEN3, ("enable_thinking",), "qwen3"),
    Family(_QWEN3, (r"assistant\n<think>\n",), "qwen3"),
    Family(_DEEPSEEK, ("tool_declare<|im_middle|>", "<think>"), "kimi_k2"),
    Family(_DEEPSEEK, ("thinking is defined", "</think>"), "deepseek_v3"),
    Family((*_DEEPSEEK, *_QWEN2, *_LLAMA), ("</think>",), "deepseek_r1"),
    Family(_MISTRAL, ("[THINK]",), "mistral"),
    Family(_GLM, ("<think>",), "glm45"),
    Family(("GptOssForCausalLM",), ("<|channel|>",), "openai_gptoss"),
    Family(("NemotronHForCausalLM",), ("<think>",), "nemotron_v3"),
    Family(_MINIMAX, ("<think>",), "minimax_m2"),
    Family(("HunYuanMoEV1ForCausalLM",), ("<think>",), "hunyuan_a13b"),
    Family(("SeedOssForCausalLM",), ("<seed:think>",), "seed_oss"),
    Family(("Olmo3ForCausalLM",), ("<think>",), "olmo3"),
    Family(_GEMMA4, ("<|channel>",), "gemma4"),
)
"""Families by the form of their reasoning; the first that matches counts."""


def parser(
    families: Collection[Family], *, architectures: Collection[str], template: str
) -> str | None:
    """Return the parser of the first family that the model belongs to; None if it belongs to none."""
    return next(
        (
            family.parser
            for family in families
            if all(marker in template for marker in family.markers)
            and not {*family.architectures}.isdisjoint(architectures)
        ),
        None,
    )


def template(folder: Path) -> str:
    """Return the chat templates in the model's folder as one text; empty if there are none."""
    try:
        return (folder / _TEMPLATE).read_text(errors="replace")
    except OSError:
        return _named(folder / _SETTINGS)


def _named(settings: Path) -> str:
    try:
        found = json.loads(settings.read_text(errors="replace"))
    except (OSError, ValueError, RecursionError):
        return ""
    templates = found.get("chat_template") if isinstance(found, dict) else None
    if isinstance(templates, list):
        texts = [one.get("template") for one in templates if isinstance(one, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return templates if isinstance(templates, str) else ""
