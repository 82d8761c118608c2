"""spec.times: the longest that a start, a drain and a held request may take."""

from typing import Any

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Duration, Model, rule, rules
from slipstream_runtime import contract


def _bounded(field: str, least: str, most: str) -> dict[str, str]:
    """Return the rule that a duration is inside its bounds; what is no duration is refused by its own rule."""
    value = f"self.{field}"
    return rule(
        f"!has({value}) || !{value}.matches('^([0-9]{{1,5}}(h|m|s|ms)){{1,4}}$') || "
        f"(duration({value}) >= duration('{least}') && duration({value}) <= duration('{most}'))",
        message_expression=(
            f"'\"' + {value} + '\" is out of bounds: use a duration from {least} to {most}'"
        ),
        field_path=f".{field}",
    )


_RULES: dict[str, Any] = rules(
    _bounded("start", "10s", "24h"),
    _bounded("drain", "1s", f"{contract.LONGEST_DRAIN_SECONDS // 3600}h"),
    _bounded("hold", "1s", "24h"),
)


class Times(Model):
    """Longest times of an engine's life."""

    model_config = pydantic.ConfigDict(json_schema_extra=_RULES)

    start: Duration | None = Field(
        default=None,
        description="Longest start of an engine, from download to first answer; then the kubelet restarts it. Default: "
        "1h, on accelerators longer for a checkpoint of more than 135 GB.",
    )
    drain: Duration | None = Field(
        default=None,
        description="Longest time that running requests get to finish when a pod stops; the pod ends earlier if they "
        "do. A pod may take 14s more, so use less on spot nodes, which give 15s to 2m. Default: 1m; with vLLM on "
        "accelerators 5m, or what limits.timeout or limits.maxOutputTokens make enough.",
    )
    hold: Duration | None = Field(
        default=None,
        description="Longest time that the router holds a request while no replica is ready. Default: limits.timeout, "
        "else 5m, on accelerators 10m, or more for a large checkpoint.",
    )
