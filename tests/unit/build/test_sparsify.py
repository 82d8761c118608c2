"""Refusals, estimates and promises of `sparsify`, before anything is loaded."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

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


def test_the_locked_vllm_has_no_kernel_for_sparse_weights() -> None:
    found = importlib.util.find_spec("vllm")
    assert found is not None
    assert found.submodule_search_locations is not None
    names = re.compile(r"semi_structured|cusparselt|scaled_sparse|compressed_tensors_24", re.I)
    files = list(Path(found.submodule_search_locations[0]).rglob("*.py"))
    assert len(files) > 1000
    assert [str(file) for file in files if names.search(file.read_text(errors="replace"))] == []


@pytest.mark.parametrize("pattern", build_support.PATTERNS)
def test_plans_and_statuses_say_that_no_pattern_is_faster(pattern: build_support.Pattern) -> None:
    note = sparsify.estimate(step(pattern=pattern, calibration=CALIBRATION), source(), "cpu").note
    assert note is not None
    assert note.startswith("No gain in speed: vLLM ")
    # NB: the status of a ModelBuild keeps 64 characters of a text.
    assert len(build_support.speedup_reason(pattern)) <= 64
    assert build_support.SPEEDUP == "none"
