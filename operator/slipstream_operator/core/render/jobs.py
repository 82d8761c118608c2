"""Common parts of the Jobs that prepare a model before its engines start."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.render import common


def job(
    key: Key, uid: str, *, name: str, component: str, identity: str, spec: Manifest
) -> dict[str, Any]:
    """Return the Job under the name with the hash of its specification, which can't be changed."""
    metadata = common.metadata(key, uid, name=name, component=component)
    metadata["labels"][names.TASK_LABEL] = identity
    return {"apiVersion": "batch/v1", "kind": names.JOB, "metadata": metadata, "spec": spec}


def digest(spec: Manifest) -> str:
    """Return the hash of a specification, eight characters."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def pod_metadata(
    overrides: Manifest, *, component: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the metadata of a Job's pod: without the service label, since it is no engine."""
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
    return metadata
