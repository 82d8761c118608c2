"""spec.engineArgs: what vLLM would refuse, or Slipstream owns, is refused before an engine starts."""

import dataclasses
import re
from typing import Any

import pytest

from slipstream_operator.core import argument_classes, vllm_versions
from slipstream_operator.core.vllm_versions import PINNED
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given


def accepted(arguments: dict[str, Any], **spec: Any) -> Any:
    """The arguments for the engine, with a profile that allows all of these."""
    profile = given.profile(engineArgs={"allow": list(arguments)})
    wanted = {"model": given.MODEL, "engineArgs": arguments, **spec}
    return given.resolved(wanted, profiles=[profile]).revisioned.config["engineArgs"]


ADAPTERS = {"model": {**given.MODEL, "adapters": [{"name": "a", "uri": "hf://org/a"}]}}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max-num-seqs", 64, 64),
        ("max-num-seqs", "64", 64),
        ("max-num-seqs", 64.0, 64),
        ("seed", -1, -1),
        ("max-num-batched-tokens", "8k", 8000),
        ("max-num-batched-tokens", "8K", 8192),
        ("gpu-memory-utilization", 0.8, 0.8),
        ("gpu-memory-utilization", "0.8", 0.8),
        ("cpu-offload-gb", 4, 4.0),
        ("async-scheduling", True, True),
        ("async-scheduling", False, False),
        ("async-scheduling", "false", False),
        ("scheduling-policy", "priority", "priority"),
        ("tokenizer-mode", "mistral", "mistral"),
        ("show-hidden-metrics-for-version", 0.31, "0.31"),
        ("compilation-config", '{"mode": 3}', '{"mode": 3}'),
        ("allowed-media-domains", ["a.example", "b.example"], ["a.example", "b.example"]),
        ("allowed-media-domains", "a.example", ["a.example"]),
        ("cudagraph-capture-sizes", [1, "2", 4], [1, 2, 4]),
    ],
)
def test_a_value_reaches_the_engine_as_what_vllm_reads(
    name: str, value: object, expected: object
) -> None:
    found = accepted({name: value})[name]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max-num-seq", 64, "vLLM 0.32.0 has no such argument. Did you mean max-num-seqs?"),
        ("--max-num-seqs", 64, "has no such argument. Did you mean max-num-seqs?"),
        ("max_num_seqs", 64, "has no such argument. Did you mean max-num-seqs?"),
        ("zzzzzz", 1, "has no such argument. Correct the name, or leave it out."),
        ("max-num-seqs", "many", '"many" is not valid. Use an integer, such as 64.'),
        ("max-num-seqs", True, "true is not valid. Use an integer, such as 64."),
        ("max-num-seqs", 1.5, "1.5 is not valid. Use an integer, such as 64."),
        (
            "max-num-batched-tokens",
            "8kb",
            '"8kb" is not valid. Use an integer, such as 8192 or 8k.',
        ),
        ("gpu-memory-utilization", "most", '"most" is not valid. Use a number, such as 0.9.'),
        ("async-scheduling", 1, "1 is not valid. Use true or false."),
        ("scheduling-policy", "lifo", '"lifo" is not supported. Use one of fcfs, priority.'),
        ("tokenizer-mode", False, "false is not valid. Use text in quotes."),
        ("compilation-config", "{mode: 3}", '"{mode: 3}" is not valid. Use JSON as text'),
        (
            "compilation-config",
            {"mode": 3},
            '{"mode": 3} is not text, a number or a boolean. Write JSON as text.',
        ),
        ("max-num-seqs", [1], "[1] is not text, a number or a boolean. Set one value."),
        ("allowed-media-domains", ["--host"], '"--host" can\'t be an item of a list'),
        ("allowed-media-domains", [None], "null is not text, a number or a boolean"),
        ("model", "org/x", "can't be set here. Use spec.model.uri."),
        ("served-model-name", "x", "can't be set here. Use spec.model.name."),
        ("quantization", "fp8", "can't be set here. Use spec.quantization.method."),
        ("speculative-config", "{}", "can't be set here. Use spec.speculation."),
        ("tensor-parallel-size", 2, "can't be set here. Use spec.parallelism."),
        ("enable-lora", True, "can't be set here. Use spec.model.adapters."),
        ("trust-remote-code", True, "can't be set here. Use spec.model.trustRemoteCode."),
        ("tokenizer", "org/x", "can't be set here. It belongs to the model source"),
        ("api-key", "k", "can't be set here. Slipstream checks API keys itself"),
        (
            "ssl-keyfile",
            "/k",
            "can't be set here. It has no effect because Slipstream runs its own HTTP server",
        ),
        ("disable-log-stats", True, "can't be set here. Scaling and status need vLLM's metrics"),
        ("allowed-origins", '["*"]', "It has no effect because clients reach the router"),
        ("enable-log-requests", True, "logs vLLM's warnings and errors only"),
        ("profiler-config", "{}", "It serves routes of vLLM that Slipstream does not serve"),
        ("disable-cascade-attn", True, "vLLM ignores it. Leave it out."),
        ("prefill-context-parallel-size", 2, "It needs more devices than Slipstream requests"),
        ("ignore-patterns", "*.bin", "It belongs to the model source"),
        (
            "lora-dtype",
            "float16",
            "has no effect without spec.model.adapters. Set both, or neither",
        ),
        ("tool-call-parser", "hermes", "has no effect without enable-auto-tool-choice. Set both"),
        ("fingerprint-value", "x", "has no effect without fingerprint-mode. Set both, or neither."),
    ],
)
def test_what_cannot_work_is_refused_with_name_value_and_remedy(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(PermanentError) as refusal:
        accepted({name: value})
    assert refusal.value.reason == Reason.INVALID_SPEC
    assert refusal.value.message.startswith(f"spec.engineArgs.{name}: ")
    assert message in refusal.value.message


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(PermanentError) as refusal:
        accepted({"seed": "x", "model": "y", "max-num-seqs": 4})
    told = re.findall(r"spec\.engineArgs\.[a-z-]+(?=:)", refusal.value.message)
    assert told == ["spec.engineArgs.model", "spec.engineArgs.seed"]


@pytest.mark.parametrize(
    ("name", "value", "part", "message"),
    [
        ("max-num-seqs", 4, {"batching": {"maxSequences": 4}}, "spec.batching.maxSequences"),
        ("enable-prefix-caching", True, {"cache": {"prefix": True}}, "spec.cache.prefix"),
        (
            "kv-cache-dtype",
            "fp8",
            {"quantization": {"kvCache": "fp8"}},
            "spec.quantization.kvCache",
        ),
        ("compilation-config", "{}", {"cache": {"compile": True}}, "spec.cache.compile"),
        (
            "hf-overrides",
            "{}",
            {"attention": {"slidingWindow": 64}},
            "spec.attention.slidingWindow",
        ),
        ("structured-outputs-config", "{}", {"output": {"regex": "a"}}, "spec.output.regex"),
        (
            "structured-outputs-config",
            "{}",
            {"output": {"schema": '{"type": "object"}'}},
            "spec.output.schema",
        ),
    ],
)
def test_what_a_typed_field_sets_too_is_refused(
    name: str, value: object, part: dict[str, Any], message: str
) -> None:
    with pytest.raises(PermanentError, match=rf"{message} sets the same. Leave out one of them"):
        accepted({name: value}, **part)
    others: dict[str, Any] = {"batching": {}, "cache": {}, "quantization": {}}
    assert accepted({name: value}, **others) == {name: value}


def test_every_argument_of_vllm_has_exactly_one_class() -> None:
    classes = [set(argument_classes.OWNED), argument_classes.ENGINE, argument_classes.SERVER]
    assert set().union(*classes) == set(PINNED.arguments)
    assert sum(map(len, classes)) == len(PINNED.arguments)


def test_arguments_with_conditions_are_ones_that_can_be_set() -> None:
    effective = argument_classes.ENGINE | argument_classes.SERVER
    assert set(argument_classes.SHARED) <= effective
    assert set(argument_classes.FIELDS_NEEDED) <= effective
    assert set(argument_classes.ARGUMENTS_NEEDED) <= effective
    assert set(argument_classes.ARGUMENTS_NEEDED.values()) <= effective


def test_an_argument_is_accepted_with_the_field_or_argument_that_it_needs() -> None:
    assert accepted({"lora-dtype": "float16"}, **ADAPTERS) == {"lora-dtype": "float16"}
    both = {"tool-call-parser": "hermes", "enable-auto-tool-choice": True}
    assert accepted(both) == both


def test_an_argument_of_a_new_vllm_is_refused_until_it_has_a_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {**PINNED.arguments, "brand-new": ("bool",)}
    newer = dataclasses.replace(PINNED, arguments=known)
    monkeypatch.setattr(vllm_versions, "PINNED", newer)
    with pytest.raises(PermanentError, match=r"brand-new: .* does not support this argument"):
        accepted({"brand-new": True})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, None),
        ({"batching": {"maxSequences": 8}}, 8),
        ({"engineArgs": {"max-num-seqs": 512}}, 512),
        ({"engineArgs": {"max-num-seqs": "512", "max-num-active-seqs": 300}}, 300),
        ({"batching": {"maxSequences": 64}, "engineArgs": {"max-num-active-seqs": 32}}, 32),
    ],
)
def test_scaler_and_router_know_the_sequences_that_the_engine_runs(
    spec: dict[str, Any], expected: int | None
) -> None:
    resolved = given.resolved({"model": given.MODEL, **spec})
    assert resolved.max_sequences == expected
    assert resolved.routing.limits.get("concurrency") == expected


