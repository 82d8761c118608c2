"""Objects that attach a service to an inference gateway: a pool of its engines, a route and an endpoint picker."""

from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core import gateway, network
from slipstream_operator.core.render import common, pods
from slipstream_operator.core.resolved import Resolved
from slipstream_runtime import contract

GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
POOL_GROUP: Final = "inference.networking.k8s.io"
GRPC_PORT: Final = 9002
HEALTH_PORT: Final = 9003
METRICS_PORT: Final = 9090
GRACE_SECONDS: Final = 130
"""Minimum grace period of an endpoint picker in seconds, from its own chart. Its streams last as long as responses, so
it gets the grace period of the engines if that is longer."""


def render(resolved: Resolved, *, active: str) -> list[dict[str, Any]]:
    """Return all objects in the order of their creation. The pool selects the engines of the active revision."""
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", **_picker(resolved)},
        _role(resolved),
        _role_binding(resolved),
        _network_policy(resolved),
        _deployment(resolved),
        _service(resolved),
        _pool(resolved, active=active),
        _route(resolved),
    ]


def _picker(resolved: Resolved) -> dict[str, Any]:
    return {
        "metadata": common.metadata(
            resolved.key,
            resolved.uid,
            name=names.picker_name(resolved.key.name),
            component=names.PICKER_COMPONENT,
        )
    }


def _role(resolved: Resolved) -> dict[str, Any]:
    read = ["get", "list", "watch"]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        **_picker(resolved),
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": read},
            {"apiGroups": [POOL_GROUP], "resources": ["inferencepools"], "verbs": read},
            {
                "apiGroups": ["inference.networking.x-k8s.io"],
                "resources": ["inferenceobjectives", "inferencemodelrewrites"],
                "verbs": read,
            },
        ],
    }


def _role_binding(resolved: Resolved) -> dict[str, Any]:
    name = names.picker_name(resolved.key.name)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        **_picker(resolved),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": resolved.routing.picker_account or name,
                "namespace": resolved.key.namespace,
            }
        ],
    }


def _selector(resolved: Resolved) -> dict[str, str]:
    return {
        names.COMPONENT_LABEL: names.PICKER_COMPONENT,
        names.PICKER_LABEL: resolved.key.name,
    }


def _network_policy(resolved: Resolved) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        **_picker(resolved),
        "spec": {
            "podSelector": {"matchLabels": _selector(resolved)},
            "policyTypes": ["Egress"],
            "egress": network.anywhere(),
        },
    }


def _deployment(resolved: Resolved) -> dict[str, Any]:
    """Return the Deployment of one picker at a time, so that one pod tracks the engines' caches."""
    labels = _selector(resolved)
    pod = {
        "serviceAccountName": resolved.routing.picker_account
        or names.picker_name(resolved.key.name),
        "enableServiceLinks": False,
        **resolved.routing.picker_placement,
        "terminationGracePeriodSeconds": max(GRACE_SECONDS, resolved.times.grace),
        "securityContext": pods.confined(group=None, assigned=resolved.routing.assigned_user),
        "containers": [_container(resolved)],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        **_picker(resolved),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": common.of_pods(labels)}, "spec": pod},
        },
    }


def _container(resolved: Resolved) -> dict[str, Any]:
    """Return the container. It has no plugin file, since defaults weigh queue, cache and prefix.

    Metrics need no authentication, which would need cluster-wide permissions.
    """
    options = {
        "pool-name": resolved.key.name,
        "pool-namespace": resolved.key.namespace,
        "pool-group": POOL_GROUP,
        "grpc-port": GRPC_PORT,
        "grpc-health-port": HEALTH_PORT,
        "metrics-port": METRICS_PORT,
        "metrics-endpoint-auth": "false",
        "zap-encoder": "json",
        "tracing": "false",
    }
    return {
        "name": names.PICKER_COMPONENT,
        "image": resolved.routing.picker_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [f"--{option}={value}" for option, value in options.items()],
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "grpc-health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": {
            "grpc": {"port": HEALTH_PORT, "service": "liveness"},
            "periodSeconds": 10,
        },
        "readinessProbe": {
            "grpc": {"port": HEALTH_PORT, "service": "readiness"},
            "periodSeconds": 2,
        },
        "securityContext": pods.container_confined(),
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "1Gi"},
        },
    }


def _service(resolved: Resolved) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        **_picker(resolved),
        "spec": {
            "type": "ClusterIP",
            "selector": common.of_pods(_selector(resolved)),
            "ports": [
                {
                    "name": "grpc-ext-proc",
                    "port": GRPC_PORT,
                    "targetPort": "grpc",
                    "protocol": "TCP",
                    "appProtocol": "http2",
                }
            ],
        },
    }


def _pool(resolved: Resolved, *, active: str) -> dict[str, Any]:
    """Return the pool. With FailOpen the gateway picks replicas itself if the picker is down."""
    return {
        "apiVersion": f"{POOL_GROUP}/v1",
        "kind": names.INFERENCE_POOL,
        "metadata": common.metadata(
            resolved.key, resolved.uid, name=resolved.key.name, component="service"
        ),
        "spec": {
            "selector": {"matchLabels": common.of_pods(common.selector(resolved.key.name, active))},
            "targetPorts": [{"number": contract.API_PORT}],
            "endpointPickerRef": {
                "name": names.picker_name(resolved.key.name),
                "port": {"number": GRPC_PORT},
                "failureMode": "FailOpen",
            },
        },
    }


def _route(resolved: Resolved) -> dict[str, Any]:
    """Return the route. Services of a gateway differ by path prefix. Timeouts would cut streams, so they are off."""
    space, name = resolved.routing.gateway or (None, "")
    return {
        "apiVersion": f"{GATEWAY_GROUP}/v1",
        "kind": names.HTTP_ROUTE,
        "metadata": common.metadata(
            resolved.key, resolved.uid, name=resolved.key.name, component="service"
        ),
        "spec": {
            "parentRefs": [
                {
                    "group": GATEWAY_GROUP,
                    "kind": names.GATEWAY,
                    "namespace": space or resolved.key.namespace,
                    "name": name,
                }
            ],
            "rules": [
                {
                    "matches": [
                        {"path": {"type": "PathPrefix", "value": f"{gateway.path(resolved)}/v1"}}
                    ],
                    "filters": [
                        {
                            "type": "URLRewrite",
                            "urlRewrite": {
                                "path": {
                                    "type": "ReplacePrefixMatch",
                                    "replacePrefixMatch": "/v1",
                                }
                            },
                        }
                    ],
                    "backendRefs": [
                        {
                            "group": POOL_GROUP,
                            "kind": names.INFERENCE_POOL,
                            "name": resolved.key.name,
                            "weight": 1,
                        }
                    ],
                    "timeouts": {"request": "0s", "backendRequest": "0s"},
                }
            ],
        },
    }
