"""Metadata of every child: labels, owner, and a fingerprint of the applied manifest."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Key


def metadata(
    key: Key, uid: str, *, name: str, component: str, revision: str | None = None
) -> dict[str, Any]:
    """Return the metadata of a child of the service. Nothing is inherited from the user's object."""
    return {
        "name": name,
        "namespace": key.namespace,
        "labels": names.child_labels(key.name, revision=revision, component=component),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.INFERENCE_SERVICE,
                "name": key.name,
                "uid": uid,
                "controller": True,
            }
        ],
    }


def fingerprinted(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with its own hash as an annotation, so that removed fields are noticed as well."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    annotations = {
        **manifest["metadata"].get("annotations", {}),
        names.APPLIED_ANNOTATION: fingerprint,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}


def of_pods(selected: Mapping[str, str]) -> dict[str, str]:
    """Return the selector with the operator's label, by which its watch of pods sees every pod that gets requests."""
    return {**selected, names.MANAGED_BY_LABEL: names.OPERATOR}


def selector(service: str, revision: str | None = None) -> dict[str, str]:
    """Return the labels that select the engine pods of a service or of one revision."""
    labels = {names.SERVICE_LABEL: service}
    if revision is not None:
        labels[names.REVISION_LABEL] = revision
    return labels
