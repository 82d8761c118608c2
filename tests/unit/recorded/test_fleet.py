"""Replay of a fleet: one replica is the engine model itself; slots, starts and stops of replicas decide the rest."""

import math
from dataclasses import replace

import pytest

from slipstream_runtime.simulator import model
from slipstream_runtime.simulator import replay as engine
from slipstream_simulator.recorded import fleet
from slipstream_simulator.recorded.fleet import Arrival, Span
from tests.support import recordings

ENGINE = model.Parameters(
    alpha=0.02, beta=1e-4, gamma=1e-7, delta=5e-5, max_sequences=4, max_batched_tokens=256
)
ALWAYS = Span(-math.inf)


def test_one_replica_without_a_queue_is_the_engine() -> None:
    arrivals = recordings.traffic(seed=1, rate=3.0, number=80, prompt=200, output=20)
    asked = [
        model.Request(number, one.at, one.prompt, one.output) for number, one in enumerate(arrivals)
    ]
    wanted = engine.replay(ENGINE, asked)
    found = fleet.replay(ENGINE, [ALWAYS], arrivals, slots=10_000)
    for one, other in zip(found, wanted, strict=True):
        assert one.first == pytest.approx(other.first)
        assert one.finished == pytest.approx(other.finished)


def test_requests_beyond_the_slots_wait_in_the_router_in_order() -> None:
    arrivals = [Arrival(0.0, 10, 10 + number) for number in range(12)]
    found = fleet.replay(ENGINE, [ALWAYS, ALWAYS], arrivals)
    firsts = [one.first or math.inf for one in found]
    assert firsts == sorted(firsts)
    assert len(set(firsts[:8])) == 1, "8 slots, in one step each"
    ended = sorted(one.finished or math.inf for one in found[:8])
    assert all(first > end for first, end in zip(firsts[8:], ended, strict=False))


def test_a_second_replica_halves_the_load() -> None:
    arrivals = recordings.traffic(seed=2, rate=8.0, number=200, prompt=100, output=40)

    def mean(replicas: int) -> float:
        found = fleet.replay(ENGINE, [ALWAYS] * replicas, arrivals)
        ends = [one.finished or math.inf for one in found]
        return sum(end - one.at for end, one in zip(ends, arrivals, strict=True)) / len(arrivals)

    assert mean(2) < mean(1) / 3


def test_requests_wait_until_a_replica_starts() -> None:
    [found] = fleet.replay(ENGINE, [Span(30.0)], [Arrival(1.0, 10, 2)])
    assert found.first == pytest.approx(30.0 + ENGINE.alpha, rel=0.1)


def test_a_replica_that_stops_gets_nothing_more_but_finishes_its_requests() -> None:
    arrivals = [Arrival(0.0, 10, 50), Arrival(0.5, 10, 2)]
    first, second = fleet.replay(ENGINE, [Span(0.0, 0.3)], arrivals)
    assert first.finished is not None and first.finished > 0.5
    assert (second.first, second.finished) == (None, None)


def test_a_request_that_never_fits_ends_without_a_token_and_holds_up_no_other() -> None:
    small = replace(ENGINE, kv_tokens=100)
    large, fitting = fleet.replay(small, [ALWAYS], [Arrival(0.0, 200, 5), Arrival(0.0, 20, 5)])
    assert large.first is None
    assert fitting.finished is not None
