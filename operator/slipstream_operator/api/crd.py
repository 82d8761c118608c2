"""Generator of the CRDs: `python -m slipstream_operator.api.crd DIRECTORY [--check]` writes or verifies them.

Structural schemas have no references, unions with null or titles. pydantic's schemas have all three.
"""

import argparse
import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pydantic
import yaml

from slipstream_operator import names
from slipstream_operator.api import (
    inferenceroute,
    inferenceservice,
    modelbuild,
    servingprofile,
    status,
)

# Defaults that the API server applies. The operator resolves all other defaults, because a stored default
# can't be distinguished from a user's choice.
_SERVER_DEFAULTS: Final[dict[tuple[str, ...], object]] = {
    ("replicas",): 1,
    ("scaling", "minReplicas"): 1,
    ("scaling", "mode"): "Auto",
}
_ROUTE_DEFAULTS: Final[dict[tuple[str, ...], object]] = {("backends", "[]", "weight"): 1}

_PENDING: Final = {
    "conditions": [
        {
            "type": names.Condition.READY,
            "status": "Unknown",
            "reason": names.Reason.PENDING,
            "message": "The operator has not reconciled this object yet.",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ]
}

_CATEGORIES: Final = {"categories": ["slipstream"]}


def schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the structural schema: references inlined, null unions collapsed, without titles and defaults."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(raw, definitions=raw.get("$defs", {}))


def _structural(node: Mapping[str, Any], *, definitions: Mapping[str, Any]) -> dict[str, Any]:
    node = _collapsed(node, definitions=definitions)
    result: dict[str, Any] = {}
    for key, value in node.items():
        match key:
            case "title" | "$defs" | "default" | "const" | "propertyNames":
                continue
            case "properties":
                result[key] = {
                    name: _structural(child, definitions=definitions)
                    for name, child in value.items()
                }
            case "items" | "additionalProperties" if isinstance(value, Mapping):
                result[key] = _structural(value, definitions=definitions)
            case "additionalProperties":
                continue
            case _:
                result[key] = copy.deepcopy(value)
    if "const" in node:
        result["enum"] = [node["const"]]
    return result


def _collapsed(node: Mapping[str, Any], *, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve $ref and `anyOf: [X, null]`. Keys beside them, such as a description, win."""
    beside = dict(node)
    if "$ref" in beside:
        target = definitions[beside.pop("$ref").rsplit("/", 1)[1]]
    elif "anyOf" in beside:
        target = next(option for option in beside.pop("anyOf") if option.get("type") != "null")
    else:
        return beside
    return {**_collapsed(target, definitions=definitions), **beside}


def _with_defaults(
    root: dict[str, Any], defaults: Mapping[tuple[str, ...], object]
) -> dict[str, Any]:
    for (*path, last), value in defaults.items():
        parent = root
        for name in path:
            parent = parent["items"] if name == "[]" else parent["properties"][name]
        parent["properties"][last]["default"] = value
        if last in parent.get("required", []):
            parent["required"].remove(last)
    return root


def _column(
    name: str, kind: str, path: str, description: str, *, wide: bool = False
) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": 1} if wide else column


def _age() -> dict[str, Any]:
    return _column("Age", "date", ".metadata.creationTimestamp", "Age of the object.")


def _reason() -> dict[str, Any]:
    path = '.status.conditions[?(@.type=="Ready")].reason'
    return _column("Reason", "string", path, "Reason of the condition Ready.", wide=True)


def _condition(name: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].status'


def _objective(metric: str) -> str:
    return f'.status.slo[?(@.metric=="{metric}")].current'


def inference_service() -> dict[str, Any]:
    """Return the CRD of InferenceService."""
    spec = _with_defaults(schema(inferenceservice.InferenceServiceSpec), _SERVER_DEFAULTS)
    state = schema(status.InferenceServiceStatus)
    state["default"] = _PENDING
    return _definition(
        kind=names.INFERENCE_SERVICE,
        plural="inferenceservices",
        short="infer",
        scope="Namespaced",
        root={
            "description": "Served model and its objectives.",
            "required": ["spec"],
            "properties": {"spec": spec, "status": state},
            **inferenceservice.NAME_RULES,
        },
        subresources={
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        columns=[
            _column("Ready", "string", _condition("Ready"), "Whether the service answers."),
            _column("Replicas", "integer", ".status.readyReplicas", "Replicas that are ready."),
            _column("Desired", "integer", ".status.scaling.desired", "Desired replicas."),
            _column("TTFT", "string", _objective("ttft"), "Current time to first token."),
            _column("TPOT", "string", _objective("tpot"), "Current time per output token."),
            _column("SLO", "string", _condition("SLOMet"), "Whether the objectives are met."),
            _column("URL", "string", ".status.url", "Base URL of the OpenAI-compatible API."),
            _age(),
            _reason(),
        ],
    )


def inference_route() -> dict[str, Any]:
    """Return the CRD of InferenceRoute."""
    state = schema(inferenceroute.InferenceRouteStatus)
    state["default"] = _PENDING
    return _definition(
        kind=names.INFERENCE_ROUTE,
        plural="inferenceroutes",
        short="iroute",
        scope="Namespaced",
        root={
            "description": "Public model name for several services.",
            "required": ["spec"],
            "properties": {
                "spec": _with_defaults(schema(inferenceroute.InferenceRouteSpec), _ROUTE_DEFAULTS),
                "status": state,
            },
        },
        subresources={"status": {}},
        columns=[
            _column("Ready", "string", _condition("Ready"), "Whether the route answers."),
            _column("Model", "string", ".spec.model", "Model name that clients request."),
            _column(
                "Saved",
                "string",
                ".status.saved",
                "Output tokens that the last stage did not generate.",
            ),
            _column(
                "Discarded", "string", ".status.discarded", "Output tokens of discarded responses."
            ),
            _age(),
            _reason(),
        ],
    )


def model_build() -> dict[str, Any]:
    """Return the CRD of ModelBuild."""
    state = schema(modelbuild.ModelBuildStatus)
    state["default"] = _PENDING
    return _definition(
        kind=names.MODEL_BUILD,
        plural="modelbuilds",
        short="mb",
        scope="Namespaced",
        root={
            "description": "Optimized checkpoint, made from another one by steps, with proof that the answers held.",
            "required": ["spec"],
            "properties": {"spec": schema(modelbuild.ModelBuildSpec), "status": state},
            **modelbuild.NAME_RULES,
        },
        subresources={"status": {}},
        columns=[
            _column("Phase", "string", ".status.phase", "Phase of the build."),
            _column("Step", "string", ".status.step", "Stage that runs, or that failed."),
            _column("Progress", "string", ".status.progress.percent", "Progress of the stage."),
            _column("Size", "string", ".status.artifact.size", "Size of the artifact."),
            _column("Quality", "string", ".status.quality", "Verdict about the answers."),
            _age(),
            _reason(),
        ],
    )


def serving_profile() -> dict[str, Any]:
    """Return the CRD of ServingProfile."""
    return _definition(
        kind=names.SERVING_PROFILE,
        plural="servingprofiles",
        short="sprofile",
        scope="Cluster",
        root={
            "description": "Defaults and limits of a platform.",
            "required": ["spec"],
            "properties": {"spec": schema(servingprofile.ServingProfileSpec)},
        },
        subresources={},
        columns=[
            _column(
                "Default",
                "string",
                ".spec.defaultAccelerator",
                "Accelerator of services that set none.",
            ),
            _column("Prometheus", "string", ".spec.prometheus.url", "URL of Prometheus."),
            _age(),
        ],
    )


def _definition(
    *,
    kind: str,
    plural: str,
    short: str,
    scope: str,
    root: dict[str, Any],
    subresources: dict[str, Any],
    columns: list[dict[str, Any]],
) -> dict[str, Any]:
    version: dict[str, Any] = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _object(root)},
        "additionalPrinterColumns": columns,
    }
    if subresources:
        version["subresources"] = subresources
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                **_CATEGORIES,
            },
            "versions": [version],
        },
    }


def _object(root: dict[str, Any]) -> dict[str, Any]:
    envelope = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    return {**root, "type": "object", "properties": {**envelope, **root["properties"]}}


def files() -> dict[str, str]:
    """Return the YAML text of each CRD by file name."""
    return {
        f"{definition['spec']['names']['plural']}.yaml": (
            "# Generated by `make crds` from operator/slipstream_operator/api; do not edit.\n"
            + yaml.safe_dump(definition, sort_keys=False, width=120)
        )
        for definition in (inference_service(), inference_route(), model_build(), serving_profile())
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the CRDs, or compare them with --check."""
    parser = argparse.ArgumentParser(
        prog="python -m slipstream_operator.api.crd", description=__doc__
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check", action="store_true", help="verify instead of writing")
    options = parser.parse_args(arguments)
    stale = [
        name
        for name, text in files().items()
        if not (path := options.directory / name).exists() or path.read_text() != text
    ]
    if options.check:
        for name in stale:
            sys.stderr.write(f"{options.directory / name} is out of date. Run `make crds`.\n")
        return 1 if stale else 0
    options.directory.mkdir(exist_ok=True)
    for name, text in files().items():
        (options.directory / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
