"""spec.engineArgs: what vLLM would refuse, or Slipstream owns, is refused before an engine starts."""

import re
from typing import Any

import pytest

from slipstream_operator.core import engine_arguments, vllm_arguments
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given


def accepted(arguments: dict[str, Any], **spec: Any) -> Any:
    config = given.resolved(
        {"model": given.MODEL, "engineArgs": arguments, **spec}
    ).revisioned.config
    return config["engineArgs"]


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
        ("lora-target-modules", ["q_proj", "v_proj"], ["q_proj", "v_proj"]),
        ("lora-target-modules", "q_proj", ["q_proj"]),
        ("cudagraph-capture-sizes", [1, "2", 4], [1, 2, 4]),
        ("aggregate-engine-logging", True, True),
    ],
)
def test_a_value_reaches_the_engine_as_what_vllm_reads(
    name: str, value: object, expected: object
) -> None:
    found = accepted({name: value})[name]
    assert found == expected
    assert type(found) is type(expected)


def test_a_flag_that_is_off_is_left_out() -> None:
    config = given.resolved(
        {"model": given.MODEL, "engineArgs": {"aggregate-engine-logging": False}}
    )
    assert "engineArgs" not in config.revisioned.config


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
        ("lora-target-modules", ["--host"], '"--host" can\'t be an item of a list'),
        ("lora-target-modules", [None], "null is not text, a number or a boolean"),
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
    ],
)
def test_what_a_typed_field_sets_too_is_refused(
    name: str, value: object, part: dict[str, Any], message: str
) -> None:
    with pytest.raises(PermanentError, match=rf"{message} sets the same. Leave out one of them"):
        accepted({name: value}, **part)
    others: dict[str, Any] = {"batching": {}, "cache": {"compile": True}, "quantization": {}}
    assert accepted({name: value}, **others) == {name: value}


def test_arguments_that_are_owned_or_shared_exist_in_vllm() -> None:
    known = set(vllm_arguments.ARGUMENTS)
    assert set(engine_arguments.OWNED) <= known
    assert set(engine_arguments.SHARED) <= known
    assert not set(engine_arguments.SHARED) & set(engine_arguments.OWNED)


def test_the_order_in_which_arguments_are_written_makes_no_revision() -> None:
    one = {"seed": 1, "max-num-seqs": 4}
    other = dict(reversed(one.items()))
    first, second = (
        given.identity({"model": given.MODEL, "engineArgs": arguments})
        for arguments in (one, other)
    )
    assert first == second != given.identity({"model": given.MODEL})
