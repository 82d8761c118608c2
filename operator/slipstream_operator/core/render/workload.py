"""Engine pods: the pod template of a revision, and the Deployment that runs it."""

import math
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core import resources
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.pod_template import ASSIGNED_USER
from slipstream_operator.core.render import common, devices, placement, pods
from slipstream_operator.core.render.sources import (
    chat_template_mounts,
    chat_template_volumes,
    credential_mounts,
    credential_volumes,
    image_mounts,
    image_volumes,
)
from slipstream_operator.core.resolved import Resolved
from slipstream_runtime import contract

NO_DEADLINE: Final = 2**31 - 1
"""Value of progressDeadlineSeconds that means none. A large model may load for longer than the default of ten minutes.
The startup probe limits the time of a start."""
_SCRATCH: Final = (
    {"name": "HOME", "value": contract.SCRATCH_DIRECTORY},
    {"name": "TMPDIR", "value": contract.SCRATCH_DIRECTORY},
)
_SHARED_MEMORY: Final = {
    "name": contract.SHARED_MEMORY_ENV,
    "value": contract.SHARED_MEMORY_DIRECTORY,
}
PROBES_OF_A_START: Final = 720
"""Probes of a start on GPUs. Each failed probe is an Event, so a start of minutes has longer periods."""
LONGEST_PERIOD: Final = 10
"""Maximum seconds between two probes of a start, for which a ready engine may wait for its first request."""


def pod_template(resolved: Resolved, *, revision: str) -> dict[str, Any]:
    """Return the pod template of a new revision."""
    overrides = resolved.revisioned.template
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": resolved.times.grace,
        "securityContext": _security(overrides),
        **placement.of(
            overrides,
            labels=common.selector(resolved.key.name, revision),
            dedicated=resolved.dedicated,
        ),
        **_init_containers(overrides),
        "containers": [_container(resolved)],
        "volumes": _volumes(resolved, revision),
    }
    for field in (
        "nodeSelector",
        "tolerations",
        "runtimeClassName",
        "serviceAccountName",
        "priorityClassName",
        "schedulerName",
        "imagePullSecrets",
    ):
        if field in overrides:
            pod[field] = overrides[field]
    if resolved.revisioned.devices is not None:
        pod["resourceClaims"] = devices.pod_claims(resolved.key.name, revision)
        engine = pod["containers"][0].setdefault("resources", {})
        engine["claims"] = [{"name": names.DEVICES}]
    return {
        "metadata": {
            "labels": {
                **overrides.get("labels", {}),
                **names.child_labels(resolved.key.name, revision=revision, component="engine"),
            },
            "annotations": {
                **overrides.get("annotations", {}),
                **({} if resolved.scraping.by_pod_monitor else pods.SCRAPED),
            },
        },
        "spec": pod,
    }


def _security(overrides: Manifest) -> dict[str, Any]:
    groups = overrides.get("supplementalGroups")
    context = pods.confined(assigned=ASSIGNED_USER in overrides)
    return {**context, **({"supplementalGroups": groups} if groups else {})}


def _init_containers(overrides: Manifest) -> dict[str, Any]:
    """Return the init containers, with the security context and the scratch directory of the engine."""
    declared = overrides.get("initContainers", [])
    containers = [
        {
            "imagePullPolicy": "IfNotPresent",
            "terminationMessagePolicy": "File",
            "securityContext": pods.container_confined(),
            **container,
            "env": [*_SCRATCH, *container.get("env", [])],
            "volumeMounts": [
                {"name": "scratch", "mountPath": contract.SCRATCH_DIRECTORY},
                *container.get("volumeMounts", []),
            ],
        }
        for container in declared
    ]
    return {"initContainers": containers} if containers else {}


