"""Configuration of the checks in front of any engine: limits of requests, API keys and metrics."""

from typing import Any

from slipstream_operator.api import units
from slipstream_operator.core import routing
from slipstream_operator.core.runtimes.runtime import Inputs
from slipstream_runtime import contract


def metrics(inputs: Inputs) -> dict[str, Any]:
    """Return the setting that serves metrics on the API port with a gateway, where endpoint pickers read them."""
    return {"openMetrics": True} if routing.mode(inputs.spec) == "Gateway" else {}


def checks(inputs: Inputs) -> dict[str, Any]:
    """Return the settings of limits, API keys and metrics. With a router, requests queue in the router."""
    config = metrics(inputs)
    spec = inputs.spec
    if spec.limits is not None:
        elsewhere = {"timeout", "queue"} if routing.mode(spec) == "Router" else {"timeout"}
        config["limits"] = dump(spec.limits, exclude=elsewhere)
        if spec.limits.timeout is not None:
            config["limits"]["timeoutSeconds"] = units.seconds(spec.limits.timeout)
    if inputs.body is not None:
        config["limits"] = {**config.get("limits", {}), "bodySeconds": inputs.body}
    if inputs.checks_keys:
        config["apiKeys"] = contract.API_KEYS_DIRECTORY
    return config


def dump(part: Any, *, exclude: set[str] | None = None) -> dict[str, Any]:
    """Return a part of the spec as the engine's configuration has it."""
    dumped: dict[str, Any] = part.model_dump(by_alias=True, exclude_none=True, exclude=exclude)
    return dumped


NOT_OF_THE_ENGINE = frozenset(
    {"token_secret", "credentials", "load", "adapters", "max_adapter_rank"}
)
"""Fields of spec.model that are not in the configuration file: environment variables and mounted files hold them."""
