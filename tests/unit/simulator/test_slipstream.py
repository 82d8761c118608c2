"""Our policy as the simulator runs it."""

from slipstream_operator.core import objectives
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_simulator.policies.slipstream import Slipstream
from slipstream_simulator.policy import FleetView, Pod
from tests.support import given

SLOW = (("0.5", 0.0), ("1.0", 90.0), ("+Inf", 90.0))
"""TTFT of 90 requests, all slower than the objective."""


def _view(policy: Slipstream, *, now: float, replicas: int, answered: bool = True) -> FleetView:
    pods = tuple(Pod(f"p{n}", 0.0, True, 30.0, False, True) for n in range(replicas))
    gauges = dict.fromkeys(("running", "waiting", "age", "running_mean", "waiting_mean"), 1.0)
    values = {**gauges, "kv": 0.1, "kv_mean": 0.1, "finished": 0.5}
    samples = {
        name: [Sample({"pod": pod.name}, values[name]) for pod in pods] if name in values else []
        for name in policy.queries()
    }
    samples[queries.latency("ttft", "now")] = [Sample({"le": le}, count) for le, count in SLOW]
    return FleetView(
        now=now,
        replicas=replicas,
        pods=pods,
        samples=samples if answered else dict.fromkeys(samples, Unknown("no answer")),
        minimum=1,
        maximum=8,
        objectives=objectives.Objectives((given.objective(),)),
    )


def test_it_decides_as_the_operator_does() -> None:
    policy = Slipstream()
    assert policy.decide(_view(policy, now=1000.0, replicas=2)) == 4


def test_without_answers_it_holds() -> None:
    policy = Slipstream()
    assert policy.decide(_view(policy, now=1000.0, replicas=2, answered=False)) == 2


def test_a_restart_changes_nothing() -> None:
    policy = Slipstream()
    policy.decide(_view(policy, now=1000.0, replicas=2))
    policy.restarted()
    assert policy.decide(_view(policy, now=1005.0, replicas=4, answered=False)) == 4


def test_what_is_left_out_is_in_the_name() -> None:
    assert (
        Slipstream(without=frozenset({"forecast", "futility"})).name
        == "slipstream-no-forecast-no-futility"
    )
