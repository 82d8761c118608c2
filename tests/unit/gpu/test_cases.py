"""Every field that reaches an engine is set by a case of the GPU contract, in each of its words."""

from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic.fields import FieldInfo

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_runtime.engine.config import EngineConfig
from tests.gpu import checkpoints, fields, plan
from tests.gpu.cases import BY_NAME, CASES

MODELS: Final = Path("/models")
NOT_OF_THE_ENGINE: Final = {
    "resources": "of the container",
    "slo": "of scaling and status",
    "scaling": "of the operator",
    "replicas": "of the operator",
    "rollout": "of the operator",
    "routing": "of the router",
    "template": "of the pod",
    "cache.prefetch": "of a Job",
    "model.adapters.revision": "of the list that engines follow",
    "model.chatTemplateFrom.name": "of a volume; its text is like that of chatTemplate",
    "model.chatTemplateFrom.key": "of a volume; its text is like that of chatTemplate",
    "engine.version": "of the image",
    "simulator": "of another engine",
}
"""Part or field of the spec -> the place where it ends, which is not vLLM."""
OTHER_ENGINES: Final = {("runtime", "onnx"), ("runtime", "simulator")}
NOT_ON_GPUS: Final = {
    "cores": "only with device cpu",
    "cache.kv_bytes": "only with device cpu",
    "dtype": "for tests of engines; no field of the API sets it",
    "certificate": "of the profile; no field of the service sets it",
    "stall_seconds": "for tests of engines; no field of the API sets it",
    "adapters.file": "for tests of engines; no field of the API sets it",
    "model.chat_template_from.name": "of a volume",
    "model.chat_template_from.key": "of a volume",
    "reaches_store": "of requests",
}


@pytest.fixture(scope="module")
def values() -> dict[str, set[Any]]:
    """Path in the spec -> the values that cases give it."""
    found = defaultdict(set)
    for case in CASES:
        for path, value in fields.given(plan.spec(case, MODELS)):
            found[path].add(str(value))
    return found


@pytest.mark.parametrize(
    ("path", "field"),
    [
        pytest.param(path, field, id=path)
        for path, field in fields.leaves(InferenceServiceSpec)
        if NOT_OF_THE_ENGINE.keys().isdisjoint((path, path.partition(".")[0]))
    ],
)
def test_a_field_of_the_service_has_a_case_for_each_of_its_words(
    path: str, field: FieldInfo, values: dict[str, set[Any]]
) -> None:
    set_by_a_case = {key for key in values if key == path or key.startswith(f"{path}.")}
    assert set_by_a_case, f"add a case that sets spec.{path} to tests/gpu/cases.py"
    words = {word for word in fields.words(field) if (path, word) not in OTHER_ENGINES}
    missing = words - values[path]
    assert not missing, f"add cases for spec.{path}: {sorted(missing)} to tests/gpu/cases.py"


def test_every_field_of_the_engine_is_reached_by_a_case() -> None:
    reached = set()
    for config in plan.configs(MODELS).values():
        parsed = EngineConfig.model_validate(config).model_dump(exclude_unset=True)
        reached |= {path for path, _ in fields.given(parsed)}
    missed = {
        path
        for path, _ in fields.leaves(EngineConfig, by_alias=False)
        if not any(key == path or key.startswith(f"{path}.") for key in reached)
    }
    assert missed == set(NOT_ON_GPUS)


def test_every_golden_sample_of_a_gpu_has_a_configuration() -> None:
    assert {name for name, _ in plan.samples(MODELS)} == {
        f"sample {path.stem}" for path in plan.SAMPLES
    }


def test_cases_have_names_of_their_own_and_known_models() -> None:
    assert len(BY_NAME) == len(CASES)
    used = {case.model for case in CASES} | {case.draft for case in CASES if case.draft}
    assert used == set(checkpoints.MODELS)
