"""Placement of engine pods: packed on GPU nodes, spread over other nodes."""

from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.core.observed import Manifest

HOSTNAME: Final = "kubernetes.io/hostname"
ZONE: Final = "topology.kubernetes.io/zone"


def of(overrides: Manifest, *, labels: Mapping[str, str], dedicated: bool) -> dict[str, Any]:
    """Return affinity and topologySpreadConstraints of the pods with the labels.

    On GPUs, replicas spread over zones and prefer nodes with other engines. Other nodes stay free for replicas with
    many GPUs, or can be removed by an autoscaler. A template with pod affinity or spread constraints replaces this.
    """
    affinity = dict(overrides.get("affinity", {}))
    spread = overrides.get("topologySpreadConstraints")
    if (
        dedicated
        and spread is None
        and affinity.keys().isdisjoint(("podAffinity", "podAntiAffinity"))
    ):
        affinity["podAffinity"] = _near_engines()
    if spread is None:
        topology = ZONE if dedicated else HOSTNAME
        spread = [
            {"maxSkew": 1, "topologyKey": topology, "whenUnsatisfiable": "ScheduleAnyway"},
        ]
    placed: dict[str, Any] = {}
    if affinity:
        placed["affinity"] = affinity
    if spread:
        placed["topologySpreadConstraints"] = [
            {"labelSelector": {"matchLabels": _selected(labels, constraint)}, **constraint}
            for constraint in spread
        ]
    return placed


def _selected(labels: Mapping[str, str], constraint: Manifest) -> dict[str, str]:
    """Return the labels of the counted pods, without those that the API server adds for matchLabelKeys."""
    added = constraint.get("matchLabelKeys", ())
    return {key: value for key, value in labels.items() if key not in added}


def _near_engines() -> dict[str, Any]:
    """Return a preference for nodes with engines of any service and namespace."""
    engines = {names.MANAGED_BY_LABEL: names.OPERATOR, names.COMPONENT_LABEL: "engine"}
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "podAffinityTerm": {
                    "topologyKey": HOSTNAME,
                    "namespaceSelector": {},
                    "labelSelector": {"matchLabels": engines},
                },
            }
        ]
    }
