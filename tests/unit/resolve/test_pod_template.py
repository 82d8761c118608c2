"""spec.template: what it adds to the pods, and what clashes with the operator's own."""

from typing import Any

import pytest

from slipstream_operator.api.containers import (
    RESERVED_CONTAINERS,
    RESERVED_PREFIX,
    RESERVED_VARIABLES,
)
from slipstream_operator.api.volumes import RESERVED_NAMES, RESERVED_PATHS
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from tests.support import given

KEY = {"name": "a", "key": "b"}
LWS = "leaderworkerset.sigs.k8s.io/"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
DATA = {"name": "data", "emptyDir": {}}


def pod(template: dict[str, Any], **spec: Any) -> Any:
    """The pod that is rendered."""
    snapshot = given.observed({"model": given.MODEL, "template": template, **spec})
    (deployment,) = (each for each in given.rendered(snapshot) if each["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]


def mounted(path: str, volume: str = "data") -> dict[str, Any]:
    """A template with a volume at the path."""
    return {"volumes": [DATA], "volumeMounts": [{"name": volume, "mountPath": path}]}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            {"volumes": [{"name": "shm", "emptyDir": {}}]},
            'volumes: "shm" is the name of a volume of the operator',
        ),
        (
            {"volumes": [{"name": "cache", "emptyDir": {}}]},
            'volumes: "cache" is the name of a volume of the operator',
        ),
        (
            {"volumes": [{"name": "claim-12", "emptyDir": {}}]},
            'volumes: "claim-12" is the name of a volume of the operator',
        ),
        (
            {"serviceAccountName": "slipstream-router"},
            'serviceAccountName: "slipstream-router" can\'t be used',
        ),
        (mounted("/dev/shm"), 'volumeMounts: "/dev/shm" overlaps /dev'),
        (mounted("/tmp/a"), 'volumeMounts: "/tmp/a" overlaps /tmp'),
        (mounted("/var/cache"), 'volumeMounts: "/var/cache" overlaps'),
        (
            mounted("/etc"),
            'volumeMounts: "/etc" overlaps /etc/slipstream',
        ),
        (mounted("/mnt/models/a"), "overlaps /mnt/models"),
        (mounted("/data", "other"), 'volumeMounts: "other" is not in spec.template.volumes'),
        ({"env": [{"name": "HOME", "value": "/root"}]}, 'env: "HOME" is set by the operator'),
        (
            {"env": [{"name": "SLIPSTREAM_FETCHED", "value": "1"}]},
            'env: "SLIPSTREAM_FETCHED" is set',
        ),
        (
            {"env": [{"name": "LWS_GROUP_SIZE", "value": "1"}]},
            'env: "LWS_GROUP_SIZE" is set by the operator',
        ),
        ({"env": [{"name": "A=B", "value": "1"}]}, 'env: "A=B" is not a valid name of a variable'),
        (
            {"env": [{"name": "A", "valueFrom": {}}]},
            'env: "A" needs exactly one source of its value',
        ),
        (
            {"env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": KEY}}]},
            'env: "A" needs exactly one source of its value. Set value, or valueFrom',
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": KEY, "configMapKeyRef": KEY}}]},
            'env: "A" needs exactly one source of its value',
        ),
        (
            {"volumes": [{"name": "My_Data", "emptyDir": {}}]},
            'volumes: "My_Data" is not a valid name of',
        ),
        (mounted("//tmp"), 'volumeMounts: "/tmp" overlaps /tmp'),
        (mounted("/dev/shm/"), "overlaps /dev"),
        (mounted("/mnt/../etc/./slipstream"), "overlaps /etc/slipstream"),
        (
            {"labels": {"slipstream.dev/service": "a"}},
            'labels: "slipstream.dev/service" is set by the operator',
        ),
        (
            {"labels": {"app.kubernetes.io/name": "a"}},
            'labels: "app.kubernetes.io/name" is set by the operator',
        ),
        (
            {"annotations": {"prometheus.io/port": "1"}},
            'annotations: "prometheus.io/port" is set by the operator',
        ),
        ({"labels": {"a b": "x"}}, 'labels: "a b" is not a valid key. Use letters'),
        ({"labels": {"a": "-x"}}, 'labels: "a: -x" is not a valid label. Use letters'),
        (
            {"nodeSelector": {"a/b/c": "x"}},
            'nodeSelector: "a/b/c: x" is not a valid label. Use letters',
        ),
        (
            {"labels": {f"{LWS}group-index": "0"}},
            f'labels: "{LWS}group-index" is set by the operator',
        ),
        ({"annotations": {f"{LWS}size": "9"}}, f'annotations: "{LWS}size" is set by the operator'),
        (
            {"annotations": {f"{APPARMOR}engine": "unconfined"}},
            f'annotations: "{APPARMOR}engine" is set',
        ),
        (
            {"initContainers": [{"name": "A", "image": "a"}]},
            'initContainers: "A" is not a valid name of',
        ),
        (
            {
                "initContainers": [
                    {"name": "a", "image": "a", "env": [{"name": "TMPDIR", "value": "/x"}]}
                ]
            },
            'initContainers[a].env: "TMPDIR" is set by the operator',
        ),
        (
            {"initContainers": [{"name": "engine", "image": "a"}]},
            'initContainers: "engine" is a name that the operator uses',
        ),
        (
            {"initContainers": [{"name": "a", "image": "a", **mounted("/tmp")}], "volumes": [DATA]},
            'initContainers[a].volumeMounts: "/tmp" overlaps /tmp',
        ),
    ],
)
def test_what_clashes_is_refused_with_a_remedy(template: dict[str, Any], message: str) -> None:
    with pytest.raises(PermanentError) as refused:
        given.resolved({"model": given.MODEL, "template": template})
    assert refused.value.reason == Reason.INVALID_SPEC
    assert f"spec.template.{message}" in refused.value.message or message in refused.value.message
    remedies = ("Leave it out", "Add a volume with this name", "Use ", "Set ")
    assert any(remedy in refused.value.message for remedy in remedies)


