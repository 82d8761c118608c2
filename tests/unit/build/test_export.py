"""Exports that can't work, and what they cost."""

from typing import Any

import pytest

from slipstream_runtime.build.recipe import Step
from slipstream_runtime.build.steps import export
from slipstream_runtime.build.steps.step import Checkpoint


def step(**fields: Any) -> Step:
    return Step.model_validate({"export": fields})


def checkpoint(architecture: str, **config: Any) -> Checkpoint:
    return Checkpoint(
        bytes=90_000_000,
        parameters=22_700_000,
        config={"architectures": [architecture], **config},
    )


@pytest.mark.parametrize(
    "architecture", ["BertModel", "BertForMaskedLM", "Qwen3ForSequenceClassification"]
)
def test_encoders_and_classifiers_are_exported(architecture: str) -> None:
    assert export.refuse(step(), checkpoint(architecture), "cpu") is None


@pytest.mark.parametrize(
    ("fields", "source", "remedy"),
    [
        ({}, checkpoint("Qwen3ForCausalLM"), "serve it by runtime: vllm."),
        ({}, checkpoint("T5ForConditionalGeneration"), "serve it by runtime: vllm."),
        (
            {},
            checkpoint("BertModel", quantization_config={"quant_method": "x"}),
            "precision: int8.",
        ),
        ({"opset": 9}, checkpoint("BertModel"), "Leave it out."),
        ({"opset": 23}, checkpoint("BertModel"), "Leave it out."),
    ],
)
def test_what_runtime_onnx_cannot_serve_is_refused_with_a_remedy(
    fields: dict[str, Any], source: Checkpoint, remedy: str
) -> None:
    reason = export.refuse(step(**fields), source, "cpu")
    assert reason is not None
    assert reason.startswith("export.")
    assert reason.endswith(remedy)


def test_the_cost_grows_with_the_weights() -> None:
    small = export.estimate(step(), checkpoint("BertModel"), "cpu")
    assert small.disk == 2 * 4 * 22_700_000
    assert small.memory > 4 * 4 * 22_700_000
