"""A replica that spans nodes: a LeaderWorkerSet, each of whose groups is one replica."""

import copy
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.api.template import FREE_ANNOTATIONS
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.render import common, pods

API_VERSION: Final = "leaderworkerset.x-k8s.io/v1"


def leader_worker_set(
    key: Key, uid: str, *, revision: str, template: Manifest, replicas: int, nodes: int
) -> dict[str, Any]:
    """The LeaderWorkerSet of one revision; its templates never change.

    Leaders carry the labels of engine pods, workers do not: so Services, routers, budgets, scaling and metrics count
    groups. Each group has a subdomain of its own, since the revision's headless Service has the set's name and lists
    only pods that are ready.
    """
    metadata = common.metadata(
        key,
        uid,
        name=names.revision_name(key.name, revision),
        component="engine",
        revision=revision,
    )
    if placed := _placement(template):
        metadata["annotations"] = placed
    return {
        "apiVersion": API_VERSION,
        "kind": names.LEADER_WORKER_SET,
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "startupPolicy": "LeaderCreated",
            "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
            "leaderWorkerTemplate": {
                "size": nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": template,
                "workerTemplate": _worker(key, template),
            },
        },
    }


def _placement(template: Manifest) -> dict[str, str]:
    """The template's annotations for the set itself, such as one topology domain for each group."""
    annotations: Manifest = template["metadata"].get("annotations", {})
    return {key: value for key, value in annotations.items() if key in FREE_ANNOTATIONS}


def _worker(key: Key, template: Manifest) -> dict[str, Any]:
    """The leader's template for pods that serve no requests: not selected, not scraped, not spread as replicas are."""
    worker: dict[str, Any] = copy.deepcopy(dict(template))
    labels = worker["metadata"]["labels"]
    labels.pop(names.SERVICE_LABEL)
    labels |= {names.COMPONENT_LABEL: names.WORKER_COMPONENT, names.WORKER_LABEL: key.name}
    for annotation in pods.SCRAPED:
        worker["metadata"].get("annotations", {}).pop(annotation, None)
    worker["spec"].pop("topologySpreadConstraints", None)
    return worker
