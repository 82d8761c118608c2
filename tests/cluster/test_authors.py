"""A right to InferenceServices alone is no right to Secrets, ConfigMaps and accounts, on a real API server."""

import json
from typing import Any

import pytest

from dev.cluster.kube import Kube, Refused
from tests.support import services

PROJECTED = "spec.template.volumes.projected"
NAMING = [
    ({"routing": {"apiKeys": {"name": "db"}}}, "spec.routing.apiKeys"),
    ({"model": {"tokenSecret": {"name": "db", "key": "password"}}}, "spec.model.tokenSecret"),
    ({"model": {"uri": "s3://bucket/folder", "credentials": {"name": "db"}}}, "spec.model.credentials"),
    ({"model": {"chatTemplateFrom": {"name": "db", "key": "password"}}}, "spec.model.chatTemplateFrom"),
    ({"template": {"imagePullSecrets": [{"name": "db"}]}}, "spec.template.imagePullSecrets"),
    ({"template": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}},
     "spec.template.env.valueFrom"),
    ({"template": {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "db", "key": "password"}}}]}},
     "spec.template.env.valueFrom"),
    ({"template": {"initContainers": [{"name": "a", "image": "a"}, {"name": "b", "image": "b", "env": [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}]}},
     "spec.template.initContainers.env.valueFrom"),
    ({"template": {"volumes": [{"name": "v", "secret": {"secretName": "db"}}]}}, "spec.template.volumes.secret"),
    ({"template": {"volumes": [{"name": "v", "configMap": {"name": "db"}}]}}, "spec.template.volumes.configMap"),
    ({"template": {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "db"}}]}}]}}, PROJECTED),
    ({"template": {"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "db"}}]}}]}}, PROJECTED),
    ({"template": {"volumes": [{"name": "v", "csi": {"driver": "db"}}]}}, "spec.template.volumes.csi"),
    ({"template": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "db"}}]}},
     "spec.template.volumes.persistentVolumeClaim"),
    ({"model": {"uri": "pvc://db"}}, "spec.model.uri"),
    ({"model": {"uri": "pvc://db/folder/of/it"}}, "spec.model.uri"),
    ({"model": {"adapters": [{"name": "a", "uri": "pvc://db/a"}]}}, "spec.model.adapters"),
    ({"speculation": {"draft": "pvc://db/a", "tokens": 2}}, "spec.speculation.draft"),
    ({"model": {"uri": "build://db"}}, "spec.model.uri"),
    ({"model": {"adapters": [{"name": "a", "uri": "build://db"}]}}, "spec.model.adapters"),
    ({"speculation": {"draft": "build://db", "tokens": 2}}, "spec.speculation.draft"),
    ({"cache": {"model": {"claim": {"name": "db"}}}}, "spec.cache.model.claim"),
    ({"template": {"priorityClassName": "db"}}, "spec.template.priorityClassName"),
    ({"template": {"serviceAccountName": "db"}}, "spec.template.serviceAccountName"),
    ({"template": {"serviceAccountName": "db", "volumes": [
        {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}},
     "spec.template.serviceAccountName"),
]  # fmt: skip


def service(namespace: str, name: str = "theft", **spec: Any) -> str:
    """Return a manifest that never runs a pod."""
    model = {"uri": "hf://a/b", **spec.pop("model", {})}
    manifest = services.simulated(namespace, name, replicas=0, **spec)
    del manifest["spec"]["runtime"]
    return json.dumps({**manifest, "spec": {**manifest["spec"], "model": model}})


def apply(kube: Kube, manifest: str, *, user: str) -> str:
    return kube.kubectl("apply", "--server-side", f"--as={user}", "-f", "-", stdin=manifest)


def grant(kube: Kube, namespace: str, user: str, *rules: dict[str, Any]) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": user, "namespace": namespace},
        "rules": [
            {"apiGroups": ["slipstream.dev"], "resources": ["inferenceservices"], "verbs": ["*"]},
            *rules,
        ],
    }
    kube.apply(role)
    kube.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": user, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
    )


def right(resource: str, *verbs: str, group: str = "", **names: Any) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs), **names}


