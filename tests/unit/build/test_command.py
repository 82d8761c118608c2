"""Stages as processes run them: the report or the reason, the exit code, and what a second run does."""

import errno
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slipstream_runtime import contract
from slipstream_runtime.build import command
from slipstream_runtime.build.progress import Progress
from slipstream_runtime.build.steps import registry
from slipstream_runtime.build.steps.step import Context, Estimate, Tick
from slipstream_runtime.evaluate.quality.observations import Observation, Request
from slipstream_runtime.model_files import buckets
from tests.support import builds

QUALITY = {"metrics": [{"name": "ExactMatch", "maxRegression": 0.1}]}


class Step:
    """Step that writes a checkpoint with other weights, or fails as the test asks."""

    def __init__(self) -> None:
        self.runs = 0
        self.memory = 1 << 20
        self.failure: BaseException | None = None
        self.writes_weights = True

    def refuse(self, *_: Any) -> str | None:
        return None

    def estimate(self, *_: Any) -> Estimate:
        return Estimate(memory=self.memory, disk=1 << 20, seconds=1)

    def run(self, step: Any, source: Path, target: Path, context: Context) -> Mapping[str, Any]:
        self.runs += 1
        if self.failure is not None:
            raise self.failure
        context.progress(Tick(1, 1))
        (target / "config.json").write_text(json.dumps(builds.CONFIG))
        if self.writes_weights:
            (target / "model.safetensors").write_bytes(builds.weights(50, value=3))
        return {"scheme": "w8a8"}


class Answers:
    """Model that answers right, or that answers wrong if its checkpoint is the step's."""

    broken = False

    def __init__(self, folder: Path, *, batch: int) -> None:
        self.right = not (Answers.broken and "steps" in folder.parts)

    async def ask(self, requests: Sequence[Request]) -> AsyncIterator[tuple[Request, Observation]]:
        for request in requests:
            yield request, Observation(text="yes" if self.right else "no")


class Build:
    """Build in a folder, stage by stage."""

    def __init__(self, folder: Path, step: Step) -> None:
        self.folder = folder
        self.step = step
        self.changes: dict[str, Any] = {}

    def stage(self, name: str) -> tuple[int, str]:
        """Exit code and termination message."""
        file, log = self.folder / "build.json", self.folder / "termination-log"
        recipe = builds.recipe(self.folder, **self.changes)
        file.write_text(
            recipe.model_dump_json(by_alias=True, exclude_none=True, exclude_unset=True)
        )
        log.unlink(missing_ok=True)
        progress = Progress(name, clock=time.monotonic)
        code = command.stage(file, name, progress=progress, termination_log=log)
        return code, log.read_text()

    def report(self, name: str) -> dict[str, Any]:
        code, text = self.stage(name)
        assert code == 0, text
        assert len(text.encode()) <= 4096
        found: dict[str, Any] = json.loads(text)
        assert found["stage"] == name
        return found

    def evaluate(self, *, items: int = 100) -> None:
        """Ask for quality over a dataset of this many questions."""
        file = self.folder / "items.jsonl"
        lines = [json.dumps({"prompt": str(n), "reference": "yes"}) for n in range(items)]
        file.write_text("\n".join(lines))
        self.changes["quality"] = {**QUALITY, "dataset": {"uri": str(file)}}

    @property
    def output(self) -> Path:
        return self.folder / "out" / "tiny"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    builds.checkpoint(tmp_path / "source", value=1)
    step = Step()
    monkeypatch.setattr(registry, "module", lambda kind: step)
    models = ModuleType("checkpoint")
    monkeypatch.setattr(models, "Checkpoint", Answers, raising=False)
    monkeypatch.setitem(
        command.sys.modules, "slipstream_runtime.evaluate.quality.checkpoint", models
    )
    monkeypatch.setattr(Answers, "broken", False)
    return Build(tmp_path, step)