def test_a_group_may_be_given_a_topology_domain_of_its_own() -> None:
    exclusive = {f"{LWS}exclusive-topology": "rack"}
    given.resolved({"model": given.MODEL, "template": {"annotations": exclusive}})


def test_a_token_comes_from_one_place() -> None:
    token = {"env": [{"name": "HF_TOKEN", "value": "a"}]}
    assert {"name": "HF_TOKEN", "value": "a"} in pod(token)["containers"][0]["env"]
    secret = {**given.MODEL, "tokenSecret": {"name": "hub", "key": "token"}}
    with pytest.raises(PermanentError, match=r"env: \"HF_TOKEN\" .* spec.model.tokenSecret"):
        pod(token, model=secret)


def test_no_service_runs_as_the_router_of_its_profile() -> None:
    profiles = [given.profile(router={"serviceAccountName": "routers"})]
    spec = {"model": given.MODEL, "template": {"serviceAccountName": "routers"}}
    with pytest.raises(PermanentError) as refused:
        given.resolved(spec, profiles=profiles)
    assert "its rights are the router's alone" in refused.value.message


def test_paths_that_only_begin_alike_do_not_clash() -> None:
    found = pod(mounted("/tmpdata"))
    assert found["containers"][0]["volumeMounts"][-1] == {"name": "data", "mountPath": "/tmpdata"}


def test_scheduler_pull_secrets_and_groups_reach_the_pod() -> None:
    found = pod(
        {
            "schedulerName": "gang",
            "imagePullSecrets": [{"name": "registry"}],
            "supplementalGroups": [44, 992],
        }
    )
    assert found["schedulerName"] == "gang"
    assert found["imagePullSecrets"] == [{"name": "registry"}]
    assert found["securityContext"]["supplementalGroups"] == [44, 992]
    assert found["securityContext"]["runAsNonRoot"] is True


def test_pods_name_no_user_where_the_cluster_assigns_it() -> None:
    profiles = [given.profile(users="Assigned")]
    snapshot = given.observed({"model": given.MODEL}, profiles=profiles)
    (engine,) = (
        manifest["spec"]["template"]["spec"]
        for manifest in given.rendered(snapshot)
        if manifest["kind"] == "Deployment"
    )
    context = engine["securityContext"]
    assert context["runAsNonRoot"] is True
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context)


