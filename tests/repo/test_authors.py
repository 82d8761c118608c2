"""Every field that names a Secret, a claim, an account or another object is judged by the admission policy."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
NAMES = re.compile(
    "secret|serviceaccount|configmap|credential|apikey|token|driver|claim|uri$|draft$|priorityclass",
    re.IGNORECASE,
)
JUDGED = {
    "model.uri", "model.adapters.uri", "speculation.draft", "cache.model.claim", "template.priorityClassName",
    "template.volumes.persistentVolumeClaim",
    "model.tokenSecret", "model.credentials", "routing.apiKeys", "template.imagePullSecrets",
    "template.env.valueFrom.secretKeyRef", "template.env.valueFrom.configMapKeyRef",
    "template.initContainers.env.valueFrom.secretKeyRef", "template.initContainers.env.valueFrom.configMapKeyRef",
    "template.volumes.secret", "template.volumes.configMap", "template.volumes.projected.sources.secret",
    "template.volumes.projected.sources.configMap", "template.volumes.projected.sources.serviceAccountToken",
    "template.volumes.csi.driver", "template.volumes.csi.nodePublishSecretRef", "template.serviceAccountName",
}  # fmt: skip
OTHERS = {
    "limits.maxOutputTokens", "limits.maxPromptTokens", "slo.throughput.outputTokensPerSecond", "speculation.tokens",
    "simulator.kvTokens", "batching.maxBatchedTokens", "template.volumes.ephemeral.volumeClaimTemplate",
}  # fmt: skip
"""Fields of numbers of tokens, and a claim that is made for the pod."""


BUILDS = {
    "source", "output.uri", "output.pushSecret", "tokenSecret", "credentials", "imagePullSecrets", "workspace.claim",
    "steps.distill.student.uri",
    *(
        path
        for path in JUDGED
        if path.startswith(("template.env", "template.volumes", "template.serviceAccountName"))
    ),
    *(
        f"{samples}.dataset.{kind}"
        for samples in (
            "steps.quantize.calibration", "steps.sparsify.calibration", "steps.sparsify.heal",
            "steps.prune.calibration", "steps.prune.heal", "steps.distill.training", "quality",
        )
        for kind in ("configMap", "claim")
    ),
}  # fmt: skip
"""Fields of a ModelBuild with such a name, without URIs of the hub and of object stores."""


def fields(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the paths of the schema whose last part may name such an object, without their own parts."""
    found = []
    for name, part in schema.get("properties", {}).items():
        inner = f"{path}.{name}".lstrip(".")
        if NAMES.search(name):
            found.append(inner)
        else:
            found += fields(part.get("items", part), inner)
    return found


def test_no_field_that_names_one_is_without_a_judgment() -> None:
    definition = yaml.safe_load((ROOT / "crds/inferenceservices.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = set(fields(schema["properties"]["spec"]))
    assert found - OTHERS == JUDGED
    policy = (ROOT / "manifests/base/authors.yaml").read_text()
    for path in JUDGED:
        assert (
            f".{path.rpartition('.')[2]}" in policy.replace("?", "")
            or "serviceAccountToken" in path
        )
    assert "has(source.serviceAccountToken)" in policy


def test_builds_name_no_other() -> None:
    definition = yaml.safe_load((ROOT / "crds/modelbuilds.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = {
        path
        for path in fields(schema["properties"]["spec"])
        if "okens" not in path and not path.endswith((".dataset.uri", "volumeClaimTemplate"))
    }
    assert found | {"source"} == BUILDS


def test_routes_name_the_key_of_their_search_alone() -> None:
    definition = yaml.safe_load((ROOT / "crds/inferenceroutes.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = {path for path in fields(schema["properties"]["spec"]) if "okens" not in path}
    assert found == {"retrieve.apiKey"}
    policies = yaml.safe_load_all((ROOT / "manifests/base/authors.yaml").read_text())
    (policy,) = (
        each["spec"]
        for each in policies
        if each["metadata"]["name"] == "slipstream-route-authors" and "validations" in each["spec"]
    )
    (validation,) = policy["validations"]
    assert ".name(object.spec.retrieve.apiKey.name).check('get')" in validation["expression"]
