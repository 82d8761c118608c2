"""The compiled kernel is the engine model, many times; and its router and clients do what they say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from slipstream_runtime.simulator import model, replay
from slipstream_simulator.kernel import fleet
from tests.support.workloads import workloads


def kernel(parameters: model.Parameters, requests: list[model.Request], **more) -> fleet.Kernel:
    requests = sorted(requests, key=lambda request: request.arrival)
    records = fleet.requests(
        np.array([request.arrival for request in requests]),
        np.array([request.prompt for request in requests]),
        np.array([request.output for request in requests]),
        shared=np.array([request.cached for request in requests]),
        hit=np.ones(len(requests)),
    )
    return fleet.Kernel(parameters, records, **more)


# NB: the kernel is compiled once for each version of its sources.
pytestmark = pytest.mark.timeout(300)


@given(workloads())
@settings(deadline=None, max_examples=200)
def test_one_pod_serves_as_the_engine_model_does(
    workload: tuple[model.Parameters, list[model.Request]],
) -> None:
    parameters, requests = workload
    expected = replay.replay(parameters, requests)
    one = kernel(parameters, requests, slots=1)
    slot = one.open(0.0)
    one.advance(math.inf)
    np.testing.assert_allclose(one.records["first"], [o.first for o in expected], rtol=1e-9)
    np.testing.assert_allclose(one.records["finished"], [o.finished for o in expected], rtol=1e-9)
    pod = one.state.pods[slot]
    assert pod["kv_used"] == pod["running"] == pod["waiting"] == pod["decoding"] == 0
    assert pod["preemptions"] == sum(o.preemptions for o in expected)
    assert pod["tokens"] == sum(request.output for request in requests)