def test_the_order_in_which_arguments_are_written_makes_no_revision() -> None:
    one = {"seed": 1, "max-num-seqs": 4}
    other = dict(reversed(one.items()))
    first, second = (
        given.identity({"model": given.MODEL, "engineArgs": arguments})
        for arguments in (one, other)
    )
    assert first == second != given.identity({"model": given.MODEL})


def parsers(**model: str) -> Any:
    return given.resolved({"model": {**given.MODEL, **model}}).revisioned.config["model"]


def test_parsers_and_template_reach_the_engine() -> None:
    found = parsers(toolParser="hermes", reasoningParser="none", chatTemplate="{{ messages }}")
    assert found["toolParser"] == "hermes"
    assert found["reasoningParser"] == "none"
    assert found["chatTemplate"] == "{{ messages }}"
    assert not {"toolParser", "reasoningParser", "chatTemplate"} & parsers().keys()


@pytest.mark.parametrize(
    ("field", "name", "near"),
    [("toolParser", "hermes2", "hermes"), ("reasoningParser", "deepseek-r1", "deepseek_r1")],
)
def test_a_parser_that_vllm_lacks_is_refused(field: str, name: str, near: str) -> None:
    with pytest.raises(PermanentError) as caught:
        parsers(**{field: name})
    message = str(caught.value)
    assert message.startswith(f"spec.model.{field}: vLLM {PINNED.name} has no")
    assert message.endswith(f'parser "{name}". Did you mean {near}?')


def test_a_plugin_brings_parsers_of_its_own() -> None:
    model = {**given.MODEL, "toolParser": "mine"}
    spec = {"model": model, "engineArgs": {"tool-parser-plugin": "/plugins/mine.py"}}
    profile = given.profile(engineArgs={"allow": ["tool-parser-plugin"]})
    config = given.resolved(spec, profiles=[profile]).revisioned.config
    assert config["model"]["toolParser"] == "mine"


@pytest.mark.parametrize(
    ("argument", "model"),
    [
        ("tool-call-parser", {"toolParser": "hermes"}),
        ("reasoning-parser", {"reasoningParser": "qwen3"}),
        ("chat-template", {"chatTemplate": "{{ messages }}"}),
        ("chat-template", {"chatTemplateFrom": {"name": "templates", "key": "tools"}}),
    ],
)
def test_a_parser_is_set_in_one_place(argument: str, model: dict[str, Any]) -> None:
    with pytest.raises(PermanentError, match="sets the same"):
        given.resolved({"model": {**given.MODEL, **model}, "engineArgs": {argument: "x"}})
