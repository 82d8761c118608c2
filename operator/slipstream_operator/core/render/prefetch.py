"""Job that makes nodes pull images. Each pod checks the model and ends, without an accelerator."""

from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core.observed import Key
from slipstream_operator.core.prefetching import Prefetch
from slipstream_operator.core.render import jobs, placement, pods, sources
from slipstream_runtime import contract

_RESOURCES: Final = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"memory": "512Mi"},
}
"""Resources for Python to read names, sizes and config.json. They are small so that the pod fits on a full node."""
_RETRIES: Final = 2
"""Retries for each index. A failure on one node ends no pod on another node."""
_IGNORED: Final = {
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}
"""Rule that replaces pods after a drain, a preemption or an eviction without a retry."""
_DEADLINE_SECONDS: Final = 6 * 3600
"""Maximum seconds of the Job, enough for 400 GiB at 20 MiB/s."""
_NO_DEVICES: Final = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
"""Variable that keeps NVIDIA's runtime from giving all GPUs to a container that requests none."""

_PASSED: Final = (
    "nodeSelector",
    "tolerations",
    "runtimeClassName",
    "serviceAccountName",
    "imagePullSecrets",
)
"""Fields of the template that determine nodes and pulls."""


def job(key: Key, uid: str, *, prefetch: Prefetch) -> dict[str, Any]:
    """Return the Job. Its name has the hash of its specification, which is immutable."""
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": prefetch.pods,
        "parallelism": prefetch.pods,
        "backoffLimitPerIndex": _RETRIES,
        "podFailurePolicy": {"rules": [_IGNORED]},
        "activeDeadlineSeconds": _DEADLINE_SECONDS,
        "template": _template(key, prefetch),
    }
    return jobs.job(
        key,
        uid,
        name=names.prefetch_name(key.name, jobs.digest(spec)),
        component=names.PREFETCH_COMPONENT,
        identity=prefetch.identity,
        spec=spec,
    )


def _template(key: Key, prefetch: Prefetch) -> dict[str, Any]:
    own = {names.PREFETCH_LABEL: key.name, names.TASK_LABEL: prefetch.identity}
    return jobs.pod_template(
        prefetch.template,
        component=names.PREFETCH_COMPONENT,
        labels=own,
        restart="Never",
        passed=_PASSED,
        spec={
            **_spread(prefetch, own),
            "containers": [_container(prefetch)],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                *sources.image_volumes(prefetch.uris),
            ],
        },
    )


def _spread(prefetch: Prefetch, labels: dict[str, str]) -> dict[str, Any]:
    """Return a strong preference for nodes without another pod of the Job.

    NB: it is not a requirement, because an autoscaler would provision nodes for the remaining pods.
    """
    selector = {"matchLabels": labels}
    affinity: dict[str, Any] = {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": placement.HOSTNAME,
                        "labelSelector": selector,
                    },
                }
            ]
        }
    }
    if "nodeAffinity" in prefetch.template:
        affinity["nodeAffinity"] = prefetch.template["nodeAffinity"]
    constraint = {
        "maxSkew": 1,
        "topologyKey": placement.HOSTNAME,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": selector,
    }
    return {"affinity": affinity, "topologySpreadConstraints": [constraint]}


def _container(prefetch: Prefetch) -> dict[str, Any]:
    command = ["python", "-m", contract.FETCH_MODULE, "--cache", contract.SCRATCH_DIRECTORY]
    if prefetch.model is not None:
        command += ["--model", prefetch.model]
    if prefetch.draft is not None:
        command += ["--draft", prefetch.draft]
    return {
        "name": names.PREFETCH_COMPONENT,
        "image": prefetch.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [
            {"name": "HOME", "value": contract.SCRATCH_DIRECTORY},
            {"name": "TMPDIR", "value": contract.SCRATCH_DIRECTORY},
            _NO_DEVICES,
        ],
        "resources": _RESOURCES,
        "terminationMessagePath": contract.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "securityContext": pods.container_confined(),
        "volumeMounts": [
            {"name": "scratch", "mountPath": contract.SCRATCH_DIRECTORY},
            *sources.image_mounts(prefetch.uris),
        ],
    }
