"""Refusals, estimates and promises of `sparsify`, before anything is loaded."""

from typing import Any

from slipstream_runtime import build_support
from slipstream_runtime.build.recipe import Step
from slipstream_runtime.build.steps import sparsify
from tests.unit.build.test_quantize import CALIBRATION, source


def step(**fields: Any) -> Step:
    return Step.model_validate({"sparsify": {"pattern": "2of4"} | fields})


def test_magnitude_makes_no_2of4() -> None:
    refusal = sparsify.refuse(step(method="magnitude"), source(), "cpu")
    assert refusal is not None
    assert refusal.endswith("Use wanda or sparsegpt.")
    assert (
        sparsify.refuse(step(pattern="unstructured", method="magnitude"), source(), "cpu") is None
    )


def test_2of4_has_no_other_share_of_zeros() -> None:
    refusal = sparsify.refuse(step(sparsity=0.7, calibration=CALIBRATION), source(), "cpu")
    assert refusal is not None
    assert refusal.startswith('sparsify.sparsity: "70%" can\'t work because 2of4 is always 50 %.')


def test_methods_that_measure_activations_need_a_dataset() -> None:
    refusal = sparsify.refuse(step(), source(), "cpu")
    assert refusal is not None
    assert "sparsegpt measures activations. Name a dataset" in refusal


def test_layers_without_whole_groups_of_4_are_refused() -> None:
    odd = source(intermediate_size=385)
    refusal = sparsify.refuse(step(calibration=CALIBRATION), odd, "cpu")
    assert refusal is not None
    assert "4 does not divide 385" in refusal
    fields = {"pattern": "unstructured", "calibration": CALIBRATION}
    assert sparsify.refuse(step(**fields), odd, "cpu") is None


def test_healing_costs_memory_for_training_and_disk_for_its_checkpoints() -> None:
    heal = {"dataset": {"uri": "items.jsonl"}, "samples": 512, "maxLength": 256}
    plain = sparsify.estimate(step(calibration=CALIBRATION), source(), "cpu")
    healed = sparsify.estimate(step(calibration=CALIBRATION, heal=heal), source(), "cpu")
    assert healed.memory >= plain.memory
    assert healed.disk - plain.disk == 2_123_064 + 24 * 1_059_456
    assert healed.seconds > plain.seconds


def test_no_pattern_is_called_faster() -> None:
    assert build_support.SPEEDUP == "none"
    assert "no kernel for 2of4" in build_support.speedup_reason("2of4")
    assert "single zeros" in build_support.speedup_reason("unstructured")
