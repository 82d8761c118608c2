"""Table of the Kubernetes kinds that the operator reads or writes."""

import dataclasses
from typing import Final, Literal

from slipstream_operator import names


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of the Kubernetes API, and the operator's use of it."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool = True
    read: Literal["watched", "polled"] | None = None
    """Source of the operator's copy of the objects; None for kinds that it only writes or reads by name."""
    labeled: bool = True
    """Whether only objects with the operator's label are read; False if every object of the cluster is."""
    owned: bool = False
    """Whether the operator creates, updates and deletes objects of this kind as children."""
    optional: bool = False
    """Whether a cluster may lack this kind, so that its CustomResourceDefinition is checked."""

    @property
    def api_version(self) -> str:
        """Return the `apiVersion` of manifests of this kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> tuple[str, str, str]:
        """Return group, version and plural."""
        return self.group, self.version, self.plural

    @property
    def definition(self) -> str:
        """Return the name of the kind's CustomResourceDefinition."""
        return f"{self.plural}.{self.group}"


_GATEWAY_API: Final = "gateway.networking.k8s.io"

ALL: Final = (
    Kind(
        names.INFERENCE_SERVICE,
        names.GROUP,
        names.VERSION,
        "inferenceservices",
        read="watched",
        labeled=False,
    ),
    Kind(
        names.INFERENCE_ROUTE,
        names.GROUP,
        names.VERSION,
        "inferenceroutes",
        read="watched",
        labeled=False,
    ),
    Kind(
        names.MODEL_BUILD,
        names.GROUP,
        names.VERSION,
        "modelbuilds",
        read="watched",
        labeled=False,
    ),
    Kind(
        names.SERVING_PROFILE,
        names.GROUP,
        names.VERSION,
        "servingprofiles",
        namespaced=False,
        read="watched",
        labeled=False,
    ),
    Kind(names.NAMESPACE, "", "v1", "namespaces", namespaced=False, read="watched", labeled=False),
    Kind(
        names.CUSTOM_RESOURCE_DEFINITION,
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        namespaced=False,
        read="watched",
        labeled=False,
    ),
    Kind("Pod", "", "v1", "pods", read="watched"),
    Kind("Deployment", "apps", "v1", "deployments", read="watched", owned=True),
    Kind(
        names.LEADER_WORKER_SET,
        "leaderworkerset.x-k8s.io",
        "v1",
        "leaderworkersets",
        read="polled",
        owned=True,
        optional=True,
    ),
    Kind(names.JOB, "batch", "v1", "jobs", read="watched", owned=True),
    Kind("Service", "", "v1", "services", read="watched", owned=True),
    Kind("ConfigMap", "", "v1", "configmaps", read="watched", owned=True),
    Kind(
        "NetworkPolicy",
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        read="watched",
        owned=True,
    ),
    Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", read="watched", owned=True),
    Kind(
        names.POD_MONITOR,
        "monitoring.coreos.com",
        "v1",
        "podmonitors",
        read="watched",
        owned=True,
        optional=True,
    ),
    Kind(
        names.RESOURCE_CLAIM_TEMPLATE,
        "resource.k8s.io",
        "v1",
        "resourceclaimtemplates",
        read="watched",
        owned=True,
    ),
    Kind("Lease", "coordination.k8s.io", "v1", "leases", read="watched", owned=True),
    Kind("ServiceAccount", "", "v1", "serviceaccounts", read="watched", owned=True),
    Kind("Role", "rbac.authorization.k8s.io", "v1", "roles", read="watched", owned=True),
    Kind(
        "RoleBinding",
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        read="watched",
        owned=True,
    ),
    Kind(names.GATEWAY, _GATEWAY_API, "v1", "gateways", read="polled", labeled=False),
    Kind(
        names.HTTP_ROUTE, _GATEWAY_API, "v1", "httproutes", read="polled", owned=True, optional=True
    ),
    Kind(
        names.INFERENCE_POOL,
        "inference.networking.k8s.io",
        "v1",
        "inferencepools",
        read="polled",
        owned=True,
        optional=True,
    ),
    Kind("Secret", "", "v1", "secrets"),
    Kind("Event", "events.k8s.io", "v1", "events"),
)
BY_NAME: Final = {kind.name: kind for kind in ALL}
WATCHED: Final = tuple(kind for kind in ALL if kind.read == "watched")
POLLED: Final = tuple(kind for kind in ALL if kind.read == "polled")
OWNED: Final = tuple(kind for kind in ALL if kind.owned)
BY_DEFINITION: Final = {kind.definition: kind for kind in ALL if kind.optional}
