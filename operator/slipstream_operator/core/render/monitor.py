"""PodMonitor for the Prometheus operator, if the cluster has the kind."""

from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Key
from slipstream_operator.core.render import common
from slipstream_runtime import contract


def pod_monitor(key: Key, uid: str) -> dict[str, Any]:
    """Return the PodMonitor of the engines, with the labels that our queries group by."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": common.metadata(key, uid, name=key.name, component="service"),
        "spec": {
            "selector": {"matchLabels": common.selector(key.name)},
            "podMetricsEndpoints": [
                {
                    "port": "management",
                    "path": contract.METRICS_PATH,
                    "relabelings": [
                        _label(names.SERVICE_LABEL, contract.SERVICE_LABEL),
                        _label(names.REVISION_LABEL, contract.REVISION_LABEL),
                    ],
                }
            ],
        },
    }


def _label(source: str, target: str) -> dict[str, Any]:
    name = source.replace(".", "_").replace("/", "_")
    return {"sourceLabels": [f"__meta_kubernetes_pod_label_{name}"], "targetLabel": target}
