"""Job that downloads or inspects a model before its engines start, without an accelerator."""

from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core import weights
from slipstream_operator.core.fetching import Task
from slipstream_operator.core.observed import Key
from slipstream_operator.core.render import jobs, pods, sources
from slipstream_runtime import contract

_RESOURCES: Final = {
    "requests": {"cpu": "250m", "memory": "512Mi"},
    "limits": {"memory": "2Gi"},
}
"""Memory for eight connections with two buffers of 32 MiB each, and for Python."""
_RETRIES: Final = 1_000_000
"""Restarts of a download, with the kubelet's backoff of at most five minutes. Partial downloads stay, so the Job
resumes when a hub recovers or a token is granted."""
_INSPECTION_RETRIES: Final = 2
_INSPECTION_SECONDS: Final = 180
"""Seconds after which engines start with unknown facts."""


def job(key: Key, uid: str, *, task: Task) -> dict[str, Any]:
    """Return the Job. Its name has the hash of its specification, which is immutable."""
    spec: dict[str, Any] = {
        "backoffLimit": _INSPECTION_RETRIES if task.inspects else _RETRIES,
        "template": _template(key, task),
    }
    if task.inspects:
        spec["activeDeadlineSeconds"] = _INSPECTION_SECONDS
    return jobs.job(
        key,
        uid,
        name=names.fetch_name(key.name, jobs.digest(spec)),
        component=names.FETCH_COMPONENT,
        identity=task.identity,
        spec=spec,
    )


def _template(key: Key, task: Task) -> dict[str, Any]:
    return jobs.pod_template(
        task.template,
        component=names.FETCH_COMPONENT,
        labels={names.FETCH_LABEL: key.name, names.TASK_LABEL: task.identity},
        restart="OnFailure",
        passed=("serviceAccountName", "imagePullSecrets"),
        spec={
            "containers": [_container(task)],
            "volumes": _volumes(task),
            **task.placement,
        },
    )


def _container(task: Task) -> dict[str, Any]:
    command = ["python", "-m", contract.FETCH_MODULE]
    if task.model is not None:
        command += ["--model", task.model]
    if task.draft is not None:
        command += ["--draft", task.draft]
    if task.inspects:
        command.append("--inspect")
    return {
        "name": names.FETCH_COMPONENT,
        "image": task.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": _environment(task),
        "ports": [
            {"name": "management", "containerPort": contract.MANAGEMENT_PORT, "protocol": "TCP"}
        ],
        "resources": _RESOURCES,
        "terminationMessagePath": contract.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "securityContext": pods.container_confined(),
        "volumeMounts": [
            {"name": "scratch", "mountPath": contract.SCRATCH_DIRECTORY},
            {"name": "cache", "mountPath": contract.CACHE_DIRECTORY},
            *(
                {
                    "name": f"claim-{index}",
                    "mountPath": f"{contract.CLAIMS_DIRECTORY}/{claim}",
                    "readOnly": True,
                }
                for index, claim in enumerate(weights.claims_of(task.uris))
            ),
            *sources.credential_mounts(task.credentials),
            *task.template.get("volumeMounts", ()),
        ],
    }


def _environment(task: Task) -> list[dict[str, Any]]:
    environment: dict[str, dict[str, Any]] = {
        "HOME": {"name": "HOME", "value": contract.SCRATCH_DIRECTORY},
        "TMPDIR": {"name": "TMPDIR", "value": contract.SCRATCH_DIRECTORY},
        "HF_HOME": {"name": "HF_HOME", "value": contract.SCRATCH_DIRECTORY},
    }
    if task.token_secret is not None:
        secret, key = task.token_secret
        environment[contract.MODEL_TOKEN_ENV] = {
            "name": contract.MODEL_TOKEN_ENV,
            "valueFrom": {"secretKeyRef": {"name": secret, "key": key}},
        }
    for variable in task.template.get("env", []):
        environment[variable["name"]] = variable
    return list(environment.values())


def _volumes(task: Task) -> list[dict[str, Any]]:
    cache: dict[str, Any] = {"emptyDir": {}}
    if task.claim is not None:
        cache = {"persistentVolumeClaim": {"claimName": task.claim}}
    return [
        {"name": "scratch", "emptyDir": {}},
        {"name": "cache", **cache},
        *(
            {
                "name": f"claim-{index}",
                "persistentVolumeClaim": {"claimName": claim, "readOnly": True},
            }
            for index, claim in enumerate(weights.claims_of(task.uris))
        ),
        *sources.credential_volumes(task.credentials),
        *task.template.get("volumes", ()),
    ]
