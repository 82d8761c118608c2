"""The real API server refuses ModelBuilds that can't work, with a message that names the remedy."""

from collections.abc import Iterator
from typing import Any

import pytest

from dev.cluster.kube import Kube, Refused, condition
from tests.support import clusters, modelbuilds


@pytest.fixture(scope="module")
def shared_namespace(kube: Kube) -> Iterator[str]:
    with clusters.namespace(kube, "builds") as name:
        yield name


TEXTS = modelbuilds.TEXTS
SAMPLES = {"dataset": TEXTS, "samples": 16, "maxLength": 512}
LARGEST = [
    *[{"prune": {"layers": "10%", "calibration": SAMPLES, "heal": SAMPLES}}] * 3,
    *[{"distill": {"student": {"layers": 2, "hidden": 64}, "training": SAMPLES}}] * 2,
    *[{"sparsify": {"pattern": "2of4", "calibration": SAMPLES, "heal": SAMPLES}}] * 2,
    {"quantize": {"scheme": "w4a16", "method": "rtn", "calibration": SAMPLES, "ignore": ["a"] * 64}},
]  # fmt: skip


def _build(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "ModelBuild",
        "metadata": {"name": spec.pop("name", "small"), "namespace": namespace},
        "spec": {**modelbuilds.SPEC, **spec},
    }


def _quantize(**fields: Any) -> dict[str, Any]:
    return {"steps": [{"quantize": fields}]}


REFUSED = [
    ({"steps": []}, "spec.steps"),
    ({"steps": LARGEST + LARGEST[:1]}, "spec.steps"),
    ({"steps": [{}]}, "is exactly one of quantize, sparsify, prune, distill and export"),
    ({"steps": [{"quantize": {"scheme": "w8a8"}, "export": {}}]}, "is exactly one of quantize"),
    ({"steps": [{"quantize": {"scheme": "w8a8"}}, {"export": {}}]}, "must be the last step"),
    (_quantize(scheme="w8a8", method="awq", calibration=SAMPLES), '"awq" is not offered for w8a8'),
    (_quantize(scheme="w8a8", method="gptq"), "needs calibration"),
    (_quantize(scheme="fp8-static"), "needs calibration"),
    (_quantize(scheme="w8a8", calibration={"dataset": {"task": "gsm8k"}}), "has no texts"),
    (_quantize(scheme="w8a8", calibration={"dataset": {}}), "exactly one of configMap, claim, uri"),
    (
        _quantize(scheme="w8a8", calibration={"dataset": {"claim": {"name": "c", "path": "../x"}}}),
        "is not a path in the claim",
    ),
    ({"steps": [{"sparsify": {"pattern": "2of4", "method": "magnitude"}}]}, "can't make 2of4"),
    ({"steps": [{"sparsify": {"pattern": "2of4", "sparsity": "60%"}}]}, "is always 50%"),
    ({"steps": [{"prune": {"layers": "0%", "calibration": SAMPLES}}]}, "is not a share"),
    ({"steps": [{"prune": {"calibration": SAMPLES}}]}, "exactly one of layers, heads and channels"),
    ({"source": "build://other"}, "is not a model source"),
    ({"output": {"uri": "hf://org/model"}}, "can't be written"),
    ({"output": {"uri": "pvc://models"}}, "has no path"),
    ({"output": {"uri": f"oci://r/m@sha256:{'a' * 64}"}}, "a digest can't be chosen"),
    ({"output": {"uri": "pvc://a/b", "pushSecret": {"name": "x"}}}, "are for oci:// alone"),
    ({"credentials": {"name": "x"}}, "are not s3:// or gs://"),
    ({"quality": {"dataset": TEXTS, "maxRegression": "1%"}}, "Use metrics[].maxRegression"),
    ({"name": "a" * 41}, "at most 40 characters"),
    (
        {"template": {"env": [{"name": "HF_HOME", "value": "/a"}]}},
        "HF_HOME and DOCKER_CONFIG are set",
    ),
    (
        {"template": {"volumes": [{"name": "work", "emptyDir": {}}]}},
        "names of volumes of the operator",
    ),
    (
        {"template": {"volumeMounts": [{"name": "a", "mountPath": "/a"}]}},
        "not in spec.template.volumes",
    ),
    (
        {
            "template": {
                "volumes": [{"name": "a", "emptyDir": {}}],
                "volumeMounts": [{"name": "a", "mountPath": "/etc/slipstream-datasets/0"}],
            }
        },
        "overlaps one that the build uses",
    ),
    ({"template": {"labels": {"slipstream.dev/build": "other"}}}, "is set by the operator"),
]


@pytest.mark.parametrize(("spec", "said"), REFUSED, ids=range(len(REFUSED)))
def test_the_message_names_the_remedy(
    kube: Kube, shared_namespace: str, spec: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused) as refused:
        kube.apply(_build(shared_namespace, **spec))
    assert said in refused.value.message


def test_a_build_is_accepted_or_says_what_the_profile_lacks_and_never_changes(
    kube: Kube, shared_namespace: str
) -> None:
    kube.apply(_build(shared_namespace, name="largest", steps=LARGEST))
    found = kube.until(
        "ModelBuild",
        shared_namespace,
        lambda items: condition(items[0], "Accepted") and items[0],
        name="largest",
        timeout=30,
        what="Accepted",
    )
    assert condition(found, "Accepted")["status"] == "True"
    assert found["metadata"].get("finalizers") is None
    job = kube.until(
        "Job", shared_namespace, lambda items: items and items[0], timeout=30, what="the Job"
    )
    assert job["metadata"]["name"] == "largest.build"
    assert job["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
    with pytest.raises(
        Refused, match="can't be changed, because it says how the artifact was made"
    ):
        kube.apply(_build(shared_namespace, name="largest", steps=LARGEST, seed=3))
    kube.apply(_build(shared_namespace, name="refused", source="gs://bucket/model"))
    found = kube.until(
        "ModelBuild",
        shared_namespace,
        lambda items: condition(items[0], "Accepted").get("status") == "False" and items[0],
        name="refused",
        timeout=30,
        what="a refusal",
    )
    assert condition(found, "Accepted")["reason"] == "SourceNotAllowed"
    columns = kube.kubectl("get", "mb", "-n", shared_namespace).splitlines()[0].split()
    assert columns == ["NAME", "PHASE", "STEP", "PROGRESS", "SIZE", "QUALITY", "AGE"]
