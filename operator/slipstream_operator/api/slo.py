"""Service level objectives: percentiles of latencies, and throughput."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, Duration, rule, rules

_PERCENTILES = ("p50", "p90", "p95", "p99")


class Percentiles(ApiModel):
    """Upper bounds by percentile: `p95: 500ms` means that 95% of the requests are faster."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                " || ".join(f"has(self.{name})" for name in _PERCENTILES),
                message="needs at least one of p50, p90, p95 and p99, such as {p95: 500ms}.",
            ),
            *(
                rule(
                    f"!has(self.{low}) || !has(self.{high}) || duration(self.{low}) <= duration(self.{high})",
                    message_expression=(
                        f"'{low} (' + self.{low} + ') is more than {high} (' + self.{high} + '). Raise {high} or "
                        f"lower {low}.'"
                    ),
                    field_path=f".{low}",
                )
                for index, low in enumerate(_PERCENTILES)
                for high in _PERCENTILES[index + 1 :]
            ),
        )
    )
    p50: Duration | None = Field(default=None, description="Bound for 50% of the requests.")
    p90: Duration | None = Field(default=None, description="Bound for 90% of the requests.")
    p95: Duration | None = Field(default=None, description="Bound for 95% of the requests.")
    p99: Duration | None = Field(default=None, description="Bound for 99% of the requests.")


class ThroughputSpec(ApiModel):
    """Minimum capacity of the service, independent of the current traffic."""

    output_tokens_per_second: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        description="Output tokens per second that all replicas together can generate within the latency "
        "objectives."
    )


class LatencyObjectives(ApiModel):
    """Latency objectives by metric, of a service or of a tier in a ServingProfile."""

    ttft: Percentiles | None = Field(default=None, description="Time to first token.")
    tpot: Percentiles | None = Field(
        default=None,
        description="Time per output token after the first.",
    )
    e2e: Percentiles | None = Field(
        default=None, description="End-to-end latency, from the request to the last token."
    )


class SloSpec(LatencyObjectives):
    """Service level objectives, which scaling follows and status reports."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.tier) || has(self.ttft) || has(self.tpot) || has(self.e2e) || has(self.throughput)",
                message="needs at least one of tier, ttft, tpot, e2e and throughput, such as {ttft: {p95: "
                "500ms}}.",
            )
        )
    )
    tier: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="Name of a tier in the ServingProfile, whose objectives are the defaults. An objective in slo "
        "replaces the same objective of the tier.",
    )
    throughput: ThroughputSpec | None = Field(
        default=None, description="Minimum capacity of the service in output tokens."
    )
