"""spec.times: limits of the time for a start, a drain, a held request, a silent stream and a request's body."""

from typing import Any

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, Duration, bounded, rules
from slipstream_runtime import contract

_RULES: dict[str, Any] = rules(
    bounded("start", "10s", "24h"),
    bounded("drain", "1s", f"{contract.LONGEST_DRAIN_SECONDS // 3600}h"),
    bounded("hold", "1s", "24h"),
    bounded("idle", "1s", "24h"),
    bounded("body", "1s", "1h"),
)


class TimesSpec(ApiModel):
    """Limits of the time for a start, a drain, a held request, a silent stream and a request's body."""

    model_config = pydantic.ConfigDict(json_schema_extra=_RULES)

    start: Duration | None = Field(
        default=None,
        description="Maximum time for the start of an engine, from the download to the first response. After it "
        "the kubelet restarts the container. Default: 1h; on accelerators longer for a checkpoint of "
        "more than 135 GB.",
    )
    drain: Duration | None = Field(
        default=None,
        description="Maximum time for running requests to finish when a pod stops. The pod stops as soon as they "
        "have finished. Termination takes up to 14s more, so use a smaller value on spot nodes, which "
        "allow 15s to 2m. Default: 1m. With vLLM on accelerators: 5m, or the time that limits.timeout "
        "or limits.maxOutputTokens require.",
    )
    hold: Duration | None = Field(
        default=None,
        description="Maximum time for which the router holds a request while no replica has a slot for it. Default: "
        "limits.timeout, otherwise twice the usual start in status.scaling.coldStart, at most 1h, and at least 5m; "
        "on accelerators at least 10m, or more for a large checkpoint.",
    )
    idle: Duration | None = Field(
        default=None,
        description="Maximum time between two events of a stream, and for a client to read one, with routing.mode: "
        "Router. After it the stream ends with an error event. The time to the first event has no such "
        "limit. Default: 2m.",
    )
    body: Duration | None = Field(
        default=None,
        description="Maximum time for a client to send the body of a request. After it the client gets 408. "
        "Requests to the router's own address have the longest such time of the namespace's services. "
        "Default: 1m.",
    )
