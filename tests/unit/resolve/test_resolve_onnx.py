"""Services with runtime onnx: what the operator decides for them, and what they can't ask for."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from slipstream_runtime.onnx.batching import BatchLimits
from slipstream_runtime.onnx.config import OnnxConfig
from tests.support import given

ONNX: dict[str, Any] = {"model": given.MODEL, "runtime": "onnx"}
CPU = {"type": "cpu", "count": 2}


def config(**spec: Any) -> OnnxConfig:
    """What the engine reads of what the operator writes."""
    return OnnxConfig.model_validate(given.resolved({**ONNX, **spec}).revisioned.config)


def test_it_runs_the_onnx_module_of_the_onnx_image() -> None:
    found = given.resolved(ONNX)
    assert (found.runtime, found.revisioned.module, found.revisioned.image) == (
        "onnx",
        "slipstream_runtime.onnx",
        "image/onnx:1",
    )
    assert found.revisioned.resources["limits"]["nvidia.com/gpu"] == "1"


def test_its_claim_is_mounted() -> None:
    found = given.resolved({**ONNX, "model": {"uri": "pvc://weights/minilm"}})
    assert found.revisioned.claims == ("weights",)


def test_every_choice_of_the_user_reaches_the_engine() -> None:
    found = config(
        model={**given.MODEL, "name": "MiniLM", "maxLength": 128},
        accelerator=CPU,
        batching={"maxSequences": 8, "maxBatchedTokens": 512},
        limits={"maxPromptTokens": 100, "timeout": "1m30s", "concurrency": 8, "queue": 0},
        routing={"mode": "Direct", "apiKeys": {"name": "keys"}},
    )
    assert found.model_dump(by_alias=True) == {
        "model": {"uri": "hf://org/model", "name": "MiniLM", "maxLength": 128},
        "device": "cpu",
        "cores": 2,
        "tensorrt": False,
        "batching": {"maxSequences": 8, "maxBatchedTokens": 512},
        "lingerSeconds": 4,
        "drainSeconds": 60,
        "limits": {
            "maxOutputTokens": None,
            "maxPromptTokens": 100,
            "timeoutSeconds": 90.0,
            "bodySeconds": 60.0,
            "concurrency": 8,
            "queue": 0,
            "maxAnswers": 256,
            "maxPromptLogprobs": 1,
            "maxMessages": 4096,
            "maxTools": 256,
            "maxMedia": 16,
        },
        "apiKeys": Path(contract.API_KEYS_DIRECTORY),
        "certificate": None,
        "openMetrics": False,
    }
    assert found.batch == BatchLimits(sequences=8, tokens=512)


def test_the_least_service_has_the_devices_limits() -> None:
    assert config().device == "cuda"
    assert config().batch == BatchLimits(sequences=256, tokens=32768)
    assert config(accelerator=CPU).batch == BatchLimits(sequences=32, tokens=512)
    assert config(accelerator=CPU, batching={}).batch == BatchLimits(sequences=32, tokens=512)


def test_compiling_means_tensorrt_and_is_not_done_unasked() -> None:
    assert not config().tensorrt
    assert not config(cache={}).tensorrt
    own = {"image": "registry/onnx-tensorrt:1"}
    assert config(cache={"compile": True}, template=own).tensorrt


def test_output_tokens_are_no_limit_of_an_engine_that_makes_none() -> None:
    with pytest.raises(
        ValidationError, match=r"limits\.maxOutputTokens: these models generate no tokens"
    ):
        config(limits={"maxOutputTokens": 8})


def refused(**spec: Any) -> PermanentError:
    profile = given.profile(
        tiers={"fast": {"ttft": {"p95": "1s"}}}, **spec.pop("profile", {"limits": {}})
    )
    with pytest.raises(PermanentError) as caught:
        given.resolved({**ONNX, **spec}, profiles=[profile])
    return caught.value


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        (
            {"accelerator": {"count": 2}},
            Reason.UNSUPPORTED,
            "spec.accelerator.count: 2 can't work because a replica uses one GPU",
        ),
        (
            {"accelerator": CPU, "cache": {"compile": True}},
            Reason.UNSUPPORTED,
            "spec.cache.compile: true can't work with runtime: onnx because TensorRT does not run",
        ),
        (
            {"cache": {"compile": True}},
            Reason.UNSUPPORTED,
            "Leave it out, or set spec.template.image to an image that has it",
        ),
        (
            {"engineArgs": {"seed": 7}},
            Reason.UNSUPPORTED,
            "spec.engineArgs: can't be used with runtime: onnx",
        ),
        (
            {"slo": {"tier": "fast"}},
            Reason.UNSUPPORTED,
            'spec.slo.tier: "fast" has no e2e objective',
        ),
        (
            {"profile": {"images": {"vllm": "v", "vllmCpu": "c"}}},
            Reason.IMAGE_MISSING,
            "Set images.onnx in ServingProfile default",
        ),
    ],
)
def test_what_cannot_work_is_told(spec: dict[str, Any], reason: Reason, message: str) -> None:
    error = refused(**spec)
    assert error.reason is reason
    assert message in error.message


def test_of_a_tier_only_the_end_to_end_objectives_are_kept() -> None:
    profile = given.profile(tiers={"fast": {"ttft": {"p95": "1s"}, "e2e": {"p95": "2s"}}})
    found = given.resolved({**ONNX, "slo": {"tier": "fast"}}, profiles=[profile])
    assert [objective.name for objective in found.objectives.latency] == ["e2e-p95"]
