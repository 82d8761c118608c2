"""Children of a ModelBuild: the recipe, the Job with a container for each stage, and their NetworkPolicy."""

import json
from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core.builds.resolve import ResolvedBuild, Stage
from slipstream_operator.core.observed import Key
from slipstream_operator.core.render import common, devices, jobs, pods, sources
from slipstream_runtime import contract

UNSUITABLE: Final = 2
"""Exit code of a stage that no retry can help."""
_RETRIES: Final = 6
"""Pods that may fail, with delays of 10 s to 320 s by Kubernetes, until the build fails: about ten minutes in all."""
_RULES: Final = [
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [UNSUITABLE]}},
]
"""A drained or lost node costs no retry, and a build that can't work ends at once."""
_REGISTRY_KEY: Final = ".dockerconfigjson"


def render(build: ResolvedBuild) -> list[dict[str, Any]]:
    """Return the children in the order of their creation."""
    children = [_policy(build), _recipe(build)]
    if build.device_class is not None:
        children.append(_claim_template(build))
    return [common.fingerprinted(child) for child in (*children, _job(build))]


def _metadata(build: ResolvedBuild) -> dict[str, Any]:
    key: Key = build.key
    return {
        "name": names.build_name(key.name),
        "namespace": key.namespace,
        "labels": names.build_labels(key.name),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.MODEL_BUILD,
                "name": key.name,
                "uid": build.uid,
                "controller": True,
            }
        ],
    }


def _recipe(build: ResolvedBuild) -> dict[str, Any]:
    text = json.dumps(build.recipe, indent=1, sort_keys=True)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(build),
        "data": {contract.BUILD_FILE: text},
    }


def _policy(build: ResolvedBuild) -> dict[str, Any]:
    """Return the NetworkPolicy: pods reach what engines reach, and only the management port is reached."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(build),
        "spec": {
            "podSelector": {"matchLabels": {names.BUILD_LABEL: build.key.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": contract.MANAGEMENT_PORT}]}],
            "egress": list(build.egress),
        },
    }


def _claim_template(build: ResolvedBuild) -> dict[str, Any]:
    request = {
        "deviceClassName": build.device_class,
        "allocationMode": "ExactCount",
        "count": build.devices,
    }
    return {
        "apiVersion": devices.API_VERSION,
        "kind": names.RESOURCE_CLAIM_TEMPLATE,
        "metadata": _metadata(build),
        "spec": {"spec": {"devices": {"requests": [{"name": names.DEVICES, "exactly": request}]}}},
    }


def _job(build: ResolvedBuild) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": names.JOB,
        "metadata": _metadata(build),
        "spec": {
            "backoffLimit": _RETRIES,
            "podFailurePolicy": {"rules": _RULES},
            "podReplacementPolicy": "Failed",  # NB: two pods must never write one working folder
            "template": jobs.pod_template(
                build.template,
                component=names.BUILD_COMPONENT,
                labels={names.BUILD_LABEL: build.key.name},
                restart="Never",
                passed=("serviceAccountName",),
                spec=_pod(build),
            ),
        },
    }


def _pod(build: ResolvedBuild) -> dict[str, Any]:
    *first, last = (_container(build, stage) for stage in build.stages)
    pod: dict[str, Any] = {
        "initContainers": first,
        "containers": [last],
        "volumes": _volumes(build),
        **build.placement,
    }
    if build.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in build.pull_secrets]
    if build.device_class is not None:
        template = names.build_name(build.key.name)
        pod["resourceClaims"] = [{"name": names.DEVICES, "resourceClaimTemplateName": template}]
    return pod


def _container(build: ResolvedBuild, stage: Stage) -> dict[str, Any]:
    resources = dict(build.resources)
    if build.device_class is not None:
        resources["claims"] = [{"name": names.DEVICES}]
    return {
        "name": stage.name,
        "image": stage.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "python",
            "-m",
            contract.BUILD_MODULE,
            "--config",
            f"{contract.CONFIG_DIRECTORY}/{contract.BUILD_FILE}",
            "--stage",
            stage.name,
        ],
        "env": _environment(build),
        "ports": [
            {"name": "management", "containerPort": contract.MANAGEMENT_PORT, "protocol": "TCP"}
        ],
        "resources": resources,
        "terminationMessagePath": contract.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "securityContext": pods.container_confined(),
        "volumeMounts": _mounts(build),
    }


def _environment(build: ResolvedBuild) -> list[dict[str, Any]]:
    scratch = contract.SCRATCH_DIRECTORY
    found: list[dict[str, Any]] = [
        {"name": name, "value": scratch} for name in ("HOME", "TMPDIR", "HF_HOME")
    ]
    if build.token_secret is not None:
        secret, key = build.token_secret
        reference = {"secretKeyRef": {"name": secret, "key": key}}
        found.append({"name": contract.MODEL_TOKEN_ENV, "valueFrom": reference})
    if build.registry is not None:
        found.append({"name": "DOCKER_CONFIG", "value": contract.REGISTRY_DIRECTORY})
    return [*found, *build.template.get("env", ())]


def _volumes(build: ResolvedBuild) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        {"name": "config", "configMap": {"name": names.build_name(build.key.name)}},
        *(
            {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
            for claim, volume in _claims(build).items()
        ),
        *(
            {
                "name": f"dataset-{index}",
                "configMap": {
                    "name": mounted.config_map,
                    "items": [{"key": mounted.file, "path": mounted.file}],
                },
            }
            for index, mounted in enumerate(build.files)
            if mounted.config_map is not None
        ),
        *sources.image_volumes(build.images),
        *sources.credential_volumes(build.credentials),
    ]
    if build.ephemeral:
        volumes.append({"name": "work", "emptyDir": {}})
    if build.registry is not None:
        items = [{"key": _REGISTRY_KEY, "path": "config.json"}]
        volumes.append(
            {"name": "registry", "secret": {"secretName": build.registry, "items": items}}
        )
    return [*volumes, *build.template.get("volumes", ())]


def _mounts(build: ResolvedBuild) -> list[dict[str, Any]]:
    claims = _claims(build)
    mounts: list[dict[str, Any]] = [
        {"name": "scratch", "mountPath": contract.SCRATCH_DIRECTORY},
        {"name": "shm", "mountPath": contract.SHARED_MEMORY_DIRECTORY},
        {"name": "config", "mountPath": contract.CONFIG_DIRECTORY, "readOnly": True},
        *(
            {
                "name": claims[claim.name],
                "mountPath": claim.path,
                **({"readOnly": True} if claim.read_only else {}),
            }
            for claim in build.claims
        ),
        *(
            {
                "name": f"dataset-{index}" if mounted.claim is None else claims[mounted.claim],
                "mountPath": f"{contract.DATASETS_DIRECTORY}/{index}",
                "readOnly": True,
            }
            for index, mounted in enumerate(build.files)
        ),
        *sources.image_mounts(build.images),
        *sources.credential_mounts(build.credentials),
    ]
    if build.ephemeral:
        mounts.append({"name": "work", "mountPath": contract.BUILD_DIRECTORY})
    if build.registry is not None:
        mounts.append(
            {"name": "registry", "mountPath": contract.REGISTRY_DIRECTORY, "readOnly": True}
        )
    return [*mounts, *build.template.get("volumeMounts", ())]


def _claims(build: ResolvedBuild) -> Mapping[str, str]:
    """Return the volume of each claim, which several mounts may share."""
    named = [claim.name for claim in build.claims]
    named += [mounted.claim for mounted in build.files if mounted.claim is not None]
    return {name: f"claim-{index}" for index, name in enumerate(dict.fromkeys(named))}
