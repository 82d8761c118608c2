"""The Lease by which the router asks for a first replica."""

from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Key
from slipstream_operator.core.render import common


def lease(key: Key, uid: str) -> dict[str, Any]:
    """The router renews `spec.renewTime`, which is nothing of ours, while requests wait."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": common.metadata(key, uid, name=names.demand_name(key.name), component="demand"),
    }