def test_a_build_reports_every_stage_and_publishes_with_its_lineage(build: Build) -> None:
    build.evaluate()
    source = build.report("source")
    assert source["estimate"]["memory"] > 0
    assert source["revision"] is None
    assert build.report("0-quantize")["facts"] == {"scheme": "w8a8", "parameters": 50}
    quality = build.report("0-quality")
    assert (quality["verdict"], quality["items"]) == ("Passed", 100)
    assert quality["metrics"][0]["candidate"] == quality["metrics"][0]["baseline"] == 1.0
    published = build.report("publish")
    manifest = json.loads((build.output / contract.BUILD_MANIFEST).read_text())
    assert manifest["lineage"]["sha256"] == source["sha256"]
    assert list(manifest["lineage"]["datasets"]) == ["items.jsonl"]
    assert (
        published["files"]["model.safetensors"] == manifest["files"]["model.safetensors"]["sha256"]
    )
    # The step left the tokenizer out; it belongs to the model as before.
    assert (build.output / "tokenizer.json").read_text() == "{}"


def test_stages_that_have_finished_are_not_run_again_and_leave_the_same_report(
    build: Build,
) -> None:
    before = [build.report(name) for name in ("source", "0-quantize", "publish")]
    assert [build.report(name) for name in ("source", "0-quantize", "publish")] == before
    assert build.step.runs == 1
    left = {path.name for path in (build.folder / "work").iterdir()}
    assert left == {"lock", "owner.json", "records"}


def test_a_stage_does_not_start_before_its_predecessor(build: Build) -> None:
    code, text = build.stage("0-quantize")
    assert code == 1
    assert "the stage source has not finished" in text


def test_an_unknown_stage_is_refused_with_the_known_ones(build: Build) -> None:
    code, text = build.stage("1-quantize")
    assert code == 2
    assert '"1-quantize" is not a stage. Use one of source, 0-quantize, publish.' in text


def test_a_bad_line_of_a_dataset_ends_the_build_before_the_work(build: Build) -> None:
    build.evaluate(items=2)
    with (build.folder / "items.jsonl").open("a") as file:
        file.write('\n{"prompt": ')
    code, text = build.stage("source")
    assert code == 2
    assert text.startswith("spec.quality.dataset")
    assert "line 3: is not JSON" in text


def test_a_metric_that_applies_to_no_item_ends_the_build_before_the_work(build: Build) -> None:
    build.evaluate()
    (build.folder / "items.jsonl").write_text('{"prompt": "1 + 1", "answer": "2"}')
    code, text = build.stage("source")
    assert code == 2
    assert text.startswith("spec.quality.metrics: ExactMatch applies to no item")
    assert "set dataset.fields" in text


def test_a_step_that_does_not_fit_ends_the_build_before_the_work(build: Build) -> None:
    build.step.memory = 2 << 30
    build.changes["memory"] = 1 << 30
    code, text = build.stage("source")
    assert code == 2
    assert "0-quantize: it needs about 2.0 GiB of memory, and the container has 1.0 GiB" in text


def test_a_source_that_is_away_may_come_back(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_RETRY", {"max_retries": 0})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:9")
    build.changes["source"] = "s3://weights/tiny"
    code, text = build.stage("source")
    assert (code, "s3://weights/tiny: the store can't be reached" in text) == (1, True)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("nonsense", 'spec.source: "nonsense" is not a valid source'),
        ("file:///nowhere", "there is no folder /nowhere"),
    ],
)
def test_a_wrong_source_is_reported_by_the_field_of_a_build(
    build: Build, uri: str, reason: str
) -> None:
    build.changes["source"] = uri
    code, text = build.stage("source")
    assert code != 0
    assert reason in text


def test_a_full_disk_leaves_the_finished_stages_for_the_next_run(build: Build) -> None:
    build.report("source")
    build.step.failure = OSError(errno.ENOSPC, "No space left on device")
    code, text = build.stage("0-quantize")
    assert code == 1
    assert "0-quantize: the disk is full. Use a larger claim in spec.workspace.claim" in text
    build.step.failure = None
    build.report("0-quantize")
    build.report("publish")


