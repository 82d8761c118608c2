"""What holds for every peer, whatever it sees."""

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream_operator.core.scaling.metrics.promql import By, Expression
from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_simulator.peers.catalogue import PEERS
from tests.support import views

Values = Sequence[float | None]


def _result(query: Expression, values: Values) -> views.Result:
    """What such a query might return: the labels that it keeps, and these values; None for an outage."""
    if None in values:
        return views.AWAY
    labels = query.labels if isinstance(query, By) else ("pod",)
    samples = []
    for index, value in enumerate(values):
        assert value is not None
        every = {
            "pod": f"p{index}",
            "le": str(2.0**index),
            "num_gpu_blocks": "7500",
            "block_size": "16",
        }
        samples.append(Sample({name: every[name] for name in labels if name in every}, value))
    return samples[: None if labels else 1]


def _samples(name: str, values: Values) -> Mapping[str, views.Result]:
    queries = PEERS[name].make(views.ENGINE).queries()
    return {query: _result(expression, values) for query, expression in queries.items()}


VALUES = st.lists(st.none() | st.floats(0, 1e4) | st.just(math.nan) | st.just(math.inf), max_size=4)
"""Of one instant."""


@pytest.mark.parametrize("name", PEERS)
@settings(max_examples=25, deadline=None)
@given(history=st.lists(VALUES, min_size=1, max_size=8), minimum=st.sampled_from([0, 1]))
def test_a_peer_stays_within_its_limits_and_repeats_itself(
    name: str, history: list[Values], minimum: int
) -> None:
    runs = []
    for _ in range(2):
        policy = PEERS[name].make(views.ENGINE)
        instants = iter(history)
        runs.append(
            views.driven(
                policy,
                lambda *_, instants=instants: _samples(name, next(instants)),  # type: ignore[misc]
                replicas=3,
                until=policy.every * len(history),
                minimum=minimum,
                maximum=8,
            )
        )
    assert runs[0] == runs[1]
    assert all(minimum <= count <= 8 for count in runs[0])


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_called_by_its_name(name: str) -> None:
    peer = PEERS[name]
    assert {peer.make(views.ENGINE, knob=knob).name for knob in peer.knobs} == {name}
    assert peer.make(views.ENGINE, settle=60.0).name == name


@pytest.mark.parametrize("name", PEERS)
def test_the_sweep_of_a_knob_has_the_shipped_value(name: str) -> None:
    assert PEERS[name].shipped in PEERS[name].knobs


def test_a_settling_peer_watches_before_it_acts() -> None:
    policy = PEERS["kubeai"].make(views.ENGINE, knob=10.0, settle=300.0)

    def filling(now: float, _: int) -> Mapping[str, views.Result]:
        return {"in_flight": views.number(40.0 if now else 0.0)}

    counts = views.driven(policy, filling, replicas=5, until=900)
    assert set(counts[:30]) == {5}
    assert counts[-1] == 4


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_holds_while_prometheus_is_away(name: str) -> None:
    policy = PEERS[name].make(views.ENGINE)
    away = dict.fromkeys(policy.queries(), views.AWAY)
    assert set(views.driven(policy, lambda *_: away, replicas=5, until=1500)) == {5}