def test_its_holder_names_none_of_them_in_any_field(kube: Kube, namespace: str) -> None:
    grant(kube, namespace, "mallory")
    apply(kube, service(namespace, "plain"), user="mallory")
    for spec, field in NAMING:
        with pytest.raises(Refused) as refused:
            apply(kube, service(namespace, **spec), user="mallory")
        assert (
            f'{field}: "db" can\'t be used because mallory has no right to' in refused.value.message
        )
    with pytest.raises(Refused, match="has no right to impersonate or use serviceaccounts"):
        token = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
        volumes = [{"name": "v", "projected": token}]
        apply(kube, service(namespace, template={"volumes": volumes}), user="mallory")
    with pytest.raises(Refused, match="can't be used"):
        keyed = service(namespace, "plain", routing={"apiKeys": {"name": "db"}})
        apply(kube, keyed, user="mallory")


@pytest.mark.parametrize(
    "rules",
    [
        [right("pods", "create")],
        [right("deployments", "create", group="apps")],
        [right("statefulsets", "create", group="apps")],
        [right("jobs", "create", group="batch")],
        [
            right("*", "get", "impersonate"),
            right("persistentvolumeclaims", "use"),
            right("modelbuilds", "use", group="slipstream.dev"),
            right("csidrivers", "use", group="storage.k8s.io"),
            right("priorityclasses", "use", group="scheduling.k8s.io"),
        ],
        [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["use"]}],
    ],
    ids=["pods", "deployments", "stateful sets", "jobs", "get", "use"],
)
def test_a_right_to_them_or_to_run_pods_is_enough(
    kube: Kube, namespace: str, rules: list[dict[str, Any]]
) -> None:
    grant(kube, namespace, "author", *rules)
    for place, (spec, _) in enumerate(NAMING):
        apply(kube, service(namespace, f"one-{place}", **spec), user="author")


def test_a_right_to_one_secret_is_none_to_another(kube: Kube, namespace: str) -> None:
    grant(kube, namespace, "author", right("secrets", "use", resourceNames=["hub"]))

    def asked(name: str) -> str:
        return service(namespace, model={"tokenSecret": {"name": name, "key": "token"}})

    apply(kube, asked("hub"), user="author")
    with pytest.raises(Refused, match='"db" can\'t be used'):
        apply(kube, asked("db"), user="author")


def test_who_may_not_change_what_it_names_may_still_label_and_scale_it(
    kube: Kube, namespace: str
) -> None:
    scaling = right("inferenceservices/scale", "get", "patch", group="slipstream.dev")
    grant(kube, namespace, "mallory", scaling)
    manifest = service(namespace, routing={"apiKeys": {"name": "db"}})
    kube.apply(json.loads(manifest))
    mallory = ("-n", namespace, "--as=mallory", "infer", "theft")
    kube.kubectl("label", *mallory, "team=a")
    kube.kubectl("scale", *mallory, "--replicas=0")
    with pytest.raises(Refused, match="can't be used"):
        change = json.dumps({"spec": {"accelerator": {"count": 2}}})
        kube.kubectl("patch", *mallory, "--type=merge", "-p", change)


def test_many_names_are_refused_and_one_name_in_many_places_is_not(
    kube: Kube, namespace: str
) -> None:
    """The API server's budget bounds the number of rights that a policy can check."""
    grant(kube, namespace, "author", right("secrets", "use"))

    def asked(names: list[str]) -> str:
        env = [
            {"name": f"V{place}", "valueFrom": {"secretKeyRef": {"name": name, "key": "key"}}}
            for place, name in enumerate(names)
        ]
        return service(namespace, template={"env": env})

    apply(kube, asked(["one"] * 60), user="author")
    apply(kube, asked([f"secret-{place}" for place in range(8)]), user="author")
    with pytest.raises(Refused, match=r"names 9 Secrets, .* and author may name 8"):
        apply(kube, asked([f"secret-{place}" for place in range(9)]), user="author")


def route(namespace: str, **retrieve: Any) -> str:
    url = "http://search.team.svc/v1/vector_stores/a/search"
    spec = {
        "model": "m",
        "backends": [{"service": "a"}],
        "retrieve": {"url": url, **retrieve},
    }
    metadata = {"name": "theft", "namespace": namespace}
    kind = {"apiVersion": "slipstream.dev/v1alpha1", "kind": "InferenceRoute"}
    return json.dumps({**kind, "metadata": metadata, "spec": spec})