def test_memory_that_runs_out_is_no_reason_to_try_again(build: Build) -> None:
    build.report("source")
    build.step.failure = MemoryError()
    code, text = build.stage("0-quantize")
    assert (code, "0-quantize: memory ran out. Use more" in text) == (2, True)


def test_a_step_without_weights_is_reported_and_leaves_nothing(build: Build) -> None:
    build.report("source")
    build.step.writes_weights = False
    code, text = build.stage("0-quantize")
    assert code == 1
    assert "the step's output is not whole: it has no weights" in text
    assert build.stage("publish")[0] == 1
    assert not build.output.exists()


def test_lost_quality_ends_the_build_with_its_figures_and_publishes_nothing(build: Build) -> None:
    Answers.broken = True
    build.evaluate()
    build.report("source")
    build.report("0-quantize")
    code, text = build.stage("0-quality")
    found = json.loads(text)
    assert code == 2
    assert (found["stage"], found["verdict"]) == ("0-quality", "Failed")
    assert found["seconds"] >= 0
    assert found["peakMemory"] > 0
    assert "above the greatest allowed loss of 10.00 %" in found["reason"]
    assert build.stage("publish")[0] == 1
    assert not build.output.exists()


def test_too_few_items_are_no_pass(build: Build) -> None:
    build.evaluate(items=5)
    build.report("source")
    build.report("0-quantize")
    code, text = build.stage("0-quality")
    found = json.loads(text)
    assert (code, found["verdict"]) == (2, "Inconclusive")
    assert found["needed"] > 5
    assert f"About {found['needed']} items would tell" in found["reason"]


def test_only_the_last_checkpoint_must_pass(build: Build) -> None:
    Answers.broken = True
    build.evaluate()
    build.changes["steps"] = [
        {"sparsify": {"pattern": "unstructured"}},
        {"quantize": {"scheme": "w8a8"}},
    ]
    build.report("source")
    build.report("0-sparsify")
    assert build.report("0-quality")["verdict"] == "Failed"
    build.report("1-quantize")
    assert build.stage("1-quality")[0] == 2


def test_the_place_of_another_build_is_refused_before_the_work(build: Build) -> None:
    build.output.mkdir(parents=True)
    (build.output / "notes").write_text("mine")
    code, text = build.stage("source")
    assert (code, "it holds other files" in text) == (2, True)


def test_a_published_build_whose_artifact_is_gone_says_so(build: Build) -> None:
    for name in ("source", "0-quantize", "publish"):
        build.report(name)
    (build.output / contract.BUILD_MANIFEST).unlink()
    for path in build.output.iterdir():
        path.unlink()
    code, text = build.stage("publish")
    assert code == 2
    assert "spec.output: the artifact of this build" in text
    assert "is gone. Delete" in text