def test_who_assigns_users_makes_a_revision_and_the_default_makes_none() -> None:
    usual = given.identity({"model": given.MODEL})
    fixed, assigned = (
        given.identity({"model": given.MODEL}, profiles=[given.profile(users=users)])
        for users in ("Fixed", "Assigned")
    )
    assert usual == fixed != assigned


def test_init_containers_are_confined_as_the_engine_is() -> None:
    asked = {
        "name": "fetch",
        "image": "tools:1",
        "command": ["fetch", "--all"],
        "env": [{"name": "A", "value": "b"}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    found = pod({"initContainers": [asked], "volumes": [DATA]})
    (init,) = found["initContainers"]
    assert init["securityContext"] == found["containers"][0]["securityContext"]
    assert init["command"] == ["fetch", "--all"]
    assert [variable["name"] for variable in init["env"]] == ["HOME", "TMPDIR", "A"]
    assert init["volumeMounts"] == [
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "data", "mountPath": "/data"},
    ]


def test_an_image_is_mounted_as_a_volume() -> None:
    image = {"reference": "registry.example.com/m:1", "pullPolicy": "Always"}
    found = pod({"volumes": [{"name": "weights", "image": image}]})
    assert {"name": "weights", "image": image} in found["volumes"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], None),
        (
            [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
            "own",
        ),
    ],
)
def test_a_spread_of_the_users_own_replaces_ours(
    asked: list[dict[str, Any]], expected: str | None
) -> None:
    found = pod({"topologySpreadConstraints": asked})
    assert "affinity" not in found
    if expected is None:
        assert "topologySpreadConstraints" not in found
        return
    (constraint,) = found["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "rack"
    assert constraint["labelSelector"]["matchLabels"]["slipstream.dev/service"] == "chat"


def test_a_label_that_the_api_server_matches_is_not_selected_twice() -> None:
    asked = {
        "maxSkew": 1,
        "topologyKey": "rack",
        "whenUnsatisfiable": "ScheduleAnyway",
        "matchLabelKeys": ["slipstream.dev/revision"],
    }
    (constraint,) = pod({"topologySpreadConstraints": [asked]})["topologySpreadConstraints"]
    assert constraint["labelSelector"] == {"matchLabels": {"slipstream.dev/service": "chat"}}


def test_a_selector_of_the_users_own_is_kept() -> None:
    asked = {
        "maxSkew": 1,
        "topologyKey": "rack",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"team": "a"}},
    }
    (constraint,) = pod({"topologySpreadConstraints": [asked]})["topologySpreadConstraints"]
    assert constraint == asked


def test_the_new_fields_do_not_change_the_revision_of_objects_without_them() -> None:
    plain = given.resolved({"model": given.MODEL, "template": {"priorityClassName": "high"}})
    assert plain.revisioned.template == {"priorityClassName": "high"}


EVERYTHING: dict[str, Any] = {
    "model": {
        "uri": "pvc://models/target",
        "adapters": [],
        "tokenSecret": {"name": "hub", "key": "token"},
    },
    "speculation": {"draft": "pvc://drafts/small"},
    "cache": {"model": {"claim": {"name": "kept"}}, "offload": {"cpu": "1Gi", "disk": "2Gi"}},
    "routing": {"mode": "Direct", "apiKeys": {"name": "keys"}},
}


def test_all_that_the_operator_puts_into_a_pod_is_reserved() -> None:
    found = pod({}, **EVERYTHING)
    (engine,) = found["containers"]
    for volume in found["volumes"]:
        name = volume["name"]
        assert name in RESERVED_NAMES or name.startswith("claim-"), name
    for mount in engine["volumeMounts"]:
        path = mount["mountPath"]
        assert any(f"{path}/".startswith(f"{ours}/") for ours in RESERVED_PATHS), path
    variables = {variable["name"] for variable in engine["env"]}
    assert variables == {
        *RESERVED_VARIABLES,
        contract.MODEL_TOKEN_ENV,
        contract.SECRET_VARIABLES_ENV,
    }
    for container in (*found.get("initContainers", ()), engine):
        name = container["name"]
        assert name in RESERVED_CONTAINERS or name.startswith(RESERVED_PREFIX), name
