"""Metadata of every child: our labels, the owner, and a fingerprint of the applied manifest."""

import hashlib
import json
from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Key


def metadata(
    key: Key, uid: str, *, name: str, component: str, revision: str | None = None
) -> dict[str, Any]:
    """Metadata of a child of the service: an allow-list, nothing is inherited from the user's object."""
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
    """The manifest with the hash of itself as annotation, so that fields we stop setting are noticed, too."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    annotations = {
        **manifest["metadata"].get("annotations", {}),
        names.APPLIED_ANNOTATION: fingerprint,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}


def selector(service: str, revision: str | None = None) -> dict[str, str]:
    """Exactly the labels that tell a service's engine pods, or one revision's, from all others."""
    labels = {names.SERVICE_LABEL: service}
    if revision is not None:
        labels[names.REVISION_LABEL] = revision
    return labels
