"""Fit check: which services are refused because the model can't be split or doesn't fit, and what is proposed."""

from typing import Any

import pytest

from slipstream_operator.core.facts import Facts, ModelFacts
from slipstream_operator.core.fit.memory import GIB
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given
from tests.support.configs import CONFIGS

PROFILE = given.profile(
    accelerators=[
        {"name": "nvidia-l4", "resourceName": "nvidia.com/gpu", "memory": "22Gi"},
        {"name": "nvidia-h100", "resourceName": "nvidia.com/gpu", "memory": "79Gi"},
        {"name": "nvidia-unknown", "resourceName": "nvidia.com/gpu"},
    ],
    images={"vllm": "image/vllm:1", "router": "image/router:1"},
)


def resolved(spec: dict[str, Any], *, name: str = "Qwen3-8B", size: int | None = None):
    facts = Facts(model=ModelFacts(bytes=size, config=CONFIGS[name]))
    return given.resolved({"model": given.MODEL, **spec}, profiles=[PROFILE], facts=facts)


def refused(spec: dict[str, Any], **known: Any) -> PermanentError:
    with pytest.raises(PermanentError) as error:
        resolved(spec, **known)
    return error.value


def test_heads_that_cannot_be_divided_are_refused_with_sizes_that_work():
    error = refused({"accelerator": {"count": 3}})
    assert error.reason == Reason.INVALID_PARALLELISM
    assert error.message == (
        "spec.accelerator.count: 3 can't work because the model's 32 attention heads can't be divided by 3. "
        "Use a tensor-parallel size of 1, 2, 4 or 8."
    )


def test_heads_are_checked_without_knowing_the_accelerators_memory():
    error = refused({"accelerator": {"type": "nvidia-unknown"}, "parallelism": {"tensor": 5}})
    assert error.reason == Reason.INVALID_PARALLELISM


def test_a_model_that_is_too_large_is_refused_with_what_would_fit():
    error = refused({"accelerator": {"type": "nvidia-l4"}}, name="Llama-3.1-70B")
    assert error.reason == Reason.DOES_NOT_FIT
    assert error.message == (
        "spec.accelerator.count: 1 x nvidia-l4 can't work because each would need 171.7 GiB (131.4 GiB of "
        "weights, 40.0 GiB of KV cache for one request of 131072 tokens, and 0.2 GiB for the engine), and vLLM "
        "can use 20.2 GiB of 22.0 GiB. Use parallelism: {tensor: 8, pipeline: 2, nodes: 2}."
    )


def test_a_context_that_is_too_long_is_refused_with_the_length_that_fits():
    error = refused({"accelerator": {"type": "nvidia-l4"}})
    assert error.reason == Reason.DOES_NOT_FIT
    assert "5.6 GiB of KV cache for one request of 40960 tokens" in error.message
    proposals = error.message.partition("Use ")[2]
    assert proposals.startswith(
        "accelerator.count: 2; or quantization.method: fp8; or model.maxLength: "
    )
    assert proposals.endswith("or accelerator.type: nvidia-h100.")


@pytest.mark.parametrize(
    "spec",
    [
        {"accelerator": {"type": "nvidia-l4", "count": 2}},
        {"accelerator": {"type": "nvidia-l4"}, "quantization": {"method": "fp8"}},
        {"accelerator": {"type": "nvidia-l4"}, "model": {**given.MODEL, "maxLength": 8192}},
        {"accelerator": {"type": "nvidia-h100"}},
        {"accelerator": {"type": "nvidia-unknown"}},
    ],
)
def test_what_is_proposed_is_accepted(spec):
    assert resolved(spec).demand is not None


def test_no_second_slice_is_proposed_where_the_first_is_too_small():
    entry = {"name": "mig", "resourceName": "nvidia.com/mig-1g.10gb", "memory": "9500Mi"}
    slices = given.profile(accelerators=[entry], without=["defaultAccelerator"])
    facts = Facts(model=ModelFacts(config=CONFIGS["Llama-3.1-70B"]))
    with pytest.raises(PermanentError, match="Use a smaller model") as error:
        given.resolved({"model": given.MODEL}, profiles=[slices], facts=facts)
    assert "count: 2" not in error.value.message and "nodes" not in error.value.message


def test_what_is_unknown_refuses_nothing():
    assert given.resolved({"model": given.MODEL}, profiles=[PROFILE]).demand is not None
    for facts in (Facts(), Facts(model=ModelFacts(bytes=10**15))):
        given.resolved({"model": given.MODEL}, profiles=[PROFILE], facts=facts)


def test_facts_of_another_source_refuse_nothing():
    facts = Facts(model=ModelFacts(config=CONFIGS["DeepSeek-V3"], uri="hf://org/former"))
    given.resolved({"model": given.MODEL}, profiles=[PROFILE], facts=facts)


def test_the_size_of_the_checkpoint_decides_the_pods_requests():
    large = resolved({"accelerator": {"type": "nvidia-h100", "count": 4}}, size=100 * GIB)
    assert large.default_requests["ephemeral-storage"] == "110Gi"


