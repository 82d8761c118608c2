"""Scaling policies by name: `--policy` takes these."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from slipstream_operator.simulator.policies import static
from slipstream_operator.simulator.policies.policy import Policy
from slipstream_operator.simulator.scenario import Scenario

Factory: TypeAlias = Callable[[Scenario], Policy]

POLICIES: Final[Mapping[str, Factory]] = {
    "static-mean": static.mean,
    "static-peak": static.peak,
}
