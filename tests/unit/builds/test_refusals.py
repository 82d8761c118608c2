"""A build that can't work is refused before its Job exists, with the field, the reason and a remedy."""

from typing import Any

import pytest

from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import modelbuilds

GPU = {"accelerator": {"type": "gpu"}}
TEXTS = modelbuilds.TEXTS


def _quantize(**fields: Any) -> dict[str, Any]:
    return {"steps": [{"quantize": fields}]}


def _refusal(spec: dict[str, Any], **profile: Any) -> PermanentError:
    with pytest.raises(PermanentError) as refused:
        modelbuilds.resolved({**modelbuilds.SPEC, **spec}, **profile)
    return refused.value


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (_quantize(scheme="w4a16", method="awq", calibration={"dataset": TEXTS}), "needs a GPU"),
        (
            _quantize(scheme="fp8-static", calibration={"dataset": TEXTS}),
            "no kernel for static fp8",
        ),
        (_quantize(scheme="nvfp4"), "no kernel for nvfp4"),
        (
            _quantize(scheme="w8a8", method="awq", calibration={"dataset": TEXTS}),
            "is not offered for w8a8",
        ),
        (_quantize(scheme="w8a8", method="gptq"), "needs calibration"),
        (
            {"steps": [{"quantize": {"scheme": "w8a8"}}, {"export": {}}]},
            "can't be followed by export",
        ),
        ({"steps": [{"sparsify": {"pattern": "2of4", "method": "magnitude"}}]}, "can't make 2of4"),
        (
            {
                "steps": [
                    {
                        "distill": {
                            "student": {"layers": 1},
                            "training": {"dataset": TEXTS},
                            "purpose": "Draft",
                            "speculator": "eagle3",
                        }
                    }
                ]
            },
            "needs a GPU",
        ),
    ],
)
def test_what_a_device_can_not_do(spec: dict[str, Any], said: str) -> None:
    refusal = _refusal(spec)
    assert refusal.reason == Reason.UNSUPPORTED
    assert refusal.message.startswith("spec.steps")
    assert said in refusal.message


def test_what_only_a_gpu_can_do_is_accepted_there() -> None:
    spec = _quantize(scheme="w4a16", method="awq", calibration={"dataset": TEXTS})
    build = modelbuilds.resolved({**modelbuilds.SPEC, **spec, **GPU})
    assert build.recipe["device"] == "cuda"
    assert build.resources["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"source": "s3://bucket/model"}, "spec.source"),
        ({"output": {"uri": "s3://bucket/model"}}, "spec.output.uri"),
        (
            _quantize(
                scheme="w8a8",
                calibration={"dataset": {"uri": "s3://bucket/items.jsonl"}},
            ),
            "spec.steps[0].quantize.calibration.dataset.uri",
        ),
        (
            {
                "steps": [
                    {
                        "distill": {
                            "student": {"uri": "gs://bucket/student"},
                            "training": {"dataset": TEXTS},
                        }
                    }
                ]
            },
            "spec.steps[0].distill.student.uri",
        ),
    ],
)
def test_sources_and_outputs_outside_of_the_profiles_list(spec: dict[str, Any], field: str) -> None:
    refusal = _refusal(spec)
    assert (refusal.reason, refusal.message.split(": ")[0]) == (Reason.SOURCE_NOT_ALLOWED, field)


def test_a_task_is_a_dataset_of_the_hub() -> None:
    quality = {"dataset": {"task": "gsm8k"}, "maxRegression": "1%"}
    spec = {"source": "pvc://models/big", "quality": quality}
    assert modelbuilds.resolved({**modelbuilds.SPEC, **spec})
    refusal = _refusal(spec, sources={"allow": ["pvc://*"]})
    assert refusal.message.startswith('spec.quality.dataset.task: "hf://datasets/gsm8k"')


@pytest.mark.parametrize(
    "spec",
    [
        {"tokenSecret": {"name": "admin", "key": "token"}},
        {"credentials": {"name": "admin"}, "source": "s3://bucket/model"},
        {"output": {"uri": "oci://registry/image:1", "pushSecret": {"name": "admin"}}},
        {"imagePullSecrets": [{"name": "admin"}]},
    ],
)
def test_secrets_outside_of_the_profiles_list(spec: dict[str, Any]) -> None:
    allowed = {"sources": {"allow": ["*"]}, "secrets": {"allow": ["team-*"]}}
    assert _refusal(spec, **allowed).reason == Reason.NOT_ALLOWED


