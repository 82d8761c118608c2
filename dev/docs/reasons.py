"""Reference of conditions, reasons and Events: the names from the code, their meaning from reasons.yaml."""

from pathlib import Path
from typing import Any

import yaml

from slipstream_operator.names import Condition, Reason

MEANINGS = Path(__file__).with_name("reasons.yaml")
CONDITIONS = {
    Condition.READY: "The service is as its object asks: Accepted, ModelReady and Available are True, or "
    "spec.replicas is 0.",
    Condition.ACCEPTED: "The object can work as it is written.",
    Condition.MODEL_READY: "An engine has the model loaded and has answered a completion.",
    Condition.AVAILABLE: "Requests are answered, or held until an engine is up.",
    Condition.SLO_MET: "Every objective is met. Unknown without traffic. It never makes Ready False.",
    Condition.SCALING_ACTIVE: "The replica count follows the load.",
    Condition.RECONCILING: "A change is under way. Present only while True.",
    Condition.STALLED: "The operator can't go on without a change. Present only while True.",
    Condition.FOREIGN_PODS: "Pods have the labels of the service's pods, or of its router's, and are none of them. "
    "Present only while True.",
    Condition.KEYS_REFUSED: "The router does not accept keys of the Secret of spec.routing.apiKeys. Present only while "
    "True. It never makes Ready False.",
    Condition.HOOKS_READY: "The services of a route's hooks are there. Absent without hooks. It never makes Ready "
    "False.",
}


def page() -> str:
    """Markdown page; KeyError names a condition or reason of the code that has no meaning."""
    meanings: dict[str, dict[str, Any]] = yaml.safe_load(MEANINGS.read_text())
    lines = [
        "# Conditions, reasons and Events",
        "",
        (
            "This page lists every condition, and every reason with its remedy, for app and platform teams that "
            "read a status or an Event. It is generated from the code."
        ),
        "",
        "## Conditions",
        "",
        "| Type | Meaning |",
        "|---|---|",
        *(f"| `{kind}` | {CONDITIONS[kind]} |" for kind in values(Condition)),
        "",
        "## Reasons",
        "",
        "| Reason | Where | Meaning | Remedy |",
        "|---|---|---|---|",
        *(_row(reason, meanings[reason]) for reason in values(Reason)),
    ]
    return "\n".join(lines) + "\n"


def values(constants: type) -> list[str]:
    """Values of a class of string constants, in their order."""
    return [value for name, value in vars(constants).items() if name.isupper()]


def _row(reason: str, entry: dict[str, Any]) -> str:
    where = [f"`{kind}`" for kind in entry["conditions"]] + ["Event"] * entry.get("event", False)
    return f"| `{reason}` | {', '.join(where)} | {entry['meaning']} | {entry['remedy']} |"