def test_a_route_sends_no_secret_that_its_author_may_not_read(kube: Kube, namespace: str) -> None:
    routes = right("inferenceroutes", "*", group="slipstream.dev")
    key = {"apiKey": {"name": "db", "key": "password"}}
    grant(kube, namespace, "mallory", routes, right("secrets", "use", "list"))
    apply(kube, route(namespace), user="mallory")
    with pytest.raises(Refused, match="mallory has no right to get secrets of this name"):
        apply(kube, route(namespace, **key), user="mallory")
    grant(kube, namespace, "alice", routes, right("secrets", "get", resourceNames=["db"]))
    apply(kube, route(namespace, **key), user="alice")
    apply(kube, route(namespace, topK=2, **key), user="alice")
    with pytest.raises(Refused, match='"other" can\'t be used because alice'):
        apply(kube, route(namespace, apiKey={"name": "other", "key": "a"}), user="alice")
    grant(kube, namespace, "bob", routes, right("jobs", "create", group="batch"))
    apply(kube, route(namespace, topK=3, **key), user="bob")


def build(namespace: str, **spec: Any) -> str:
    """Return a ModelBuild that never has a pod, since no profile allows its source."""
    base = {
        "source": "gs://bucket/model",
        "steps": [{"export": {}}],
        "output": {"uri": "gs://bucket/small"},
    }
    metadata = {"name": "theft", "namespace": namespace}
    kind = {"apiVersion": "slipstream.dev/v1alpha1", "kind": "ModelBuild"}
    return json.dumps({**kind, "metadata": metadata, "spec": {**base, **spec}})


SAMPLES = {"dataset": {"claim": {"name": "db", "path": "items.jsonl"}}}
OPEN = {"dataset": {"uri": "s3://bucket/items.jsonl"}}
OF_TEMPLATES = {"env", "volumes", "serviceAccountName"}
"""Fields that the templates of services and of builds share."""
OF_BUILDS = [
    ({"source": "pvc://db/model"}, "spec.source"),
    ({"output": {"uri": "pvc://db/model"}}, "spec.output.uri"),
    ({"output": {"uri": "oci://r/i:1", "pushSecret": {"name": "db"}}}, "spec.output.pushSecret"),
    ({"workspace": {"claim": {"name": "db"}}}, "spec.workspace.claim"),
    ({"tokenSecret": {"name": "db", "key": "token"}}, "spec.tokenSecret"),
    ({"credentials": {"name": "db"}}, "spec.credentials"),
    ({"imagePullSecrets": [{"name": "db"}]}, "spec.imagePullSecrets"),
    ({"quality": {"dataset": {"configMap": {"name": "db", "key": "a"}}}}, "spec.dataset.configMap"),
    ({"steps": [{"quantize": {"scheme": "w8a8", "calibration": SAMPLES}}]}, "spec.dataset.claim"),
    (
        {"steps": [{"sparsify": {"pattern": "2of4", "calibration": OPEN, "heal": SAMPLES}}]},
        "spec.dataset.claim",
    ),
    ({"steps": [{"prune": {"layers": "9%", "calibration": SAMPLES}}]}, "spec.dataset.claim"),
    (
        {"steps": [{"distill": {"student": {"layers": 1}, "training": SAMPLES}}]},
        "spec.dataset.claim",
    ),
    (
        {
            "steps": [
                {
                    "distill": {
                        "student": {"uri": "pvc://db/a"},
                        "training": OPEN,
                    }
                }
            ]
        },
        "spec.steps.distill.student.uri",
    ),
    *(
        (spec, field)
        for spec, field in NAMING
        if OF_TEMPLATES.issuperset(spec.get("template", ["other"]))
    ),
]


def test_a_build_uses_nothing_that_its_author_may_not(kube: Kube, namespace: str) -> None:
    builds = right("modelbuilds", "*", group="slipstream.dev")
    grant(kube, namespace, "mallory", builds)
    for spec, field in OF_BUILDS:
        with pytest.raises(Refused) as refused:
            apply(kube, build(namespace, **spec), user="mallory")
        expected = f'{field}: "db" can\'t be used because mallory has no right to'
        assert expected in refused.value.message
    apply(kube, build(namespace), user="mallory")
    grant(kube, namespace, "alice", builds, right("persistentvolumeclaims", "use"))
    kube.delete("ModelBuild", namespace, "theft")
    apply(kube, build(namespace, **OF_BUILDS[1][0]), user="alice")
