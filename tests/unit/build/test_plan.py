"""Plans: the cost of every step, or the reason why one can't run, before any work starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.build import plan
from slipstream_runtime.build.steps.step import Checkpoint, Context, Estimate
from slipstream_runtime.errors import UnsuitableError
from tests.support import builds

SOURCE = Checkpoint(bytes=2 << 30, parameters=1 << 30, config={})
ROOMY = plan.Machine(memory=100 << 30, disk=100 << 30)
QUALITY = {
    "dataset": {"uri": "items.jsonl"},
    "metrics": [{"name": "ExactMatch", "maxRegression": 0.01}],
}


class Step:
    """Step that costs what the test says."""

    def __init__(self, memory: int, *, refusal: str | None = None) -> None:
        self.memory = memory
        self.refusal = refusal

    def refuse(self, *_: Any) -> str | None:
        return self.refusal

    def estimate(self, *_: Any) -> Estimate:
        return Estimate(memory=self.memory, disk=1 << 30, seconds=60)

    def run(self, step: Any, source: Path, target: Path, context: Context) -> Mapping[str, Any]:
        raise AssertionError("a plan runs nothing")


def planned(folder: Path, step: Step, machine: plan.Machine = ROOMY, **changes: Any) -> plan.Plan:
    recipe = builds.recipe(folder, **changes)
    return plan.plan(recipe, SOURCE, machine=machine, module=lambda _: step, download=3 << 30)


def test_a_plan_adds_the_disk_of_all_stages_and_takes_the_highest_memory(tmp_path: Path) -> None:
    found = planned(
        tmp_path, Step(8 << 30), quality=QUALITY, output={"uri": "oci://registry.example/a/b:1"}
    )
    assert [stage.stage for stage in found.stages] == [
        "source",
        "0-quantize",
        "0-quality",
        "publish",
    ]
    assert found.memory == 8 << 30
    # The download, the step's checkpoint, and the layer of the image.
    assert found.disk == (3 + 1 + 2) << 30
    assert found.seconds == 60


def test_an_evaluation_counts_one_model_at_a_time(tmp_path: Path) -> None:
    found = planned(tmp_path, Step(1 << 20), quality=QUALITY)
    assert found.memory == SOURCE.bytes + (1 << 30)


def test_a_step_that_needs_more_memory_than_there_is_is_refused_with_both_figures(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        UnsuitableError,
        match=r"0-quantize: it needs about 8.0 GiB of memory, and the container has 4.0 GiB. Use .*spec.resources",
    ):
        planned(tmp_path, Step(8 << 30), plan.Machine(memory=4 << 30, disk=None))
    with pytest.raises(UnsuitableError, match=r"the accelerator has 4.0 GiB. Use an accelerator"):
        planned(tmp_path, Step(8 << 30), plan.Machine(memory=4 << 30, disk=None), device="cuda")


def test_a_build_that_needs_more_disk_than_there_is_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UnsuitableError, match=r"about 4.0 GiB of disk, and 2.0 GiB are free.*spec.workspace.claim"
    ):
        planned(tmp_path, Step(1), plan.Machine(memory=None, disk=2 << 30))


def test_unknown_room_refuses_nothing(tmp_path: Path) -> None:
    assert planned(tmp_path, Step(1 << 60), plan.Machine(memory=None, disk=None)).memory == 1 << 60


def test_the_refusal_of_a_step_names_its_place(tmp_path: Path) -> None:
    steps = [{"sparsify": {"pattern": "2of4"}}, {"quantize": {"scheme": "w8a8"}}]
    with pytest.raises(UnsuitableError, match=r"^spec\.steps\[0\]\.scheme: no\.$"):
        planned(tmp_path, Step(1, refusal="scheme: no."), steps=steps)


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (("export", "quantize"), "Make export the last step"),
        (("quantize", "sparsify"), "Put sparsify before quantize"),
        (("quantize", "export"), "precision int8"),
    ],
)
def test_steps_that_cannot_follow_each_other_are_refused(
    tmp_path: Path, kinds: tuple[str, ...], reason: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "export": {},
        "quantize": {"scheme": "w8a8"},
        "sparsify": {"pattern": "2of4"},
    }
    with pytest.raises(UnsuitableError, match=reason):
        planned(tmp_path, Step(1), steps=[{kind: bodies[kind]} for kind in kinds])


def test_one_step_is_planned_alone_under_its_own_number(tmp_path: Path) -> None:
    steps = [{"sparsify": {"pattern": "2of4"}}, {"quantize": {"scheme": "w8a8"}}]
    recipe = builds.recipe(tmp_path, steps=steps)
    found = plan.plan(recipe, SOURCE, machine=ROOMY, module=lambda _: Step(7), only=1)
    assert [stage.stage for stage in found.stages] == ["1-quantize"]


@pytest.mark.parametrize(
    ("steps", "quality", "said"),
    [
        ([{"export": {}}], QUALITY, "spec.quality: can't work because an export"),
        (
            [{"quantize": {"scheme": "w8a8"}}],
            {**QUALITY, "metrics": []},
            "spec.quality.metrics: is missing",
        ),
        (
            [{"quantize": {"scheme": "w8a8"}}],
            {**QUALITY, "metrics": QUALITY["metrics"] * 2},
            'spec.quality.metrics: "ExactMatch" is listed twice',
        ),
        (
            [{"quantize": {"scheme": "w8a8"}}],
            {**QUALITY, "maxRegression": 0.1},
            "spec.quality.maxRegression: is for a task",
        ),
        (
            [{"quantize": {"scheme": "w8a8"}}],
            {**QUALITY, "dataset": {"task": "gsm8k"}},
            "spec.quality.metrics: can't work because a task has its own metrics",
        ),
        (
            [{"quantize": {"scheme": "w8a8"}}],
            {**QUALITY, "minAcceptance": 0.6},
            "spec.quality.minAcceptance: can't work because no step makes a draft",
        ),
    ],
)
def test_a_quality_that_could_prove_nothing_is_refused(
    tmp_path: Path, steps: list[Any], quality: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnsuitableError) as refused:
        planned(tmp_path, Step(1 << 30), steps=steps, quality=quality)
    assert refused.value.reason.startswith(said)


def test_answers_of_an_encoder_are_not_evaluated(tmp_path: Path) -> None:
    encoder = Checkpoint(bytes=1 << 20, parameters=1 << 18, config={"architectures": ["BertModel"]})
    recipe = builds.recipe(tmp_path, quality=QUALITY)
    with pytest.raises(UnsuitableError, match='"BertModel" gives no answers in text'):
        plan.plan(recipe, encoder, machine=ROOMY, module=lambda _: Step(1 << 30))


def test_a_method_that_fills_the_zeros_of_the_step_before_is_refused(tmp_path: Path) -> None:
    calibration = {"dataset": {"uri": "items.jsonl"}}
    sparse = {"sparsify": {"pattern": "2of4", "calibration": calibration}}
    gptq = {"quantize": {"scheme": "w8a8", "method": "gptq", "calibration": calibration}}
    with pytest.raises(UnsuitableError, match=r"steps\[1\]\.quantize\.method: \"gptq\".*fill"):
        planned(tmp_path, Step(1 << 30), steps=[sparse, gptq])
