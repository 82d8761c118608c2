"""Which services rest between two decisions."""

import pytest

from slipstream_operator.core.scaling import steady_state
from slipstream_operator.core.scaling.metrics.queries import PER_POD
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.state import Decision, Numbers
from tests.support import given


@pytest.mark.parametrize(("need", "rests"), [(2, True), (1, False)], ids=["needed", "too many"])
def test_a_service_rests_only_while_all_its_replicas_are_needed(need: int, rests: bool) -> None:
    pods = given.pods("revision", 2)
    results = ServiceResults(
        queried=frozenset(),
        failed={},
        pods={pod.name: [0.0] * len(PER_POD) for pod in pods},
        totals={},
        histograms={},
        others={},
    )
    numbers = Numbers(
        work=1.0, requests=1.0, utilization=0.5, need=need, ready=2, starting=0, horizon=60.0
    )
    found = steady_state.start(
        results,
        (given.reading(current=0.1, target=0.5),),
        pods=pods,
        decision=Decision(2, "as before", known=True, numbers=numbers),
        basis=(),
        until=60.0,
    )
    assert (found is not None) == rests
