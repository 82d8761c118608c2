"""Activation Lease, which the router renews while requests wait for a first replica."""

from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Key
from slipstream_operator.core.render import common


def lease(key: Key, uid: str) -> dict[str, Any]:
    """Return the Lease without `spec.renewTime`, which only the router writes."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": common.metadata(
            key, uid, name=names.activation_name(key.name), component="activation"
        ),
    }