def deployment(
    key: Key, uid: str, *, revision: str, template: Manifest, replicas: int
) -> dict[str, Any]:
    """Return the Deployment of one revision, whose template never changes."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": common.metadata(
            key,
            uid,
            name=names.revision_name(key.name, revision),
            component="engine",
            revision=revision,
        ),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": NO_DEADLINE,
            "selector": {"matchLabels": common.selector(key.name, revision)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": template,
        },
    }


def _container(resolved: Resolved) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": names.ENGINE_CONTAINER,
        "image": resolved.revisioned.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "python",
            "-m",
            resolved.revisioned.module,
            "--config",
            f"{contract.CONFIG_DIRECTORY}/{contract.CONFIG_FILE}",
        ],
        "env": _environment(resolved),
        "ports": [
            {"name": "http", "containerPort": contract.API_PORT, "protocol": "TCP"},
            {"name": "management", "containerPort": contract.MANAGEMENT_PORT, "protocol": "TCP"},
        ],
        "startupProbe": _startup(resolved),
        "readinessProbe": {
            **_probe(contract.READY_PATH),
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            **_probe(contract.LIVE_PATH),
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 3,
        },
        "terminationMessagePath": contract.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "securityContext": pods.container_confined(),
        "volumeMounts": [
            {"name": "config", "mountPath": contract.CONFIG_DIRECTORY, "readOnly": True},
            {"name": "scratch", "mountPath": contract.SCRATCH_DIRECTORY},
            {"name": "cache", "mountPath": contract.CACHE_DIRECTORY},
            {"name": "shm", "mountPath": contract.SHARED_MEMORY_DIRECTORY},
            *(
                {
                    "name": f"claim-{index}",
                    "mountPath": f"{contract.CLAIMS_DIRECTORY}/{claim}",
                    "readOnly": True,
                }
                for index, claim in enumerate(resolved.revisioned.claims)
            ),
            *image_mounts(resolved.revisioned.images or ()),
            *credential_mounts(resolved.revisioned.credentials),
            *chat_template_mounts(resolved.revisioned.chat_template),
            *(
                {"name": name, "mountPath": path, "readOnly": True}
                for name, path, mounted in (
                    (
                        "certificate",
                        contract.CERTIFICATE_DIRECTORY,
                        resolved.revisioned.certificate,
                    ),
                    ("api-keys", contract.API_KEYS_DIRECTORY, resolved.revisioned.api_keys),
                    ("adapters", contract.ADAPTERS_DIRECTORY, resolved.adapters is not None),
                )
                if mounted
            ),
            *_offload_mount(resolved),
            *resolved.revisioned.template.get("volumeMounts", ()),
        ],
    }
    if wanted := resources.complete(
        resolved.revisioned.resources,
        resolved.default_requests,
        memory_limit=resolved.default_memory_limit,
    ):
        container["resources"] = wanted
    return container


def _startup(resolved: Resolved) -> dict[str, Any]:
    """Return the startup probe, which fails after the maximum time of a start. On CPU it runs each second."""
    budget = resolved.times.start
    period = min(math.ceil(budget / PROBES_OF_A_START), LONGEST_PERIOD) if resolved.dedicated else 1
    return {
        **_probe(contract.READY_PATH),
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": math.ceil(budget / period),
    }


def _environment(resolved: Resolved) -> list[dict[str, Any]]:
    environment: dict[str, dict[str, Any]] = {
        variable["name"]: variable for variable in (*_SCRATCH, _SHARED_MEMORY)
    }
    if resolved.revisioned.token_secret is not None:
        secret, key = resolved.revisioned.token_secret
        environment[contract.MODEL_TOKEN_ENV] = {
            "name": contract.MODEL_TOKEN_ENV,
            "valueFrom": {"secretKeyRef": {"name": secret, "key": key}},
        }
    if resolved.task is not None and not resolved.task.inspects:
        environment[contract.FETCHED_ENV] = {"name": contract.FETCHED_ENV, "value": "1"}
    for variable in resolved.revisioned.template.get("env", []):
        environment[variable["name"]] = variable
    secrets = [
        name for name, one in environment.items() if one.get("valueFrom", {}).get("secretKeyRef")
    ]
    if secrets:
        listed = {"name": contract.SECRET_VARIABLES_ENV, "value": ",".join(secrets)}
        environment[contract.SECRET_VARIABLES_ENV] = listed
    return list(environment.values())


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "management"}}


def _volumes(resolved: Resolved, revision: str) -> list[dict[str, Any]]:
    return [
        {
            "name": "config",
            "configMap": {
                "name": names.revision_name(resolved.key.name, revision),
                "items": [{"key": contract.CONFIG_FILE, "path": contract.CONFIG_FILE}],
            },
        },
        {"name": "scratch", "emptyDir": {}},
        {"name": "cache", **(resolved.revisioned.cache or {"emptyDir": {}})},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        *(
            {
                "name": f"claim-{index}",
                "persistentVolumeClaim": {"claimName": claim, "readOnly": True},
            }
            for index, claim in enumerate(resolved.revisioned.claims)
        ),
        *image_volumes(resolved.revisioned.images or ()),
        *credential_volumes(resolved.revisioned.credentials),
        *chat_template_volumes(resolved.revisioned.chat_template),
        *_api_keys(resolved.revisioned.api_keys, service=resolved.uid),
        *_certificate(resolved.revisioned.certificate),
        *_adapters(resolved),
        *_offload(resolved),
        *resolved.revisioned.template.get("volumes", ()),
    ]


def _offload(resolved: Resolved) -> list[dict[str, Any]]:
    size = resolved.revisioned.offload_disk
    return [] if size is None else [{"name": "offload", "emptyDir": {"sizeLimit": size}}]


def _offload_mount(resolved: Resolved) -> list[dict[str, Any]]:
    if resolved.revisioned.offload_disk is None:
        return []
    return [{"name": "offload", "mountPath": contract.OFFLOAD_DIRECTORY}]


def _adapters(resolved: Resolved) -> list[dict[str, Any]]:
    """Return the optional volume of adapters. An old revision can restart after the adapters were removed."""
    if resolved.adapters is None:
        return []
    source = {"name": names.adapters_name(resolved.key.name), "optional": True}
    return [{"name": "adapters", "configMap": source}]


def _api_keys(secret: str | None, *, service: str) -> list[dict[str, Any]]:
    """Return the volume of API keys. A user's Secret is optional: without it the engine refuses all requests.

    The router's token is required: without it an engine could serve no requests. The volume has only the token of this
    service, whose uid is `service`.
    """
    if secret is None:
        return []
    only: dict[str, Any] = {"optional": True}
    if secret == names.ENGINE_TOKENS:
        only = {"items": [{"key": service, "path": contract.ROUTER_TOKEN_KEY}]}
    return [{"name": "api-keys", "secret": {"secretName": secret, **only}}]


def _certificate(secret: str | None) -> list[dict[str, Any]]:
    """Return the volume of the certificate. It is required: an engine must not serve plain HTTP instead."""
    return [] if secret is None else [{"name": "certificate", "secret": {"secretName": secret}}]
