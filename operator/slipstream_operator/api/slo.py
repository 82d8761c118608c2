"""Service level objectives: percentiles of latencies, and throughput."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Duration, Model, rule, rules

_PERCENTILES = ("p50", "p90", "p95", "p99")


class Percentiles(Model):
    """Upper bounds: `p95: 500ms` means that 95 % of the requests in the window are faster."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                " || ".join(f"has(self.{name})" for name in _PERCENTILES),
                message="needs at least one of p50, p90, p95 and p99, such as {p95: 500ms}",
            ),
            *(
                rule(
                    f"!has(self.{low}) || !has(self.{high}) || duration(self.{low}) <= duration(self.{high})",
                    message_expression=(
                        f"'{low} (' + self.{low} + ') must not be more than {high} (' + self.{high} + "
                        f"'): raise {high} or lower {low}'"
                    ),
                    field_path=f".{low}",
                )
                for index, low in enumerate(_PERCENTILES)
                for high in _PERCENTILES[index + 1 :]
            ),
        )
    )
    p50: Duration | None = Field(default=None, description="Half of the requests are faster.")
    p90: Duration | None = Field(default=None, description="90 % of the requests are faster.")
    p95: Duration | None = Field(default=None, description="95 % of the requests are faster.")
    p99: Duration | None = Field(default=None, description="99 % of the requests are faster.")


class ThroughputSpec(Model):
    """Capacity that the service keeps, whatever the traffic is now."""

    output_tokens_per_second: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        description="Output tokens per second that all replicas together can make inside the latency objectives."
    )


class LatencyObjectives(Model):
    """Latency objectives by metric; also a tier of a ServingProfile."""

    ttft: Percentiles | None = Field(
        default=None, description="Time to first token: how long a client waits for the first word."
    )
    tpot: Percentiles | None = Field(
        default=None,
        description="Time per output token after the first: how fast the answer flows.",
    )
    e2e: Percentiles | None = Field(default=None, description="From request to the last token.")


class SloSpec(LatencyObjectives):
    """Service level objectives: what scaling has to keep, and status reports on."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.tier) || has(self.ttft) || has(self.tpot) || has(self.e2e) || has(self.throughput)",
                message="needs at least one of tier, ttft, tpot, e2e and throughput, such as {ttft: {p95: 500ms}}",
            )
        )
    )
    tier: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="Objectives of this name in the ServingProfile; those given here win over it, one by one.",
    )
    throughput: ThroughputSpec | None = Field(
        default=None, description="Capacity in output tokens that the service as a whole keeps."
    )
