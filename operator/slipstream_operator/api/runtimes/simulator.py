"""Runtime simulator: the behavior of an engine without a model, and the fields that it can't use."""

from typing import Annotated

from pydantic import Field

from slipstream_operator.api.base import ApiModel, Duration, FineDuration, rule


class SimulatorSpec(ApiModel):
    """Engine without a model. A step takes alpha + beta*sequences + gamma*KV tokens + delta*prefill tokens."""

    alpha: FineDuration = Field(
        default="7ms", description="Fixed time of one engine step. Default: 7ms."
    )
    beta: FineDuration = Field(
        default="20us", description="Time per running sequence. Default: 20us."
    )
    gamma: FineDuration = Field(
        default="60ns", description="Time per token in the KV cache. Default: 60ns."
    )
    delta: FineDuration = Field(
        default="32us", description="Time per prefill token. Default: 32us."
    )
    kv_tokens: Annotated[int, Field(ge=16, le=100_000_000)] = Field(
        default=200_000, description="KV cache capacity in tokens. Default: 200000."
    )
    max_sequences: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256, description="Maximum sequences that run at once. Default: 256."
    )
    cold_start: Duration = Field(
        default="10s", description="Time from start to ready. Default: 10s."
    )


_SIMULATED = "has(self.runtime) && self.runtime == 'simulator'"
RULES = (
    rule(
        f"has(self.model) || ({_SIMULATED})",
        message="model is required. Set model.uri, or set runtime: simulator to try the platform without a model.",
    ),
    rule(
        f"!(has(self.model) && {_SIMULATED})",
        message="model can't be used with runtime: simulator, which has no model. Leave out one of them.",
    ),
    rule(
        f"!has(self.simulator) || ({_SIMULATED})",
        message="simulator needs runtime: simulator. Set it, or leave out simulator.",
    ),
    rule(
        f"!({_SIMULATED}) || !(has(self.limits) || has(self.output))",
        message="limits and output can't be used with runtime: simulator, which enforces neither. Leave them out.",
    ),
    rule(
        f"!({_SIMULATED}) || !has(self.engine)",
        message="engine can't be used with runtime: simulator, which has no vLLM. Leave it out.",
        field_path=".engine",
    ),
    rule(
        f"!({_SIMULATED}) || !has(self.routing) || !has(self.routing.apiKeys) "
        "|| !has(self.routing.mode) || self.routing.mode == 'Router'",
        message="routing.apiKeys needs routing.mode: Router with runtime: simulator, which checks no keys. "
        "Leave out one of them.",
        field_path=".routing",
    ),
)
"""CEL rules of the fields that need a model, or an engine that enforces limits."""