def test_a_missing_image_of_the_builder_is_named() -> None:
    refusal = _refusal({}, images={"vllmCpu": "image/cpu:1"})
    assert refusal.reason == Reason.IMAGE_MISSING
    assert "images.builder" in refusal.message


def test_an_unknown_accelerator_is_refused_with_the_known_ones() -> None:
    refusal = _refusal({"accelerator": {"type": "h100"}})
    assert refusal.reason == Reason.UNKNOWN_ACCELERATOR
    assert "cpu, gpu" in refusal.message


def test_devices_are_asked_for_by_the_accelerator_alone() -> None:
    refusal = _refusal({"resources": {"limits": {"nvidia.com/gpu": "8"}}})
    assert refusal.reason == Reason.UNSUPPORTED
    assert "spec.accelerator.count" in refusal.message


def test_more_devices_than_a_namespace_may_have() -> None:
    refusal = _refusal(
        {"accelerator": {"type": "gpu", "count": 4}}, limits={"maxAcceleratorsPerNamespace": 2}
    )
    assert refusal.reason == Reason.QUOTA_EXCEEDED


def test_a_limit_below_its_request_is_refused_before_kubernetes_would() -> None:
    spec = {"resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "2Gi"}}}
    assert _refusal(spec).message.startswith("spec.resources.requests")


def test_the_memory_of_a_step_is_the_containers_limit_or_the_devices() -> None:
    limited = {"resources": {"limits": {"memory": "3Gi"}}}
    assert modelbuilds.resolved({**modelbuilds.SPEC, **limited}).recipe["memory"] == 3 << 30
    gpus = {"accelerator": {"type": "gpu", "count": 2}}
    devices = [{"name": "gpu", "resourceName": "nvidia.com/gpu", "memory": "40Gi"}]
    build = modelbuilds.resolved(
        {**modelbuilds.SPEC, **gpus}, accelerators=devices, defaultAccelerator="gpu"
    )
    assert build.recipe["memory"] == 80 << 30


DRAFT = {"distill": {"student": {"layers": 1}, "training": {"dataset": TEXTS}, "purpose": "Draft"}}
REGRESSION = [{"name": "ExactMatch", "maxRegression": "1%"}]


@pytest.mark.parametrize(
    ("steps", "quality", "said"),
    [
        ([{"export": {}}], {"metrics": REGRESSION}, "spec.quality: can't work because an export"),
        (
            [{"quantize": {"scheme": "w8a8"}}],
            {"metrics": REGRESSION, "minAcceptance": "60%"},
            "spec.quality.minAcceptance: can't work because no step makes a draft",
        ),
        ([{"quantize": {"scheme": "w8a8"}}], {}, "spec.quality.metrics: is missing"),
        (
            [DRAFT],
            {"metrics": REGRESSION},
            "spec.quality.metrics: maxRegression can't work because a draft",
        ),
    ],
)
def test_a_quality_that_could_prove_nothing_is_refused(
    steps: list[dict[str, Any]], quality: dict[str, Any], said: str
) -> None:
    refusal = _refusal({"steps": steps, "quality": {"dataset": TEXTS, **quality}})
    assert refusal.reason == Reason.UNSUPPORTED
    assert refusal.message.startswith(said)


def test_a_draft_is_not_measured_on_a_task() -> None:
    refusal = _refusal({"steps": [DRAFT], "quality": {"dataset": {"task": "gsm8k"}}})
    assert refusal.message.startswith("spec.quality.dataset.task: can't work because a draft")


def test_a_method_that_fills_the_zeros_of_the_step_before_is_refused() -> None:
    calibration = {"dataset": TEXTS}
    sparse = {"sparsify": {"pattern": "2of4", "calibration": calibration}}
    gptq = {"quantize": {"scheme": "w8a8", "method": "gptq", "calibration": calibration}}
    refusal = _refusal({"steps": [sparse, gptq]})
    assert refusal.message.startswith("spec.steps[1].quantize: the source is sparse by 2of4")
