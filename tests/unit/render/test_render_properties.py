"""Children, whatever the service: valid, safe, and nothing of the user's object leaks into them."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator import names
from slipstream_operator.api import volumes
from slipstream_operator.core.observed import Key, Observed
from slipstream_operator.core.render import common
from slipstream_operator.names import REVISION_LABEL, SERVICE_LABEL
from tests.support import given

TOKEN = {"name": "hf", "key": "token"}
SPECS = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {"uri": st.sampled_from(["hf://org/model", "pvc://weights/a"])},
            optional={
                "tokenSecret": st.just(TOKEN),
                "maxLength": st.integers(16, 9999),
                "adapters": st.just([{"name": "sql", "uri": "pvc://a/sql"}]),
            },
        )
    },
    optional={
        "accelerator": st.fixed_dictionaries(
            {"type": st.sampled_from(["gpu", "cpu"]), "count": st.integers(1, 8)}
        ),
        "quantization": st.just({"method": "fp8"}),
        "speculation": st.just({"draft": "pvc://drafts/a", "tokens": 2}),
        "limits": st.just({"concurrency": 2, "timeout": "30s"}),
        "output": st.just({"regex": "a+"}),
        "routing": st.just({"apiKeys": {"name": "keys"}}),
        "replicas": st.integers(0, 9),
        "template": st.just({"env": [{"name": "A", "value": "1"}], "nodeSelector": {"a": "b"}}),
    },
)
NAMES = st.from_regex(names.NAME_PATTERN, fullmatch=True).filter(names.is_valid_service_name)


@st.composite
def _observed(draw: st.DrawFn) -> Observed:
    spec = draw(SPECS | st.just({"runtime": "simulator"}))
    parent = given.parent(spec, key=Key(given.NAMESPACE, draw(NAMES)))
    return given.observed(parent=parent, pod_monitors=draw(st.booleans()))


def _walk(node: Any) -> Iterator[Any]:
    yield node
    if isinstance(node, dict):
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?")
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@hypothesis.given(_observed())
def test_the_same_service_gives_the_same_children(observed: Observed) -> None:
    assert json.dumps(given.rendered(observed)) == json.dumps(given.rendered(observed))


@hypothesis.given(_observed())
def test_nothing_is_null(observed: Observed) -> None:
    assert all(node is not None for node in _walk(given.rendered(observed)))


@hypothesis.given(_observed())
def test_takenand_labels_are_valid(observed: Observed) -> None:
    for manifest in given.rendered(observed):
        name = manifest["metadata"]["name"]
        assert len(name) <= 63
        assert DNS_LABEL.fullmatch(name)
        for value in manifest["metadata"]["labels"].values():
            assert len(value) <= 63
            assert LABEL.fullmatch(value)


@hypothesis.given(_observed())
def test_selectors_have_exactly_the_fixed_labels(observed: Observed) -> None:
    name = observed.parent.key.name
    for manifest in given.rendered(observed):
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Deployment":
                found, keys = spec["selector"]["matchLabels"], {SERVICE_LABEL, REVISION_LABEL}
                assert found.items() <= spec["template"]["metadata"]["labels"].items()
            case "Service" if manifest["metadata"]["name"] == name:
                assert spec["selector"] == common.of_pods(names.router_selector())
                continue
            case "Service":
                found = spec["selector"]
                keys = {SERVICE_LABEL, REVISION_LABEL, names.MANAGED_BY_LABEL}
            case "NetworkPolicy":
                found, keys = spec["podSelector"]["matchLabels"], {SERVICE_LABEL}
            case "PodDisruptionBudget" | "PodMonitor":
                found, keys = spec["selector"]["matchLabels"], {SERVICE_LABEL}
            case _:
                continue
        assert found.keys() == keys
        assert found[SERVICE_LABEL] == name


@hypothesis.given(_observed())
def test_every_child_is_owned_and_goes_with_its_parent(observed: Observed) -> None:
    for manifest in given.rendered(observed):
        assert manifest["metadata"]["namespace"] == given.NAMESPACE
        assert manifest["metadata"]["labels"][names.MANAGED_BY_LABEL] == names.OPERATOR
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == (
            "InferenceService",
            given.UID,
            True,
        )
        assert "blockOwnerDeletion" not in owner  # would need rights on users' objects


def _pod(spec: dict[str, Any] | None = None) -> Any:
    deployment = given.find(given.rendered(given.observed(spec)), "Deployment")
    return deployment["spec"]["template"]["spec"]


@hypothesis.given(_observed())
def test_pods_meet_the_restricted_pod_security_standard(observed: Observed) -> None:
    pod = given.find(given.rendered(observed), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    kinds = {next(key for key in volume if key != "name") for volume in pod["volumes"]}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("hostPort" not in port for port in pod["containers"][0]["ports"])


def test_pods_get_no_token_and_no_links_of_the_cluster() -> None:
    pod = _pod()
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_engines_share_memory_through_a_volume_in_memory() -> None:
    pod = _pod()
    (mount,) = (
        mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == "/dev/shm"
    )
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == mount["name"])
    assert volume["emptyDir"] == {"medium": "Memory"}


def test_every_mount_has_its_volume() -> None:
    spec = {"model": {"uri": "pvc://a/x"}, "speculation": {"draft": "pvc://b/y"}}
    pod = _pod(spec)
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert [mounts[name]["mountPath"] for name in ("claim-0", "claim-1")] == [
        "/mnt/models/a",
        "/mnt/models/b",
    ]


def test_what_the_template_adds_reaches_the_pod_after_what_we_mount() -> None:
    pod = _pod({"model": given.MODEL, "template": given.TEMPLATE})
    assert pod["affinity"] == given.TEMPLATE["affinity"]
    for found, key in ((pod, "volumes"), (pod["containers"][0], "volumeMounts")):
        added = given.TEMPLATE[key]
        assert found[key][-len(added) :] == added
        assert len(found[key]) > len(added)


def test_every_volume_and_path_of_ours_is_reserved() -> None:
    adapters = [{"name": "sql", "uri": "pvc://a/sql"}]
    pod = _pod({"model": {"uri": "pvc://a/x", "adapters": adapters}})
    taken = {volume["name"] for volume in pod["volumes"]} - {"claim-0"}
    assert taken <= set(volumes.RESERVED_NAMES)
    for mount in pod["containers"][0]["volumeMounts"]:
        path = mount["mountPath"]
        assert any(path == ours or path.startswith(ours + "/") for ours in volumes.RESERVED_PATHS)


def test_the_token_of_the_model_comes_only_from_its_secret() -> None:
    rendered = given.rendered(given.observed({"model": {**given.MODEL, "tokenSecret": TOKEN}}))
    pod = given.find(rendered, "Deployment")["spec"]["template"]["spec"]
    (variable,) = (entry for entry in pod["containers"][0]["env"] if entry["name"] == "HF_TOKEN")
    assert variable == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": TOKEN}}
    assert "HF_TOKEN" not in str(pod["containers"][0]["command"])
    assert all(manifest["kind"] != "Secret" for manifest in rendered)


def test_without_a_token_there_is_no_variable_for_it() -> None:
    assert "HF_TOKEN" not in json.dumps(_pod())


def test_labels_of_the_template_reach_the_pods_only() -> None:
    spec = {
        "model": given.MODEL,
        "template": {"labels": {"mine": "1"}, "annotations": {"a": "1"}},
    }
    rendered = given.rendered(given.observed(spec))
    metadata = given.find(rendered, "Deployment")["spec"]["template"]["metadata"]
    assert metadata["labels"]["mine"] == "1"
    assert metadata["labels"][SERVICE_LABEL] == given.NAME
    assert metadata["annotations"]["a"] == "1"
    assert all("mine" not in manifest["metadata"]["labels"] for manifest in rendered)
    assert all("a" not in manifest["metadata"]["annotations"] for manifest in rendered)


def test_a_child_has_our_labels_and_annotations_and_no_others() -> None:
    ours = {
        names.MANAGED_BY_LABEL,
        names.NAME_LABEL,
        names.COMPONENT_LABEL,
        SERVICE_LABEL,
        REVISION_LABEL,
    }
    for manifest in given.rendered(given.observed(pod_monitors=True)):
        assert manifest["metadata"]["labels"].keys() <= ours
        assert manifest["metadata"]["annotations"].keys() == {names.APPLIED_ANNOTATION}


def test_a_fingerprint_tells_what_was_applied() -> None:
    def fingerprints(replicas: int) -> dict[str, str]:
        return {
            manifest["kind"]: manifest["metadata"]["annotations"][names.APPLIED_ANNOTATION]
            for manifest in given.rendered(given.observed(), replicas=replicas)
        }

    one, two = fingerprints(1), fingerprints(2)
    assert {kind for kind in one if one[kind] != two[kind]} == {"Deployment"}


def test_a_child_of_a_parent_that_was_made_anew_is_another_one() -> None:
    observed = given.observed()
    again = dataclasses.replace(observed, parent=given.parent(uid="uid-of-another"))
    pairs = zip(given.rendered(observed), given.rendered(again), strict=True)
    assert all(one["metadata"] != other["metadata"] for one, other in pairs)


def test_api_keys_are_a_mounted_secret_whose_absence_stops_no_pod() -> None:
    spec = {"model": given.MODEL, "routing": {"mode": "Direct", "apiKeys": {"name": "keys"}}}
    rendered = given.rendered(given.observed(spec))
    pod = given.find(rendered, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "api-keys")
    assert volume["secret"] == {"secretName": "keys", "optional": True}
    (container,) = pod["containers"]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "api-keys")
    assert mount == {"name": "api-keys", "mountPath": "/etc/slipstream-keys", "readOnly": True}
    assert "keys" not in json.dumps(container["env"] + container["command"])


def test_without_api_keys_nothing_is_mounted_for_them() -> None:
    spec = {"model": given.MODEL, "routing": {"mode": "Direct"}}
    assert "api-keys" not in json.dumps(given.rendered(given.observed(spec)))


@pytest.mark.parametrize("keys", [{}, {"apiKeys": {"name": "keys"}}])
def test_behind_the_router_engines_take_the_token_of_their_service_alone_and_wait_for_it(
    keys: dict[str, Any],
) -> None:
    spec = {"model": given.MODEL, "routing": keys}
    rendered = given.rendered(given.observed(spec))
    pod = given.find(rendered, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "api-keys")
    only = [{"key": given.UID, "path": "token"}]
    assert volume["secret"] == {"secretName": "slipstream-engine-tokens", "items": only}


@pytest.mark.parametrize(
    ("kept", "source"),
    [
        ({"claim": {"name": "models"}}, {"persistentVolumeClaim": {"claimName": "models"}}),
        (
            {"hostPath": {"path": "/var/models"}},
            {"hostPath": {"path": "/var/models", "type": "DirectoryOrCreate"}},
        ),
        (None, {"emptyDir": {}}),
    ],
)
def test_downloads_outlive_a_pod_where_the_service_says_so(
    kept: dict[str, Any] | None, source: dict[str, Any]
) -> None:
    cache = {"cache": {"model": kept}} if kept else {}
    spec = {"model": given.MODEL, **cache}
    (deployment,) = (
        child for child in given.rendered(given.observed(spec)) if child["kind"] == "Deployment"
    )
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert {"name": "cache", **source} in volumes
