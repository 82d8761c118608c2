"""`slipstream build` on files: the recipe for this machine, its plan, and what is refused with which remedy."""

import json
import sys
from pathlib import Path
from typing import Any

import click.testing
import pytest
import yaml

from slipstream_cli import build as command
from slipstream_cli import build_recipe, build_stages, build_tables, documents
from slipstream_cli.build_stages import Ended
from slipstream_cli.main import main
from tests.support import builds

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float16",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
QUALITY = {
    "dataset": {"configMap": {"name": "questions", "key": "items.jsonl"}},
    "metrics": [{"name": "ExactMatch", "maxRegression": "1%"}],
}


class Machine:
    """Folder with a source, a manifest, and the cache of the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = builds.checkpoint(folder / "source")
        (source / "config.json").write_text(json.dumps(LLAMA))
        self.spec: dict[str, Any] = {
            "source": f"file://{source}",
            "steps": [{"quantize": {"scheme": "w8a8"}}],
            "output": {"uri": f"file://{folder}/out/tiny"},
        }
        self.others: list[dict[str, Any]] = []

    @property
    def file(self) -> Path:
        body = {"kind": "ModelBuild", "metadata": {"name": "tiny"}, "spec": self.spec}
        file = self.folder / "build.yaml"
        file.write_text(yaml.safe_dump_all([body, *self.others]))
        return file

    def run(self, *words: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(main, ["build", "-f", str(self.file), *words])

    def recipe(self, **places: Any) -> dict[str, Any]:
        given = documents.read(self.file)
        found = {"source": None, "output": None, "datasets": {}, "work": None, **places}
        return build_recipe.make(
            given[0],
            given,
            build_recipe.Places(**found, cache=self.folder / "cache"),
            device="cpu",
            memory=None,
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(command, "_CACHE", tmp_path / "cache")
    return Machine(tmp_path)


def test_a_plan_shows_memory_disk_and_time_and_leaves_no_artifact(machine: Machine) -> None:
    # The libraries of the steps are not needed for a plan, so this environment serves as the builder's.
    table = machine.run("--plan", "--python", sys.executable, "--device", "cpu")
    assert table.exit_code == 0, table.output
    assert "0-quantize" in table.output
    assert "100 parameters" in table.output
    plain = machine.run("--plan", "--python", sys.executable, "--device", "cpu", "-o", "json")
    assert json.loads(plain.stdout)["memory"] > 0
    assert not (machine.folder / "out").exists()


def test_a_plan_that_does_not_fit_ends_with_2_and_the_remedy(machine: Machine) -> None:
    words = ("--plan", "--python", sys.executable, "--device", "cpu", "--memory", "1000")
    result = machine.run(*words)
    assert result.exit_code == 2
    assert "0-quantize: it needs about" in result.output


def test_a_wrong_field_is_refused_before_anything_runs(machine: Machine) -> None:
    machine.spec["steps"] = [{"quantize": {"scheme": "w8a8", "methd": "gptq"}}]
    result = machine.run("--plan", "--python", sys.executable)
    assert result.exit_code == 2
    assert "no such field. Did you mean method?" in result.output


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([{}], "needs exactly one of quantize"),
        ([{"export": {}}, {"quantize": {"scheme": "w8a8"}}], "Make export the last step"),
    ],
)
def test_steps_that_cannot_work_are_refused(
    machine: Machine, steps: list[dict[str, Any]], reason: str
) -> None:
    machine.spec["steps"] = steps
    result = machine.run("--local", "--python", sys.executable)
    assert (result.exit_code, reason in result.output) == (2, True), result.output


def test_without_local_or_plan_the_way_into_a_cluster_is_named(machine: Machine) -> None:
    result = machine.run()
    assert result.exit_code == 2
    assert "kubectl apply -f" in result.output


def test_a_missing_builder_is_reported_with_the_commands_that_make_it(machine: Machine) -> None:
    result = machine.run("--local")
    assert result.exit_code == 2
    assert "uv pip sync --require-hashes --python" in result.output
    assert "requirements/builder.txt" in result.output


def test_places_of_a_cluster_are_replaced(machine: Machine) -> None:
    machine.spec |= {"source": "pvc://models/base", "output": {"uri": "pvc://models/tiny"}}
    result = machine.run("--plan", "--python", sys.executable)
    assert (result.exit_code, "Use --source file:///folder" in result.output) == (2, True)
    source = f"file://{machine.folder}/source"
    result = machine.run("--local", "--source", source, "--python", sys.executable)
    assert (result.exit_code, "Use --output-uri file:///folder" in result.output) == (2, True)
    recipe = machine.recipe(source="file:///models/base", output="file:///models/tiny")
    assert (recipe["source"], recipe["output"]["uri"]) == (
        "file:///models/base",
        "file:///models/tiny",
    )


def test_a_dataset_comes_from_the_config_map_of_the_same_file(machine: Machine) -> None:
    machine.spec["quality"] = QUALITY
    content = '{"prompt": "a", "reference": "b"}\n'
    machine.others = [
        {
            "kind": "ConfigMap",
            "metadata": {"name": "questions"},
            "data": {"items.jsonl": content},
        }
    ]
    recipe = machine.recipe()
    file = Path(recipe["quality"]["dataset"]["uri"])
    assert file.read_text() == content
    assert file.is_relative_to(recipe["work"])
    assert recipe["quality"]["metrics"] == [{"name": "ExactMatch", "maxRegression": 0.01}]


def test_a_dataset_comes_from_a_named_file(machine: Machine) -> None:
    machine.spec["quality"] = QUALITY
    missing = machine.run("--local", "--python", sys.executable)
    assert missing.exit_code == 2
    assert "Name a file with --dataset questions=FILE" in missing.output
    file = machine.folder / "mine.jsonl"
    file.write_text("{}")
    recipe = machine.recipe(datasets={"questions": file})
    assert recipe["quality"]["dataset"]["uri"] == str(file)
    wrong = machine.run("--plan", "--dataset", "questions")
    assert (wrong.exit_code, "is not NAME=FILE" in wrong.output) == (2, True)


def test_another_recipe_gets_another_folder_and_the_same_one_resumes(machine: Machine) -> None:
    first, again = machine.recipe()["work"], machine.recipe()["work"]
    machine.spec["seed"] = 7
    assert first == again != machine.recipe()["work"]


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (Ended(2, json.dumps({"stage": "source", "verdict": "Failed", "reason": "lost"})), 3),
        (Ended(2, json.dumps({"stage": "source", "verdict": "Inconclusive", "reason": "few"})), 4),
        (Ended(2, "spec.source: wrong. Use another."), 2),
        (Ended(1, "source: the disk is full."), 1),
    ],
)
def test_the_exit_status_tells_apart_what_may_be_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, ended: Ended, status: int
) -> None:
    monkeypatch.setattr(build_stages, "run", lambda *_, **__: ended)
    result = machine.run("--local", "--python", sys.executable)
    assert result.exit_code == status
    assert ended.report.get("reason", ended.text) in result.output


def test_a_process_without_a_report_is_reported_with_its_last_lines(machine: Machine) -> None:
    config = machine.folder / "config.json"
    config.write_text("{}")
    ended = build_stages.run(
        Path("/bin/false"), config, "source", logs=machine.folder / "logs", show=lambda _: None
    )
    assert (ended.code, "the process ended with 1" in ended.text) == (1, True)


def test_totals_are_unknown_without_the_stages_that_give_them() -> None:
    found = build_tables.plain([{"stage": "0-quality", "verdict": "Failed"}])
    assert (found["uri"], found["peakMemory"], found["sizeAfter"]) == (None, None, None)


def test_a_plan_of_a_manifest_of_a_cluster_needs_neither_its_output_nor_its_datasets(
    machine: Machine,
) -> None:
    machine.spec |= {"output": {"uri": "pvc://models/tiny"}, "quality": QUALITY}
    result = machine.run("--plan", "--python", sys.executable, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "0-quality" in result.output
    assert "Warning: spec.quality.dataset: was not read" in " ".join(result.output.split())


def test_another_file_of_a_dataset_gets_another_folder(machine: Machine) -> None:
    machine.spec["quality"] = QUALITY
    folders = []
    for name in ("a", "b"):
        (machine.folder / name).mkdir()
        file = machine.folder / name / "items.jsonl"
        file.write_text("{}")
        folders.append(machine.recipe(datasets={"questions": file})["work"])
    assert folders[0] != folders[1]


@pytest.mark.parametrize("name", ["", "../escape", "Großmodell", "n" * 41, "a_b"])
def test_a_name_that_a_cluster_refuses_is_refused_here(machine: Machine, name: str) -> None:
    text = machine.file.read_text().replace("name: tiny", f'name: "{name}"')
    file = machine.folder / "named.yaml"
    file.write_text(text)
    words = ["build", "-f", str(file), "--plan", "--python", sys.executable]
    result = click.testing.CliRunner().invoke(main, words)
    assert (result.exit_code, "metadata.name" in result.output) == (2, True), result.output


def test_a_student_by_uri_and_by_shape_is_refused(machine: Machine) -> None:
    student = {"uri": "hf://org/small", "layers": 2}
    training = {"dataset": {"uri": "hf://datasets/org/data/a.jsonl"}}
    machine.spec["steps"] = [{"distill": {"student": student, "training": training}}]
    result = machine.run("--plan", "--python", sys.executable)
    assert (result.exit_code, "needs either uri, or layers" in result.output) == (2, True)


def test_two_artifacts_are_compared(machine: Machine) -> None:
    folder = machine.folder
    for name in ("a", "b"):
        builds.checkpoint(folder / name)
    words = ["build", "--compare", str(folder / "a"), str(folder / "b")]
    result = click.testing.CliRunner().invoke(main, [*words, "--python", sys.executable])
    assert (result.exit_code, "holds no artifact of a build" in result.output) == (2, True), (
        result.output
    )
    alone = click.testing.CliRunner().invoke(main, ["build"])
    assert (alone.exit_code, "or two artifacts with --compare" in alone.output) == (2, True)


def test_a_draft_that_is_quantized_is_still_measured_by_the_engine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"dataset": {"uri": "hf://datasets/org/data/a.jsonl"}}
    draft = {"student": {"layers": 1}, "training": training, "purpose": "Draft"}
    machine.spec["steps"] = [{"distill": draft}, {"quantize": {"scheme": "w8a8"}}]
    machine.spec["quality"] = {"dataset": {"uri": "hf://datasets/org/data/b.jsonl"}}
    ran = {}

    def run(python: Path, config: Path, stage: str, **_: Any) -> Ended:
        ran[stage] = python.name
        return Ended(0, json.dumps({"stage": stage}))

    monkeypatch.setattr(build_stages, "run", run)
    engine = machine.folder / "engine"
    engine.touch()
    result = machine.run("--local", "--python", sys.executable, "--engine-python", str(engine))
    assert result.exit_code == 0, result.output
    measured = [stage for stage, python in ran.items() if python == "engine"]
    assert measured == ["0-quality", "1-quality"]


def test_an_interrupted_build_says_how_it_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> Ended:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_stages, "run", run)
    result = machine.run("--local", "--python", sys.executable)
    assert (result.exit_code, "Run the build again: it resumes." in result.output) == (1, True)


CALIBRATION = {"dataset": {"uri": "hf://datasets/org/data/a.jsonl"}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"steps": [{"quantize": {"scheme": "int8"}}]},
            "spec.steps.0.quantize.scheme: \"int8\" can't work because it should be 'fp8'",
        ),
        (
            {
                "steps": [
                    {
                        "distill": {
                            "student": {"layers": 1},
                            "training": {**CALIBRATION, "learningRate": 0},
                        }
                    }
                ]
            },
            "training.learningRate: 0 must be more than zero.",
        ),
        (
            {"quality": {"dataset": {"task": "gsm8k", "uri": "hf://datasets/org/data/a.jsonl"}}},
            "spec.quality.dataset: needs exactly one of configMap, claim, uri and task.",
        ),
        (
            {"quality": {"dataset": {"task": "gsm8k", "fields": {"refrence": "answer"}}}},
            'fields: "refrence" is not a field of an item. Use id, prompt',
        ),
        ({"output": {"uri": "hf://org/name"}}, "can't be written. Use file:///folder"),
        ({"output": {"uri": "s3://bucket"}}, 'spec.output: "s3://bucket" has no path'),
        ({"output": {"uri": "oci://Reg/IMG"}}, "Use oci://registry/image:tag, in lower case"),
        ({"output": {"uri": "file:///"}}, 'spec.output: "file:///" is not valid'),
        ({"source": "hf://ö/ü"}, '"hf://ö/ü" is not the name of a hub repository'),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_a_remedy(
    machine: Machine, spec: dict[str, Any], said: str
) -> None:
    machine.spec |= spec
    result = machine.run("--plan", "--python", sys.executable, "--device", "cpu")
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