def test_the_same_recipe_twice_gives_the_same_bytes(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("source", "0-quantize", "publish"):
        build.report(name)
    first = (build.output / contract.BUILD_MANIFEST).read_bytes()
    build.changes |= {
        "uid": "uid-2",
        "work": str(tmp_path / "work-2"),
        "output": {"uri": f"file://{tmp_path}/out/second"},
    }
    for name in ("source", "0-quantize", "publish"):
        build.report(name)
    assert (tmp_path / "out/second" / contract.BUILD_MANIFEST).read_bytes() == first


def test_a_plan_needs_no_download_and_is_plain_json(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    file = build.folder / "build.json"
    file.write_text(
        builds.recipe(build.folder).model_dump_json(
            by_alias=True, exclude_none=True, exclude_unset=True
        )
    )
    assert command.plan(file) == 0
    found = json.loads(capsys.readouterr().out)
    assert [stage["stage"] for stage in found["stages"]] == ["0-quantize"]
    assert found["source"]["parameters"] == 100
    build.step.memory = 1 << 60
    assert command.plan(file) == 2
    assert "0-quantize: it needs about" in capsys.readouterr().err


def test_a_source_that_changed_before_the_end_starts_the_build_again(build: Build) -> None:
    before = build.report("source")
    build.report("0-quantize")
    weights = build.folder / "source" / "model.safetensors"
    weights.write_bytes(builds.weights(100, value=9))
    code, text = build.stage("publish")
    assert (code, "spec.source has changed since the build started" in text) == (1, True)
    after = build.report("source")
    assert after["sha256"] != before["sha256"]
    build.report("0-quantize")
    assert build.step.runs == 2
    build.report("publish")
    manifest = json.loads((build.output / contract.BUILD_MANIFEST).read_text())
    assert manifest["lineage"]["sha256"] == after["sha256"]


def test_a_source_that_was_only_copied_again_keeps_the_finished_steps(build: Build) -> None:
    build.report("source")
    build.report("0-quantize")
    (build.folder / "source" / "model.safetensors").touch()
    build.report("source")
    build.report("0-quantize")
    assert build.step.runs == 1


def test_a_dataset_that_changed_starts_the_build_again(build: Build) -> None:
    build.evaluate()
    build.report("source")
    build.report("0-quantize")
    build.evaluate(items=99)
    code, text = build.stage("0-quality")
    assert code == 1
    assert "spec.quality.dataset: items.jsonl has changed since the build started" in text
    build.report("source")
    code, text = build.stage("0-quality")
    assert "the stage 0-quantize has not finished" in text
    build.report("0-quantize")
    assert build.report("0-quality")["items"] == 99


def test_the_artifact_of_a_former_source_is_named_as_such(build: Build) -> None:
    for name in ("source", "0-quantize", "publish"):
        build.report(name)
    (build.folder / "source" / "model.safetensors").write_bytes(builds.weights(100, value=9))
    note = build.report("source")["note"]
    assert "spec.source has changed, and the artifact" in note
    assert f"Delete the artifact and {build.folder / 'work'}" in note


def test_too_few_items_are_named_before_the_work(build: Build) -> None:
    build.evaluate(items=20)
    note = build.report("source")["note"]
    assert note == (
        "spec.quality: ExactMatch: 20 items are too few to show a loss below 10.00 %, even if every answer holds. "
        "Use at least 35."
    )
    build.evaluate(items=35)
    assert "note" not in build.report("source")
    build.report("0-quantize")
    assert build.report("0-quality")["verdict"] == "Passed"


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_memory_that_runs_out_is_known_by_the_words_of_the_libraries(
    build: Build, failure: Exception
) -> None:
    build.report("source")
    build.step.failure = failure
    code, text = build.stage("0-quantize")
    assert (code, "0-quantize: memory ran out. Use more" in text) == (2, True)


def test_a_full_disk_is_known_by_its_free_space_where_a_library_says_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.report("source")
    build.step.failure = RuntimeError("PytorchStreamWriter failed writing file data/3")
    assert "PytorchStreamWriter" in build.stage("0-quantize")[1]
    real = command.free
    monkeypatch.setattr(
        command, "free", lambda folder: 0 if folder == build.folder / "work" else real(folder)
    )
    code, text = build.stage("0-quantize")
    assert (code, "0-quantize: the disk is full. Use a larger claim" in text) == (1, True)


def test_a_plan_reads_the_datasets_that_this_machine_has(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    build.evaluate(items=20)
    quality = dict(build.changes["quality"])
    file = build.folder / "build.json"

    def plan(**dataset: str) -> tuple[int, str, str]:
        recipe = builds.recipe(build.folder, quality=quality | {"dataset": dataset})
        file.write_text(
            recipe.model_dump_json(by_alias=True, exclude_none=True, exclude_unset=True)
        )
        code = command.plan(file)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    code, out, _ = plan(uri=str(build.folder / "items.jsonl"))
    assert (code, "20 items are too few" in out) == (0, True)
    code, out, _ = plan(uri=f"{contract.DATASETS_DIRECTORY}/0/items.jsonl")
    assert (code, "was not read, because only a cluster has it" in out) == (0, True)
    (build.folder / "items.jsonl").write_text("{}")
    code, _, err = plan(uri=str(build.folder / "items.jsonl"))
    assert (code, "line 1: has no prompt" in err) == (2, True)
