"""Common parts of the Jobs that prepare a model before its engines start."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.pod_template import ASSIGNED_USER
from slipstream_operator.core.render import common, pods


def job(
    key: Key, uid: str, *, name: str, component: str, identity: str, spec: Manifest
) -> dict[str, Any]:
    """Return the Job."""
    metadata = common.metadata(key, uid, name=name, component=component)
    metadata["labels"][names.TASK_LABEL] = identity
    return {"apiVersion": "batch/v1", "kind": names.JOB, "metadata": metadata, "spec": spec}


def digest(spec: Manifest) -> str:
    """Return eight hexadecimal digits of a hash over a specification."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def pod_template(
    overrides: Manifest,
    *,
    component: str,
    labels: Mapping[str, str],
    restart: str,
    passed: Sequence[str],
    spec: Manifest,
) -> dict[str, Any]:
    """Return the pod template of a Job, without the labels of engine pods.

    `passed` are the fields of the overrides that apply, besides labels and annotations.
    """
    metadata: dict[str, Any] = {
        "labels": {
            **overrides.get("labels", {}),
            names.MANAGED_BY_LABEL: names.OPERATOR,
            names.NAME_LABEL: "slipstream",
            names.COMPONENT_LABEL: component,
            **labels,
        }
    }
    if "annotations" in overrides:
        metadata["annotations"] = overrides["annotations"]
    return {
        "metadata": metadata,
        "spec": {
            "restartPolicy": restart,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.confined(assigned=ASSIGNED_USER in overrides),
            **spec,
            **{field: overrides[field] for field in passed if field in overrides},
        },
    }
