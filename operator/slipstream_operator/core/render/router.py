"""Router of a namespace and its other objects, owned by all services and routes that use it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.api import pod
from slipstream_operator.core import network
from slipstream_operator.core.observed import Manifest, Parent
from slipstream_operator.core.prometheus import Scraping
from slipstream_operator.core.render import common, monitor, pods, protection, service
from slipstream_runtime import contract

NAME: Final = contract.ROUTER_NAME
REPLICAS: Final = 2
RESOURCES: Final = pod.Resources(
    requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "512Mi"}
)


@dataclasses.dataclass(frozen=True)
class Router:
    """Resolved router of a namespace."""

    namespace: str
    image: str
    replicas: int
    resources: Manifest
    placement: Manifest
    """Node selector, tolerations, runtime class, priority class and pull secrets, as core/v1 names them."""
    document: str
    """Text of its configuration."""
    parts: Mapping[str, str]
    """Name of a ConfigMap -> text of a part of the configuration, if it is too large for one."""
    key_secrets: Sequence[str]
    """Secrets with API keys of the services, which the router watches."""
    leases: Sequence[str]
    """Names of the Leases that the router can renew for services at zero."""
    users: Sequence[Parent]
    routes: Sequence[Parent]
    prometheus: str | None
    scraping: Scraping
    annotated: bool
    """Whether annotations of the pods announce their metrics."""
    account: str = NAME
    """ServiceAccount of the pods."""
    assigned_user: bool = False
    """Whether the cluster assigns the user and the groups of the pods."""
    certificate: str | None = None
    """Secret with the certificate for clients; None for plain HTTP."""
    plain: bool = True
    """Whether clients can use plain HTTP."""
    authorities: str | None = None
    """Secret with the authority of the engines' certificates; None if engines use plain HTTP."""


def render(router: Router) -> list[dict[str, Any]]:
    """Return all objects except the token, in the order of their creation."""
    manifests = [
        {"apiVersion": "v1", "kind": "ServiceAccount", **_named(router)},
        _role(router),
        _role_binding(router),
        *(_part(router, name) for name in router.parts),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            **_named(router),
            "data": {contract.ROUTER_CONFIG_KEY: router.document},
        },
        *([_lease(router)] if router.key_secrets else []),
        _network_policy(router),
        _deployment(router),
        _service(router),
    ]
    if router.replicas > 1:
        manifests.append(_disruption_budget(router))
    if router.scraping.by_pod_monitor:
        manifests.append(_pod_monitor(router))
    return [common.fingerprinted(manifest) for manifest in manifests]


def token(namespace: str, *, account: str, value: str) -> dict[str, Any]:
    """Return the Secret with the token by which routers know each other. It is created once."""
    return {
        **_secret(names.ROUTER_TOKEN, namespace, account=account),
        "immutable": True,
        "stringData": {contract.ROUTER_TOKEN_KEY: value},
    }


def engine_tokens(namespace: str, *, account: str) -> dict[str, Any]:
    """Return the Secret with the tokens of engines, without its entries."""
    return _secret(names.ENGINE_TOKENS, namespace, account=account)


def entries_of(metadata: Manifest) -> set[str]:
    """Return the names of a Secret's entries from its metadata, which list the fields that were written."""
    fields = [entry.get("fieldsV1") or {} for entry in metadata.get("managedFields") or ()]
    return {name.removeprefix("f:") for one in fields for name in one.get("f:data", {})} - {"."}


