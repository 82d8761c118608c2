"""How the benchmark judges whether a cluster did what the simulator predicts."""

import numpy as np
import pytest

from benchmarks.cluster_vs_simulator import cluster, comparison
from benchmarks.cluster_vs_simulator.cluster import Observation, Recording
from benchmarks.cluster_vs_simulator.comparison import Check, Envelope
from slipstream_runtime.evaluate.records import Record
from slipstream_simulator import scenarios, traffic
from slipstream_simulator.kernel import layout
from slipstream_simulator.scenarios import Scenario
from slipstream_simulator.simulation import Run

SCENARIO = {
    "apiVersion": scenarios.API_VERSION,
    "kind": "Scenario",
    "name": "short",
    "duration": "10s",
    "slo": {"ttft": {"p95": "1s"}},
    "traffic": [
        {
            "arrivals": {"process": "even", "rate": 0.3},
            "prompt": {"distribution": "fixed", "value": 9},
            "output": {"distribution": "fixed", "value": 5},
        }
    ],
}


@pytest.fixture
def short() -> Scenario:
    return scenarios.parse(SCENARIO, what="the test's scenario")


def test_the_envelope_takes_in_what_any_seed_shows_and_nothing_else() -> None:
    envelope = Envelope.of([[(0, 1), (2, 3)], [(0, 1), (1, 2)]], duration=4)
    assert envelope.low.tolist() == [1, 1, 2, 2]
    assert envelope.high.tolist() == [1, 2, 3, 3]
    assert envelope.share(np.array([1, 1, 3, 4])) == 0.75
    assert envelope.share(np.array([1, 1, 3, 4]), slack=1) == 1.0


def test_the_difference_is_the_mean_over_time() -> None:
    assert comparison.difference([(0, 1)], [(0, 1), (3, 3)], duration=4) == 0.5


def test_the_first_increase_is_not_a_decrease() -> None:
    assert comparison.first_increase([(0, 2), (5, 1), (9, 2)]) == 9
    assert comparison.first_increase([(0, 2), (5, 1)]) == float("inf")


def test_changes_count_from_the_begin_of_a_span_to_before_its_end() -> None:
    steps = [(0, 1), (5, 2), (8, 3)]
    assert comparison.changed(steps, since=0, until=8) == 1
    assert comparison.changed(steps, since=8, until=9) == 1


def test_a_check_fails_beyond_the_slack_of_what_the_seeds_show() -> None:
    assert Check("peak", cluster=6, simulated=5, low=4, high=5, slack=1).holds
    assert not Check("peak", cluster=7, simulated=5, low=4, high=5, slack=1).holds


def test_a_pod_that_was_told_to_go_or_vanished_is_removed(short: Scenario) -> None:
    recording = Recording(short, seed=0, began=0.0)
    recording.observations = [
        Observation(0.0, 3, "", {"a": True, "b": True, "c": True}),
        Observation(1.0, 3, "", {"a": True, "b": True}, leaving=frozenset({"c"})),
        Observation(2.0, 3, "", {"a": True}),
    ]
    run = _run(recording, [None, None, None])
    assert comparison.removed(run, since=1.0, until=2.0) == 1
    assert comparison.removed(run, since=1.0, until=3.0) == 2
    assert run.ready == [(0.0, 3), (1.0, 2), (2.0, 1)]
    assert run.requested == [(0.0, 3)]


def test_a_recording_has_the_times_that_clients_saw(short: Scenario) -> None:
    recording = Recording(short, seed=0, began=0.0)
    recording.observations = [Observation(0.0, 1, "", {"a": True})]
    run = _run(recording, [None, "HTTP 503", None])
    assert run.requests["fate"].tolist() == [layout.FINISHED, layout.REJECTED, layout.FINISHED]
    waited = run.requests["first"] - run.requests["arrival"]
    assert waited[[0, 2]] == pytest.approx([0.2, 0.2])
    assert np.isnan(waited[1])


def test_the_cluster_gets_the_lengths_and_times_of_the_scenario(short: Scenario) -> None:
    plan = cluster.plan(short, url="http://there", seed=0)
    bodies = [body for (_, body), _ in zip(plan.bodies(), range(3), strict=False)]
    assert plan.times == tuple(traffic.requests(short, seed=0)["arrival"].tolist())
    assert [len(str(body["prompt"])) + 1 for body in bodies] == [4 * 9] * 3
    assert [body["max_tokens"] for body in bodies] == [5] * 3


def test_the_service_has_the_scenarios_engine(short: Scenario) -> None:
    spec = cluster.manifest(short, namespace="here")["spec"]
    assert spec["simulator"]["alpha"] == "7.000000ms"
    assert spec["simulator"]["kvTokens"] == 120_000
    assert spec["slo"] == {"ttft": {"p95": "1s"}}


def _run(recording: Recording, errors: list[str | None]) -> Run:
    arrivals = traffic.requests(recording.scenario, seed=0)["arrival"]
    recording.answers = tuple(
        Record(start=at, duration=0.5, error=error, ttft=None if error else 0.2)
        for at, error in zip(arrivals.tolist(), errors, strict=True)
    )
    return recording.run()
