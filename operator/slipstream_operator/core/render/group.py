"""LeaderWorkerSet for replicas that span nodes. Each group is one replica."""

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
    """Return the LeaderWorkerSet of one revision, whose templates never change.

    Only leaders have the labels of engine pods, so Services, routers, budgets, scaling and metrics count groups. Each
    group has its own subdomain, because the revision's headless Service has the name of the set and lists only pods
    that are ready.
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
    """Return the annotations of the template that belong to the set, such as exclusive topology."""
    annotations: Manifest = template["metadata"].get("annotations", {})
    return {key: value for key, value in annotations.items() if key in FREE_ANNOTATIONS}


def _worker(key: Key, template: Manifest) -> dict[str, Any]:
    """Return the leader's template for workers: without the labels, annotations and spread of engine pods."""
    worker: dict[str, Any] = copy.deepcopy(dict(template))
    labels = worker["metadata"]["labels"]
    labels.pop(names.SERVICE_LABEL)
    labels |= {names.COMPONENT_LABEL: names.WORKER_COMPONENT, names.WORKER_LABEL: key.name}
    for annotation in pods.SCRAPED:
        worker["metadata"].get("annotations", {}).pop(annotation, None)
    worker["spec"].pop("topologySpreadConstraints", None)
    return worker
