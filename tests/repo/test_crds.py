"""The committed CRDs are those of the models, and the samples are valid by both."""

import functools
import re
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import pytest
import yaml

from slipstream_operator import names
from slipstream_operator.api import crd
from slipstream_operator.api.inferenceroute import InferenceRouteSpec
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.modelbuild import ModelBuildSpec
from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.api.status import InferenceServiceStatus

ROOT = Path(__file__).parents[2]
MODELS: dict[str, type[pydantic.BaseModel]] = {
    names.INFERENCE_SERVICE: InferenceServiceSpec,
    names.INFERENCE_ROUTE: InferenceRouteSpec,
    names.MODEL_BUILD: ModelBuildSpec,
    names.SERVING_PROFILE: ServingProfileSpec,
}


def _bodies() -> dict[str, Any]:
    found = {}
    for path in sorted((ROOT / "manifests").rglob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            if body and body.get("apiVersion") == names.API_VERSION:
                found[str(path.relative_to(ROOT))] = body
    return found


BODIES = _bodies()


@functools.cache
def _definition(kind: str) -> Any:
    for path in (ROOT / "crds").glob("*.yaml"):
        definition = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
        if (
            definition["kind"] == "CustomResourceDefinition"
            and definition["spec"]["names"]["kind"] == kind
        ):
            return definition
    raise AssertionError(f"no CRD of {kind}")


@functools.cache
def _schema(kind: str) -> Any:
    """The structural schema as JSON Schema, in which unknown fields are refused instead of pruned."""

    def closed(node: Any) -> Any:
        if isinstance(node, list):
            return [closed(entry) for entry in node]
        if not isinstance(node, dict):
            return node
        found = {key: closed(value) for key, value in node.items()}
        if isinstance(node.get("properties"), dict) and node.get("type") == "object":
            found["additionalProperties"] = False
        return found

    (version,) = _definition(kind)["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def test_the_committed_crds_are_up_to_date() -> None:
    assert crd.main([str(ROOT / "crds"), "--check"]) == 0


def test_numbers_of_the_crds_are_written_without_exponents() -> None:
    """kustomize writes 1.0e-9 as 1e-09, which readers of YAML 1.1 take for text."""
    for file in (ROOT / "crds").glob("*.yaml"):
        assert not re.search(r": -?[0-9.]+e[-+]?[0-9]", file.read_text()), file.name


def test_there_are_samples() -> None:
    assert len(BODIES) >= 4


@pytest.mark.parametrize("path", BODIES)
def test_a_sample_is_valid_by_its_model(path: str) -> None:
    MODELS[BODIES[path]["kind"]].model_validate(BODIES[path]["spec"])


@pytest.mark.parametrize("path", BODIES)
def test_a_sample_is_valid_by_its_crd(path: str) -> None:
    jsonschema.Draft202012Validator(_schema(BODIES[path]["kind"])).validate(BODIES[path])


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"replicas": -1}, "spec.replicas"),
        ({"replicas": "1"}, "spec.replicas"),
        ({"runtime": "other"}, "spec.runtime"),
        ({"modle": {}}, "spec"),
        ({"model": {"uri": ""}}, "spec.model.uri"),
        ({"scaling": {}}, "spec.scaling"),
    ],
)
def test_a_wrong_object_is_refused_by_the_crd(change: dict[str, Any], path: str) -> None:
    body = {"apiVersion": names.API_VERSION, "kind": "InferenceService", "spec": change}
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.Draft202012Validator(_schema(names.INFERENCE_SERVICE)).validate(body)
    assert ".".join(map(str, caught.value.absolute_path)) == path


def test_the_sample_of_the_readme_is_short() -> None:
    for name in ("chat", "chat-gpu"):
        lines = (ROOT / f"manifests/samples/{name}.yaml").read_text().splitlines()
        assert len(lines) <= 18


def test_status_fields_are_named_as_documented() -> None:
    properties = _schema(names.INFERENCE_SERVICE)["properties"]["status"]["properties"]
    assert properties["slo"]["items"]["properties"].keys() == {
        "objective",
        "metric",
        "percentile",
        "target",
        "current",
        "attainment5m",
        "attainment1h",
        "budgetRemaining",
    }


def test_printer_columns_name_fields_that_exist() -> None:
    (version,) = _definition(names.INFERENCE_SERVICE)["spec"]["versions"]
    status = InferenceServiceStatus.model_json_schema(by_alias=True)["properties"]
    for column in version["additionalPrinterColumns"]:
        head, field = column["jsonPath"].split(".")[1:3]
        assert head == "metadata" or field.split("[")[0] in status


def _nodes(node: Any, path: str = "") -> list[tuple[str, Any]]:
    found = [(path, node)] if isinstance(node, dict) else []
    children = node.items() if isinstance(node, dict) else ()
    for key, value in children:
        found += _nodes(value, f"{path}.{key}")
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_everything_in_a_schema_is_bounded_so_that_rules_stay_cheap(kind: str) -> None:
    (version,) = _definition(kind)["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    unbounded = [
        path
        for path, node in _nodes(spec)
        if (node.get("type") == "array" and "maxItems" not in node)
        or (node.get("type") == "string" and not {"maxLength", "enum"} & node.keys())
        or ("additionalProperties" in node and "maxProperties" not in node)
    ]
    assert not unbounded


@pytest.mark.parametrize("kind", MODELS)
def test_a_schema_is_structural(kind: str) -> None:
    (version,) = _definition(kind)["spec"]["versions"]
    for path, node in _nodes(version["schema"]["openAPIV3Schema"]):
        if path.endswith(".properties"):
            continue
        assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "exclusiveMinimum"} & node.keys()


@pytest.mark.parametrize("kind", MODELS)
def test_every_field_is_described(kind: str) -> None:
    (version,) = _definition(kind)["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]["properties"]
    silent = [
        f"{path}.{name}"
        for part in ("spec", "status")
        for path, node in _nodes(root.get(part, {}))
        if path.endswith(".properties")
        for name, field in node.items()
        if "description" not in field
    ]
    assert not silent
