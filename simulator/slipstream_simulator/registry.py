"""Scaling policies by name; `name@value` sets a peer's parameter, or `minReplicas` of Slipstream's policy."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

from slipstream_simulator.peers.catalogue import PEERS, Peer
from slipstream_simulator.policies import foresight, static
from slipstream_simulator.policies.slipstream import Slipstream
from slipstream_simulator.policy import Policy
from slipstream_simulator.scenarios import Scenario

Factory: TypeAlias = Callable[[Scenario, int], Policy]
"""Function of a scenario and a seed; only policies that know the traffic use the seed."""

SLIPSTREAM: Final = "slipstream"
ORACLE: Final = "oracle"
NOWCAST: Final = "nowcast"
PARTS: Final = ("conservation", "feedback", "forecast", "futility")
"""Parts of Slipstream's policy that an ablation leaves out."""
DEFAULT: Final = (SLIPSTREAM, "static-mean", "static-peak")
_KNOB: Final = "@"


def _slipstream(
    scenario: Scenario, _: int, *, without: frozenset[str] = frozenset(), standing: int = 0
) -> Policy:
    return Slipstream(
        metrics=dict.fromkeys(one.metric for one in scenario.objectives.latency),
        without=without,
        idle_after=scenario.scaling.idle_after,
        standing=standing,
        max_sequences=scenario.engine.max_sequences,
    )


def _peer(scenario: Scenario, _: int, *, peer: Peer, knob: float | None = None) -> Policy:
    return peer.make(scenario.engine.parameters(), knob=knob, settle=scenario.warmup / 2)


POLICIES: Final[Mapping[str, Factory]] = {
    SLIPSTREAM: _slipstream,
    **{
        f"{SLIPSTREAM}-no-{part}": partial(_slipstream, without=frozenset({part})) for part in PARTS
    },
    "static-mean": lambda scenario, _: static.mean(scenario),
    "static-peak": lambda scenario, _: static.peak(scenario),
    **{name: partial(_peer, peer=peer) for name, peer in PEERS.items()},
    NOWCAST: foresight.unforeseen,
    ORACLE: foresight.foreseen,
}


def tuned(peer: str, knob: float) -> str:
    """Return the name of a peer with that parameter; the plain name if it is the shipped value."""
    return peer if knob == PEERS[peer].shipped else f"{peer}{_KNOB}{knob:g}"


def standing(replicas: int) -> str:
    """Return the name of Slipstream's policy with that `minReplicas`."""
    return f"{SLIPSTREAM}{_KNOB}{replicas}"


def find(name: str) -> Factory:
    """Return the policy of that name, or raise KeyError."""
    policy, at, knob = name.partition(_KNOB)
    if not at:
        return POLICIES[name]
    if policy == SLIPSTREAM and knob.isdecimal():
        return partial(_slipstream, standing=int(knob))
    try:
        return partial(_peer, peer=PEERS[policy], knob=float(knob))
    except ValueError as error:
        raise KeyError(name) from error
