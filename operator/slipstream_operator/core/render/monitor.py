"""PodMonitor for the Prometheus operator, if the cluster has the kind."""

from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.render import common
from slipstream_runtime import contract

SAMPLE_LIMIT: Final = 20_000
"""Samples of one page, more than ten times those of an engine. Prometheus drops the page of a pod that has more."""
LABEL_LIMIT: Final = 16_384
"""Characters of a label's value: vLLM joins the names of up to 32 adapters in one."""


def pod_monitor(key: Key, uid: str, *, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the PodMonitor of the engines, with the target labels that our queries group by.

    `labels` are its own, by which a Prometheus selects it.
    """
    metadata = common.metadata(key, uid, name=key.name, component="service")
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        **labelled({"metadata": metadata}, labels),
        "spec": {
            "selector": {"matchLabels": common.selector(key.name)},
            "sampleLimit": SAMPLE_LIMIT,
            "labelValueLengthLimit": LABEL_LIMIT,
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


def labelled(named: Manifest, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata with these labels, of which none replaces one of the operator."""
    metadata = named["metadata"]
    return {"metadata": {**metadata, "labels": {**labels, **metadata["labels"]}}}


def _label(source: str, target: str) -> dict[str, Any]:
    name = source.replace(".", "_").replace("/", "_")
    return {"sourceLabels": [f"__meta_kubernetes_pod_label_{name}"], "targetLabel": target}
