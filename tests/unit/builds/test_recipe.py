"""The recipe of a ModelBuild is what the builder reads, with paths and numbers in place of names and percentages."""

from typing import Any, get_args

import pytest

from slipstream_operator.api import buildsteps, modelbuild
from slipstream_operator.core.builds import recipe as recipes
from slipstream_runtime.build import recipe
from slipstream_runtime.evaluate.quality.metrics import Name
from tests.support import modelbuilds

TEXTS = modelbuilds.TEXTS
CLAIM = {"claim": {"name": "data", "path": "train/items.jsonl"}}
EVERYTHING: list[dict[str, Any]] = [
    {
        "prune": {
            "layers": "25%",
            "calibration": {"dataset": TEXTS, "samples": 16, "maxLength": 512},
            "heal": {"dataset": CLAIM, "epochs": 0.5, "learningRate": 0.0001, "batch": 4},
        }
    },
    {
        "distill": {
            "student": {"layers": 2, "hidden": 64},
            "training": {"dataset": {"uri": "hf://datasets/org/name/items.jsonl"}},
            "temperature": 2,
            "loss": "reverse-kl",
        }
    },
    {"sparsify": {"pattern": "unstructured", "method": "wanda", "calibration": {"dataset": TEXTS}}},
    {
        "quantize": {
            "scheme": "w4a16",
            "method": "gptq",
            "calibration": {"dataset": TEXTS},
            "ignore": ["lm_head", "re:.*gate"],
        }
    },
]


def _recipe(**spec: Any) -> dict[str, Any]:
    return dict(modelbuilds.resolved({**modelbuilds.SPEC, **spec}).recipe)


def test_the_builder_reads_every_field() -> None:
    made = recipe.Recipe.model_validate(_recipe(steps=EVERYTHING, seed=7))
    assert [step.kind for step in made.steps] == ["prune", "distill", "sparsify", "quantize"]
    prune, distill = made.steps[0].prune, made.steps[1].distill
    assert prune is not None and prune.layers == 0.25 and prune.heal is not None
    assert prune.heal.learning_rate == 0.0001
    assert distill is not None and distill.student == recipe.Shape(layers=2, hidden=64)
    assert made.quality is not None and made.quality.metrics[0].max_regression == 0.01
    assert made.seed == 7


def test_an_export_needs_no_field() -> None:
    made = recipe.Recipe.model_validate(_recipe(steps=[{"export": {}}], quality=None))
    assert made.steps[0].export == recipe.Export()


def test_a_student_by_uri_is_its_uri() -> None:
    student = {"student": {"uri": "hf://org/student"}, "training": {"dataset": TEXTS}}
    made = recipe.Recipe.model_validate(_recipe(steps=[{"distill": student}]))
    assert made.steps[0].distill is not None
    assert made.steps[0].distill.student == "hf://org/student"


def test_each_file_is_mounted_once_at_a_numbered_folder() -> None:
    build = modelbuilds.resolved({**modelbuilds.SPEC, "steps": EVERYTHING})
    assert build.files == (
        recipes.Mounted("texts", None, "items.jsonl"),
        recipes.Mounted(None, "data", "train/items.jsonl"),
    )
    heal = build.recipe["steps"][0]["prune"]["heal"]["dataset"]
    assert heal == {"uri": "/etc/slipstream-datasets/1/train/items.jsonl"}


PAIRS = [
    (buildsteps.Samples, recipe.Samples),
    (buildsteps.Training, recipe.Training),
    (buildsteps.Quantize, recipe.Quantize),
    (buildsteps.Sparsify, recipe.Sparsify),
    (buildsteps.Prune, recipe.Prune),
    (buildsteps.Distill, recipe.Distill),
    (buildsteps.Export, recipe.Export),
    (buildsteps.Step, recipe.Step),
    (modelbuild.BuildQuality, recipe.Quality),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda model: model.__name__)
def test_the_fields_of_the_spec_are_those_of_the_recipe(ours: Any, theirs: Any) -> None:
    assert set(ours.model_fields) == set(theirs.model_fields)


def test_every_metric_but_the_judge_is_offered() -> None:
    """A judge needs the endpoint of a model, which pods of a build do not reach."""
    offered = get_args(modelbuild.BuildMetric.model_fields["name"].annotation)
    assert set(offered) == set(Name) - {Name.JUDGE}


def test_the_hash_is_of_what_decides_the_artifact() -> None:
    one = _recipe()
    elsewhere = _recipe(output={"uri": "pvc://other/small"})
    assert recipes.digest(one) == recipes.digest(elsewhere)
    assert recipes.digest(one) != recipes.digest(_recipe(seed=1))


def test_the_engine_measures_a_draft_and_what_follows_it() -> None:
    draft = {
        "student": {"layers": 1},
        "training": {"dataset": TEXTS},
        "purpose": "Draft",
    }
    steps = [{"distill": draft}, {"quantize": {"scheme": "w8a8"}}]
    spec = {**modelbuilds.SPEC, "steps": steps, "quality": {"dataset": TEXTS}}
    build = modelbuilds.resolved(spec)
    images = {stage.name: stage.image for stage in build.stages}
    assert images == {
        "source": "image/builder:1",
        "0-distill": "image/builder:1",
        "0-quality": "image/cpu:1",
        "1-quantize": "image/builder:1",
        "1-quality": "image/cpu:1",
        "publish": "image/builder:1",
    }