def test_facts_change_no_revision():
    spec = {"model": given.MODEL, "accelerator": {"type": "nvidia-h100"}}
    facts = Facts(model=ModelFacts(bytes=16 * GIB, config=CONFIGS["Qwen3-8B"]))
    assert given.identity(spec, profiles=[PROFILE]) == given.identity(
        spec, profiles=[PROFILE], facts=facts
    )


def shared(**spec: Any):
    accelerator = {
        "name": "l4-half", "resourceName": "nvidia.com/gpu.shared", "memory": "22Gi", "memoryShare": "50%",
    }  # fmt: skip
    profile = given.profile(accelerators=[accelerator])
    facts = Facts(model=ModelFacts(config=CONFIGS["Qwen3-0.6B"]))
    return given.resolved({"model": given.MODEL, **spec}, profiles=[profile], facts=facts)


def test_engines_that_share_a_device_get_their_part_of_its_memory():
    found = shared()
    assert found.revisioned.config["cache"]["gpuMemoryUtilization"] == 0.46
    assert found.demand is not None and found.demand.utilization == 0.46


def test_an_engine_argument_can_take_less_of_a_shared_device_and_not_more():
    assert shared(engineArgs={"gpu-memory-utilization": 0.3}).demand.utilization == 0.3
    with pytest.raises(
        PermanentError, match=r"0.9 can't work because engines share a device"
    ) as error:
        shared(engineArgs={"gpu-memory-utilization": 0.9})
    assert error.value.reason == Reason.LIMIT_EXCEEDED


def test_a_size_of_the_kv_cache_in_bytes_keeps_to_no_share_and_is_refused_on_a_shared_device():
    with pytest.raises(
        PermanentError, match=r"spec.engineArgs.kv-cache-memory-bytes: \d+ can't work"
    ) as error:
        shared(engineArgs={"kv-cache-memory-bytes": 64 * GIB})
    assert error.value.reason == Reason.LIMIT_EXCEEDED


def test_without_a_share_the_configuration_says_nothing_of_it():
    assert "gpuMemoryUtilization" not in given.resolved().revisioned.config["cache"]


@pytest.mark.parametrize(
    ("argument", "value"),
    [("cpu-offload-gb", 200), ("hf-overrides", '{"num_hidden_layers": 2}'), ("decode-context-parallel-size", 8)],
)  # fmt: skip
def test_arguments_that_change_what_is_held_leave_the_memory_unchecked(argument, value):
    spec = {"accelerator": {"type": "nvidia-l4"}, "engineArgs": {argument: value}}
    found = resolved(spec, name="Llama-3.1-70B").demand
    assert found is not None and found.unchecked == argument
    with pytest.raises(PermanentError):
        resolved({**spec, "engineArgs": {}}, name="Llama-3.1-70B")


def test_an_argument_that_overrides_the_configuration_leaves_the_split_unchecked():
    overrides = {"hf-overrides": '{"num_attention_heads": 30}'}
    resolved({"accelerator": {"type": "nvidia-h100", "count": 3}, "engineArgs": overrides})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", 0, -1, 1.5])
def test_a_share_of_memory_that_is_none_is_refused_by_name(value):
    error = refused({"engineArgs": {"gpu-memory-utilization": value}})
    assert error.reason == Reason.INVALID_SPEC
    assert error.message.startswith("spec.engineArgs.gpu-memory-utilization: ")


@pytest.mark.parametrize(
    ("parallelism", "name", "message"),
    [
        (
            {"tensor": 3}, "Qwen3-8B",
            ("spec.parallelism.tensor: 3 can't work because the model's 32 attention heads can't be divided by 3. "
            "Use a tensor-parallel size of 1, 2, 4 or 8."),
        ),
        (
            {"pipeline": 37}, "Qwen3-8B",
            ("spec.parallelism.pipeline: 37 can't work because the model's 36 layers can't make 37 stages. "
            "Use at most 36."),
        ),
        (
            {"data": 5}, "Qwen3-30B-A3B",
            ("spec.parallelism.data: 5 can't work because the experts' intermediate size of 768 can't be divided by 5. "
            "Use data: 1, 2, 3 or 4; or engineArgs.enable-expert-parallel: true."),
        ),
    ],
)  # fmt: skip
def test_the_field_that_was_written_is_refused_with_what_helps(parallelism, name, message):
    accelerator = {"type": "nvidia-unknown"}
    assert refused({"accelerator": accelerator, "parallelism": parallelism}, name=name).message == (
        message
    )


def test_too_little_memory_names_the_parallelism_that_was_written():
    spec = {"accelerator": {"type": "nvidia-l4"}, "parallelism": {"tensor": 2, "pipeline": 2}}
    assert refused(spec, name="Llama-3.1-70B").message.startswith(
        "spec.parallelism.tensor: 2 can't work because each of 4 x nvidia-l4 would need "
    )
