"""Families of models: which of vLLM's parsers a model gets, and that vLLM has them."""

import json
from pathlib import Path

import pytest

from slipstream_runtime import contract
from slipstream_runtime.engine import arguments, chat_templates, families
from slipstream_runtime.engine.checkpoint import Checkpoint
from slipstream_runtime.engine.config import ConfigMapKey, EngineConfig, Model
from slipstream_runtime.errors import EngineError, UnsuitableError

HERMES = 'For each call: <tool_call>{"name": <function-name>}</tool_call>'
QWEN3 = HERMES + "{% if enable_thinking %}<think>"


def arguments_of(
    architecture: str,
    template: str,
    *,
    engine_args: dict[str, object] | None = None,
    output: dict[str, object] | None = None,
    **model: str,
) -> list[str]:
    config = EngineConfig.model_validate(
        {
            "model": {"uri": "file:///m", "name": "n", **model},
            "drainSeconds": 60,
            "engineArgs": engine_args or {},
            "output": output,
        }
    )
    checkpoint = Checkpoint("none", "bf16", architectures=(architecture,))
    target = arguments.Weights(Path("/m"), checkpoint, template)
    words = arguments.build(config, target=target, draft=None, cpu_flags=frozenset())
    known = {"--tool-call-parser", "--reasoning-parser", "--chat-template"}
    return [
        word
        for before, word in zip(["", *words], words, strict=False)
        if before in known or word in known or word == "--enable-auto-tool-choice"
    ]


TOOLS = ["--tool-call-parser", "hermes", "--enable-auto-tool-choice"]


@pytest.mark.parametrize(
    ("architecture", "template", "tools", "reasoning"),
    [
        ("Qwen3ForCausalLM", QWEN3, "hermes", "qwen3"),
        ("Qwen3ForCausalLM", HERMES, "hermes", None),
        ("Qwen3MoeForCausalLM", "<tool_call><function=name>", "qwen3_coder", None),
        ("Qwen2ForCausalLM", HERMES, "hermes", None),
        ("LlamaForCausalLM", "Environment: ipython", "llama3_json", None),
        ("LlamaForCausalLM", HERMES, "hermes", None),
        ("LlamaForCausalLM", "content.split('</think>')", None, "deepseek_r1"),
        ("LlamaForCausalLM", "{{ messages }}", None, None),
        ("MistralForCausalLM", "[AVAILABLE_TOOLS][TOOL_CALLS]", "mistral", None),
        ("GptOssForCausalLM", "<|channel|>", "openai", "openai_gptoss"),
        ("Glm4MoeForCausalLM", "<arg_key><think>", "glm45", "glm45"),
        ("GPT2LMHeadModel", HERMES, None, None),
    ],
)
def test_a_family_is_known_by_its_architecture_and_its_template(
    architecture: str, template: str, tools: str | None, reasoning: str | None
) -> None:
    expected = ["--tool-call-parser", tools, "--enable-auto-tool-choice"] if tools else []
    expected += ["--reasoning-parser", reasoning] if reasoning else []
    assert arguments_of(architecture, template) == expected


def test_none_and_names_win_over_the_family() -> None:
    none = arguments_of("Qwen3ForCausalLM", QWEN3, toolParser="none", reasoningParser="none")
    assert none == []
    named = arguments_of("Qwen3ForCausalLM", QWEN3, toolParser="xlam", reasoningParser="holo2")
    assert (named[1], named[-1]) == ("xlam", "holo2")


def test_engine_arguments_win_over_the_family() -> None:
    found = arguments_of("Qwen2ForCausalLM", HERMES, engine_args={"tool-call-parser": "xlam"})
    assert found == []
    off = arguments_of("Qwen2ForCausalLM", HERMES, engine_args={"enable-auto-tool-choice": False})
    assert off == TOOLS[:2]


def test_a_structure_of_answers_leaves_out_the_reasoning_unless_it_is_named() -> None:
    output = {"regex": "[0-9]+"}
    assert arguments_of("Qwen3ForCausalLM", QWEN3, output=output) == TOOLS
    named = arguments_of("Qwen3ForCausalLM", QWEN3, output=output, reasoningParser="qwen3")
    assert named == [*TOOLS, "--reasoning-parser", "qwen3"]


def test_a_template_is_text_or_a_file_of_the_model() -> None:
    text = arguments_of("LlamaForCausalLM", "", chatTemplate=HERMES + "{{ messages }}")
    assert text == ["--chat-template", HERMES + "{{ messages }}", *TOOLS]
    file = arguments_of("LlamaForCausalLM", HERMES, chatTemplate="tools.jinja")
    assert file == ["--chat-template", "/m/tools.jinja", *TOOLS]


def test_a_template_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "tools.jinja").write_text(HERMES)
    (tmp_path / "outside.jinja").write_text(HERMES)

    def found(name: str) -> str | None:
        return chat_templates.given(Model(uri="file:///m", name="n", chat_template=name), model)

    assert found("tools.jinja") == HERMES
    for name in ("other.jinja", "../outside.jinja", "/etc/hostname", "."):
        with pytest.raises(UnsuitableError, match=r"spec\.model\.chatTemplate: .* no such file"):
            found(name)


def test_a_template_of_a_config_map_is_read_from_its_volume(tmp_path: Path) -> None:
    source = ConfigMapKey(name="templates", key="tools")
    model = Model(uri="file:///m", name="n", chat_template_from=source)
    file = tmp_path / "template.jinja"
    file.write_text(HERMES)
    assert chat_templates.given(model, tmp_path, mounted=file) == HERMES
    assert chat_templates.field(model) == "spec.model.chatTemplateFrom"
    assert chat_templates.argument(model, tmp_path) == Path(contract.CHAT_TEMPLATE_FILE)


@pytest.mark.parametrize("text", [None, " \n"], ids=["missing", "empty"])
def test_a_template_that_the_config_map_lacks_is_an_error_that_a_restart_can_end(
    text: str | None, tmp_path: Path
) -> None:
    source = ConfigMapKey(name="templates", key="tools")
    model = Model(uri="file:///m", name="n", chat_template_from=source)
    file = tmp_path / "template.jinja"
    if text is not None:
        file.write_text(text)
    with pytest.raises(
        EngineError, match='no ConfigMap "templates" whose key "tools" has text'
    ) as error:
        chat_templates.given(model, tmp_path, mounted=file)
    assert error.value.exit_code == EngineError.exit_code


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"chat_template.jinja": "A"}, "A"),
        ({"tokenizer_config.json": json.dumps({"chat_template": "B"})}, "B"),
        (
            {
                "tokenizer_config.json": json.dumps(
                    {"chat_template": [{"name": "default", "template": "C"}, {"template": "D"}]}
                )
            },
            "C\nD",
        ),
        ({"tokenizer_config.json": "[]"}, ""),
        ({"tokenizer_config.json": "{"}, ""),
        ({}, ""),
    ],
)
def test_templates_are_found_where_transformers_writes_them(
    written: dict[str, str], expected: str, tmp_path: Path
) -> None:
    for name, content in written.items():
        (tmp_path / name).write_text(content)
    assert families.template(tmp_path) == expected