def _secret(name: str, namespace: str, *, account: str) -> dict[str, Any]:
    """Return a Secret without content.

    Its owner is the router's ServiceAccount with uid `account`, which outlives single services.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": names.router_labels(),
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ServiceAccount", "name": NAME, "uid": account}
            ],
        },
        "type": "Opaque",
    }


def _named(router: Router) -> dict[str, Any]:
    """Return metadata with a non-controlling owner reference to each user, so that the last user deletes them."""
    owners = [
        {
            "apiVersion": names.API_VERSION,
            "kind": kind,
            "name": parent.key.name,
            "uid": parent.uid,
        }
        for kind, parents in (
            (names.INFERENCE_SERVICE, router.users),
            (names.INFERENCE_ROUTE, router.routes),
        )
        for parent in parents
    ]
    return {
        "metadata": {
            "name": NAME,
            "namespace": router.namespace,
            "labels": names.router_labels(),
            "ownerReferences": owners,
        }
    }


def _part(router: Router, name: str) -> dict[str, Any]:
    """Return the ConfigMap of a part, which the main one names. It comes before it, and goes after it."""
    metadata = _named(router)["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "name": name},
        "immutable": True,
        "data": {contract.ROUTER_CONFIG_KEY: router.parts[name]},
    }


def _role(router: Router) -> dict[str, Any]:
    rules: list[dict[str, Any]] = [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [NAME, *sorted(router.parts)],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [names.ENGINE_TOKENS, *router.key_secrets],
            "verbs": ["list", "watch"],
        },
    ]
    leases = [*([NAME] if router.key_secrets else []), *router.leases]
    if leases:  # a rule without names would apply to all Leases
        rules.append(
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": leases,
                "verbs": ["get", "patch"],
            }
        )
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        **_named(router),
        "rules": rules,
    }


def _lease(router: Router) -> dict[str, Any]:
    """Return the Lease in whose annotation routers report problems with API keys."""
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **_named(router)}


def _role_binding(router: Router) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        **_named(router),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
        "subjects": [
            {"kind": "ServiceAccount", "name": router.account, "namespace": router.namespace}
        ],
    }


def _deployment(router: Router) -> dict[str, Any]:
    labels = names.router_selector()
    template = {
        "metadata": {
            "labels": names.router_labels(),
            **({"annotations": pods.SCRAPED} if router.annotated else {}),
        },
        "spec": {
            "serviceAccountName": router.account,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": pods.ROUTER_GRACE_SECONDS,
            "securityContext": pods.confined(assigned=router.assigned_user),
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 100,
                            "podAffinityTerm": {
                                "topologyKey": "kubernetes.io/hostname",
                                "labelSelector": {"matchLabels": labels},
                            },
                        }
                    ]
                }
            },
            **router.placement,
            "containers": [_container(router)],
            "volumes": _volumes(router),
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        **_named(router),
        "spec": {
            "replicas": router.replicas,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": labels},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": template,
        },
    }


def _container(router: Router) -> dict[str, Any]:
    return {
        "name": names.ROUTER_COMPONENT,
        "image": router.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "python",
            "-m",
            contract.ROUTER_MODULE,
            "--config-map",
            f"{router.namespace}/{NAME}",
            *_tls_options(router),
        ],
        "env": [
            {"name": "HOME", "value": contract.SCRATCH_DIRECTORY},
            {"name": "TMPDIR", "value": contract.SCRATCH_DIRECTORY},
        ],
        "ports": [
            *(
                {"name": name, "containerPort": port, "protocol": "TCP"}
                for name, port in _api_ports(router)
            ),
            {"name": "management", "containerPort": contract.MANAGEMENT_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": contract.READY_PATH, "port": "management"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": contract.LIVE_PATH, "port": "management"},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 3,
        },
        "terminationMessagePath": contract.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": pods.container_confined(),
        "resources": router.resources,
        "volumeMounts": [
            {"name": "token", "mountPath": contract.ROUTER_TOKEN_DIRECTORY, "readOnly": True},
            {"name": "scratch", "mountPath": contract.SCRATCH_DIRECTORY},
            *(
                {"name": name, "mountPath": path, "readOnly": True}
                for name, path, secret in (
                    ("certificate", contract.CERTIFICATE_DIRECTORY, router.certificate),
                    ("authorities", contract.AUTHORITIES_DIRECTORY, router.authorities),
                )
                if secret is not None
            ),
        ],
    }


def _tls_options(router: Router) -> list[str]:
    options = []
    if router.certificate is not None:
        options += ["--tls", contract.CERTIFICATE_DIRECTORY]
        options += [] if router.plain else ["--no-plain"]
    if router.authorities is not None:
        host = contract.engines_host(router.namespace)
        options += ["--engine-authorities", contract.AUTHORITIES_DIRECTORY, "--engine-host", host]
    return options


def _api_ports(router: Router) -> list[tuple[str, int]]:
    """Return the ports for clients, by name."""
    return [
        *([("http", contract.API_PORT)] if router.plain else []),
        *([("https", contract.TLS_PORT)] if router.certificate is not None else []),
    ]


def _volumes(router: Router) -> list[dict[str, Any]]:
    """Return the volumes. None is of a single service, because its change would restart the router of all others.

    The certificates are optional: a router says that it is not ready without them, and reads them when they come. The
    private key of the engines is left out.
    """
    volumes: list[dict[str, Any]] = [
        {"name": "token", "secret": {"secretName": names.ROUTER_TOKEN}},
        {"name": "scratch", "emptyDir": {}},
    ]
    if router.certificate is not None:
        source = {"secretName": router.certificate, "optional": True}
        volumes.append({"name": "certificate", "secret": source})
    if router.authorities is not None:
        authority = {"key": contract.AUTHORITIES, "path": contract.AUTHORITIES}
        source = {"secretName": router.authorities, "optional": True, "items": [authority]}
        volumes.append({"name": "authorities", "secret": source})
    return volumes


def _service(router: Router) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        **_named(router),
        "spec": {
            "type": "ClusterIP",
            "selector": common.of_pods(names.router_selector()),
            "ports": service.router_ports(
                plain=router.plain, secure=router.certificate is not None
            ),
        },
    }


def _disruption_budget(router: Router) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        **_named(router),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.router_selector()},
        },
    }


def _network_policy(router: Router) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        **_named(router),
        "spec": {
            "podSelector": {"matchLabels": names.router_selector()},
            "policyTypes": ["Ingress", "Egress"],
            "egress": network.anywhere(),
            "ingress": [
                {"ports": [{"protocol": "TCP", "port": port} for _, port in _api_ports(router)]},
                {
                    "from": [
                        {
                            "namespaceSelector": protection.scraper_namespaces(
                                router.prometheus, router.scraping
                            )
                        },
                        {"podSelector": {"matchLabels": names.router_selector()}},
                    ],
                    "ports": [{"protocol": "TCP", "port": contract.MANAGEMENT_PORT}],
                },
            ],
        },
    }


def _pod_monitor(router: Router) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        **monitor.labelled(_named(router), router.scraping.labels),
        "spec": {
            "selector": {"matchLabels": names.router_selector()},
            "sampleLimit": monitor.SAMPLE_LIMIT,
            "labelValueLengthLimit": monitor.LABEL_LIMIT,
            "podMetricsEndpoints": [{"port": "management", "path": contract.METRICS_PATH}],
        },
    }
