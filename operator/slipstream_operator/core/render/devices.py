"""Claims of devices by dynamic resource allocation, from a template of the revision."""

import json
from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core import revisions
from slipstream_operator.core.observed import Key
from slipstream_operator.core.render import common

API_VERSION: Final = "resource.k8s.io/v1"


def claim_templates(
    key: Key, uid: str, *, revision: str, data: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the ResourceClaimTemplate of a revision if its pods claim devices."""
    if revisions.DEVICES_KEY not in data:
        return []
    devices = json.loads(data[revisions.DEVICES_KEY])
    request = {
        "deviceClassName": devices["deviceClass"],
        "allocationMode": "ExactCount",
        "count": devices["count"],
    }
    return [
        {
            "apiVersion": API_VERSION,
            "kind": names.RESOURCE_CLAIM_TEMPLATE,
            "metadata": common.metadata(
                key,
                uid,
                name=names.revision_name(key.name, revision),
                component="engine",
                revision=revision,
            ),
            "spec": {
                "spec": {"devices": {"requests": [{"name": names.DEVICES, "exactly": request}]}}
            },
        }
    ]


def pod_claims(service: str, revision: str) -> list[dict[str, Any]]:
    """Return the claims of a pod, which are created from the revision's template."""
    template = names.revision_name(service, revision)
    return [{"name": names.DEVICES, "resourceClaimTemplateName": template}]
